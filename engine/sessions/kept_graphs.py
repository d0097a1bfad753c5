"""Files of graphs in the cache folder, each named by its key and the checksum of its bytes.

The checksum is in the name, so that ONNX Runtime can read a file that was checked by itself.
"""

import contextlib
import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nstx.export.runtime.model_bytes import MOST_BYTES, read_metadata
from nstx.models.printable import printable
from nstx.models.storage.cache import (
    FolderEntry,
    cache_folder,
    find_entries,
    mark_used,
    remove,
    remove_damaged,
    remove_oldest,
    warn_unkept,
)
from nstx.models.storage.files import PART_PREFIX, PART_SUFFIX, write_atomically
from nstx.models.storage.inputs import open_regular
from nstx.models.storage.leftovers import removed_at_exit
from nstx.models.storage.seals import DIGEST, digest_bytes

_log = logging.getLogger("nstx")

SESSION_NAME = rf"[0-9a-f]{{32}}-{DIGEST}\.onnx"

MOST_KEPT_BYTES = 1_320_000_000
"""How many bytes of graphs are kept: twelve of all layers, or hundreds of few. One takes 0.3 to 110 MB, about as much
as the weights in it."""

_TWIN_SECONDS = 60.0

_DESCRIBED = (
    *("kind", "activations", "grams", "moments", "content_layers", "style_layers", "gradient"),
    *("pooling", "pool_rounding", "precision", "input", "weights_sha256"),
)


def find_graph(key: str) -> Path | None:
    """Return the file of a graph, or None where there is none; a damaged one is removed."""
    entries = find_entries(_folder(), rf"{key}-{DIGEST}\.onnx")
    for _, path, _ in entries:
        # Another process may remove it in the meantime.
        with contextlib.suppress(OSError):
            if kept_is_sound(path):
                mark_used(path)
                _remove_twins(entries, path)
                return path
            _log.warning("%s is damaged and is built again", printable(path))
            remove_damaged(path)
    return None


def keep_graph(key: str, model: bytes) -> Path | None:
    """Write the file of a graph, and remove the longest unused, so that `MOST_KEPT_BYTES` stay.

    Return the file, or that of another process that was first, whose bytes may differ; None where
    none can be written.
    """
    folder = _folder()
    if present := find_graph(key):
        return present
    path = folder / f"{key}-{digest_bytes(model)}.onnx"
    try:
        write_atomically(path, model)
    except OSError as error:
        warn_unkept(cache_folder(), error)
        return None
    remove_oldest(find_entries(folder, SESSION_NAME), MOST_KEPT_BYTES)
    return path


def describe_kept(path: Path) -> dict[str, str]:
    """Return what a kept graph computes, as plain data; empty if it cannot be read."""
    try:
        with open_regular(path, MOST_BYTES) as file:
            metadata = read_metadata(file.read())
    except (OSError, ValueError):
        return {}
    return {name: metadata[name] for name in _DESCRIBED if name in metadata}


def kept_is_sound(path: Path) -> bool:
    """Whether the bytes of a kept graph have the checksum in its name; `OSError` if unreadable."""
    try:
        with open_regular(path, MOST_BYTES) as file:
            return path.stem.endswith(f"-{hashlib.file_digest(file, 'sha256').hexdigest()}")
    except ValueError:
        return False


@contextlib.contextmanager
def part_folder() -> Iterator[Path]:
    """Make a folder for unfinished files; the cache sweeps it if the process is killed."""
    sessions = _folder()
    sessions.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(
            dir=sessions, prefix=PART_PREFIX, suffix=PART_SUFFIX, ignore_cleanup_errors=True
        ) as folder,
        removed_at_exit(Path(folder)),
    ):
        yield Path(folder)


def _folder() -> Path:
    return cache_folder() / "sessions"


def _remove_twins(entries: Sequence[FolderEntry], kept: Path) -> None:
    """Remove other files of the same graph, which processes that built it at once have left."""
    # A young one stays: the process that wrote it may be about to open it.
    latest = time.time() - _TWIN_SECONDS
    for entry in entries:
        if entry.path != kept and entry.used < latest:
            remove(entry.path)
