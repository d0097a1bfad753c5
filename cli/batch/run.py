"""What ``nstx batch`` does with its options: plan, have the jobs made, report."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nstx.engine.batches.asked import AskedJob
from nstx.engine.batches.fleet import Fleet
from nstx.engine.batches.folder import BatchFolder
from nstx.engine.batches.planning import Planner
from nstx.engine.batches.run import (
    Batch,
    choose_device,
    choose_fleet,
    describe_other,
    describe_record,
    plan_batch,
)
from nstx.engine.pictures.writing import SUFFIXES, write_image
from nstx.models.errors import NstxError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.files import (
    check_distinct,
    check_new_files,
    check_output,
    make_folder,
    write_output,
)

from ..console import Console
from ..errors.exits import SOME_FAILED, DescribedFailure, describe_failure, failure_json
from ..formats import format_count, format_seconds
from .asking import Asking, Pictures, row_options
from .display import Display
from .working import Working

if TYPE_CHECKING:
    from nstx.engine.batches.fleet import Crew, Event, FleetChoice

    MakeCrew = Callable[[BatchFolder, FleetChoice], Crew[Any]]


WATCHING = 3.0
"""Seconds from one look for new pictures to the next."""

_MOST_MEASURED = 1000  # jobs by whose sizes workers are chosen


class BatchRun:
    """One call of ``nstx batch``.

    Args:
        pictures: which are stylised.
        working: by whom.
        asking: makes jobs of them.
        console: shows how they go.
        began: when the command began, a reading of ``time.perf_counter``.
    """

    def __init__(
        self,
        pictures: Pictures,
        working: Working,
        asking: Asking,
        console: Console,
        began: float,
    ) -> None:
        self._pictures, self._working, self._asking = pictures, working, asking
        self._console, self._began = console, began
        self._folder, self._planner = BatchFolder(pictures.output.absolute()), Planner()
        self._asked = self._ask()
        self._check_outputs()
        self._looked = 0.0

    def run(self) -> None:
        """Make what is missing, and exit with 10 if some jobs failed."""
        with self._folder.alone():
            with self._console.working(f"planning {format_count(len(self._asked), 'job')}"):
                planned = plan_batch(
                    self._folder,
                    self._asked,
                    attempts=self._working.attempts,
                    planner=self._planner,
                )
            self._warn(planned)
            failed = self._make(planned)
        if failed:
            raise typer.Exit(SOME_FAILED)

    def _warn(self, planned: Batch) -> None:
        for text in describe_other(planned.other):
            self._console.warn(text)

    def _ask(self) -> list[AskedJob]:
        """Return the jobs that are asked for now."""
        pictures = self._pictures
        if pictures.jobs is None:
            if any(
                Path(text).resolve() == self._folder.path.resolve()
                for text in pictures.contents or ()
            ):
                raise UsageError(
                    f"expected another folder for the results than that of the pictures, got {printable(pictures.output)} "
                    "for both; try another -o",
                    setting="output",
                )
            return self._asking.pairs(
                pictures.contents or (), pictures.styles or (), may_lack=self._working.watch
            )
        if pictures.contents or pictures.styles:
            raise UsageError(
                "expected --jobs, or --content and --style, got both; try one of the two",
                setting="jobs",
            )
        from .rows import in_line, read_rows

        asked, self._asking.count = [], 0
        for row in read_rows(pictures.jobs, row_options()):
            with in_line(pictures.jobs, row.line):
                asked.append(self._asking.row(row))
        return asked

    def _check_outputs(self) -> None:
        """Check what is written besides the results, which may be in their folder."""
        suffixes = {self._working.export: (".jsonl",), self._working.sheet: SUFFIXES}
        paths = [path for path in suffixes if path is not None]
        if any(path.absolute().is_relative_to(self._folder.path) for path in paths):
            check_new_files(self._folder.path)
            make_folder(self._folder.path)
        for path in paths:
            check_output(path, suffixes[path])
        inputs = {path for item in self._asked for path in item.files}
        results = [self._folder.path / item.output for item in self._asked]
        check_distinct(paths, [*inputs, *results])

    def _make(self, planned: Batch) -> int:
        """Make what is missing, report it, and return how many jobs failed."""
        self._planned, self._display = planned, Display(self._console, planned.missing)
        self._choice: FleetChoice | None = None
        try:
            if planned.missing or self._working.watch:
                with self._crew(planned) as (self._choice, crew):
                    self._announce(self._choice)
                    with self._display.shown():
                        planned.run(self._choice, self._take, crew)
        except (KeyboardInterrupt, SystemExit):
            made = format_count(self._display.done, "new picture")
            self._console.warn(f"interrupted; {made} kept; the same command makes what is missing")
            self._report(None, is_interrupted=True)
            raise
        except NstxError as error:
            failure = describe_failure(error)
            self._report(failure_json(error), is_interrupted=False)
            raise DescribedFailure(failure) from error
        return self._report(None, is_interrupted=False)

    @contextlib.contextmanager
    def _crew(self, planned: Batch) -> Iterator[tuple["FleetChoice", "MakeCrew"]]:
        """Yield how jobs are made, and by whom, for as long as these are there."""
        working = self._working
        items = self._asked[:_MOST_MEASURED]
        settings = list(dict.fromkeys(item.settings for item in items)) or [self._asking.settings]
        if working.executor == "local":
            yield (
                choose_fleet(
                    settings, planned.missing, workers=working.workers, most=working.together,
                    checkpoint_every=working.checkpoint_every, lingers=working.watch,
                ),
                Fleet,
            )  # fmt: skip
            return
        from nstx.engine.executors.cluster import open_cluster
        from nstx.engine.executors.ray_fleet import RayFleet

        with contextlib.ExitStack() as stack:
            with self._console.working("connecting to the cluster"):
                cluster = stack.enter_context(open_cluster(working.address))
            choice = cluster.choose(
                choose_device(settings), planned.missing, workers=working.workers, most=working.together,
                lingers=working.watch,
            )  # fmt: skip
            yield choice, partial(RayFleet, cluster=cluster)

    def _announce(self, choice: "FleetChoice") -> None:
        kept = len(self._asked) - self._planned.missing
        there = f"; {kept} there already" if kept else ""
        self._console.log(
            f"{format_count(self._planned.missing, 'picture')} to make by {format_count(choice.workers, 'worker')}{there}"
        )

    def _take(self, event: "Event") -> None:
        self._display.take(event)
        now = time.monotonic()
        if self._working.watch and now >= self._looked + WATCHING:
            self._look()
            self._looked = time.monotonic()

    def _look(self) -> None:
        """Plan what is new or has changed; what cannot be is a warning, as it may be mended while this goes on."""
        try:
            asked = self._ask()
            planned = plan_batch(
                self._folder, asked, attempts=self._working.attempts,
                planner=self._planner, before=self._planned,
            )  # fmt: skip
        except UsageError as error:
            self._console.warn(str(error))
            return
        self._warn(planned)
        self._asked, self._planned = asked, planned
        self._display.add(planned.missing)

    def _report(self, failure: dict[str, Any] | None, *, is_interrupted: bool) -> int:
        """Print and write what has come of the batch, and return how many jobs failed."""
        working, rate = self._working, self._display.per_hour
        records = list(map(describe_record, self._planned.records()))
        states = [record["state"] for record in records]
        if working.export is not None:
            lines = "".join(json.dumps(record) + "\n" for record in records)
            write_output(working.export, lines.encode())
        if working.sheet is not None and not is_interrupted:
            self._draw(working.sheet)
        data: dict[str, Any] = {
            "output": str(self._folder.path),
            "executor": working.executor,
            "workers": self._choice and self._choice.workers,
            "batch": self._choice and (self._choice.most or "auto"),
            "interrupted": is_interrupted,
            "pictures_per_hour": rate and round(rate, 1),
            "seconds": round(time.perf_counter() - self._began, 4),
            "total": len(states),
            "succeeded": states.count("succeeded"),
            "failed": states.count("failed"),
            "waiting": states.count("queued") + states.count("running"),
            "made": self._display.done,
            "sheet": working.sheet and str(working.sheet),
        }
        data["kept"] = max(0, data["succeeded"] - data["made"])
        self._console.result({**data, "jobs": records, **(failure or {})}, _describe)
        failed: int = data["failed"]
        return failed

    def _draw(self, path: Path) -> None:
        from nstx.engine.batches.sheet import MOST, draw_sheet
        from nstx.engine.pictures.picture import Picture

        if len(self._asked) > MOST:
            self._console.warn(f"the sheet has the first {MOST} results of {len(self._asked)}")
        with self._console.working("drawing the sheet"):
            write_image(path, Picture(draw_sheet(self._folder, self._asked), None))


def _describe(data: dict[str, Any]) -> str:
    if not data["made"] and not data["failed"] and not data["waiting"]:
        return f"{data['output']} has all of it already: {format_count(data['total'], 'picture')}; nothing was done"
    text = f"saved {data['output']}  {format_count(data['made'], 'picture')}"
    if data["kept"]:
        text += f", {data['kept']} there already"
    if data["failed"]:
        text += f", {data['failed']} failed"
    if data["waiting"]:
        text += f", {data['waiting']} not made"
    rate = f", {data['pictures_per_hour']:.0f} an hour" if data["pictures_per_hour"] else ""
    return f"{text}, in {format_seconds(data['seconds'])}{rate}"
