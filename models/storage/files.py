"""Files that are written: checked before the work begins, and never half there."""

import contextlib
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputError
from ..printable import printable
from .inputs import kind_of_file
from .leftovers import removed_at_exit

PART_PREFIX, PART_SUFFIX = ".nstx-", ".part"
"""Names of files that are being written."""

_LONGEST_NAME = 255  # on every common file system
# Of Linux: the request for a file's attributes, and the one of a folder in which files are only made.
_GET_FLAGS, _APPEND_ONLY = 0x80086601, 0x20


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Check, before any work, that ``path`` has one of the suffixes and can be written.

    Links are followed. `OutputError` if a folder, a FIFO or a device stands there, or a file that cannot be
    replaced: an immutable or write-protected one, or a mount point.
    """
    if os.path.isdir(path):  # noqa: PTH112  (unlike Path.is_dir, never raises)
        raise OutputError(
            f"expected a file to write, got the folder {printable(path)}; "
            f"try '{printable(path)}/out{suffixes[0]}'"
        )
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise OutputError(
            f"expected an output that ends in {', '.join(suffixes)}, got '{printable(path)}'; "
            f"try '{printable(path.stem or 'out')}{suffixes[0]}'"
        )
    folder = _follow(path).parent
    if not os.path.isdir(folder):  # noqa: PTH112
        raise OutputError(
            f"expected an existing folder for the output, got {printable(folder)}; "
            f"try 'mkdir -p {printable(folder)}'"
        )
    check_file(path)
    _check_writable(folder)


def check_file(path: Path) -> None:
    """Check a name in a folder that `check_output` has checked: its length, and what stands there."""
    expected = f"expected a file that can be replaced at {printable(path)}"
    path = _follow(path)
    longest = longest_name(path.parent)
    if len(os.fsencode(path.name)) > longest:
        raise OutputError(
            f"expected a file name of at most {longest} bytes, got {len(os.fsencode(path.name))} in "
            f"{printable(path.name)}; try a shorter one"
        )
    try:
        status = os.stat(path)  # noqa: PTH116  (one of a missing file is quicker so)
        if not stat.S_ISREG(status.st_mode):
            raise OutputError(
                f"{expected}, got {kind_of_file(status.st_mode)}; try the name of a new file"
            )
        # Nothing is written. An immutable file is refused, as is one that is protected.
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return
    except OSError as error:
        reason = error.strerror or error
        if error.errno == errno.EPERM:
            reason = "one that is immutable or only grows"
        raise OutputError(f"{expected}, got: {reason}; try another name") from error
    try:
        is_mounted = _mount(handle) != _mount_of_folder(path.parent)
    finally:
        os.close(handle)
    if is_mounted:
        raise OutputError(
            f"{expected}, got a mount point, which cannot be; try a name beside it, or mount its folder"
        )


def longest_name(folder: Path) -> int:
    """Return how many bytes a file's name may have in a folder."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # Windows has no pathconf
        return os.pathconf(folder, "PC_NAME_MAX")
    return _LONGEST_NAME


def _follow(path: Path) -> Path:
    """Return where a path leads, through all links, whether or not something stands there."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise OutputError(
            f"expected a file name, got {printable(path)}: {error}; try another name"
        ) from error


def _mount(handle: int) -> str:
    """Return what tells the mount of an open file from others; nothing where no file can be mounted."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="ascii").splitlines()
        return next((line for line in lines if line.startswith("mnt_id")), "")
    return ""


def _check_writable(folder: Path) -> None:
    try:
        if _only_grows(folder):
            raise PermissionError(errno.EPERM, "files cannot be renamed in it")
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"nstx")
    except OSError as error:
        raise OutputError(
            f"expected a folder that can be written, got {printable(folder)}: "
            f"{error.strerror or error}; try another folder"
        ) from error


def _mount_of_folder(folder: Path) -> str:
    if sys.platform != "linux":
        return ""
    handle = os.open(folder, os.O_PATH)  # which needs no permission to read it
    try:
        return _mount(handle)
    finally:
        os.close(handle)


