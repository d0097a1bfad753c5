"""Where nstx keeps what it computes once, and how a file is written so that it is never half there.

Folder: ``NSTX_CACHE_DIR``, else the platform's own place for caches.
"""

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of the cache; it need not exist yet."""
    chosen = os.environ.get("NSTX_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("nstx", appauthor=False)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either all of it or what it held before.

    The bytes go to a temporary file in the same folder, which is made if need be, and that file is
    then renamed.

    Raises:
        OSError: the folder cannot be written, or the disk is full. No temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".nstx-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
