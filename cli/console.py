"""What a person reads: warnings and progress on stderr, results on stdout."""

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, TextIO, cast

import typer

from nstx.models.errors import OutputError
from nstx.models.printable import printable
from nstx.models.version import __version__

from .session import session
from .streams import Stderr, writing

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress


def print_lines(text: str, *, err: bool = False) -> None:
    """Print lines on stdout or stderr, with nothing in them that a terminal takes for orders.

    Raises:
        OutputError: stdout cannot be written; that its reader went away is no error.
    """
    with writing(err=err):
        typer.echo(_clean(text), err=err)


def print_json(data: dict[str, Any]) -> None:
    """Print what ``--json`` promises: one object, with the version and the command line."""
    if sys.stdout is None:
        raise OutputError("expected to write to standard output, got a closed one; try without >&-")
    session.answered = True
    origin = {"version": __version__, "command": ["nstx", *sys.argv[1:]]}
    text = json.dumps({**data, **origin}, allow_nan=False)
    # The one character that JSON leaves as it is and a terminal may not.
    print_lines(text.replace("\x7f", "\\u007f"))


def check_stdout() -> None:
    """Raise `OutputError` if stdout has not taken all that was printed."""
    if sys.stdout is not None:
        with writing():
            sys.stdout.flush()


def _clean(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _printable(value: Any) -> Any:
    """Return what JSON holds, with its texts made printable, so that a name has one line."""
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_printable, value))
    return printable(value) if isinstance(value, str) else value


class Pace:
    """Tells when a line about work that goes on is due: after 10 seconds, and a tenth or five minutes.

    A job of two minutes gets some ten lines, one of two seconds none.
    """

    seconds: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self._last, self._share = time.monotonic(), 0.0

    def restart(self) -> None:
        """Count another line as out now."""
        self._last = time.monotonic()

    def is_due(self, share: float) -> bool:
        """Whether a line is due when this share of the work, 0–1, is done; if so, it counts as out."""
        waited = time.monotonic() - self._last
        if waited < self.seconds or (share - self._share < 0.1 and waited < 30 * self.seconds):
            return False
        self._last, self._share = self._last + waited, share
        return True


class Console:
    """Prints the results, warnings and progress of a command.

    Args:
        as_json: the result is one JSON object, and nothing else goes to stdout.
        quiet: only errors are printed.
        all_on_stderr: stdout has something else.
    """

    def __init__(self, *, as_json: bool, quiet: bool, all_on_stderr: bool = False) -> None:
        self.as_json = as_json
        self._lines_on_stderr = as_json or all_on_stderr
        self._all_on_stderr = all_on_stderr
        self.quiet = quiet
        self.warnings: list[str] = []
        # Rich's console while something moves on the terminal: other lines go above that.
        self._live: RichConsole | None = None
        self._bar: Progress | None = None
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
            self._print_above(line)
        elif not self.quiet:
            print_lines(line, err=True)

    def log(self, text: str) -> None:
        """Print on stderr how the work goes, unless quiet."""
        if self._live is not None:
            self._print_above(printable(text))
        elif not self.quiet:
            print_lines(printable(text), err=True)

    @contextlib.contextmanager
    def moving(self) -> "Iterator[RichConsole]":
        """Yield rich's console on stderr, which warnings go through for the time of a block."""
        from rich.console import Console as RichConsole

        self._live = RichConsole(file=cast("TextIO", Stderr()))
        try:
            yield self._live
        finally:
            self._live = None

    def _print_above(self, text: str) -> None:
        """Print above what moves on the terminal."""
        from rich.text import Text

        assert self._live is not None
        # A text is neither markup nor has it names of emoji.
        self._live.print(Text(_clean(text)), soft_wrap=True)

    @property
    def animated(self) -> bool:
        """Whether stderr is a terminal, on which a bar can move."""
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something is being done that has no steps: off a terminal, by a line if it takes long."""
        if not self.animated:
            line = threading.Timer(Pace.seconds, self.log, (f"{text} …",))
            line.daemon = True
            line.start()
            try:
                yield
            finally:
                line.cancel()
            return
        from rich.text import Text

        with self.moving() as rich, rich.status(Text(printable(text))):
            yield

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[..., None]]:
        """Show a bar on a terminal; what is yielded updates its `completed`, `description`, `detail`."""
        if not self.animated:
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
        with self.moving() as rich, bar(*columns, console=rich) as progress:
            self._bar = progress
            task = progress.add_task(printable(text), total=total, detail="")
            yield lambda **fields: progress.update(task, **_printable(fields))

    def end_bar(self) -> None:
        """Take the bar off the terminal, where the thread that shows it does not come to that."""
        if self._bar is not None:
            self._bar.stop()

    @contextlib.contextmanager
    def counting(self, text: str, total: int) -> Iterator[Callable[[str], None]]:
        """Show a bar of ``total`` things; the function that is yielded takes the name of each.

        Where there is no terminal, a line on stderr says now and then how far it is.
        """
        pace, done = Pace(), count(1)

        def advance(name: str) -> None:
            number = next(done)
            state = f"{number}/{total}  {printable(name)[:40]}"
            update(advance=1, detail=state)
            if not self.animated and number < total and pace.is_due(number / total):
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
        if sys.stdout is None and not self._lines_on_stderr:
            return  # it was closed by whoever began the process
        if self._live is not None and (self._lines_on_stderr or sys.stdout.isatty()):
            # On the terminal where something moves, only rich can write without breaking it.
            self._print_above(text)
        else:
            print_lines(text, err=self._lines_on_stderr)

    def result(self, data: dict[str, Any], describe: Callable[[dict[str, Any]], str]) -> None:
        """Print the result: the JSON object, or the text for a person that ``describe`` makes of it.

        What it describes has no texts but printable ones.
        """
        if self.as_json:
            print_json({**data, "warnings": self.warnings})
        elif not self.quiet:
            print_lines(describe(_printable(data)), err=self._all_on_stderr)


class _WarningHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.warn(record.getMessage())
