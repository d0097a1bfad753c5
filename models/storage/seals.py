"""Checksums: whether what was written is what is read back, however it got damaged in between.

All are sha256 in hexadecimal: in the file, with `seal`, where it has room for a word of ours
(targets, exported models); in its name where another library opens it (kept
graphs, `nstx.engine.sessions.kept_graphs`); or in a field, over the rest of its contents, where
these are checked once they are parsed (`digest_json` for records of runs, `digest_arrays` for
copies of weights).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_SEAL = "nstx" * 16  # as long as a sha256 in hexadecimal, and never mistaken for one
"""Stands in a file, in front of anything like it, while the checksum is computed."""


DIGEST = "[0-9a-f]{64}"
"""The form of a checksum."""


def seal(data: bytes) -> bytes:
    """Return a file's bytes with their checksum in the place of `NO_SEAL`."""
    return data.replace(NO_SEAL.encode(), digest_bytes(data).encode(), 1)


def seal_is_right(data: bytes, checksum: str) -> bool:
    """Whether a file's bytes are those that were sealed, ``checksum`` in the place of `NO_SEAL`."""
    start = data.find(checksum.encode()) if len(checksum) == len(NO_SEAL) else -1
    if start < 0:
        return False
    view = memoryview(data)  # slices of it are not copies
    digest = hashlib.sha256(view[:start])
    digest.update(NO_SEAL.encode())
    digest.update(view[start + len(checksum) :])
    return digest.hexdigest() == checksum


def digest_bytes(data: bytes) -> str:
    """Return the checksum of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(data: Any) -> str:
    """Return the checksum of plain data, whatever the order of its keys."""
    return digest_bytes(json.dumps(data, sort_keys=True).encode())


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the checksum of arrays and their names, whatever their order; shapes do not count."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
