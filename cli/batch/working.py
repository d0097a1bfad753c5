"""Options of ``nstx batch``: by whom jobs are made, and what is written besides the results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from nstx.models.errors import UsageError
from nstx.models.values import refuse

from ..grouped import Group, Help

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

    sheet: Annotated[
        Path | None,
        Help("Also draw the results on one sheet at the end, up to 400 of them.", metavar="FILE"),
    ] = None
    watch: Annotated[
        bool,
        Help("Look for new and changed pictures every few seconds, until Ctrl-C ends it."),
    ] = False

    def check(self) -> None:
        """Check the ranges, and what does not go together; `UsageError`."""
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
        if self.sheet is not None and self.watch:
            raise UsageError(
                "expected --sheet or --watch, got both; try the sheet by the same command afterwards",
                setting="sheet",
            )
