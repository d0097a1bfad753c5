"""Where files were that runs on this machine have read: one small file of the cache each, by their checksums.

So that a picture's manifest, which has names and checksums alone, finds them again. What is found there is
checked against its checksum, like any other file.
"""

import os
import re
from pathlib import Path
from typing import Any

from nstx.models.errors import OutputError, UsageError
from nstx.models.storage.cache import (
    cache_folder,
    find_entries,
    mark_used,
    remove,
    warn_unkept,
)
from nstx.models.storage.files import write_atomically
from nstx.models.storage.inputs import open_regular
from nstx.models.storage.seals import DIGEST
from nstx.models.weights.sources import EMBEDDED, split_source

from ..checkpoints.runs import Run
from ..regions.masks import ALPHA

PLACE_NAME = rf"{DIGEST}\.txt"
_MOST_PLACES = 1000
_LONGEST = 1 << 14


def note_place(sha256: str, path: Path) -> None:
    """Note where a file of a checksum is; a cache that cannot be written is logged."""
    place, data = _place(sha256), os.fsencode(path.absolute())
    try:
        if _read(place) == data:
            mark_used(place)
            return
        write_atomically(place, data, sync=False)
    except OSError as error:
        warn_unkept(place.parent.parent, error)
        return
    # Those that were not used for the longest make room.
    for entry in sorted(find_entries(place.parent, PLACE_NAME))[:-_MOST_PLACES]:
        remove(entry.path)


def note_inputs(run: Run) -> None:
    """Note where the files of a run are."""
    for item in run.inputs:
        path = Path(item.path)
        if item.sha256 is not None and (item.role, item.path) != ("mask", ALPHA) and path.is_file():
            note_place(item.sha256, path)
        if item.mask is not None and item.mask_sha256 is not None and Path(item.mask).is_file():
            note_place(item.mask_sha256, Path(item.mask))
    if run.settings.weights != EMBEDDED:
        note_place(run.opened.weights_sha256, split_source(run.settings.weights)[0])


def find_place(sha256: str) -> Path | None:
    """Return where a file of a checksum was read last on this machine; None if that is not known."""
    try:
        data = _read(_place(sha256))
    except (OSError, OutputError, UsageError):  # there is no cache, or no home for one
        return None
    return None if data is None else Path(os.fsdecode(data))


def describe_place(path: Path) -> dict[str, Any]:
    """Return what an entry of the cache holds, as plain data; empty if it is damaged."""
    data = None if not re.fullmatch(PLACE_NAME, path.name) else _read(path)
    return {} if data is None else {"path": os.fsdecode(data), "sha256": path.stem}


def place_is_sound(path: Path) -> bool:
    """Whether an entry holds a path; `OSError` if it cannot be read."""
    return _read(path) is not None or not path.exists()


def _place(sha256: str) -> Path:
    return cache_folder() / "places" / f"{sha256}.txt"


def _read(place: Path) -> bytes | None:
    """Return the path in an entry, from the root on; None of one that is missing or damaged."""
    try:
        with open_regular(place, _LONGEST) as file:
            data = file.read(_LONGEST)
    except (FileNotFoundError, ValueError):
        return None
    try:
        is_path = b"\0" not in data and Path(os.fsdecode(data)).is_absolute()
    except ValueError:  # bytes that are no name here
        return None
    return data if is_path else None
