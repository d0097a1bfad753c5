"""``nstx batch``: many pictures."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from nstx.models.errors import UsageError
from nstx.models.storage.files import check_distinct, check_output, write_output
from nstx.models.values import refuse

from ..console import Console
from ..errors.exits import SOME_FAILED
from ..formats import format_count, format_seconds
from ..grouped import Group, Help, SeveralValues, grouped
from ..options import regions
from ..options import shared as options
from ..options.memory import Memory
from ..options.saving import Saved
from .asking import Asking, Pictures, row_options

if TYPE_CHECKING:
    from nstx.engine.batches.asked import AskedJob
    from nstx.engine.batches.run import Batch

app = typer.Typer(add_completion=False)

_MOST_WORKERS, _MOST_TOGETHER, _MOST_ATTEMPTS = 256, 256, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Working(Group):
    """By whom jobs are made, and how often they are tried."""

    panel: ClassVar[str | None] = "Workers"

    workers: Annotated[
        int | None,
        Help(
            "Processes that make pictures. [default: one for each GPU; else for each core, up to 8, as far as memory "
            "goes]",
            metavar="N",
        ),
    ] = None
    batch: Annotated[
        int,
        Help(
            "Pictures of one size and objective that a worker evaluates together; for GPUs.",
            metavar="N",
        ),
    ] = 1
    attempts: Annotated[
        int, Help("How many workers may die of a job before it has failed.", metavar="N")
    ] = 3
    checkpoint_every: Annotated[
        float | None,
        Help(
            "Keep each run as it goes, every so many minutes and when it is interrupted; not with --batch.",
            metavar="MINUTES",
        ),
    ] = None
    export: Annotated[
        Path | None,
        Help("Also write what became of each job, a line of JSON each.", metavar="FILE.jsonl"),
    ] = None

    def check(self) -> None:
        """Check the ranges; `UsageError`, or `OutputError` of the export."""
        most = {"workers": _MOST_WORKERS, "batch": _MOST_TOGETHER, "attempts": _MOST_ATTEMPTS}
        for name, highest in most.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= highest:
                raise refuse(f"1 … {highest}", name, value, 1)
        if self.checkpoint_every is not None:
            from nstx.engine.checkpoints.keeper import check_minutes

            check_minutes(self.checkpoint_every)
            if self.batch > 1:
                raise UsageError(
                    "expected --checkpoint-every or --batch, got both; try --batch 1",
                    setting="checkpoint_every",
                )
        if self.export is not None:
            check_output(self.export, (".jsonl",))


@app.command(cls=SeveralValues)
@grouped
def batch(
    pictures: Pictures,
    working: Working,
    *,
    objective: options.Objective,
    colours: options.Colours,
    region: regions.Regions,
    size: options.Size,
    solver: options.Solver,
    machine: options.Machine,
    memory: Memory,
    saved: Saved,
    shown: options.Output,
) -> None:
    """Stylise folders of pictures, or a list of jobs, by several processes; again, what is missing.

    What is made is in DIR at once, whole. The same command, after whatever ended it, makes what is not there.
    """
    began = time.perf_counter()
    working.check()
    groups: dict[str, Group] = {
        "objective": objective, "colours": colours, "region": region, "size": size,
        "solver": solver, "machine": machine, "memory": memory, "saved": saved,
    }  # fmt: skip
    asked = _ask(pictures, Asking(groups, pictures.name))
    console = shown.console()
    from nstx.engine.batches.run import batch_folder

    folder = batch_folder(pictures.output)
    if working.export is not None:
        inputs = {path for item in asked for path in item.files}
        names = [folder.path / item.output for item in asked]
        check_distinct([working.export], [*inputs, *names])
    with folder.alone():
        _run(folder.path, asked, working, console, began)


def _ask(pictures: Pictures, asking: Asking) -> "list[AskedJob]":
    """Return the jobs that are asked for."""
    if pictures.jobs is None:
        return asking.pairs(pictures.contents or (), pictures.styles or ())
    if pictures.contents or pictures.styles:
        raise UsageError(
            "expected --jobs, or --content and --style, got both; try one of the two",
            setting="jobs",
        )
    from .rows import in_line, read_rows

    asked = []
    for row in read_rows(pictures.jobs, row_options()):
        with in_line(pictures.jobs, row.line):
            asked.append(asking.row(row))
    return asked


def _run(
    path: Path, asked: "list[AskedJob]", working: Working, console: Console, began: float
) -> None:
    from nstx.engine.batches.run import batch_folder, choose_fleet, describe_other, plan_batch

    from .display import Display

    with console.working(f"planning {format_count(len(asked), 'job')}"):
        planned = plan_batch(batch_folder(path), asked, attempts=working.attempts)
    for text in describe_other(planned.other):
        console.warn(text)
    choice = choose_fleet(
        asked[:1000], planned.missing, workers=working.workers, most=working.batch,
        checkpoint_every=working.checkpoint_every,
    )  # fmt: skip
    display, is_interrupted = Display(console, planned.missing), True
    try:
        if planned.missing:
            kept = len(asked) - planned.missing
            there = f", {kept} are there already" if kept else ""
            console.log(
                f"{format_count(planned.missing, 'picture')} to make by {format_count(choice.workers, 'worker')}"
                f"{there}"
            )
            with display.shown():
                planned.run(choice, display.take)
        is_interrupted = False
    except (KeyboardInterrupt, SystemExit):
        made = format_count(display.done, "new picture")
        console.warn(f"interrupted; {made} kept; the same command makes what is missing")
        raise
    finally:
        data = {
            "output": str(path),
            "workers": choice.workers,
            "batch": choice.most,
            "interrupted": is_interrupted,
            "pictures_per_hour": display.per_hour and round(display.per_hour, 1),
            "seconds": round(time.perf_counter() - began, 4),
        }
        failed = _report(planned, data, display.done, working.export, console)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _report(
    planned: "Batch", data: dict[str, Any], made: int, export: Path | None, console: Console
) -> int:
    """Print what has come of a batch, write it where it is to be exported, and return how many jobs failed."""
    from nstx.engine.batches.run import describe_record

    records = list(map(describe_record, planned.records()))
    states = [record["state"] for record in records]
    if export is not None:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_output(export, lines.encode())
    counts = {
        "total": len(planned.names),
        "succeeded": states.count("succeeded"),
        "failed": states.count("failed"),
        "waiting": states.count("queued") + states.count("running"),
        "made": made,
        "kept": len(planned.names) - planned.missing,
    }
    console.result({**data, **counts, "jobs": records}, _describe)
    return counts["failed"]


def _describe(data: dict[str, Any]) -> str:
    seconds = format_seconds(data["seconds"])
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
    return f"{text}, in {seconds}{rate}"
