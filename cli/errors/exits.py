"""From errors to exit codes: each kind of mistake has one, and is one line on stderr.

With ``--json`` stdout gets one object all the same, ``{"error": {"kind": "UsageError", "message":
"expected …", "exit_code": 2}, …}``; a command that did a part has ``error`` beside its results.

====  =======================================================
code  meaning
====  =======================================================
0     done
1     ``nstx doctor`` found a problem, ``nstx cache verify`` something damaged
2     an option, argument, size or configuration cannot be
3     a picture cannot be read or used
4     a device, precision or backend is not there
6     weights cannot be loaded
7     a result cannot be written
8     the cost or gradient stopped being a finite number
9     an ONNX model cannot be used, or does not pass its checks
10    some jobs of ``nstx batch`` failed; the others were made
70    nstx itself failed; the message names a file that says where
130   interrupted (Ctrl-C); the current picture, if any, was saved
143   terminated (SIGTERM); as above
129   the terminal was closed (SIGHUP); as above
====  =======================================================

A run that fails after its first step saves the picture of the last one, as an interrupted one does.
"""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from nstx.models.errors import (
    DeviceError,
    ImageError,
    ModelError,
    NstxError,
    NumericalError,
    OutputError,
    UsageError,
    WeightsError,
)
from nstx.models.printable import printable

from ..console import check_stdout, print_json, print_lines
from ..session import session
from ..sources import name_source
from ..streams import stdout_error

_CODES: dict[type[NstxError], int] = {
    UsageError: 2,
    ImageError: 3,
    DeviceError: 4,
    WeightsError: 6,
    OutputError: 7,
    NumericalError: 8,
    ModelError: 9,
}
_TRUE = ("1", "true", "t", "yes", "y", "on")  # as typer reads a switch from the environment
SOME_FAILED = 10
"""The exit code of a batch of which some jobs failed."""

OWN_FAILURE = 70
"""The exit code of what nobody foresaw; EX_SOFTWARE of BSD's sysexits."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a command ended, if not well. An interrupt, and help that was not asked for, have no line."""

    kind: str
    message: str
    exit_code: int
    has_line: bool = True

    def followed_by(self, text: str) -> "Failure":
        """Return it with what has come of it."""
        return replace(self, message=f"{self.message}; {text}")


class DescribedFailure(Exception):  # noqa: N818  (it carries a failure, of whichever kind)
    """A failure that was described already, with what has come of it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def run_app(app: Callable[..., Any]) -> int:
    """Run the command line and return its exit code; print whatever went wrong as one line."""
    session.begin(as_json=_is_json_asked_for())
    try:
        # Typer would take `python -m nstx` for the name, and complete python's command lines by it.
        code = app(prog_name="nstx", standalone_mode=False)
        check_stdout()
    except BaseException as error:  # noqa: BLE001  (the last line of defence)
        return report_failure(error)
    return code if isinstance(code, int) else 0


def report_failure(error: BaseException) -> int:
    """Print how a command failed, and return its exit code."""
    failure = describe_failure(error)
    if session.as_json and not session.answered:
        with suppress(OutputError):
            print_json(failure_json(failure))
    if failure.has_line and failure.message:
        print_lines(f"nstx: error: {printable(failure.message)}", err=True)
    return failure.exit_code


def failure_json(error: NstxError | Failure | None) -> dict[str, Any]:
    """Return the field ``error`` of ``--json``; nothing if there was none."""
    if error is None:
        return {}
    fields = asdict(error if isinstance(error, Failure) else describe_failure(error))
    del fields["has_line"]
    return {"error": fields}


def _is_json_asked_for() -> bool:
    """Whether a command line asks for JSON, even if it cannot be read otherwise."""
    options = [*takewhile("--".__ne__, sys.argv)]
    return "--json" in options or os.environ.get("NSTX_JSON", "").lower() in _TRUE


def describe_failure(error: BaseException) -> Failure:
    """Return how a command fails by an error; what nobody foresaw is written to a file of its own."""
    if isinstance(error, DescribedFailure):
        return error.failure
    signal_code = _interruption(error)
    if signal_code is not None:
        return Failure("Interrupted", "interrupted by a signal", signal_code, has_line=False)
    if isinstance(error, NstxError):
        kind, code = next((k, code) for k, code in _CODES.items() if isinstance(error, k))
        context = session.context
        message = str(error) if context is None else name_source(error, context)
        return Failure(kind.__name__, " ".join(message.split()), code)
    if isinstance(error, MemoryError):
        message = "expected memory for what is asked for, got too little; try a smaller --size"
        return Failure("DeviceError", message, _CODES[DeviceError])
    if isinstance(error, OSError) and _is_of_stdout(error):
        return describe_failure(stdout_error(error))
    if isinstance(error, FileNotFoundError) and error.filename is None and is_folder_gone():
        message = "expected a working folder, got one that is gone meanwhile; try another folder"
        return Failure("OutputError", message, _CODES[OutputError])
    # The argument parser's own errors (missing arguments, unknown options) have no public class in
    # typer, but a public interface: a message and an exit code.
    exit_code = getattr(error, "exit_code", None)
    if exit_code is not None and hasattr(error, "format_message"):
        from .mistakes import describe_mistake

        return Failure("UsageError", describe_mistake(error), exit_code)
    from .crashes import describe_crash

    return Failure(type(error).__name__, describe_crash(error), OWN_FAILURE)


def is_folder_gone() -> bool:
    """Whether the working folder was removed, so that Python cannot make a path absolute."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return True
    return False


def _is_of_stdout(error: OSError) -> bool:
    """Whether typer or rich, which print the help, raised an error of the system's."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and not {"typer", "rich", "click"}.isdisjoint(
        Path(frames[-1].filename).parts
    )


def _interruption(error: BaseException) -> int | None:
    """Return the exit code of the signal behind an error, if one is behind it.

    A compiled library that is interrupted while it is imported says "initialization failed" as an
    ImportError, which would be reported as a library that is missing.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SystemExit) and isinstance(cause.__context__, BrokenPipeError):
            return 0  # typer's own exit when the reader of its help has gone away
        if isinstance(cause, KeyboardInterrupt):
            return 130
        if isinstance(cause, SystemExit) and isinstance(cause.code, int):
            return cause.code
        cause = cause.__cause__ or cause.__context__
    return None
