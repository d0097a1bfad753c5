"""How a batch goes, as a person sees it: bars on a terminal, elsewhere a line for each picture that is done."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nstx.models.printable import printable

from ..console import Console, print_lines
from ..formats import format_cost, format_minutes, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress

    from nstx.engine.batches.fleet import Event

_WIDEST = 40  # characters of a name


class Display:
    """Takes the events of a batch.

    Attributes:
        done: results that were made.
        failed: jobs that failed.
    """

    def __init__(self, console: Console, missing: int) -> None:
        self._console, self._missing = console, missing
        self.done = self.failed = 0
        self._began = time.monotonic()
        self._first: float | None = None
        self._starts: dict[str, float] = {}
        self._progress: Progress | None = None
        self._bars: dict[int, Any] = {}

    def add(self, missing: int) -> None:
        """Have further results to make."""
        self._missing += missing
        if self._progress is not None:
            self._progress.update(self._all, total=self._missing)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bars for the time of a block, if there is a terminal."""
        if not self._console.animated:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        with (
            self._console.moving() as rich,
            Progress(*columns, console=rich, transient=True, redirect_stdout=False) as progress,
        ):
            self._progress = progress
            self._all = progress.add_task("all", total=self._missing, detail="starting")
            try:
                yield
            finally:
                self._progress = None

    @property
    def per_hour(self) -> float | None:
        """Pictures an hour, since the first worker began with one; None before one was made."""
        if not self.done or self._first is None:
            return None
        return 3600 * self.done / max(1e-3, time.monotonic() - self._first)

    def take(self, event: "Event") -> None:
        """Show an event."""
        kind, job = event["event"], str(event.get("job", ""))
        if kind == "begun":
            now = time.monotonic()
            self._starts[job] = now
            self._first = self._first or now
        elif kind == "succeeded":
            self.done += 1
            self._log(job, event)
        elif kind == "failed" and not event["again"]:
            self.failed += 1
            text = f"{job} failed: {event['error']['message']}"
            self._console.warn(text)
            if self._console.quiet:
                print_lines(f"nstx: error: {printable(text)}", err=True)
        elif kind == "warning":
            self._console.warn(str(event["text"]))
        elif kind == "died":
            reason = f": {event['text']}" if event["text"] else ""
            self._console.warn(
                f"worker {event['worker'] + 1} ended with {event['code']}{reason}; its jobs are tried again"
            )
        if self._progress is not None:
            self._move(self._progress, kind, job, event)

    def _log(self, job: str, event: Mapping[str, Any]) -> None:
        seconds = time.monotonic() - self._starts.pop(job, time.monotonic())
        cost = event.get("cost")
        detail = (
            f"  cost {format_cost(cost['total'])}, in {format_seconds(seconds)}" if cost else ""
        )
        self._console.log(f"{self.done + self.failed}/{self._missing}  {printable(job)}{detail}")

    def _move(self, progress: "Progress", kind: str, job: str, event: Mapping[str, Any]) -> None:
        ended = self.done + self.failed
        progress.update(self._all, completed=ended, detail=self._describe(ended))
        if "worker" not in event:
            return
        place = event["worker"]
        if place not in self._bars:
            self._bars[place] = progress.add_task(f"worker {place + 1}", total=1, detail="")
        if kind == "step":
            detail = f"{printable(job)[:_WIDEST]}  step {event['step']}/{event['steps']}  cost {format_cost(event['cost'])}"
            progress.update(
                self._bars[place], total=event["steps"], completed=event["step"], detail=detail
            )
        elif kind == "begun":
            progress.update(self._bars[place], completed=0, detail=printable(job)[:_WIDEST])

    def _describe(self, ended: int) -> str:
        parts = [f"{ended}/{self._missing}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        rate = self.per_hour
        if rate:
            parts.append(f"{rate:.0f} an hour")
            if ended < self._missing:
                parts.append(f"{format_minutes(3600 * (self._missing - ended) / rate)} left")
        return "  ".join(parts)
