"""What nobody foresaw: one line for the user, and all the rest in a file that can be reported."""

import os
import platform
import shlex
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

from nstx.models.printable import printable
from nstx.models.version import __version__


def describe_crash(error: BaseException) -> str:
    """Return the line of an error of nstx's own, which names the file that has its traceback.

    Where no file can be written, the traceback goes to stderr.
    """
    report = "\n".join(map(printable, _report(error).splitlines())) + "\n"
    try:
        handle, name = tempfile.mkstemp(prefix="nstx-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(report)
        advice = f"to report it with {printable(name)}"
    except OSError:
        if sys.stderr is not None:
            with suppress(OSError):
                sys.stderr.write(report)
        advice = "to report it with the lines above"
    return f"expected no error of nstx itself, got {_summary(error)}; try {advice}"


def _summary(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{text[:200]}{place}"


def _report(error: BaseException) -> str:
    from nstx.engine.devices.machine import package_versions

    packages = " ".join(f"{name}={version}" for name, version in package_versions().items())
    # Not platform.platform, which starts a program.
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return (
        f"nstx {__version__}, Python {platform.python_version()}, {system}\n"
        f"{packages}\n"
        f"{shlex.join(['nstx', *sys.argv[1:]])}\n\n"
        f"{''.join(traceback.format_exception(error))}"
    )
