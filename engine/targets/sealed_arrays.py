"""Arrays in one file with a description and a checksum over all of it: safetensors, sealed.

The description stands in one key of the metadata, because safetensors writes several in no fixed
order, and equal contents are to give equal bytes.
"""

from collections.abc import Mapping
from io import SEEK_END, BytesIO
from json import dumps
from typing import Any, BinaryIO

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nstx.models.storage.plain_data import (
    parse_json,
    take_list,
    take_object,
    take_text,
    take_whole,
)
from nstx.models.storage.seals import NO_SEAL, seal, seal_is_right

SUFFIX = ".safetensors"

LONGEST_HEADER = 1 << 20
"""Bytes of a file besides its arrays, at most."""

_MOST_BYTES = 1 << 62
_KEY = "nstx"
_LENGTH = 8  # bytes that hold the header's length
_FOREIGN = "it is damaged, or another kind of file"


def pack_arrays(arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of contiguous arrays, with plain data and its ``seal``."""
    text = dumps({"seal": NO_SEAL, **description})
    return seal(save(dict(arrays), metadata={_KEY: text}))


def read_arrays(file: BinaryIO) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the description in a file; `ValueError` if it was changed."""
    return unpack_arrays(read_bytes(file))


def read_bytes(file: BinaryIO) -> bytes:
    """Return the bytes of a file; `ValueError` if it is none of ours by its beginning and its length.

    Such a file is not read to its end.
    """
    header = _read_header(file)
    _parse(header[_LENGTH:])
    if file.seek(0, SEEK_END) != len(header) + _count_bytes(header[_LENGTH:]):
        raise ValueError(_FOREIGN)
    file.seek(0)
    return file.read()


def unpack_arrays(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the description in a file's bytes; `ValueError` if it was changed."""
    description = read_description(BytesIO(data))
    if not seal_is_right(data, take_text(description, "seal")):
        raise ValueError("its checksum is wrong")
    try:
        return load(data), description
    except (SafetensorError, KeyError) as error:  # KeyError: a type that NumPy lacks
        raise ValueError(_FOREIGN) from error


def read_description(file: BinaryIO) -> dict[str, Any]:
    """Return a file's description, from its first bytes alone; only the form of it is checked."""
    return _parse(_read_header(file)[_LENGTH:])


def _read_header(file: BinaryIO) -> bytes:
    """Return the header's length and the header, as they stand; `ValueError` if too long."""
    length = file.read(_LENGTH)
    count = int.from_bytes(length, "little")
    if count > LONGEST_HEADER:
        raise ValueError(_FOREIGN)
    return length + file.read(count)


def _count_bytes(text: bytes) -> int:
    """Return how many bytes of arrays a header tells of."""
    arrays = {name: array for name, array in parse_json(text).items() if name != "__metadata__"}
    ends = [take_list(array, "data_offsets", 2)[1:] for array in arrays.values()]
    return max((take_whole({"end": end}, "end", 0, _MOST_BYTES) for (end,) in ends), default=0)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        metadata = take_object(parse_json(text), "__metadata__")
        return take_object({_KEY: parse_json(take_text(metadata, _KEY))}, _KEY)
    except ValueError as error:
        raise ValueError(_FOREIGN) from error
