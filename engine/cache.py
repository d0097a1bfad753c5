"""The entries of the cache folder: listed, checked and removed.

Only what has one of nstx's names is an entry, so that whatever else lies in the folder stays there.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.storage.cache import (
    CACHE_KINDS,
    CacheKind,
    FolderEntry,
    cache_folder,
    cache_limit,
    find_entries,
    remove,
    remove_oldest,
    sweep_litter,
)
from nstx.models.storage.seals import DIGEST
from nstx.models.weights.load import copy_is_sound

from .checkpoints.cached import CHECKPOINT_NAME, checkpoint_is_sound, describe_checkpoint
from .manifests.places import PLACE_NAME, describe_place, place_is_sound
from .sessions.kept_graphs import SESSION_NAME, describe_kept, kept_is_sound
from .targets.store import TARGET_NAME, describe_target, target_is_sound

# Names of entries, what one is of, and whether it is sound: TensorRT checks its engines itself.
_KINDS: dict[
    CacheKind, tuple[str, Callable[[Path], dict[str, Any]], Callable[[Path], bool] | None]
] = {
    "targets": (TARGET_NAME, describe_target, target_is_sound),
    "weights": (rf"{DIGEST}\.safetensors", lambda path: {"weights": path.stem}, copy_is_sound),
    "sessions": (SESSION_NAME, describe_kept, kept_is_sound),
    "tensorrt": (r"[0-9a-f]{32}-(\d+x\d+x\d+|free)/", lambda path: {"model": path.name}, None),
    "places": (PLACE_NAME, describe_place, place_is_sound),
    "checkpoints": (CHECKPOINT_NAME, describe_checkpoint, checkpoint_is_sound),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One thing in the cache.

    Attributes:
        path: of its file; of TensorRT's engines for one model, and of a checkpoint, their folder.
        used: when it was last used, in seconds since the epoch.
        of: what it holds, as plain data; empty if it is damaged.
    """

    kind: CacheKind
    path: Path
    size_bytes: int
    used: float
    of: dict[str, Any]


def resolved_folder() -> Path:
    """Return the cache folder as the paths of entries begin: absolute, with links followed."""
    return Path(os.path.realpath(cache_folder()))


def check_kind(kind: str | None) -> CacheKind | None:
    """Return the kind of entry that a text names, None for None; `UsageError` for any other."""
    if kind is not None and kind not in CACHE_KINDS:
        raise UsageError(
            f"expected a kind of {', '.join(CACHE_KINDS)}, got {printable(kind)!r}; try targets",
            setting="kind",
        )
    return kind


def list_cache(kind: CacheKind | None = None) -> list[CacheEntry]:
    """Return the entries of one kind, or of all, kind by kind, with the oldest first."""
    return [
        CacheEntry(kind=of_kind, path=path, size_bytes=size, used=used, of=_KINDS[of_kind][1](path))
        for of_kind in _kinds(kind)
        for used, path, size in sorted(_find(of_kind))
    ]


def verify_cache(
    entries: Sequence[CacheEntry], on_entry: Callable[[CacheEntry], None]
) -> list[CacheEntry]:
    """Return the entries that are damaged or cannot be read, by their checksums."""
    damaged = []
    for entry in entries:
        if not _is_sound(entry):
            damaged.append(entry)
        on_entry(entry)
    return damaged


def prune_cache(
    *, most_bytes: int | None = None, unused_seconds: float | None = None
) -> list[FolderEntry]:
    """Remove the entries that were not used for the longest, and half-written files; return them.

    All entries together take at most ``most_bytes``; None keeps targets within
    `nstx.models.storage.cache.cache_limit`, checkpoints as well, and all other entries. What was not used for
    ``unused_seconds`` is removed, too.
    """
    limit = cache_limit() if most_bytes is None else most_bytes
    removed = [entry for kind in CACHE_KINDS for entry in sweep_litter(resolved_folder() / kind)]
    if unused_seconds is not None:
        latest = time.time() - unused_seconds
        entries = _find(*CACHE_KINDS)
        removed += [entry for entry in entries if entry.used < latest and remove(entry.path)]
    counted: list[tuple[CacheKind, ...]] = (
        [("targets",), ("checkpoints",)] if most_bytes is None else [CACHE_KINDS]
    )
    for kinds in counted:
        removed += remove_oldest(_find(*kinds), limit)
    return removed


def remove_entries(entries: Sequence[CacheEntry]) -> list[Path]:
    """Remove entries; return the paths of those that could be."""
    return [entry.path for entry in entries if remove(entry.path)]


def clear_cache(kind: CacheKind | None = None) -> tuple[list[FolderEntry], list[FolderEntry]]:
    """Remove every entry of one kind, or of all, and what killed processes left half written.

    What another process is writing at that moment stays, so that its run loses nothing.

    Returns:
        What was removed, and what could not be.
    """
    kinds = _kinds(kind)
    removed = [entry for name in kinds for entry in sweep_litter(resolved_folder() / name)]
    stuck = []
    for entry in _find(*kinds):
        if remove(entry.path):
            removed.append(entry)
        elif os.path.lexists(entry.path):
            stuck.append(entry)
    return removed, stuck


def cache_bytes() -> int:
    """Return how many bytes all entries take."""
    return sum(entry.size_bytes for entry in _find(*CACHE_KINDS))


def _kinds(kind: CacheKind | None) -> tuple[CacheKind, ...]:
    return CACHE_KINDS if kind is None else (kind,)


def _find(*kinds: CacheKind) -> list[FolderEntry]:
    folder = resolved_folder()
    return [entry for kind in kinds for entry in find_entries(folder / kind, _KINDS[kind][0])]


def _is_sound(entry: CacheEntry) -> bool:
    check = _KINDS[entry.kind][2]
    try:
        return check is None or check(entry.path)
    except FileNotFoundError:
        return True  # removed by another process meanwhile
    except (OSError, ValueError):
        return False
