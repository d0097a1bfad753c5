"""Standard output and error, which may be full, or have nobody any more who reads them."""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from nstx.models.errors import OutputError


@contextlib.contextmanager
def writing(*, err: bool = False) -> Iterator[None]:
    """Write on stdout or stderr in a block; what comes once it has failed goes nowhere.

    Raises:
        OutputError: stdout cannot be written; that its reader went away is no error.
    """
    stream = sys.stderr if err else sys.stdout
    try:
        yield
    except OSError as error:
        # A reader that went away (| head) is no reason to lose a result or to report a failure.
        is_failure = not err and not _is_reader_gone(error, stream)
        _discard(stream)
        if is_failure:
            raise stdout_error(error) from error


def stdout_error(error: OSError) -> OutputError:
    """Return the error of a stdout that cannot be written."""
    return OutputError(
        f"expected to write to standard output, got: {error.strerror}; try a file elsewhere"
    )


def _is_reader_gone(error: OSError, stream: TextIO) -> bool:
    """Whether an error means that nobody reads a stream any more: a pipe's reader, or a terminal."""
    if isinstance(error, BrokenPipeError):
        return True
    with contextlib.suppress(OSError, ValueError):
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    return False


class Stderr:
    """Standard error for rich, which would raise an error where a terminal was closed."""

    def __init__(self) -> None:
        # While a bar is shown, rich has one of its own in the place of this.
        self._stream = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        """Write a text, if it can be written."""
        with writing(err=True):
            self._stream.write(text)

    def flush(self) -> None:
        """Write what is in the buffer, if it can be written."""
        with writing(err=True):
            self._stream.flush()


def _discard(stream: TextIO) -> None:
    """Send what is still in a stream's buffer, and all that follows, nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
