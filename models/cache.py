"""Where nstx keeps what it computes once: ``NSTX_CACHE_DIR``, or the platform's place for caches."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from .errors import UsageError
from .files import PART_PREFIX, PART_SUFFIX

_DEFAULT_LIMIT = "2GiB"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
# A write takes no minute: what is older was left by a process that was killed.
_LITTER_SECONDS = 60.0


def cache_folder() -> Path:
    """Return the folder of the cache; it need not exist yet."""
    chosen = os.environ.get("NSTX_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("nstx", appauthor=False)


def cache_limit() -> int:
    """Return how many bytes of targets are kept: ``NSTX_CACHE_LIMIT``, or 2 GiB.

    Raises:
        UsageError: the variable is no size.
    """
    return parse_bytes("NSTX_CACHE_LIMIT", os.environ.get("NSTX_CACHE_LIMIT") or _DEFAULT_LIMIT)


def parse_bytes(name: str, text: str) -> int:
    """Read a size such as ``500MB``, ``2GiB`` or a plain number of bytes.

    Args:
        name: of the option or variable, for the message.
        text: to read.

    Raises:
        UsageError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?|)b?", text.strip().lower())
    if found is None:
        raise UsageError(f"expected a size for {name}, got {text!r}; try 500MB or 2GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def remove_oldest(found: Iterable[tuple[float, Path, int]], most_bytes: int) -> list[Path]:
    """Remove the files that were not used for the longest until the rest is within a limit.

    Args:
        found: when each was used, its path, and its size in bytes.
        most_bytes: that they may take together.

    Returns:
        Those that were removed.
    """
    oldest_first = sorted(found)
    excess = sum(size for _, _, size in oldest_first) - most_bytes
    removed = []
    for _, path, size in oldest_first:
        if excess <= 0:
            break
        if remove(path):
            removed.append(path)
        excess -= size
    return removed


def remove(path: Path) -> bool:
    """Remove a file or folder; return whether it is gone by this. Another process may be first."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True
    return False


def sweep_litter(folder: Path) -> list[Path]:
    """Remove what killed processes left half written, over a minute ago; return what it was.

    Args:
        folder: whose own entries are looked at.
    """
    swept = []
    for path in folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
        with contextlib.suppress(OSError):  # another process may remove it in the meantime
            if time.time() - path.lstat().st_mtime > _LITTER_SECONDS and remove(path):
                swept.append(path)
    return swept
