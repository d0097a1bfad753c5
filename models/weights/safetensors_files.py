"""Tensors in safetensors files: a header of JSON says where each one's numbers lie.

Read here and not by the library, which knows neither bfloat16 in NumPy nor a bound on the header;
written by it (`nstx.models.weights.copies`).
"""

import io
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..storage.plain_data import parse_json, take_object
from .entries import Entry, widen_bfloat16

File = io.BufferedReader | io.BytesIO
"""A file that is open for reading, of a known length."""

_LONGEST_HEADER = 1 << 20  # VGG-19's has 4 KiB
_MOST_AXES = 8
_TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


def read_safetensors(file: File) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors of floating-point numbers, and the metadata; else ValueError.

    The file must stay open while tensors are read, which may raise ValueError, too.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    prefix = file.read(8)
    (length,) = struct.unpack("<Q", prefix) if len(prefix) == 8 else (size,)
    if length > min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"its header claims {length} bytes")
    header = take_object({"header": parse_json(file.read(length))}, "header")
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or not all(type(text) is str for text in metadata.values()):
        raise ValueError("its metadata are no texts")
    entries = {}
    for name, described in header.items():
        if type(described) is not dict or type(described.get("dtype")) is not str:
            raise ValueError(
                "a tensor is described by other things than a type, a shape and a place"
            )
        if described["dtype"] in _TYPES:
            entries[name] = _entry(file, size, 8 + length, described)
    return entries, metadata


def _entry(file: File, size: int, start: int, described: Mapping[str, Any]) -> Entry:
    shape, (first, last) = _fields(described)
    dtype = _TYPES[described["dtype"]]
    if not (
        0 <= first <= last <= size - start and math.prod(shape) * dtype.itemsize == last - first
    ):
        raise ValueError("a tensor reaches beyond the file, or has another shape than its numbers")

    def read() -> NDArray[Any]:
        file.seek(start + first)
        numbers = np.empty((last - first) // dtype.itemsize, dtype)
        if file.readinto(numbers.view(np.uint8).data) != last - first:
            raise ValueError("it ends too soon")
        wide = widen_bfloat16(numbers) if described["dtype"] == "BF16" else numbers
        return wide.reshape(shape)

    return Entry(shape, read)


def _fields(described: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, int]]:
    shape: Any = described.get("shape")
    place: Any = described.get("data_offsets")
    lists = type(shape) is list and type(place) is list
    if not lists or len(shape) > _MOST_AXES or len(place) != 2:
        raise ValueError("a tensor's shape or its place in the file is none")
    if not all(type(number) is int and number >= 0 for number in shape + place):
        raise ValueError("a tensor's shape or its place is not of numbers")
    return tuple(shape), (place[0], place[1])
