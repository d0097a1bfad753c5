"""Files that are read: regular, of a sensible size, and never waited for.

Whatever a stranger can name passes here before a reader sees a byte of it: a device has no end, a
FIFO no beginning, and a file of a terabyte no place in memory.
"""

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from ..errors import NstxError
from ..printable import printable

_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class UnfitFileError(ValueError):
    """A file that is not read: not regular, or too large.

    Attributes:
        got: what it is.
        limit: what is expected of it beyond what it is: `` of at most 3 MiB``.
    """

    def __init__(self, got: str, limit: str = "") -> None:
        super().__init__(f"expected a file{limit}, got {got}; try another file")
        self.got, self.limit = got, limit


def open_input(
    path: Path, *, kind: str, most_bytes: int, error: type[NstxError], advice: str = "another file"
) -> BufferedReader:
    """Open a regular file, of at most ``most_bytes`` if they are given, for reading, without waiting for a writer.

    Args:
        path: links are followed.
        kind: what is expected there, with its article: ``a picture``.
        most_bytes: more than any sensible file of this kind has.
        error: what is raised.
        advice: what stands behind "try" in its message.

    Raises:
        NstxError: of the class ``error``: there is no such file, it cannot be read, it is a folder,
            a device, a FIFO or a socket, a file of the system's such as those in ``/proc``, or it is
            larger.
    """
    try:
        return open_regular(path, most_bytes)
    except OSError as failure:
        reason = printable(failure.strerror or failure)
        raise error(
            f"expected {kind} at {printable(path)}, got: {reason}; try {advice}"
        ) from failure
    except UnfitFileError as failure:
        raise error(
            f"expected {kind} at {printable(path)}{failure.limit}, got {failure.got}; try {advice}"
        ) from failure


def open_regular(path: Path, most_bytes: int | None = None) -> BufferedReader:
    """Open a regular file, of at most ``most_bytes`` if they are given, for reading, without waiting for a writer.

    Raises:
        OSError: there is none, or it cannot be opened.
        UnfitFileError: it is no regular file, or too large.
    """
    # Without O_NONBLOCK, opening a FIFO waits for a process that writes into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except ValueError as failure:  # a name with a NUL
        raise UnfitFileError(f"a name that is none: {printable(failure)}") from failure
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise UnfitFileError(kind_of_file(status.st_mode))
        if most_bytes is not None and status.st_size > most_bytes:
            raise UnfitFileError(_size(status.st_size), f" of at most {_size(most_bytes)}")
        if not status.st_size and not _is_empty(handle):
            raise UnfitFileError("a file of the system's, of no size")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_input(
    path: Path, *, kind: str, most_bytes: int, error: type[NstxError], advice: str = "another file"
) -> bytes:
    """Return the bytes of a file that `open_input` opens; never more than ``most_bytes``."""
    with open_input(path, kind=kind, most_bytes=most_bytes, error=error, advice=advice) as file:
        try:
            # A reader takes memory for all that it is asked for, whatever the file has.
            size = os.fstat(file.fileno()).st_size
            data = file.read(size + 1)
            if len(data) > size:
                data += file.read(most_bytes)
        except OSError as failure:
            raise error(
                f"expected {kind} at {printable(path)}, got: {failure.strerror or failure}; "
                f"try {advice}"
            ) from failure
    if len(data) > most_bytes:  # it grew
        raise error(
            f"expected {kind} at {printable(path)} of at most {_size(most_bytes)}, got more; "
            f"try {advice}"
        )
    return data


def digest_input(
    path: Path, *, kind: str, most_bytes: int, error: type[NstxError], advice: str = "another file"
) -> str:
    """Return the sha256 of a file that `open_input` opens; `OSError` if it cannot be read to its end."""
    with open_input(path, kind=kind, most_bytes=most_bytes, error=error, advice=advice) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_empty(handle: int) -> bool:
    """Whether a file that says so is empty: those of the system's may have bytes, and no end."""
    try:
        return not os.read(handle, 1)
    except OSError:  # such as that nothing is there yet
        return False


def kind_of_file(mode: int) -> str:
    """Return what a file is that is not a regular one, with its article; ``mode`` is that of its status."""
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} bytes"
