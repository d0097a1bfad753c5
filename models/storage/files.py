"""Files that are written: checked before the work begins, and never half there."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import OutputError

PART_PREFIX, PART_SUFFIX = ".nstx-", ".part"
"""Names of files that are being written."""

_LONGEST_NAME = 255  # on every common file system


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Check, before any work, that ``path`` has one of the suffixes and can be written."""
    if os.path.isdir(path):  # noqa: PTH112  (unlike Path.is_dir, never raises)
        raise OutputError(
            f"expected a file to write, got the folder {path}; try {path}/out{suffixes[0]}"
        )
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise OutputError(
            f"expected an output that ends in {', '.join(suffixes)}, got {str(path)!r}; "
            f"try {path.stem or 'out'}{suffixes[0]}"
        )
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(
            f"expected a file name of at most {_LONGEST_NAME} bytes, got more; try a shorter one"
        )
    if not os.path.isdir(path.parent):  # noqa: PTH112
        raise OutputError(
            f"expected an existing folder for the output, got {path.parent}; "
            f"try 'mkdir -p {path.parent}'"
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(b"nstx")
    except OSError as error:
        raise OutputError(
            f"expected a folder that can be written, got {path.parent}: "
            f"{error.strerror or error}; try another folder"
        ) from error


def check_folder(path: Path) -> None:
    """Check that no file stands where a folder is to be made; `OutputError` if one does."""
    if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112
        raise OutputError(
            f"expected a folder for the output, got the file {path}; try another name"
        )


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there; `OutputError` if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected a folder that can be made at {path}, got: {error.strerror or error}; "
            "try another name"
        ) from error


def check_distinct(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Check that no output is an input or another output; `OutputError` if one is."""
    seen = {_real(path) for path in inputs}
    for path in outputs:
        if _real(path) in seen:
            raise OutputError(
                f"expected an output that is neither an input nor another output, got {path}; "
                "try another name"
            )
        seen.add(_real(path))


def _real(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def write_output(path: Path, data: bytes) -> None:
    """Write a result's bytes, whole or not at all; `OutputError` if they cannot be written."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise OutputError(
            f"expected to write {path}, got: {error.strerror or error}; "
            "try another folder or free some space"
        ) from error


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write ``data`` so that ``path`` holds either all of it or what it held before.

    It goes to a temporary file in the same folder, made if need be, which is then renamed; none
    is left if that fails. ``sync`` waits for the disk, so that this holds if the power fails, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PART_PREFIX, suffix=PART_SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
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
