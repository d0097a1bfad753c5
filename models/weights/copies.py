"""The float32 copies of weights that nstx keeps, as safetensors with a checksum of their own."""

import json

import numpy as np

from ..storage.plain_data import parse_json, take_numbers
from ..storage.seals import digest_arrays
from .conventions import Mean
from .entries import Entry, Tensors, check_shapes
from .safetensors_files import File, read_safetensors

OWN_FORMAT = "nstx-weights-2"
"""Says in a safetensors file that its tensors are for RGB on 0–255, and which mean they take."""

_ANY_FORMAT = "nstx-weights-"


class OldCopyError(ValueError):
    """A copy in the format of another release."""


def read_copy(file: File) -> tuple[Tensors, Mean]:
    """Read a copy; ValueError if it was changed, or is none; WeightsError if it is of another network."""
    return read_copied(*read_safetensors(file))


def is_copy(metadata: dict[str, str]) -> bool:
    """Whether a safetensors file says that it is a copy, of this format or of another."""
    return metadata.get("format", "").startswith(_ANY_FORMAT)


def read_copied(entries: dict[str, Entry], metadata: dict[str, str]) -> tuple[Tensors, Mean]:
    """Read the tensors of a copy whose header has been read; errors as `read_copy`."""
    if metadata.get("format") != OWN_FORMAT:
        raise OldCopyError("it is of another release of nstx")
    colours = {"mean": parse_json(metadata.get("mean", ""))}
    red, green, blue = take_numbers(colours, "mean", 3)
    check_shapes({name: entry.shape for name, entry in entries.items()}, "the copy")
    tensors = {name: entry.read() for name, entry in entries.items()}
    if metadata.get("digest") != _digest(tensors, (red, green, blue)):
        raise ValueError("its checksum is wrong")
    for array in tensors.values():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError("it has other numbers than finite ones of float32")
    return tensors, (red, green, blue)


def pack_copy(tensors: Tensors, mean: Mean) -> bytes:
    """Return the bytes of a copy."""
    from safetensors.numpy import save

    digest = _digest(tensors, mean)
    return save(tensors, {"format": OWN_FORMAT, "mean": json.dumps(mean), "digest": digest})


def _digest(tensors: Tensors, mean: Mean) -> str:
    return digest_arrays({**tensors, "mean": np.array(mean, np.float64)})
