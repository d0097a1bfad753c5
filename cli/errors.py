"""From errors to exit codes: each kind of mistake has one, and is one line on stderr.

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
130   interrupted (Ctrl-C); the current picture, if any, was saved
143   terminated (SIGTERM); as above
129   the terminal was closed (SIGHUP); as above
====  =======================================================
"""

import sys
from collections.abc import Callable
from typing import Any

import typer

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

from .session import session

_CODES: dict[type[NstxError], int] = {
    UsageError: 2,
    ImageError: 3,
    DeviceError: 4,
    WeightsError: 6,
    OutputError: 7,
    NumericalError: 8,
    ModelError: 9,
}


def run_app(app: Callable[..., Any]) -> int:
    """Run the command line and return its exit code; print a user's mistake as one line."""
    session.begin(as_json="--json" in sys.argv)
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        interrupted = _interruption(error)
        if interrupted is not None:
            return interrupted
        if isinstance(error, NstxError):
            typer.echo(f"nstx: error: {' '.join(str(error).split())}", err=True)
            return next(code for kind, code in _CODES.items() if isinstance(error, kind))
        # The argument parser's own errors (missing arguments, unknown options) have no public
        # class in typer, but a public interface: a message and an exit code.
        describe: Callable[[], str] | None = getattr(error, "format_message", None)
        if describe is None:
            raise
        # `nstx` alone has printed its help by now and has no message.
        if describe().strip():
            typer.echo(f"nstx: error: {describe().rstrip('.')}; try --help", err=True)
        return int(getattr(error, "exit_code", _CODES[UsageError]))
    return code if isinstance(code, int) else 0


def _interruption(error: BaseException) -> int | None:
    """Return the exit code of the signal behind an error, if one is behind it.

    A compiled library that is interrupted while it is imported says "initialization failed" as an
    ImportError, which would be reported as a library that is missing.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return 130
        if isinstance(cause, SystemExit) and isinstance(cause.code, int):
            return cause.code
        cause = cause.__cause__ or cause.__context__
    return None
