"""What a process takes along when it ends at once: half-written files, and locks."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

_paths: set[Path] = set()


@contextlib.contextmanager
def removed_at_exit(path: Path) -> Iterator[None]:
    """Have `remove_leftovers` remove a file or folder for the time of a block, which removes it itself if all goes well."""
    _paths.add(path)
    try:
        yield
    finally:
        _paths.discard(path)


def remove_leftovers() -> None:
    """Remove the files and folders of all blocks that have not ended, as they will not: the process ends now."""
    for path in list(_paths):
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
