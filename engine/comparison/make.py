"""Making a comparison: the runs that are missing, then everything that is drawn of all runs."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.storage.files import check_distinct, check_folder, make_folder
from nstx.models.storage.leftovers import removed_if_empty
from nstx.models.storage.locks import locked
from nstx.models.version import __version__

from ..drawing.cost_curves import can_draw_curves
from ..pictures.picture import WeightedPicture
from ..settings import INITS
from ..sizes import result_size
from ..streaming.reduced import Fit, read_fitting
from ..targets.paintings import (
    WeightedPaths,
    content_fit,
    fit_beside,
    split_painting,
    take_painting,
)
from .digests import Inputs, RunDigests
from .drawing import digest_drawing, draw_comparison, names_to_draw
from .folder import SUMMARY, ComparisonFolder
from .plan import ComparisonPlan, ComparisonRun
from .records import RUNS, RunKey, RunRecord, name_files

if TYPE_CHECKING:
    from ..transfer.job import Job
    from ..transfer.progress import Step


_log = logging.getLogger("nstx")


class Watcher:
    """Follows the progress of a comparison; this one ignores it."""

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Enter work that has no steps, until the block ends."""
        yield

    @contextlib.contextmanager
    def running(
        self, number: int, count: int, run: ComparisonRun, job: "Job"
    ) -> Iterator["Callable[[Step], None]"]:
        """Enter a run, until the block ends; yield a function to call after each step.

        ``number`` counts from 1 to ``count`` the runs that are made.
        """
        yield lambda step: None

    def finished(self, number: int, count: int, run: ComparisonRun, record: RunRecord) -> None:
        """Take note that a run is done, and its files are written."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison that is done, with the contents of compare.json.

    ``made`` and ``kept`` name the runs that were made now and before.
    """

    summary: dict[str, Any]
    made: tuple[str, ...]
    kept: tuple[str, ...]
    drawn: bool


def make_comparison(
    content: Path,
    styles: Sequence[tuple[Path, float]],
    plan: ComparisonPlan,
    folder: Path,
    watcher: Watcher | None = None,
    *,
    mask: str | None = None,
    regions: Path | None = None,
    style_for: Mapping[str, Sequence[tuple[Path, float]]] | None = None,
    force: bool = False,
) -> Comparison:
    """Make what a comparison's folder lacks; write nothing if it lacks nothing.

    A run is made again if the package's version has changed, or if one of its files is missing or
    damaged. A folder may be given further values of what is compared, and further axes. With other
    pictures or other settings it would be another comparison, whose folder is left alone unless
    ``force`` has it replaced: its files go when all of the new one are there. Files that no
    comparison wrote stay as they are.

    ``mask`` is of all runs, a picture or ``alpha``, as are ``regions``, a map, and the styles for its colours. An
    exception, such as that of Ctrl-C, leaves the finished runs in place.

    Raises:
        OutputError: the folder is of another comparison, or another process is writing it; or a
            file that no comparison wrote is in the way.
    """
    inputs = Inputs(
        content, tuple(styles), mask, regions, {k: tuple(v) for k, v in (style_for or {}).items()}
    )
    _check_styles(inputs, plan)
    digests = RunDigests(inputs)
    keys = {run.name: digests.key(run) for run in plan.runs}
    with _alone_in(folder):
        work = _Work(inputs, plan, folder, digests, keys, force=force)
        return _make(work, plan, watcher or Watcher())


