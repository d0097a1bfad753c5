"""Targets on disk, so that none is computed twice: one file per picture, size, layer and statistic.

A file is named by the sha256 of its key, so an entry never changes: it is there or it is not. Of a
Gram matrix, which is symmetric, half is stored. The checksum in a file is compared at every read.
Any number of processes may use a folder at once: entries are written beside their place and
renamed, and no lock is held.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.storage.cache import (
    cache_folder,
    cache_limit,
    find_entries,
    mark_used,
    remove_damaged,
    remove_oldest,
    warn_unkept,
)
from nstx.models.storage.files import write_atomically
from nstx.models.storage.inputs import open_regular
from nstx.models.storage.plain_data import take_choice, take_object, take_text, take_whole
from nstx.models.storage.seals import DIGEST, digest_json
from nstx.models.vgg19 import Pooling, PoolRounding, find_layer

from ..settings import Resampling
from .folding import fold, folded_size, unfold
from .sealed_arrays import LONGEST_HEADER, SUFFIX, pack_arrays, read_arrays, read_description
from .targets import Array

_log = logging.getLogger("nstx")

Kept = Literal["activation", "gram", "moments"]
"""What is kept of a layer; moments are of all other style statistics (`nstx.models.statistics`)."""

_LARGEST_SIDE = 1 << 20  # of a picture

TARGET_NAME = rf"{DIGEST}\.safetensors"

# Of the limit, what pruning leaves, so that a full folder is not pruned at every write.
_SHARE_LEFT = 0.9

_FORMAT = 2
"""Rises when the same key leads to other values, or to another file."""

_FORMATS = range(1, 100)
"""What other releases may have written, with whom a folder is shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKey:
    """Everything that a target depends on; height and width are the resized picture's.

    Attributes:
        picture: sha256 of the decoded pixels, `nstx.engine.pictures.picture.Picture.digest`.
        weights: sha256 of the weight file.
        computed_by: extractor, kind of device and precision, such as ``onnx cpu fp32``. Versions of
            libraries and models of processors do not count; they differ by rounding.
        resampling: the filter by which the picture was resized.
        region: which of its pixels count, and by what rule; empty where all do alike.
    """

    picture: str
    height: int
    width: int
    layer: str
    statistic: Kept
    pooling: Pooling
    pool_rounding: PoolRounding
    weights: str
    computed_by: str
    resampling: Resampling = "lanczos"
    region: str = ""

    def to_json(self) -> dict[str, str | int]:
        """Return the key as plain data, as it was before there were regions where it has none."""
        # Not dataclasses.asdict, which makes deep copies and takes a tenth of a hit's time.
        names = self.__dataclass_fields__
        return {name: getattr(self, name) for name in names if name != "region" or self.region}

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in which the value is stored; `UsageError` if there is no such layer."""
        layer = find_layer(self.layer)
        if self.statistic != "activation":
            return (folded_size(self._side),)
        return (layer.channels, *layer.output_size(self.height, self.width, self.pool_rounding))

    @property
    def _side(self) -> int:
        """How many rows and columns a symmetric value has."""
        return find_layer(self.layer).channels + (self.statistic == "moments")

    def restore(self, value: Array) -> Array:
        """Return a value as it was before it was stored."""
        return value if self.statistic == "activation" else unfold(value, self._side)


@runtime_checkable
class TargetStore(Protocol):
    """A place where targets are looked up and kept."""

    @property
    def keeps(self) -> bool:
        """Whether a target that is written now can be read later."""

    def read(self, key: TargetKey) -> Array | None:
        """Return a target, which is not to be changed, or None where there is none."""

    def write(self, key: TargetKey, value: Array, picture: str) -> None:
        """Keep a target, if it can be kept, with the path of its picture for people to read.

        The value is float32, (channels, h, w), or a symmetric Gram matrix or moments.
        """


class TargetMemory:
    """A `TargetStore` that lasts as long as it is held, and leaves the cache folder alone."""

    keeps = True

    def __init__(self) -> None:
        self._values: dict[TargetKey, Array] = {}

    def read(self, key: TargetKey) -> Array | None:
        """Implement `TargetStore`."""
        return self._values.get(key)

    def write(self, key: TargetKey, value: Array, picture: str) -> None:
        """Implement `TargetStore`; the picture's path is not kept."""
        self._values[key] = value


