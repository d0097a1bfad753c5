"""Targets on disk, so that none is computed twice: one file per picture, size, layer and statistic.

A file is named by the sha256 of everything that its value depends on, so an entry never changes: it
is there or it is not. Of a Gram matrix, which is symmetric, half is stored. Each file carries its
own checksum, which is compared whenever it is read.

Any number of processes may use a store at once: entries are written beside their place and renamed,
no lock is held, and processes that compute the same entry write the same bytes.
"""

import contextlib
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..models.cache import cache_folder, cache_limit, remove_oldest, sweep_litter
from ..models.files import write_atomically
from ..models.vgg19 import Pooling, PoolRounding
from .sealed_arrays import SUFFIX, pack_arrays, read_description, unpack_arrays

_log = logging.getLogger("nstx")

Statistic = Literal["activation", "gram"]
Array = NDArray[np.float32]

# Rows whose part left of the diagonal is not stored; in bands, because row by row takes long.
_BAND = 32

_FORMAT = "nstx-target-1"
"""Changes when the same key leads to other values, or to another file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKey:
    """Everything that a target depends on.

    Attributes:
        picture: sha256 of the decoded pixels, `nstx.engine.images.Picture.digest`.
        height: in pixels, to which the picture was brought.
        width: likewise.
        layer: of VGG-19.
        statistic: ``activation`` or ``gram``.
        pooling: ``max`` or ``avg``.
        pool_rounding: of odd sizes.
        weights: sha256 of the weight file.
        computed_by: extractor and precision, such as ``onnx fp32``. Devices are not told apart:
            they differ by rounding.
        resampling: the filter by which the picture was brought to its size.
    """

    picture: str
    height: int
    width: int
    layer: str
    statistic: Statistic
    pooling: Pooling
    pool_rounding: PoolRounding
    weights: str
    computed_by: str
    resampling: str = "lanczos"

    def to_json(self) -> dict[str, str | int]:
        """Return the key as plain data."""
        # Not dataclasses.asdict, which makes deep copies and takes a tenth of a hit's time.
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def name(self) -> str:
        """The entry's file name."""
        text = json.dumps({"format": _FORMAT, **self.to_json()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest() + SUFFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTarget:
    """What an entry says of itself.

    Attributes:
        key: what it is of.
        path: where the picture was read from when the entry was made.
    """

    key: TargetKey
    path: str


class TargetStore:
    """The targets in one folder.

    Args:
        folder: of the entries; None takes the cache folder's.
        most_bytes: that they may take together; None takes `nstx.models.cache.cache_limit`.

    Raises:
        UsageError: the limit in the environment is no size.
    """

    def __init__(self, folder: Path | None = None, most_bytes: int | None = None) -> None:
        self.folder = cache_folder() / "targets" if folder is None else folder
        self.most_bytes = cache_limit() if most_bytes is None else most_bytes

    def read(self, key: TargetKey) -> Array | None:
        """Return a target, or None where there is none; a damaged entry is told and removed."""
        path = self.folder / key.name
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            value = _decode(data, key)
        except ValueError as error:
            _log.warning("%s is damaged (%s) and is computed again", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        # In vain where the folder is read-only; the entry is good all the same.
        with contextlib.suppress(OSError):
            path.touch()
        return value

    def write(self, key: TargetKey, value: Array, picture: str) -> None:
        """Keep a target.

        Args:
            key: what it is of.
            value: float32, (channels, h, w), or a symmetric (channels, channels).
            picture: where the picture was read from, for people.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        # Not synced: the checksum finds what a power failure left, and it is computed again.
        write_atomically(self.folder / key.name, _encode(key, value, picture), sync=False)

    def prune(self) -> list[Path]:
        """Remove what was not used for the longest until the rest is within the limit.

        Files that killed processes left half written go too. Returns what was removed.
        """
        removed = sweep_litter(self.folder)
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            # Another process may remove one in the meantime.
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, path, status.st_size))
        return removed + remove_oldest(found, self.most_bytes)


def describe_target(path: Path) -> StoredTarget | None:
    """Return what an entry is of, from its first bytes alone; None if they cannot be read."""
    try:
        said = read_description(path)
        return StoredTarget(key=TargetKey(**said["key"]), path=str(said["picture"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def target_is_sound(path: Path) -> bool:
    """Whether an entry is whole and is what its name says.

    Raises:
        OSError: it cannot be read.
    """
    try:
        _, said = unpack_arrays(path.read_bytes())
        return TargetKey(**said["key"]).name == path.name
    except (ValueError, KeyError, TypeError):
        return False


def _encode(key: TargetKey, value: Array, picture: str) -> bytes:
    stored = _fold(value) if key.statistic == "gram" else value
    arrays = {"value": np.ascontiguousarray(stored, np.float32)}
    said = {"key": key.to_json(), "channels": len(value), "picture": picture}
    return pack_arrays(arrays, said)


def _decode(data: bytes, key: TargetKey) -> Array:
    """Return the value in an entry.

    Raises:
        ValueError: it is damaged, or is of another key.
    """
    arrays, said = unpack_arrays(data)
    if said.get("key") != key.to_json() or "value" not in arrays:
        raise ValueError("it is of something else")
    value: Array = arrays["value"]
    return _unfold(value, said["channels"]) if key.statistic == "gram" else value


def _fold(matrix: Array) -> Array:
    """Return the bands of rows of a symmetric matrix, each from its diagonal square on, as one."""
    starts = range(0, len(matrix), _BAND)
    return np.concatenate([matrix[start : start + _BAND, start:].ravel() for start in starts])


def _unfold(half: Array, count: int) -> Array:
    """Return the symmetric matrix, ``count`` on a side, that was folded."""
    full = np.empty((count, count), np.float32)
    place = 0
    for start in range(0, count, _BAND):
        end = min(start + _BAND, count)
        size = (end - start) * (count - start)
        band = half[place : place + size].reshape(end - start, count - start)
        full[start:end, start:] = band
        full[end:, start:end] = band[:, end - start :].T
        place += size
    return full


def as_stored(gram: Array) -> Array:
    """Return a Gram matrix as the store would give it back.

    One that comes from a matrix product is symmetric up to rounding only; of two values that mirror
    each other, the store keeps one.
    """
    return _unfold(_fold(gram), len(gram))
