"""One input read in this process, and what was wrong with that."""

import os
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from logs import collected_messages

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
    with _own_folder() as folder, _messages() as messages:
        path = made.write(folder / "input")
        faults: list[Fault] = []
        accepted, details = True, ""
        if watch is not None:
            watch.begin(folder, kind.starts)
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
        if left := os.listdir(folder / "tmp"):  # noqa: PTH208
            faults.append(Fault("litter", left[0][:4]))
    for text in messages:
        if not _is_printable(text):
            faults.append(Fault("escape", text.replace(str(path), "…")[:60]))
    return Trial(accepted, tuple(dict.fromkeys(faults)), details)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Make a folder with one for temporary files, which are made there for the time of a block."""
    before, environment = tempfile.tempdir, dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="fuzz", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        tempfile.tempdir = str(folder / "tmp")
        try:
            yield folder
        finally:
            tempfile.tempdir = before
            os.environ.clear()
            os.environ.update(environment)


def _describe(error: BaseException) -> tuple[str, str]:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = Path(last.filename)
    is_ours = place.parent == Path(__file__).parent  # so that it is a check of what was accepted
    text = f"{place.name}:{last.lineno} {type(error).__name__}"
    return "accepted" if is_ours and isinstance(error, AssertionError) else "traceback", text


def _is_printable(text: str) -> bool:
    # The command line brings a message to one line.
    return all(char.isprintable() for char in " ".join(text.split()))


@contextmanager
def _messages() -> Iterator[list[str]]:
    """Collect what is logged or warned of."""
    with collected_messages() as messages:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield messages
        messages += [f"raw warning\0 {item.message}" for item in warned]
