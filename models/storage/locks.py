"""Outputs that one run writes at a time.

Two runs with one output would replace each other's results, and mix their lines in one trace. A lock is
the system's, on a small file beside the output; it ends with the process, however that ends, so that a
lock's file that a killed process left keeps nobody waiting.
"""

import contextlib
import errno
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import OutputError
from ..printable import printable
from .files import PART_PREFIX
from .leftovers import removed_at_exit

LOCK_SUFFIX = ".lock"

# Where locks are not to be had, such as on some network file systems, runs cannot be told apart.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def locked(paths: Iterable[Path]) -> Iterator[None]:
    """Have outputs for one process alone for the time of a block.

    Raises:
        OutputError: another process has one of them; or the file beside it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.enter_context(_locked(path))
        yield


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    file = _lock_file(path)
    handle = _acquire(file, path)
    with removed_at_exit(file):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the folder may be gone
                _release(handle, file)


def _lock_file(path: Path) -> Path:
    real = Path(os.path.realpath(path))
    name = hashlib.sha256(os.fsencode(os.path.normcase(real.name))).hexdigest()[:16]
    return real.with_name(f"{PART_PREFIX}{name}{LOCK_SUFFIX}")


def _acquire(file: Path, path: Path) -> int:
    try:
        while True:
            handle = _open(file)
            try:
                _lock(handle)
                # Whoever had it before may have removed the file since it was opened.
                if os.path.samestat(os.fstat(handle), os.stat(file)):  # noqa: PTH116
                    return handle
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    return handle
                os.close(handle)
                raise
            os.close(handle)
    except BlockingIOError as error:
        raise OutputError(
            f"expected the output {printable(path)} for this run alone, got another run that is writing it; "
            "try another name, or wait for its end"
        ) from error
    except OSError as error:
        advice = "try another folder"
        if os.path.lexists(file):
            advice = f"try another name, or remove '{printable(file)}' if no run is writing there"
        raise OutputError(
            f"expected to lock {printable(path)}, got: {error.strerror or error}; {advice}"
        ) from error


def _open(file: Path) -> int:
    """Open a lock's file, which is made if it is not there.

    One that another user's killed process left need not be writable; nor does Linux let it be opened in ``/tmp``
    by what could make it.
    """
    # A stranger's folder may have a link there, through which a file would be made elsewhere.
    flags = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW"))
    try:
        return os.open(file, flags | os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError as error:
        try:
            return os.open(file, flags | os.O_RDONLY)
        except FileNotFoundError:
            raise error from None  # the folder takes no files


def _lock(handle: int) -> None:
    """Lock an open file; `BlockingIOError` if another process has it."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _release(handle: int, file: Path) -> None:
    if sys.platform == "win32":  # where a file that is open cannot be removed
        os.close(handle)
        file.unlink(missing_ok=True)
        return
    try:
        # Before others can have the lock, who would have it on a file that is removed.
        file.unlink(missing_ok=True)
    finally:
        os.close(handle)
