"""The runs of a comparison: jobs that share what they have in common, made and kept."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from nstx.models.cost import Cost
from nstx.models.layers import LayerWeight
from nstx.models.storage.cache import keeps_cache

from ..colours.modes import as_compared
from ..drawing.film_strip import FRAME_SIDE, Film, pack_film
from ..features.extraction import Extraction, OpenedExtractor, open_extractor
from ..gradients.choice import BackendChoice
from ..pictures.picture import Picture, WeightedPicture
from ..pictures.reading import Source, take_input
from ..pictures.rescue import write_or_rescue
from ..pictures.transparency import on_white
from ..preparation.backends import backend_differences, fit_memory
from ..preparation.inputs import check_one_region, take_styles
from ..regions.masks import has_regions
from ..regions.placement import place_styles
from ..settings import Colors, Settings
from ..sizes import choose_sizes, result_size
from ..targets.loader import TargetLoader
from ..targets.paintings import fit_to_result
from ..targets.store import TargetFolder, TargetMemory, TargetStore
from ..tiles.layout import tiles_of
from ..transfer.costs import BoundCosts
from ..transfer.job import Job, make_job
from ..transfer.progress import FrameCollector, Step, trace_line
from ..transfer.report import describe_fallbacks, describe_run
from ..transfer.result import Result
from ..transfer.run import run_job
from .folder import ComparisonFolder
from .plan import ComparisonRun
from .records import RunKey, RunRecord, name_files

_Shared = tuple[float, tuple[LayerWeight, ...]]
"""A style scale and style layers, of which runs share a loader."""


class ComparisonJobs:
    """Prepares the jobs of a comparison, one after the other.

    The features of a picture are computed once at each size, for all runs together. Consecutive
    runs whose objectives differ only in their weights share one backend. Targets are looked up and
    kept in the store; None takes the cache, if all runs do. The opener is called when the first
    target must be computed.

    `UsageError` if a picture would be too small in one of the runs, `DeviceError` if memory cannot
    hold a result, or the device or backend is missing.
    """

    def __init__(
        self,
        content: Picture,
        styles: Sequence[WeightedPicture],
        runs: Sequence[ComparisonRun],
        *,
        mask: Source | None = None,
        regions: Source | None = None,
        style_for: Mapping[str, Sequence[WeightedPicture]] | None = None,
        store: TargetStore | None = None,
        opener: Callable[[Extraction, Sequence[str]], OpenedExtractor] = open_extractor,
    ) -> None:
        self._content = take_input(content)
        # None are asked for beside styles by colour.
        self._styles = take_styles(list(styles)) if styles or not style_for else []
        by_colour = {colour: take_styles(list(v)) for colour, v in (style_for or {}).items()}
        self._paintings = [*self._styles, *(style for v in by_colour.values() for style in v)]
        self._placements = {
            run.blend: place_styles(
                self._content,
                self._weigh(run),
                mask=mask,
                regions=regions,
                style_for=by_colour,
                fit=fit_to_result(result_size(self._content.size, run.settings), run.settings),
            )
            for run in runs
        }
        for run in runs:
            check_one_region(run.settings, self._placements[run.blend])
        self._fitted = {run.settings: self._fit(run) for run in runs}
        use_cache = keeps_cache(all(settings.use_cache for settings in self._fitted))
        folder = TargetFolder() if use_cache and store is None else None
        self._store: TargetStore = store or (folder if folder and folder.keeps else TargetMemory())
        self._opener = opener
        self._last: Job | None = None
        self._regions = 0  # of the last

    def _sizes(self, settings: Settings) -> tuple[tuple[int, int], ...]:
        sizes = [style.size for style, _ in self._paintings]
        return choose_sizes(self._content.size, sizes, settings)

    def _fit(self, run: ComparisonRun) -> tuple[Settings, BackendChoice]:
        """Return the settings by which memory holds a run, and its backend without regions."""
        size, placement = self._sizes(run.settings)[-1], self._placements[run.blend]
        is_cut = has_regions(self._content, placement.mask, placement.parts)
        count = placement.count if is_cut else 0
        return fit_memory(run.settings, size, regions=count)

    def _weigh(self, run: ComparisonRun) -> list[WeightedPicture]:
        """Return the styles of a run for all that no other is named for."""
        weights = run.weigh([weight for _, weight in self._styles])
        return [(style, w) for (style, _), w in zip(self._styles, weights, strict=True) if w > 0]

    def compute_targets(self) -> None:
        """Compute the targets of all runs that are not in the store yet."""
        objectives = [settings.objective for settings in self._fitted]
        names = {name for objective in objectives for name in objective.content_names}
        # Targets of an objective with all layers serve all runs.
        layers = tuple(LayerWeight(name, 1.0) for name in sorted(names))
        content_weight = max(objective.content_weight for objective in objectives)
        style_weight = max(objective.style_weight for objective in objectives)
        distinct: dict[tuple[_Shared, tuple[tuple[int, int], ...], Colors], Settings] = {}
        for settings, _ in self._fitted.values():
            shared_by = settings.style_scale, settings.objective.style_layers
            distinct.setdefault((shared_by, self._sizes(settings), settings.colors), settings)
        loaders: dict[_Shared, TargetLoader] = {}
        for (shared_by, sizes, colors), settings in distinct.items():
            if shared_by not in loaders:
                objective = replace(
                    settings.objective,
                    content_layers=layers,
                    content_weight=content_weight,
                    style_weight=style_weight,
                )
                shared = replace(settings, objective=objective)
                loaders[shared_by] = TargetLoader(shared, store=self._store, opener=self._opener)
            content, styles = as_compared(colors, self._content, self._paintings)
            whole = [size for size in sizes if tiles_of(settings, size) is None]
            loaders[shared_by].load_picture(content, "content", whole)
            for style, _ in styles:
                loaders[shared_by].load_picture(style, "style", sizes)

    def prepare(self, run: ComparisonRun) -> Job:
        """Return the job of a run."""
        (settings, choice), like = self._fitted[run.settings], self._last
        self._last = None
        if like is not None and backend_differences(like.opened, like.settings, settings, choice):
            like = None  # so that its memory is free before another backend is opened
        placement = self._placements[run.blend]
        if self._regions != placement.count:
            like = None
        self._regions = placement.count
        self._last = make_job(self._content, placement, settings, like=like, store=self._store)
        return self._last


def make_run(
    run: ComparisonRun,
    job: Job,
    key: RunKey,
    folder: ComparisonFolder,
    on_step: Callable[[Step], None] | None = None,
) -> RunRecord:
    """Optimise the picture of a run, and write its files and last its record.

    ``key`` says what it depends on; ``on_step`` is called after each step.
    """
    frames = FrameCollector(run.settings.steps, FRAME_SIDE, job.alpha)
    lines: list[str] = []

    def take(step: Step) -> None:
        lines.append(json.dumps(trace_line(step)) + "\n")
        frames.take(step)
        if on_step is not None:
            on_step(step)

    costs = BoundCosts(job)
    result = run_job(job, costs=costs, on_step=take)
    film = Film(tuple(map(on_white, frames.finish(result.pixels))), (*frames.steps, result.steps))
    names = name_files(run.name)
    path = folder.path / names.picture
    write_or_rescue(path, result.picture)
    files = {
        names.picture: folder.digest(names.picture),
        names.trace: folder.write(names.trace, "".join(lines).encode()),
        names.film: folder.write(names.film, pack_film(film)),
    }
    data = _describe(job, result, film, costs.measure_file(path))
    record = RunRecord(name=run.name, **key._asdict(), files=files, result=data)
    folder.keep(record)
    return record


def _describe(job: Job, result: Result, film: Film, saved_cost: Cost) -> dict[str, Any]:
    """Return a result as plain data, with the cost of the saved picture."""
    return {
        **describe_run(job, result),
        "cost": asdict(saved_cost),
        "cost_before_rounding": result.cost.total,
        "seconds": {
            "targets": round(job.target_seconds, 4),
            "optimize": round(result.seconds, 4),
        },
        "warnings": describe_fallbacks(result.checks),
        "weights_sha256": job.opened.weights_sha256,
        "film_steps": list(film.steps),
    }
