"""Arrays in one file with a description and a checksum over all of it: safetensors, sealed.

The description stands in one key of the metadata, because safetensors writes several in no fixed
order, and equal contents are to give equal bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nstx.models.storage.seals import NO_SEAL, seal, seal_is_right

SUFFIX = ".safetensors"

_KEY = "nstx"
_LONGEST_HEADER = 1 << 20
_FOREIGN = "it is damaged, or another kind of file"


def pack_arrays(arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of contiguous arrays, with plain data and its ``seal``."""
    text = json.dumps({"seal": NO_SEAL, **description})
    return seal(save(dict(arrays), metadata={_KEY: text}))


def unpack_arrays(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the description in a file's bytes; `ValueError` if one was changed."""
    try:
        description = _parse(data[8 : 8 + _header_length(data)])
        if not seal_is_right(data, str(description["seal"])):
            raise ValueError("its checksum is wrong")
        return load(data), description
    except (SafetensorError, KeyError) as error:
        raise ValueError(_FOREIGN) from error


def read_description(path: Path) -> dict[str, Any]:
    """Return a file's description, from its first bytes alone; only the form of it is checked."""
    with path.open("rb") as file:
        text = file.read(_header_length(file.read(8)))
    return _parse(text)


def _header_length(data: bytes) -> int:
    return min(int.from_bytes(data[:8], "little"), _LONGEST_HEADER)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(json.loads(text)["__metadata__"][_KEY]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(_FOREIGN) from error
