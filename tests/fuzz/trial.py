"""One input read in this process, and what was wrong with that."""

import logging
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nstx.models.errors import NstxError

from .inputs import Input, Kind
from .watch import Watch


@dataclass(frozen=True, slots=True)
class Fault:
    """What was wrong: a kind of fault, and where or what; faults of one cause are equal."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Trial:
    """Whether an input was accepted, and what was wrong with that or with the refusal."""

    accepted: bool
    faults: tuple[Fault, ...]
    details: str = ""


def try_input(kind: Kind, made: Input, watch: Watch | None = None) -> Trial:
    """Read an input from a folder of its own, in which files may be written."""
    with (
        tempfile.TemporaryDirectory(prefix="fuzz", ignore_cleanup_errors=True) as name,
        _messages() as messages,
    ):
        path = made.write(Path(name))
        faults: list[Fault] = []
        accepted, details = True, ""
        if watch is not None:
            watch.begin(Path(name), kind.starts)
        try:
            kind.read(path)
        except NstxError as error:
            accepted = False
            messages.append(str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001  (that is what is looked for)
            accepted, details = False, traceback.format_exc()
            faults.append(Fault(*_describe(error)))
        if watch is not None:
            faults += [Fault(*event.split(": ", 1)) for event in watch.end()]
    for text in messages:
        if not _is_printable(text):
            faults.append(Fault("escape", text.replace(str(path), "…")[:60]))
    return Trial(accepted, tuple(dict.fromkeys(faults)), details)


def _describe(error: BaseException) -> tuple[str, str]:
    kind = "accepted" if isinstance(error, AssertionError) else "traceback"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/fuzz/" not in frame.filename] or list(frames)
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return kind, f"{place} {type(error).__name__}"


def _is_printable(text: str) -> bool:
    # The command line brings a message to one line.
    return all(char.isprintable() for char in " ".join(text.split()))


@contextmanager
def _messages() -> Iterator[list[str]]:
    """Collect what is logged or warned of."""
    messages: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, keeper = logging.getLogger("nstx"), Keeper()
    before = logger.handlers
    logger.handlers = [keeper]
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield messages
        messages += [f"raw warning\0 {item.message}" for item in warned]
    finally:
        logger.handlers = before
