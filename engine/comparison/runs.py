"""The runs of a sweep: prepared so that they share what they have in common, made, and kept."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from ..devices.memory import check_memory
from ..devices.names import settle_device
from ..drawing.film_strip import Film, pack_film
from ..gradients.choice import choose_backend
from ..pictures.picture import Picture, WeightedPicture
from ..pictures.pixels import Pixels
from ..pictures.reading import read_image
from ..pictures.resizing import resize_alpha
from ..pictures.writing import write_or_rescue
from ..settings import Settings
from ..sizes import choose_sizes
from ..targets.loader import TargetLoader
from ..targets.memory import TargetMemory
from ..targets.store import TargetStore
from ..transfer.frames import FrameCollector
from ..transfer.job import Job, prepare_job, shares_backend
from ..transfer.progress import Step, trace_line
from ..transfer.report import describe_fallbacks, describe_run
from ..transfer.run import Result, run_job
from .folder import RUNS, RunRecord, SweepFolder
from .sweep import SweepRun, all_content_layers

_FRAME_SIDE = 320  # of the frames that are kept of a run, in pixels


class SweepJobs:
    """Prepares the jobs of a sweep, one after the other.

    Each picture's features are computed once at each size, for all runs together. Runs whose
    objectives differ in their weights alone, and that follow one another, share one backend.

    Args:
        content: the content picture.
        styles: one or more style pictures with their weights.
        runs: that are to be made.

    Raises:
        UsageError: a picture would be too small in one of the runs.
        DeviceError: memory cannot hold a result, or the device or backend is not there.
    """

    def __init__(
        self, content: Picture, styles: Sequence[WeightedPicture], runs: Sequence[SweepRun]
    ) -> None:
        self._content, self._styles, self._runs = content, styles, runs
        kept = all(run.settings.use_cache for run in runs)
        store = TargetStore()
        self._store = store if kept and store.keeps else TargetMemory()
        self._last: Job | None = None
        for run in runs:
            check_memory(self._sizes(run.settings)[-1], settle_device(run.settings.device))
        choose_backend(runs[0].settings)

    def _sizes(self, settings: Settings) -> tuple[tuple[int, int], ...]:
        return choose_sizes(self._content.size, [style.size for style, _ in self._styles], settings)

    def compute_targets(self) -> None:
        """Compute the targets of all runs that are not in the cache yet.

        Raises:
            WeightsError, DeviceError, ModelError, NumericalError: as
                `nstx.engine.targets.loader.TargetLoader`.
        """
        objectives = [run.settings.objective for run in self._runs]
        together: dict[str, Any] = {
            "content_layers": all_content_layers(self._runs),
            "content_weight": max(each.content_weight for each in objectives),
            "style_weight": max(each.style_weight for each in objectives),
        }
        loaders: dict[float, TargetLoader] = {}
        loaded: set[tuple[tuple[tuple[int, int], ...], float]] = set()
        for run in self._runs:
            sizes, scale = self._sizes(run.settings), run.settings.style_scale
            if (sizes, scale) in loaded:
                continue
            loaded.add((sizes, scale))
            if scale not in loaders:
                objective = replace(run.settings.objective, **together)
                settings = replace(run.settings, objective=objective)
                loaders[scale] = TargetLoader(settings, store=self._store)
            loader = loaders[scale]
            loader.load_content(self._content, sizes)
            for style, _ in self._styles:
                loader.load_style(style, sizes)

    def prepare(self, run: SweepRun) -> Job:
        """Return the job of a run.

        Raises:
            NstxError: as `nstx.engine.transfer.job.prepare_job`.
        """
        like, self._last = self._last, None
        if like is not None and not shares_backend(
            like, run.settings, self._sizes(run.settings)[-1]
        ):
            like = None  # so that its memory is free before another backend is opened
        self._last = prepare_job(
            self._content, self._styles, run.settings, like=like, store=self._store
        )
        return self._last


def make_run(
    run: SweepRun,
    job: Job,
    digest: str,
    content: Picture,
    folder: SweepFolder,
    on_step: Callable[[Step], None] | None = None,
) -> RunRecord:
    """Optimise the picture of a run, and write its files and last its record.

    Args:
        run: of the sweep.
        job: that it led to.
        digest: of all that the result depends on.
        content: the content picture, whose transparency the result has.
        folder: of the comparison.
        on_step: is told of each step.

    Raises:
        NumericalError, DeviceError: as `nstx.engine.transfer.run.run_job`.
        OutputError: a file cannot be written.
    """
    frames = FrameCollector(run.settings.steps, _FRAME_SIDE)
    lines: list[str] = []

    def take(step: Step) -> None:
        lines.append(json.dumps(trace_line(step)) + "\n")
        frames.take(step)
        if on_step is not None:
            on_step(step)

    result = run_job(job, on_step=take)
    film = Film(tuple(frames.finish(result.pixels)), (*frames.steps, result.steps))
    picture = f"{run.name}.png"
    write_or_rescue(folder.path / picture, result.pixels, resize_alpha(content, *job.sizes[-1]))
    files = {
        picture: folder.digest(picture),
        f"{RUNS}/{run.name}.jsonl": folder.write(
            f"{RUNS}/{run.name}.jsonl", "".join(lines).encode()
        ),
        f"{RUNS}/{run.name}.jpg": folder.write(f"{RUNS}/{run.name}.jpg", pack_film(film)),
    }
    saved = read_image(folder.path / picture, trusted=True).pixels
    record = RunRecord(
        run.name, digest, files, _describe(job, result, film, saved.astype("float32"))
    )
    folder.keep(record)
    return record


def _describe(job: Job, result: Result, film: Film, saved: Pixels) -> dict[str, Any]:
    """Return what is kept of a result, as plain data; the costs are those of the saved file."""
    return {
        **describe_run(job, result),
        "cost": asdict(job.measure_cost(saved)),
        "cost_before_rounding": result.cost.total,
        "seconds": {
            "targets": round(job.target_seconds, 4),
            "optimize": round(result.seconds, 4),
        },
        "warnings": describe_fallbacks(result.checks),
        "weights_sha256": job.opened.weights_sha256,
        "film_steps": list(film.steps),
    }
