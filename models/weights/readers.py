"""Reads VGG-19 from a file of any kind that carries it, the kind told by its first bytes.

Each reader gives tensors that are not yet read, with their shapes (`nstx.models.weights.entries`):
so shapes are compared with VGG-19's before any number is read. Which input the network expects, its
filters tell (`nstx.models.weights.conventions`). No file's code is ever run, and PyTorch is not needed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..printable import printable
from .conventions import Convention, Mean, check_rgb, convert
from .copies import is_copy, read_copied
from .entries import (
    NAMES,
    SEQUENTIAL_INDICES,
    TORCHVISION_INDICES,
    Entry,
    Tensors,
    find_network,
    read_network,
)  # fmt: skip
from .keras import keras_name, read_keras
from .matconvnet import read_matconvnet
from .safetensors_files import File, read_safetensors
from .sources import Source
from .torch_files import read_torch_file

_HEAD = 264  # bytes, from which a file's kind is told

# How other files begin that are offered as weights.
_OTHERS = (
    (b"\x93NUMPY", "it is a NumPy array"),
    (b"<", "it is a web page or XML"),
    (b"\x1f\x8b", "it is a gzip archive"),
    (b"version https://git-lfs", "it is a pointer of Git LFS"),
    (b"MATLAB 7.3", "it is HDF5, as MATLAB's version 7.3 writes; save it with '-v7'"),
)
_OTHER_SUFFIXES = {
    ".caffemodel": "it is a model of Caffe",
    ".t7": "it is a file of Lua's Torch",
    ".onnx": "it is an ONNX model",
    ".pb": "it is a graph of TensorFlow",
    ".ckpt": "it is no checkpoint of PyTorch",
    ".tar": "it is a tar archive",
}
_KINDS = ".pth of PyTorch, .h5 of Keras, .mat of MatConvNet or .safetensors"

# What h5py raises for a damaged file.
_HDF5_DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError, MemoryError)


def read_tensors(source: Source, convention: Convention | None) -> tuple[Tensors, Mean]:
    """Read a weight file of any kind, for RGB on 0–255, float32, and the mean to subtract.

    ``convention`` is the declared or published one. `WeightsError` if the file is damaged, of
    another network or of no known convention.
    """
    path = source.path
    try:
        with source.open() as file:
            head = file.read(_HEAD)
            file.seek(0)
            if head.startswith((b"PK", b"\x80")):
                return from_state_dict(read_torch_file(file), convention, path)
            if head[8:9] == b"{":
                return _read_safetensors(file, convention, path)
        if isinstance(path, Path) and head.startswith(b"\x89HDF\r\n\x1a\n"):
            return _read_keras(path, convention)
        if (
            isinstance(path, Path)
            and head[126:128] in (b"IM", b"MI")
            and head[:10] != _OTHERS[-1][0]
        ):
            return _read_matconvnet(path, convention)
        raise ValueError(_kind(head, path.name))
    except (ValueError, OSError) as error:
        reason = printable(str(error) or type(error).__name__)[:160]
        raise WeightsError(
            f"expected VGG-19 weights in {printable(path)}, got a file that cannot be read "
            f"({reason}); try to fetch it again, or another of {_KINDS}"
        ) from error


def _kind(head: bytes, name: str) -> str:
    """Return what a file is that has no reader."""
    if not head:
        return "it is empty"
    if head[257:262] == b"ustar":
        return "it is a tar archive"
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    known = [kind for start, kind in _OTHERS if stripped.startswith(start)]
    return (
        known[0] if known else _OTHER_SUFFIXES.get(Path(name).suffix.lower(), "its kind is unknown")
    )


def _read_safetensors(
    file: File, convention: Convention | None, path: object
) -> tuple[Tensors, Mean]:
    entries, metadata = read_safetensors(file)
    if is_copy(metadata):
        return read_copied(entries, metadata)
    return from_state_dict(entries, convention, path)


def _read_keras(path: Path, convention: Convention | None) -> tuple[Tensors, Mean]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            tensors = read_network(read_keras(file, path), path)
    except _HDF5_DAMAGE as error:
        raise ValueError(str(error)) from error
    return convert(tensors, convention, path)


def _read_matconvnet(path: Path, convention: Convention | None) -> tuple[Tensors, Mean]:
    arrays, mean = read_matconvnet(path)
    tensors = read_network({name: _held(array) for name, array in arrays.items()}, path)
    check_rgb(tensors, path)
    return tensors, mean


def from_state_dict(
    entries: Mapping[str, Entry], convention: Convention | None, path: object
) -> tuple[Tensors, Mean]:
    """Read the network among named tensors, in whichever naming all layers are there.

    Names are Gatys' (``conv1_1.weight``), torchvision's or the positions in a sequential network,
    below anything (``state_dict.module.features.0.weight``). Errors as `read_tensors`; ValueError if
    the tensors cannot be read.
    """
    quantised = [f"{keras_name(name)}_{part}" for name in NAMES for part in ("W_q", "W_table", "b")]
    if all(key in entries for key in quantised):
        return convert(read_network(_dequantised(entries), path), convention, path)
    for keys in (NAMES, [str(index) for index in TORCHVISION_INDICES]):
        prefix = find_network(entries, keys, path)
        if prefix is not None:
            return convert(_read_named(entries, prefix, keys, path), convention, path)
    keys = [str(index) for index in SEQUENTIAL_INDICES]
    prefix = find_network(entries, keys, path)
    if prefix is not None:
        mixing, offset = (entries.get(f"{prefix}0.{part}") for part in ("weight", "bias"))
        if mixing and offset and (mixing.shape, offset.shape) == ((3, 3, 1, 1), (3,)):
            tensors = _read_named(entries, prefix, keys, path)
            folded = _from_sequential(tensors, mixing.read(), offset.read())
            check_rgb(folded[0], path)
            return folded
    names = ", ".join(printable(name)[:40] for name in sorted(entries)[:3]) or "nothing"
    raise WeightsError(
        f"expected the convolutions of VGG-19 in {printable(path)}, named conv1_1.weight or "
        f"features.0.weight, got {names} …; try --weights embedded"
    )


def _read_named(
    entries: Mapping[str, Entry], prefix: str, keys: Sequence[str], path: object
) -> Tensors:
    renamed = {
        f"{name}.{part}": entries[f"{prefix}{key}.{part}"]
        for name, key in zip(NAMES, keys, strict=True)
        for part in ("weight", "bias")
    }
    return read_network(renamed, path)


def _dequantised(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the kernels of 8-bit k-means codebooks, as the default file has them."""

    def kernel(places: Entry, table: Entry) -> Entry:
        def read() -> NDArray[Any]:
            if len(table.shape) != 1 or table.shape[0] > 256:
                raise ValueError("a table of a kernel has another shape")
            codebook, indices = table.read().astype(np.float32), places.read()
            if indices.dtype != np.uint8 or indices.max(initial=0) >= codebook.size:
                raise ValueError("a kernel is of other numbers than its table has")
            values: NDArray[Any] = codebook[indices]
            return values

        return Entry(places.shape, read)

    kernels = {}
    for name in NAMES:
        key = keras_name(name)
        kernels[f"{name}.weight"] = kernel(entries[f"{key}_W_q"], entries[f"{key}_W_table"])
        kernels[f"{name}.bias"] = entries[f"{key}_b"]
    return kernels


def _held(array: NDArray[Any]) -> Entry:
    return Entry(array.shape, lambda: array)


def _from_sequential(
    tensors: Tensors, mixing: NDArray[Any], offset: NDArray[Any]
) -> tuple[Tensors, Mean]:
    """Fold a first 1×1 convolution y = A·x + b of RGB in 0–1 into the next: A/255, and its mean.

    The mean is the colour that y = 0 stands for, so a padded zero keeps its meaning.
    """
    matrix = mixing.astype(np.float32).reshape(3, 3).astype(np.float64) / 255
    first = np.einsum("ojhw,ji->oihw", tensors["conv1_1.weight"].astype(np.float64), matrix)
    try:
        mean = np.linalg.solve(matrix, -offset.astype(np.float32).astype(np.float64))
    except np.linalg.LinAlgError as error:
        raise ValueError("its first layer mixes no colours") from error
    if not (np.isfinite(mean).all() and np.isfinite(first).all()):
        raise ValueError("its first layer is not of finite numbers")
    red, green, blue = mean.tolist()
    return {**tensors, "conv1_1.weight": first.astype(np.float32)}, (red, green, blue)
