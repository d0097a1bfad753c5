"""Options of ``nstx batch``: by whom jobs are made, and what is written besides the results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast

from nstx.models.errors import UsageError
from nstx.models.values import refuse

from ..grouped import Group, Help

EXECUTORS = ("local", "ray")


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
        str | None,
        Help(
            "Pictures of one size and objective that a worker evaluates together, or auto: as many as are measured to be "
            "the fastest. [default: auto on GPUs, else 1]",
            metavar="N|auto",
        ),
    ] = None
    executor: Annotated[
        str,
        Help(
            "Where workers are: local, processes of this machine; ray, actors of a Ray cluster, whose nodes need share no "
            "folder with it.",
            values=EXECUTORS,
        ),
    ] = "local"
    address: Annotated[
        str | None,
        Help(
            "The cluster's, as host:port, or auto for one on this machine. [default: RAY_ADDRESS, else auto, else one is "
            "started for the command]",
            metavar="ADDRESS",
        ),
    ] = None
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

    @property
    def together(self) -> int | Literal["auto"] | None:
        """Pictures that are evaluated together; `UsageError` if that is neither a number nor ``auto``."""
        if self.batch is None or self.batch == "auto":
            return cast("Literal['auto'] | None", self.batch)
        from nstx.engine.batches.together import MOST_COUNT

        text = self.batch.strip()
        # The length first: Python converts no number of thousands of digits.
        is_short = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_COUNT))
        if not (is_short and 1 <= int(text) <= MOST_COUNT):
            raise refuse(f"1 … {MOST_COUNT}, or auto", "batch", self.batch, 1)
        return int(text)

    def check(self) -> None:
        """Check the ranges, and what does not go together; `UsageError`."""
        from nstx.engine.batches.together import check_counts

        check_counts(workers=self.workers, attempts=self.attempts)
        if self.executor not in EXECUTORS:
            raise refuse(" or ".join(EXECUTORS), "executor", self.executor, "local")
        together = self.together
        if self.checkpoint_every is not None:
            from nstx.engine.checkpoints.keeper import check_minutes

            check_minutes(self.checkpoint_every)
            if together not in (None, 1):
                raise UsageError(
                    "expected --checkpoint-every or --batch, got both; try --batch 1",
                    setting="checkpoint_every",
                )
            if self.executor == "ray":
                raise UsageError(
                    "expected --checkpoint-every or --executor ray, got both; try --executor local",
                    setting="checkpoint_every",
                )
        if self.address is not None and self.executor != "ray":
            raise UsageError(
                "expected --executor ray with an address, got local; try --executor ray",
                setting="address",
            )
        if self.sheet is not None and self.watch:
            raise UsageError(
                "expected --sheet or --watch, got both; try the sheet by the same command afterwards",
                setting="sheet",
            )
