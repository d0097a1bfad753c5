"""What a person reads: warnings and progress on stderr, results on stdout."""

import contextlib
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self, TextIO

import typer

from nstx.models.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

    from nstx.engine.transfer.progress import Step


def _say(text: str, *, err: bool = False) -> None:
    try:
        typer.echo(text, err=err)
    except BrokenPipeError:
        # A reader that went away (| head) is no reason to lose a result or to report a failure.
        _discard(sys.stderr if err else sys.stdout)
    except OSError as error:
        _discard(sys.stderr if err else sys.stdout)
        if not err:
            raise OutputError(
                f"expected to write to standard output, got: {error.strerror}; try a file elsewhere"
            ) from error


def _discard(stream: TextIO) -> None:
    """Send what is still in a stream's buffer, and all that follows, nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Console:
    """Where a command says things.

    Args:
        as_json: the result is one JSON object, and nothing else goes to stdout.
        quiet: only errors are told.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.warnings: list[str] = []
        # Rich's console while something moves on the terminal: what is said goes above that.
        self._live: RichConsole | None = None
        logger = logging.getLogger("nstx")
        logger.handlers = [_WarningHandler(self)]
        logger.propagate = False

    def warn(self, text: str) -> None:
        """Tell, and keep for the JSON, that something was done differently than asked; once."""
        text = printable(text)
        if text in self.warnings:
            return
        self.warnings.append(text)
        if self._live is not None:
            self._live.print(
                f"nstx: warning: {text}", markup=False, highlight=False, soft_wrap=True
            )
        elif not self.quiet:
            _say(f"nstx: warning: {text}", err=True)

    def tell(self, text: str) -> None:
        """Tell on stderr how the work goes, unless quiet."""
        if not self.quiet:
            _say(printable(text), err=True)

    @contextlib.contextmanager
    def moving(self) -> "Iterator[RichConsole]":
        """Return rich's console on stderr, which warnings go through for the time of a block."""
        from rich.console import Console as RichConsole

        self._live = RichConsole(stderr=True)
        try:
            yield self._live
        finally:
            self._live = None

    @property
    def animated(self) -> bool:
        """Whether stderr is a terminal, on which a bar can move."""
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show on a terminal that something is being done that has no steps."""
        if not self.animated:
            yield
            return
        with self.moving() as rich, rich.status(text):
            yield

    @contextlib.contextmanager
    def counting(self, text: str, total: int) -> Iterator[Callable[[str], None]]:
        """Show a bar on a terminal; the function that is yielded moves it on by one.

        Args:
            text: what is being done.
            total: how many there are.
        """
        if not self.animated:
            yield lambda _: None
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}  {task.fields[detail]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        with self.moving() as rich, Progress(*columns, console=rich, transient=True) as bar:
            task = bar.add_task(text, total=total, detail="")
            yield lambda detail: bar.update(task, advance=1, detail=printable(detail)[:40])

    def report(self, text: str) -> None:
        """Print lines that were asked for while the work goes on: on stdout, or with --json on stderr.

        Raises:
            OutputError: stdout cannot be written.
        """
        if self.quiet:
            return
        if self._live is not None and (self.as_json or sys.stdout.isatty()):
            # On the terminal where something moves, only rich can write without breaking it.
            self._live.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            _say(text, err=self.as_json)

    def result(self, text: str, data: dict[str, Any]) -> None:
        """Print the result: the JSON object, or the text for a person."""
        if self.as_json:
            _say(json.dumps({**data, "warnings": self.warnings}, allow_nan=False))
        elif not self.quiet:
            _say(text)


class _WarningHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.warn(record.getMessage())


class ProgressBar:
    """A bar with the cost and the time left, where stderr is a terminal; else nothing.

    A step's share of the bar is its number of pixels, so that the time left is right although
    coarse scales are fast.

    Args:
        console: quiet ones show no bar.
        areas: pixels of each scale, coarse first.
        shares: steps of each scale.
        title: of what is being done, before all else.
    """

    def __init__(
        self, console: Console, areas: list[int], shares: tuple[int, ...], title: str = ""
    ) -> None:
        self._title = f"{printable(title)}  " if title else ""
        self._areas = areas
        self._total = sum(area * share for area, share in zip(areas, shares, strict=True))
        self._ends = [
            sum(a * s for a, s in zip(areas[: k + 1], shares[: k + 1], strict=True))
            for k in range(len(areas))
        ]
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._scale, self._within = 1, 0
        self._console = console
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Show the bar."""
        if not self._console.animated:
            return self
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        rich = self._stack.enter_context(self._console.moving())
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            console=rich,
            transient=True,
            # Else rich would send to the terminal what a report prints into a file.
            redirect_stdout=False,
        )
        self._bar.start()
        self._task = self._bar.add_task(f"{self._title}starting", total=self._total, detail="")
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
        self._stack.close()

    def show(self, step: "Step") -> None:
        """Move the bar to a step."""
        if self._bar is None or self._task is None:
            return
        if step.scale != self._scale:
            self._scale, self._within = step.scale, 0
        self._within += 1
        start = self._ends[step.scale - 2] if step.scale > 1 else 0
        height, width = step.picture.shape[:2]
        self._bar.update(
            self._task,
            completed=start + self._within * self._areas[step.scale - 1],
            description=f"{self._title}{width}×{height}",
            detail=f"step {step.step}/{step.steps}  cost {format_cost(step.cost.total)}",
        )


def printable(text: str) -> str:
    """Return a text on one line, without the characters that a terminal takes for orders."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def format_count(count: int, noun: str) -> str:
    """Write a number of things: ``1 picture``, ``2 pictures``, ``3 entries``."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun}"


def format_cost(value: float) -> str:
    """Write a cost with three significant digits: ``1.75e+07``."""
    return f"{value:.2e}" if value and not math.isclose(value, 0) else "0"


def format_bytes(count: int) -> str:
    """Write a number of bytes as GiB, MiB or KiB."""
    if count < 2**20:
        return f"{count / 2**10:.0f} KiB"
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def format_seconds(seconds: float) -> str:
    """Write a time as ``12.3 s`` or ``2 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