def _check_styles(inputs: Inputs, plan: ComparisonPlan) -> None:
    styles = inputs.styles
    if not list(inputs.paintings):
        raise UsageError("expected one or more styles, got none; try a painting")
    if any(run.blend is not None for run in plan.runs) and [w for _, w in styles] != [1, 1]:
        raise UsageError(
            f"expected two styles without weights for a blend of them, got {len(styles)}; try two paintings",
            setting="blend",
        )
    if layered := [path for _, path, _ in inputs.paintings if split_painting(path).layers]:
        raise UsageError(
            f"expected styles that count in all style layers for a comparison, got {printable(layered[0])}; "
            "try nstx optimize"
        )


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Have a folder, made if need be, for this process alone; what stays empty is removed."""
    check_folder(folder)
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    with contextlib.ExitStack() as stack:
        for path in reversed(missing):
            stack.enter_context(removed_if_empty(path))
        make_folder(folder)
        # Where nothing can be written, a comparison that is complete is looked at all the same.
        is_writable = os.access(folder, os.W_OK)
        stack.enter_context(locked([folder / SUMMARY] if is_writable else []))
        yield


def _make(work: "_Work", plan: ComparisonPlan, watcher: Watcher) -> Comparison:
    missing = [run for run in plan.runs if run.name not in work.records]
    if missing:
        work.make(missing, watcher)
    work.rename()
    if not can_draw_curves():
        _log.warning(
            "costs.png is not drawn, as Matplotlib is not installed; try 'pip install nstx[plots]'"
        )
    summary, drawn = work.draw(watcher)
    made = tuple(run.name for run in missing)
    kept = tuple(run.name for run in plan.runs if run not in missing)
    return Comparison(summary, made, kept, drawn)


def _read_styles(styles: WeightedPaths, fit: Fit) -> list[WeightedPicture]:
    return [(take_painting(path, fit, read_fitting), weight) for path, weight in styles]


class _Work:
    """The steps of `make_comparison`, and the records of the runs that are done so far."""

    def __init__(
        self,
        inputs: Inputs,
        plan: ComparisonPlan,
        folder: Path,
        digests: RunDigests,
        keys: Mapping[str, RunKey],
        *,
        force: bool,
    ) -> None:
        self._inputs, self._plan = inputs, plan
        self._digests, self._keys = digests, keys
        self._pictures = digests.inputs(run.settings for run in plan.runs)
        self._folder = ComparisonFolder(folder)
        self._drawn_before = dict(self._folder.drawn)
        run_files = [name for run in plan.runs for name in name_files(run.name)]
        self._names = [SUMMARY, *names_to_draw(), *run_files]
        # Neither a picture that is read nor a file of somebody else is overwritten.
        starts = {run.settings.init for run in plan.runs} - set(INITS)
        named = [*inputs.files, *map(Path, starts)]
        check_distinct([folder / name for name in self._names], named)
        self._folder.check_free(self._names)
        if not force:
            self._folder.check_same(keys)
        present = {name: self._folder.find(name, key) for name, key in keys.items()}
        self.records = {name: record for name, record in present.items() if record is not None}

    def rename(self) -> None:
        """Give the runs that are done the names that they have now, as with another axis."""
        for name, record in self.records.items():
            if record.name != name:
                self.records[name] = self._folder.rename(record, name)

    def make(self, missing: Sequence[ComparisonRun], watcher: Watcher) -> None:
        with watcher.working("computing targets"):
            # Pictures are read before the libraries, so that a damaged one is reported at once.
            # Of large ones as much is read as the run with the largest strokes uses; all runs have one size.
            widest = max((run.settings for run in self._plan.runs), key=lambda s: s.style_scale)
            content = read_fitting(self._inputs.content, content_fit(widest))
            fit = fit_beside(result_size(content.size, widest), widest)
            styles = _read_styles(self._inputs.styles, fit)
            by_colour = {text: _read_styles(v, fit) for text, v in self._inputs.style_for.items()}
            from .runs import ComparisonJobs, make_run

            jobs = ComparisonJobs(
                content, styles, missing, mask=self._inputs.mask, regions=self._inputs.regions,
                style_for=by_colour,
            )  # fmt: skip
            # Mistakes in the settings show by now, before anything is written.
            jobs.compute_targets()
            make_folder(self._folder.path / RUNS)
            self.rename()
            # Files to come are listed as ours, even if this process ends while it writes one.
            self._write_summary(None)
        for number, run in enumerate(missing, 1):
            with watcher.working(f"preparing {run.name}"):
                job = jobs.prepare(run)
            with watcher.running(number, len(missing), run, job) as on_step:
                record = make_run(run, job, self._keys[run.name], self._folder, on_step)
            self.records[run.name] = record
            self._write_summary(None)
            watcher.finished(number, len(missing), run, record)
            del job, on_step  # so that their memory is free before another backend is opened

    def draw(self, watcher: Watcher) -> tuple[dict[str, Any], bool]:
        """Draw what is not there yet; return the summary, and whether something was drawn."""
        digest = digest_drawing(self._inputs, self._digests, self._plan, self.records)
        files = self._folder.find_drawn(digest)
        drawn = files is None
        if files is None:
            with watcher.working("drawing the sheet, animations and page"):
                drawing = draw_comparison(self._inputs, self._plan, self._folder, self.records)
                files = {name: self._folder.write(name, data) for name, data in drawing}
        undrawn = {k: v for k, v in self._drawn_before.items() if k not in files}
        self._folder.remove_others(self._comparison, self.records, undrawn)
        return self._write_summary({"from": digest, "files": files}), drawn

    @property
    def _comparison(self) -> str:
        return next(iter(self._keys.values())).comparison

    def _write_summary(self, drawn: dict[str, Any] | None) -> dict[str, Any]:
        data = {
            "version": __version__,
            "comparison": self._comparison,
            "complete": drawn is not None,
            "content": str(self._inputs.content),
            "styles": [{"path": str(path), "weight": w} for path, w in self._inputs.styles],
            "regions": self._inputs.regions and str(self._inputs.regions),
            "style_for": {
                colour: [{"path": str(path), "weight": w} for path, w in blend]
                for colour, blend in self._inputs.style_for.items()
            },
            "inputs": [asdict(item) for item in self._pictures],
            "axes": [{"option": axis.option, "values": axis.values} for axis in self._plan.axes],
            "runs": [self._describe(run) for run in self._plan.runs if run.name in self.records],
            "drawn": drawn,
        }
        return self._folder.write_summary(data, self._names)

    def _describe(self, run: ComparisonRun) -> dict[str, Any]:
        options = [axis.option for axis in self._plan.axes]
        record, names = self.records[run.name], name_files(run.name)
        return {
            "name": run.name,
            "label": run.label,
            "values": dict(zip(options, run.values, strict=True)),
            "picture": names.picture,
            "trace": names.trace,
            "digest": record.digest,
            "blend": run.blend,
            **{name: value for name, value in record.result.items() if name != "film_steps"},
            "settings": asdict(run.settings),
        }
