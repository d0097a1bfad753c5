"""What lies in the cache folder: looked at, checked, and removed.

Only files that are called like nstx's own are seen, so that a cache folder that is shared with
something else loses nothing of it.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..models.cache import cache_folder, cache_limit, remove, remove_oldest, sweep_litter
from ..models.errors import UsageError
from ..models.weights import copy_is_sound
from .session_cache import describe_kept, kept_is_sound
from .target_store import describe_target, target_is_sound

CacheKind = Literal["targets", "weights", "sessions", "tensorrt"]
"""Targets of pictures, weights as float32, graphs ready to run, TensorRT's engines."""

KINDS: tuple[CacheKind, ...] = get_args(CacheKind)

_NAMES: dict[CacheKind, str] = {
    "targets": r"[0-9a-f]{64}\.safetensors",
    "weights": r"[0-9a-f]{64}\.safetensors",
    "sessions": r"[0-9a-f]{32}-[0-9a-f]{64}\.onnx",
    "tensorrt": r"[0-9a-f]{32}-(\d+x\d+x\d+|free)",
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
    for known in KINDS:
        if kind == known:
            return known
    raise UsageError(f"expected a kind of {', '.join(KINDS)}, got {kind!r}; try targets")


def list_cache(kind: CacheKind | None = None) -> list[CacheEntry]:
    """Return the entries of one kind, or of all, with what they are of; of a kind, oldest first."""
    return [
        CacheEntry(kind=each, path=path, size_bytes=size, used=used, of=_describe(each, path))
        for each in KINDS
        if kind in (None, each)
        for used, path, size in sorted(_find(each))
    ]


def verify_cache(on_entry: Callable[[CacheEntry, bool], None]) -> list[CacheEntry]:
    """Check every entry against its checksum.

    Args:
        on_entry: is told of each, and whether it is sound.

    Returns:
        Those that are damaged. TensorRT's engines carry no checksum; TensorRT checks them itself.
    """
    damaged = []
    for entry in list_cache():
        with contextlib.suppress(FileNotFoundError):  # removed by another process meanwhile
            sound = _is_sound(entry)
            on_entry(entry, sound)
            if not sound:
                damaged.append(entry)
    return damaged


def prune_cache(
    *, most_bytes: int | None = None, unused_seconds: float | None = None
) -> list[Path]:
    """Remove what has not been used for the longest, and what killed processes left half written.

    Args:
        most_bytes: that all entries may take together; None keeps targets within
            `nstx.models.cache.cache_limit`, and all others.
        unused_seconds: entries that were not used for so long go too.

    Returns:
        What was removed.

    Raises:
        UsageError: the limit in the environment is no size.
    """
    limit = cache_limit() if most_bytes is None else most_bytes
    removed = [path for kind in KINDS for path in sweep_litter(cache_folder() / kind)]
    if unused_seconds is not None:
        latest = time.time() - unused_seconds
        found = [(used, path) for kind in KINDS for used, path, _ in _find(kind)]
        removed += [path for used, path in found if used < latest and remove(path)]
    counted: tuple[CacheKind, ...] = ("targets",) if most_bytes is None else KINDS
    return removed + remove_oldest([each for kind in counted for each in _find(kind)], limit)


def remove_entries(entries: Sequence[CacheEntry]) -> list[Path]:
    """Remove entries; return the paths of those that could be."""
    return [entry.path for entry in entries if remove(entry.path)]


def clear_cache(kind: CacheKind | None = None) -> list[Path]:
    """Remove every entry of one kind, or of all; return what was removed."""
    kinds = KINDS if kind is None else (kind,)
    removed = [path for each in kinds for path in sweep_litter(cache_folder() / each)]
    return removed + [path for each in kinds for _, path, _ in _find(each) if remove(path)]


def _find(kind: CacheKind) -> Iterator[tuple[float, Path, int]]:
    """Yield when each entry was used, its path and its size in bytes."""
    for path in (cache_folder() / kind).glob("*"):
        if not re.fullmatch(_NAMES[kind], path.name):
            continue
        with contextlib.suppress(OSError):  # removed by another process meanwhile
            files = [path, *path.rglob("*")] if path.is_dir() else [path]
            statuses = [file.stat() for file in files]
            used = max(status.st_mtime for status in statuses)
            yield used, path, sum(status.st_size for status in statuses)


def _describe(kind: CacheKind, path: Path) -> dict[str, Any]:
    if kind == "targets":
        stored = describe_target(path)
        return {} if stored is None else {"path": stored.path, **stored.key.to_json()}
    if kind == "sessions":
        return describe_kept(path)
    return {"weights": path.stem} if kind == "weights" else {"model": path.name}


def _is_sound(entry: CacheEntry) -> bool:
    if entry.kind == "targets":
        return target_is_sound(entry.path)
    if entry.kind == "sessions":
        return kept_is_sound(entry.path)
    return copy_is_sound(entry.path) if entry.kind == "weights" else True