def _only_grows(folder: Path) -> bool:
    """Whether files can be made in a folder and not be renamed, by an attribute that Linux has."""
    if sys.platform != "linux":
        return False
    import fcntl

    flags = bytearray(8)
    # One that cannot be read, or a file system without attributes.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _GET_FLAGS, flags)
        finally:
            os.close(handle)
    return bool(int.from_bytes(flags, sys.byteorder) & _APPEND_ONLY)


def check_folder(path: Path) -> None:
    """Check that no file stands where a folder is to be made; `OutputError` if one does."""
    if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112
        raise OutputError(
            f"expected a folder for the output, got the file {printable(path)}; try another name"
        )


def check_new_files(folder: Path) -> None:
    """Check, before any work, that files can be made in a folder, which may have to be made itself.

    `OutputError` if they cannot, or if a file stands there.
    """
    place = folder.absolute()
    while not os.path.isdir(place):  # noqa: PTH112
        check_folder(place)
        if len(os.fsencode(place.name)) > _LONGEST_NAME:
            raise OutputError(
                f"expected a folder name of at most {_LONGEST_NAME} bytes, got "
                f"{printable(place.name)}; try a shorter one"
            )
        place = place.parent
    _check_writable(place)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there; `OutputError` if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"expected a folder that can be made at {printable(path)}, got: {reason}; "
            "try another name"
        ) from error


def check_distinct(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Check that no output is an input or another output; `OutputError` if one is."""
    seen = {_real(path) for path in inputs}
    for path in outputs:
        if _real(path) in seen:
            raise OutputError(
                "expected an output that is neither an input nor another output, "
                f"got {printable(path)}; "
                "try another name"
            )
        seen.add(_real(path))


def _real(path: Path) -> str:
    # A NUL may be in the name of an input, of which there is no file then.
    with contextlib.suppress(ValueError):
        path = Path(os.path.realpath(path))
    return os.path.normcase(path)


def write_output(path: Path, data: bytes) -> None:
    """Write a result's bytes, whole or not at all; `OutputError` if they cannot be written.

    Of a link, what it leads to is replaced; what is no file, such as a FIFO, never is.
    """
    check_file(path)
    with _telling_errors(path):
        write_atomically(_follow(path), data)


@contextlib.contextmanager
def writing_output(path: Path) -> Iterator[BinaryIO]:
    """Have a file for a block to write a result into; as `write_output`, also of errors."""
    check_file(path)
    with _telling_errors(path), replacing_atomically(_follow(path)) as file:
        yield file


@contextlib.contextmanager
def _telling_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"expected to write {printable(path)}, got: {error.strerror or error}; "
            "try another folder or free some space"
        ) from error


def write_atomically(
    path: Path, data: bytes | Iterable[bytes | memoryview], *, sync: bool = True, mark: str = ""
) -> None:
    """Write ``data``, whole or in pieces, so that ``path`` holds either all of it or what it held before.

    See `replacing_atomically`.
    """
    with replacing_atomically(path, sync=sync, mark=mark) as file:
        file.write(data) if isinstance(data, bytes) else file.writelines(data)


@contextlib.contextmanager
def replacing_atomically(path: Path, *, sync: bool = True, mark: str = "") -> Iterator[BinaryIO]:
    """Have a file for a block to write, so that ``path`` holds either all of it or what it held before.

    It is a temporary file in the same folder, made if need be, which is renamed at the end of the block; none
    is left if that fails. ``sync`` waits for the disk, so that this holds if the power fails, too. ``mark`` stands in
    its name, for whoever may remove those that killed processes left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PART_PREFIX + mark, suffix=PART_SUFFIX)
    os.close(handle)
    with removed_at_exit(Path(name)):
        try:
            # By its name: of a file that was opened by a number, tifffile finds none.
            with Path(name).open("wb") as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            mask = os.umask(0)  # which can only be read by setting it
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
