"""A comparison: a sweep whose runs are made, unless they are done already, and laid side by side."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.models.errors import UsageError
from nstx.models.storage.files import check_distinct, make_folder
from nstx.models.version import __version__

from ..drawing.cost_curves import can_draw_curves
from ..pictures.reading import read_image
from ..settings import INITS
from .drawing import digest_drawing, draw_comparison, names_to_draw
from .folder import RUNS, SUMMARY, Inputs, RunDigests, RunRecord, SweepFolder
from .sweep import Sweep, SweepRun

if TYPE_CHECKING:
    from ..transfer.job import Job
    from ..transfer.progress import Step


_log = logging.getLogger("nstx")


class Watcher:
    """Is told what is being done; this one ignores it."""

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Something without steps is done in a block."""
        yield

    @contextlib.contextmanager
    def running(self, place: int, count: int, run: SweepRun, job: "Job") -> Iterator[Any]:
        """A run is made in a block; the function that is yielded is told of its steps.

        Args:
            place: of the run among those that are to be made, from 1.
            count: of these.
            run: of the sweep.
            job: that it led to.
        """

        def ignore(step: "Step") -> None:
            pass

        yield ignore

    def finished(self, place: int, count: int, run: SweepRun, record: RunRecord) -> None:
        """A run is done, and its files are written."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison led to.

    Attributes:
        summary: what compare.json says.
        made: names of the runs that were made.
        kept: names of the runs that were done already.
        drawn: whether sheet, animations, curves and page were drawn.
    """

    summary: dict[str, Any]
    made: tuple[str, ...]
    kept: tuple[str, ...]
    drawn: bool


def make_comparison(
    content: Path,
    styles: Sequence[tuple[Path, float]],
    sweep: Sweep,
    folder: Path,
    watcher: Watcher | None = None,
) -> Comparison:
    """Make what is missing of a comparison's folder; where nothing is, write nothing.

    A run is made again if a byte of its pictures, one of its settings or the package's version has
    changed, or if one of its files is missing or damaged. Files in the folder that no comparison
    wrote stay as they are. An exception, as of Ctrl-C, leaves the runs that are finished.

    Args:
        content: the content picture's file.
        styles: the style pictures' files with their weights, one or more.
        sweep: the runs.
        folder: is made if need be.
        watcher: is told what is being done.

    Raises:
        ImageError: a picture cannot be read.
        OutputError: something that is not ours is in the way, or the folder cannot be written.
        NstxError: as `nstx.engine.transfer.job.prepare_job` and `nstx.engine.transfer.run.run_job`.
    """
    if not styles:
        raise UsageError("expected one or more styles, got none; try a painting")
    inputs = Inputs(content, tuple(styles))
    digests = RunDigests(inputs)
    opened = SweepFolder(folder)
    work = _Work(inputs, sweep, opened, {run.name: digests.of(run.settings) for run in sweep.runs})
    work.check_outputs()
    watcher = watcher or Watcher()
    missing = [run for run in sweep.runs if work.find(run) is None]
    if missing:
        work.make(missing, watcher)
    records = {run.name: opened.records[run.name] for run in sweep.runs}
    digest = digest_drawing(inputs, digests, sweep, records)
    files = opened.drawn(digest)
    drawn = files is None
    if not can_draw_curves():
        _log.warning(
            "costs.png is not drawn, as Matplotlib is not installed; try 'pip install nstx[plots]'"
        )
    if files is None:
        with watcher.working("drawing the sheet, animations and page"):
            files = draw_comparison(inputs, sweep, opened, records)
    summary = work.write_summary({"from": digest, "files": files})
    made = tuple(run.name for run in missing)
    kept = tuple(run.name for run in sweep.runs if run.name not in made)
    return Comparison(summary, made, kept, drawn)


class _Work:
    """The parts of `make_comparison` that share pictures, plan and folder."""

    def __init__(
        self, inputs: Inputs, sweep: Sweep, folder: SweepFolder, digests: dict[str, str]
    ) -> None:
        self._inputs, self._sweep, self._folder, self._digests = inputs, sweep, folder, digests
        self._names = [SUMMARY, *names_to_draw()]
        for run in sweep.runs:
            self._names.append(f"{run.name}.png")
            self._names += [f"{RUNS}/{run.name}.{suffix}" for suffix in ("json", "jsonl", "jpg")]
        self._done: dict[str, RunRecord] = {}

    def check_outputs(self) -> None:
        """Check that no picture that is read, and no file of somebody else, is overwritten."""
        starts = {run.settings.init for run in self._sweep.runs} - set(INITS)
        inputs = [*self._inputs.paths, *map(Path, starts)]
        check_distinct([self._folder.path / name for name in self._names], inputs)
        self._folder.check_free(self._names)

    def find(self, run: SweepRun) -> RunRecord | None:
        """Return the record of a run that is done."""
        record = self._folder.find(run.name, self._digests[run.name])
        if record is not None:
            self._done[run.name] = record
        return record

    def make(self, missing: Sequence[SweepRun], watcher: Watcher) -> None:
        """Make the runs that are missing, and keep each as it is done."""
        with watcher.working("computing targets"):
            # Reading pictures before the libraries: a damaged one is told at once.
            content = read_image(self._inputs.content)
            styles = [(read_image(path), weight) for path, weight in self._inputs.styles]
            from .runs import SweepJobs, make_run

            jobs = SweepJobs(content, styles, missing)
            # A mistake in the settings shows by now, and nothing was written yet.
            jobs.compute_targets()
            make_folder(self._folder.path / RUNS)
            # What is about to be written is ours, even if this process ends in the middle of it.
            self.write_summary(None)
        for place, run in enumerate(missing, 1):
            with watcher.working(f"preparing {run.name}"):
                job = jobs.prepare(run)
            with watcher.running(place, len(missing), run, job) as on_step:
                step: Callable[[Step], None] = on_step
                digest = self._digests[run.name]
                record = make_run(run, job, digest, content, self._folder, step)
            self._done[run.name] = record
            self.write_summary(None)
            watcher.finished(place, len(missing), run, record)
            del job, step, on_step  # their memory is free before another backend is opened

    def write_summary(self, drawn: dict[str, Any] | None) -> dict[str, Any]:
        """Write compare.json; return what it says."""
        done = [run for run in self._sweep.runs if run.name in self._done]
        data = {
            "version": __version__,
            "complete": drawn is not None,
            "content": str(self._inputs.content),
            "styles": [{"path": str(path), "weight": w} for path, w in self._inputs.styles],
            "axes": [
                {"option": axis.name.replace("_", "-"), "values": axis.values}
                for axis in self._sweep.axes
            ],
            "runs": [self._describe(run, self._done[run.name]) for run in done],
            "drawn": drawn,
        }
        return self._folder.write_summary(data, self._names)

    def _describe(self, run: SweepRun, record: RunRecord) -> dict[str, Any]:
        options = [axis.name.replace("_", "-") for axis in self._sweep.axes]
        return {
            "name": run.name,
            "label": self._sweep.label(run),
            "values": dict(zip(options, run.values, strict=True)),
            "picture": f"{run.name}.png",
            "trace": f"{RUNS}/{run.name}.jsonl",
            "digest": record.digest,
            **{name: value for name, value in record.result.items() if name != "film_steps"},
            "settings": asdict(run.settings),
        }