class TargetFolder:
    """A `TargetStore` on disk, by default ``targets`` in the cache folder, within ``most_bytes``.

    None for the limit takes `nstx.models.storage.cache.cache_limit`. It ``keeps`` what is written
    unless the limit is 0, and until that has failed.
    """

    def __init__(self, folder: Path | None = None, most_bytes: int | None = None) -> None:
        self.folder = cache_folder() / "targets" if folder is None else folder
        self._most_bytes = cache_limit() if most_bytes is None else most_bytes
        self.keeps = self._most_bytes > 0
        self._present: int | None = None  # bytes; known once this process has written something
        self._written = 0

    def read(self, key: TargetKey) -> Array | None:
        """Implement `TargetStore`; a damaged entry is logged and removed."""
        path = self.folder / target_name(key)
        most_bytes = LONGEST_HEADER + 4 * math.prod(key.stored_shape)
        try:
            with open_regular(path, most_bytes) as file:
                value = _take_value(*read_arrays(file), key)
        except OSError:
            return None
        except ValueError as error:
            _log.warning("%s is damaged (%s) and is computed again", printable(path), error)
            remove_damaged(path)
            return None
        mark_used(path)
        return value

    def write(self, key: TargetKey, value: Array, picture: str) -> None:
        """Implement `TargetStore`; old entries make room, and a folder that cannot is logged."""
        if not self.keeps:
            return
        data = encode_target(key, value, picture)
        before, self._written = self._written, self._written + len(data)
        if before <= self._most_bytes < self._written:
            _log.warning(
                "these targets take more than the cache's limit, and not all are kept; "
                "try a larger NSTX_CACHE_LIMIT"
            )
        if len(data) > self._most_bytes:
            return  # all others would have to go for it, and it would go too
        try:
            # Not synced: the checksum finds what a power failure left, and it is computed again.
            write_atomically(self.folder / target_name(key), data, sync=False)
        except OSError as error:
            self.keeps = False
            warn_unkept(self.folder.parent, error)
            return
        self._make_room(len(data))

    def _make_room(self, added: int) -> None:
        # Counted again only where the limit may be reached: a folder holds thousands of entries.
        if self._present is None or self._present + added > self._most_bytes:
            entries = find_entries(self.folder, TARGET_NAME)
            self._present = sum(entry.size_bytes for entry in entries)
            if self._present > self._most_bytes:
                removed = remove_oldest(entries, int(_SHARE_LEFT * self._most_bytes))
                self._present -= sum(entry.size_bytes for entry in removed)
        else:
            self._present += added


def target_name(key: TargetKey) -> str:
    """Return the name of an entry's file."""
    return _name(key.to_json(), _FORMAT)


def _name(key: dict[str, Any], number: int) -> str:
    return digest_json({"format": f"nstx-target-{number}", **key}) + SUFFIX


def describe_target(path: Path) -> dict[str, Any]:
    """Return an entry's key and its picture's path, from its first bytes; empty if unreadable."""
    try:
        with open_regular(path) as file:
            description = read_description(file)
        return {"path": take_text(description, "picture"), **_read_key(description).to_json()}
    except (OSError, ValueError):
        return {}


def target_is_sound(path: Path) -> bool:
    """Whether an entry is whole, and is the one of its name; `OSError` if it cannot be read.

    One of another release, which this one never reads, is as good.
    """
    try:
        with open_regular(path) as file:
            arrays, description = read_arrays(file)
        fields = take_object(description, "key")
        if path.name != _name(fields, _FORMAT):
            return any(path.name == _name(fields, number) for number in _FORMATS)
        _take_value(arrays, description, _read_key(description))
    except ValueError:
        return False
    return True


def _read_key(description: dict[str, Any]) -> TargetKey:
    """Return the key in an entry's description; `ValueError` if it is none."""
    fields = take_object(description, "key")
    if {"region", *fields} != TargetKey.__dataclass_fields__.keys():
        raise ValueError("its key has other parts")
    key = TargetKey(
        picture=take_text(fields, "picture", DIGEST),
        height=take_whole(fields, "height", 1, _LARGEST_SIDE),
        width=take_whole(fields, "width", 1, _LARGEST_SIDE),
        layer=take_text(fields, "layer"),
        statistic=cast(Kept, take_choice(fields, "statistic", get_args(Kept))),
        pooling=cast(Pooling, take_choice(fields, "pooling", get_args(Pooling))),
        pool_rounding=cast(
            PoolRounding, take_choice(fields, "pool_rounding", get_args(PoolRounding))
        ),
        weights=take_text(fields, "weights", DIGEST),
        computed_by=take_text(fields, "computed_by"),
        resampling=cast(Resampling, take_choice(fields, "resampling", get_args(Resampling))),
        region=take_text(fields, "region") if "region" in fields else "",
    )
    try:
        math.prod(key.stored_shape)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return key


def encode_target(key: TargetKey, value: Array, picture: str) -> bytes:
    """Return the bytes of an entry; see `TargetStore.write`."""
    stored = value if key.statistic == "activation" else fold(value)
    arrays = {"value": np.ascontiguousarray(stored, np.float32)}
    description = {"key": key.to_json(), "channels": len(value), "picture": picture}
    return pack_arrays(arrays, description)


def _take_value(
    arrays: dict[str, NDArray[Any]], description: dict[str, Any], key: TargetKey
) -> Array:
    """Return the value in an entry; `ValueError` if it cannot be, or is of another key."""
    if _read_key(description) != key or arrays.keys() != {"value"}:
        raise ValueError("it is of something else")
    value: Array = arrays["value"]
    if value.dtype != np.float32 or value.shape != key.stored_shape:
        raise ValueError("it has another shape")
    with np.errstate(over="ignore", invalid="ignore"):
        if not math.isfinite(value.sum()):  # in a third of the time that isfinite takes of all
            raise ValueError("it has values that are not finite")
    return key.restore(value)


def as_stored(gram: Array) -> Array:
    """Return a Gram matrix, or moments, as a folder would give them back.

    It is symmetric up to rounding only; of two values that mirror each other the folder keeps one.
    """
    return unfold(fold(gram), len(gram))
