"""Arrays in one file with a description and a checksum over all of it: safetensors, sealed.

The description stands in one key of the metadata, because safetensors writes several in no fixed
order, and equal contents are to give equal bytes.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from io import SEEK_END, BufferedReader, BytesIO
from json import dumps
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import open_input
from nstx.models.storage.plain_data import (
    parse_json,
    take_choice,
    take_field,
    take_list,
    take_object,
    take_text,
    take_whole,
)
from nstx.models.storage.seals import DIGEST, NO_SEAL, seal, seal_is_right

SUFFIX = ".safetensors"

LONGEST_HEADER = 1 << 20
"""Bytes of a file besides its arrays, at most."""

_MOST_BYTES, _MOST_AXES = 1 << 62, 8
_KINDS = {"uint8": "U8", "float32": "F32", "float64": "F64"}
_TYPES = {kind: name for name, kind in _KINDS.items()}
_KEY = "nstx"
_LENGTH = 8  # bytes that hold the header's length
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""The type and shape of each array, in a file's order."""

_FOREIGN = "it is damaged, or another kind of file"


@contextlib.contextmanager
def open_sealed(
    path: Path, *, kind: str, most_bytes: int, advice: str, instead: str
) -> Iterator[BufferedReader]:
    """Open a file of sealed arrays; whatever is wrong with it, in a block, too, is a `UsageError`.

    Args:
        path: of the file.
        kind: what messages call it, such as ``a targets file``.
        most_bytes: that it may have.
        advice: what is to be tried where there is none.
        instead: what is to be tried where it cannot be used.
    """
    with open_input(
        path, kind=kind, most_bytes=most_bytes, error=UsageError, advice=advice
    ) as file:
        try:
            yield file
        except (OSError, ValueError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "memory cannot hold it"
            raise UsageError(
                f"expected {kind} at {printable(path)}, got one that cannot be used "
                f"({printable(reason)[:200]}); try {instead}"
            ) from error


def pack_arrays(arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of contiguous arrays, with plain data and its ``seal``."""
    text = dumps({"seal": NO_SEAL, **description})
    return seal(save(dict(arrays), metadata={_KEY: text}))


def stream_arrays(
    arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]
) -> Iterator[bytes | memoryview]:
    """Yield what `pack_arrays` returns, piece by piece, as the arrays lie in memory: none is copied.

    They are written in another order. `ValueError` where the description is too long to be read again.
    """
    text = dumps({"seal": NO_SEAL, **description})
    take_text({_KEY: text}, _KEY)
    tensors: dict[str, Any] = {"__metadata__": {_KEY: text}}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        kind, shape = _KINDS[array.dtype.name], list(array.shape)
        tensors[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    header = dumps(tensors).encode()
    header += b" " * (-len(header) % _LENGTH)
    if len(header) > LONGEST_HEADER:
        raise ValueError("it has too many arrays")
    header = len(header).to_bytes(_LENGTH, "little") + header
    pieces = [_bytes_of(array) for array in arrays.values()]
    yield header.replace(NO_SEAL.encode(), _digest(header, pieces).encode(), 1)
    yield from pieces


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(bytearray())


def _digest(header: bytes, pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256(header)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def read_shapes(file: BinaryIO) -> Shapes:
    """Return the type and shape of each array, in their order, from a file's first bytes alone.

    `ValueError` if it is no such file, or its length is not that of its arrays.
    """
    file.seek(0)
    header = _read_header(file)
    _parse(header[_LENGTH:])
    arrays = parse_json(header[_LENGTH:])
    del arrays["__metadata__"]
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    end = 0
    for name, array in arrays.items():
        kind = take_choice(array, "dtype", _KINDS.values())
        sides = take_list(array, "shape", _MOST_AXES)
        shape = tuple(take_whole({name: side}, name, 0, _MOST_BYTES) for side in sides)
        begin, end = end, end + math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
        if take_field(array, "data_offsets") != [begin, end]:
            raise ValueError(_FOREIGN)
        shapes[name] = _TYPES[kind], shape
    if file.seek(0, SEEK_END) != len(header) + end:
        raise ValueError(_FOREIGN)
    return shapes


def read_in_place(file: BufferedReader, shapes: Shapes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file that `stream_arrays` made, each read to where it stays.

    Whoever calls this has looked at its `read_shapes`, as so much memory is taken. `ValueError` if the file was
    changed.
    """
    file.seek(0)
    header = _read_header(file)
    seal_in = take_text(_parse(header[_LENGTH:]), "seal", DIGEST)
    arrays = {name: np.empty(shape, kind) for name, (kind, shape) in shapes.items()}
    pieces = [_bytes_of(array) for array in arrays.values()]
    for piece in pieces:
        if file.readinto(piece) != len(piece):
            raise ValueError(_FOREIGN)
    if _digest(header.replace(seal_in.encode(), NO_SEAL.encode(), 1), pieces) != seal_in:
        raise ValueError("its checksum is wrong")
    return arrays


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
