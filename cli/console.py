"""What a person reads: warnings and progress on stderr, results on stdout."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TextIO

import typer

from nstx.models.errors import OutputError
from nstx.models.printable import printable

from .session import session

if TYPE_CHECKING:
    from rich.console import Console as RichConsole


def _print(text: str, *, err: bool = False) -> None:
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
    """Prints the results, warnings and progress of a command.

    Args:
        as_json: the result is one JSON object, and nothing else goes to stdout.
        quiet: only errors are printed.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.warnings: list[str] = []
        # Rich's console while something moves on the terminal: other lines go above that.
        self._live: RichConsole | None = None
        logger = logging.getLogger("nstx")
        logger.handlers = [_WarningHandler(self)]
        logger.propagate = False
        while session.warnings:
            self.warn(session.warnings.pop(0))

    def warn(self, text: str) -> None:
        """Print on stderr, once, what was done differently than asked, and keep it for the JSON."""
        text = printable(text)
        if text in self.warnings:
            return
        self.warnings.append(text)
        line = f"nstx: warning: {text}"
        if self._live is not None:
            self._live.print(line, markup=False, highlight=False, soft_wrap=True)
        elif not self.quiet:
            _print(line, err=True)

    def log(self, text: str) -> None:
        """Print on stderr how the work goes, unless quiet."""
        if not self.quiet:
            _print(printable(text), err=True)

    @contextlib.contextmanager
    def _moving(self) -> "Iterator[RichConsole]":
        """Yield rich's console on stderr, which warnings go through for the time of a block."""
        from rich.console import Console as RichConsole

        self._live = RichConsole(stderr=True)
        try:
            yield self._live
        finally:
            self._live = None

    @property
    def _animated(self) -> bool:
        """Whether stderr is a terminal, on which a bar can move."""
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show on a terminal that something is being done that has no steps."""
        if not self._animated:
            yield
            return
        with self._moving() as rich, rich.status(text):
            yield

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[..., None]]:
        """Show a bar on a terminal; what is yielded updates its `completed`, `description`, `detail`."""
        if not self._animated:
            yield lambda **_: None
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        # Redirected, what a report prints into a file would go to the terminal.
        bar = partial(Progress, transient=True, redirect_stdout=False)
        with self._moving() as rich, bar(*columns, console=rich) as progress:
            yield partial(progress.update, progress.add_task(text, total=total, detail=""))

    @contextlib.contextmanager
    def counting(
        self, text: str, total: int, log_seconds: float | None = None
    ) -> Iterator[Callable[[str], None]]:
        """Show a bar of ``total`` things; the function that is yielded takes the name of each.

        Where there is no terminal, a line on stderr says how far it is after each ``log_seconds``.
        """
        last = time.monotonic()
        done = count(1)

        def advance(name: str) -> None:
            nonlocal last
            state = f"{next(done)}/{total}  {printable(name)[:40]}"
            update(advance=1, detail=state)
            waited = time.monotonic() - last
            if log_seconds is not None and not self._animated and waited >= log_seconds:
                last += waited
                self.log(f"{text} {state}")

        with self.bar(text, total) as update:
            update(detail=f"0/{total}")
            yield advance

    def report(self, text: str) -> None:
        """Print lines while the work goes on: on stdout, or with ``--json`` on stderr.

        `OutputError` if stdout cannot be written.
        """
        if self.quiet:
            return
        if sys.stdout is None and not self.as_json:
            return  # it was closed by whoever began the process
        if self._live is not None and (self.as_json or sys.stdout.isatty()):
            # On the terminal where something moves, only rich can write without breaking it.
            self._live.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            _print(text, err=self.as_json)

    def result(self, text: str, data: dict[str, Any]) -> None:
        """Print the result: the JSON object, or the text for a person."""
        if self.as_json:
            _print(json.dumps({**data, "warnings": self.warnings}, allow_nan=False))
        elif not self.quiet:
            _print(text)


class _WarningHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.warn(record.getMessage())
