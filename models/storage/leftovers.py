"""What a process takes along when it ends at once: half-written files, locks, empty folders."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

_removals: dict[Path, Callable[[Path], None]] = {}


@contextlib.contextmanager
def removed_at_exit(path: Path) -> Iterator[None]:
    """Have `remove_leftovers` remove a file or folder for the time of a block, which removes it itself if all goes well."""
    with _left(path, _remove):
        yield


@contextlib.contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder after a block, or at the process's end in it, unless something lies in it."""
    with _left(folder, Path.rmdir):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()


def remove_leftovers() -> None:
    """Remove what belongs to blocks that have not ended, as they will not: the process ends now."""
    for path, remove in reversed(list(_removals.items())):
        with contextlib.suppress(OSError):
            remove(path)


@contextlib.contextmanager
def _left(path: Path, remove: Callable[[Path], None]) -> Iterator[None]:
    _removals[path] = remove
    try:
        yield
    finally:
        _removals.pop(path, None)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
