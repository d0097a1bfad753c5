"""Where nstx keeps what it computes once: ``NSTX_CACHE_DIR``, or the platform's place for caches."""

import contextlib
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from ..errors import OutputError, UsageError
from ..printable import printable
from ..values import parse_bytes
from .files import PART_PREFIX, PART_SUFFIX

_log = logging.getLogger("nstx")

CacheKind = Literal["targets", "weights", "sessions", "tensorrt", "places", "checkpoints"]
"""Folders of the cache: targets of pictures, weights as float32, graphs ready to run, TensorRT's
engines, where files were that runs have read, and long runs that go on after a stop."""

CACHE_KINDS: tuple[CacheKind, ...] = get_args(CacheKind)

_DEFAULT_LIMIT = "2GiB"
# A write takes no minute: what is older was left by a process that was killed.
_LITTER_SECONDS = 60.0


def cache_folder() -> Path:
    """Return the folder of the cache; it need not exist yet.

    `UsageError` if ``NSTX_CACHE_DIR`` begins with the ``~`` of a user that there is not;
    `OutputError` if it is not set, and this user has no home.
    """
    chosen = os.environ.get("NSTX_CACHE_DIR")
    if chosen:
        try:
            return Path(chosen).expanduser()
        except RuntimeError as error:
            raise UsageError(
                f"expected a folder in NSTX_CACHE_DIR, got {printable(chosen)!r} of a user without "
                "a home; try a path from the root on"
            ) from error
    from platformdirs import user_cache_path

    folder = in_home(lambda: user_cache_path("nstx", appauthor=False))
    if folder is None:
        raise OutputError(
            "expected a home for the cache, got a user without one; try NSTX_CACHE_DIR or HOME"
        )
    return folder


def in_home(place: Callable[[], Path]) -> Path | None:
    """Return a place of platformdirs', or None where the user has no home to hold it."""
    # Containers and CGI run as users whom no list has, without HOME; some versions of platformdirs
    # then raise, others return "~/.cache", which would be a folder of that name here.
    with contextlib.suppress(RuntimeError):
        folder = place()
        if folder.is_absolute():
            return folder
    return None


def keeps_cache(use_cache: bool) -> bool:
    """Whether the cache is read and written: if it is asked for, and the user has a place for it.

    Where there is no place, that is logged. A predictable one under /tmp is none, as another user
    could have put something there.
    """
    if not use_cache:
        return False
    try:
        cache_folder()
    except OutputError:
        _log.warning("this user has no home, so nothing is kept; try NSTX_CACHE_DIR or HOME")
        return False
    return True


def warn_unkept(folder: Path, reason: object) -> None:
    """Log that something cannot be kept in the cache folder: in equal words, whatever it was.

    Who prints warnings prints equal ones once.
    """
    reason = getattr(reason, "strerror", None) or reason
    _log.warning(
        "the cache %s cannot be written (%s); what is not kept is computed each time; "
        "try NSTX_CACHE_DIR",
        printable(folder),
        printable(reason),
    )


def cache_limit() -> int:
    """Return how many bytes of targets, and of checkpoints, are kept: ``NSTX_CACHE_LIMIT``, or 2 GiB; 0 keeps none."""
    return parse_bytes("NSTX_CACHE_LIMIT", os.environ.get("NSTX_CACHE_LIMIT") or _DEFAULT_LIMIT)


class FolderEntry(NamedTuple):
    """An entry of the cache; ``used`` is in seconds since the epoch."""

    used: float
    path: Path
    size_bytes: int


def find_entries(folder: Path, pattern: str) -> list[FolderEntry]:
    """Return a folder's entries whose names a pattern matches.

    With a final ``/`` it is one of folders, whose size is that of all files in them; without, of
    anything else, as a damaged entry may be a FIFO, or a link, which is not followed.
    """
    is_ours, of_folders = re.compile(pattern.removesuffix("/")).fullmatch, pattern.endswith("/")
    entries: list[FolderEntry] = []
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return entries
    # Names first: a folder holds thousands of entries, and making a Path takes longest.
    for path in [folder / name for name in names if is_ours(name)]:
        with contextlib.suppress(OSError):  # another process may remove it in the meantime
            statuses = [path.lstat()]
            if stat.S_ISDIR(statuses[0].st_mode) != of_folders:
                continue
            if of_folders:
                statuses += [file.lstat() for file in path.rglob("*")]
            used = max(status.st_mtime for status in statuses)
            entries.append(FolderEntry(used, path, sum(status.st_size for status in statuses)))
    return entries


def check_cache_folder() -> None:
    """Check that the cache folder, if there is one, can be read; `OutputError` if not."""
    folder = cache_folder()
    try:
        os.listdir(folder)  # noqa: PTH208
    except FileNotFoundError:
        if not folder.is_symlink():
            return
        raise OutputError(
            f"expected a folder for the cache, got the dangling link {printable(folder)}; "
            "try NSTX_CACHE_DIR"
        ) from None
    except OSError as error:
        raise OutputError(
            f"expected a folder for the cache that can be read, got {printable(folder)}: "
            f"{error.strerror or error}; try NSTX_CACHE_DIR"
        ) from error


def mark_used(path: Path) -> None:
    """Note that an entry was used, so that others go first."""
    # In vain where the folder is read-only. Not Path.touch, which would make an empty file in the
    # place of one that another process has just removed.
    with contextlib.suppress(OSError):
        os.utime(path)


def remove_oldest(entries: Iterable[FolderEntry], most_bytes: int) -> list[FolderEntry]:
    """Remove what was not used for the longest until the rest fits; return what was removed."""
    oldest_first = sorted(entries)
    excess = sum(entry.size_bytes for entry in oldest_first) - most_bytes
    removed = []
    for entry in oldest_first:
        if excess <= 0:
            break
        if remove(entry.path):
            removed.append(entry)
        excess -= entry.size_bytes
    return removed


def remove_damaged(path: Path) -> None:
    """Remove an entry that is no file of ours, if it can be; what lies in a folder stays."""
    with contextlib.suppress(OSError):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def remove(path: Path) -> bool:
    """Remove a file or folder; False if another process was first, or it cannot be removed."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return True
    return False


def sweep_litter(folder: Path) -> list[FolderEntry]:
    """Remove what killed processes left half written, a minute ago or more; return what."""
    name = re.escape(PART_PREFIX) + ".*" + re.escape(PART_SUFFIX)
    litter = [*find_entries(folder, name), *find_entries(folder, f"{name}/")]
    latest = time.time() - _LITTER_SECONDS
    return [entry for entry in litter if entry.used <= latest and remove(entry.path)]
