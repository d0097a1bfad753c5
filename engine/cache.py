"""What lies in the cache folder: looked at, checked, and removed.

Only files that are called like nstx's own are seen, so that a cache folder that is shared with
something else loses nothing of it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nstx.models.errors import UsageError
from nstx.models.storage.cache import (
    CACHE_KINDS,
    CacheKind,
    Found,
    cache_folder,
    cache_limit,
    find_entries,
    remove,
    remove_oldest,
    sweep_litter,
)
from nstx.models.weights.load import copy_is_sound

from .sessions.kept_graphs import SESSION_NAME, describe_kept, kept_is_sound
from .targets.folder import TARGET_NAME, describe_target, target_is_sound

_NAMES: dict[CacheKind, str] = {
    "targets": TARGET_NAME,
    "weights": r"[0-9a-f]{64}\.safetensors",
    "sessions": SESSION_NAME,
    "tensorrt": r"[0-9a-f]{32}-(\d+x\d+x\d+|free)/",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One thing in the cache.

    Attributes:
        kind: of the entry.
        path: of its file; of TensorRT's engines for one model, their folder.
        size_bytes: on the disk.
        used: when it was last used, in seconds since the epoch.
        of: what it is of, as plain data; empty if it does not say, as when it is damaged.
    """

    kind: CacheKind
    path: Path
    size_bytes: int
    used: float
    of: dict[str, Any]


def check_kind(kind: str | None) -> CacheKind | None:
    """Return a kind of entry, or None for all.

    Raises:
        UsageError: there is no such kind.
    """
    if kind is None:
        return None
    for known in CACHE_KINDS:
        if kind == known:
            return known
    raise UsageError(f"expected a kind of {', '.join(CACHE_KINDS)}, got {kind!r}; try targets")


def list_cache(kind: CacheKind | None = None) -> list[CacheEntry]:
    """Return the entries of one kind, or of all, with what they are of; of a kind, oldest first."""
    return [
        CacheEntry(
            kind=each,
            path=found.path,
            size_bytes=found.size_bytes,
            used=found.used,
            of=_describe(each, found.path),
        )
        for each in CACHE_KINDS
        if kind in (None, each)
        for found in sorted(_find(each))
    ]


def verify_cache(
    entries: Sequence[CacheEntry], on_entry: Callable[[CacheEntry], None]
) -> list[CacheEntry]:
    """Check entries against their checksums.

    Args:
        entries: from `list_cache`.
        on_entry: is told of each when it was checked.

    Returns:
        Those that are damaged or cannot be read. TensorRT's engines carry no checksum; TensorRT
        checks them itself.
    """
    damaged = []
    for entry in entries:
        if not _is_sound(entry):
            damaged.append(entry)
        on_entry(entry)
    return damaged


def prune_cache(
    *, most_bytes: int | None = None, unused_seconds: float | None = None
) -> list[Found]:
    """Remove what has not been used for the longest, and what killed processes left half written.

    Args:
        most_bytes: that all entries may take together; None keeps targets within
            `nstx.models.storage.cache.cache_limit`, and all others.
        unused_seconds: entries that were not used for so long go too.

    Returns:
        What was removed.

    Raises:
        UsageError: the limit in the environment is no size.
    """
    limit = cache_limit() if most_bytes is None else most_bytes
    removed = _sweep(CACHE_KINDS)
    if unused_seconds is not None:
        latest = time.time() - unused_seconds
        found = [entry for kind in CACHE_KINDS for entry in _find(kind)]
        removed += [entry for entry in found if entry.used < latest and remove(entry.path)]
    counted: tuple[CacheKind, ...] = ("targets",) if most_bytes is None else CACHE_KINDS
    return removed + remove_oldest([each for kind in counted for each in _find(kind)], limit)


def remove_entries(entries: Sequence[CacheEntry]) -> list[Path]:
    """Remove entries; return the paths of those that could be."""
    return [entry.path for entry in entries if remove(entry.path)]


def clear_cache(kind: CacheKind | None = None) -> list[Found]:
    """Remove every entry of one kind, or of all, and all that is half written; return what it was.

    A process that is writing an entry meanwhile loses it, and goes on without.
    """
    kinds = CACHE_KINDS if kind is None else (kind,)
    found = [entry for each in kinds for entry in _find(each)]
    litter = [entry for each in kinds for entry in sweep_litter(cache_folder() / each, 0.0)]
    return litter + [entry for entry in found if remove(entry.path)]


def cache_bytes() -> int:
    """Return how many bytes all entries take."""
    return sum(entry.size_bytes for kind in CACHE_KINDS for entry in _find(kind))


def _find(kind: CacheKind) -> list[Found]:
    return find_entries(cache_folder() / kind, _NAMES[kind])


def _sweep(kinds: Sequence[CacheKind]) -> list[Found]:
    return [entry for kind in kinds for entry in sweep_litter(cache_folder() / kind)]


def _describe(kind: CacheKind, path: Path) -> dict[str, Any]:
    if kind == "targets":
        return describe_target(path)
    if kind == "sessions":
        return describe_kept(path)
    return {"weights": path.stem} if kind == "weights" else {"model": path.name}


def _is_sound(entry: CacheEntry) -> bool:
    checks = {"targets": target_is_sound, "sessions": kept_is_sound, "weights": copy_is_sound}
    check = checks.get(entry.kind)
    try:
        return check is None or check(entry.path)
    except FileNotFoundError:
        return True  # removed by another process meanwhile
    except OSError:
        return False
