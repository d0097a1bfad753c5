"""VGG-19 in files of Keras, which are HDF5: every edition's groups and names of datasets.

Keras 2 has a group per layer, below ``model_weights`` where the whole model was saved and below
another model's name where VGG-19 is a part of it; Keras 3 has ``layers/…/vars/0`` and ``1``, and
numbers layers of one class (``conv2d``, ``conv2d_1``, …) instead of naming them. So a layer is found
by the name of its group wherever it stands, or by its number, and its arrays by their ranks.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..printable import printable
from .entries import NAMES, Entry

_MOST_OBJECTS, _DEEPEST = 5_000, 12
_ADVICE = "try Keras' vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"


def read_keras(file: Any, path: object) -> dict[str, Entry]:
    """Return the convolutions of an open `h5py.File`, (out, in, height, width).

    `WeightsError` if they are absent or there twice; h5py's errors if the file is damaged.
    """
    layers: dict[str, dict[int, Any]] = {}
    for place, dataset in _datasets(file):
        layer = _layer(place)
        if layer is None:
            continue
        arrays = layers.setdefault(layer, {})
        if dataset.ndim in arrays:
            raise WeightsError(
                f"expected one network in {printable(path)}, got {layer} several times; {_ADVICE}"
            )
        arrays[dataset.ndim] = dataset
    entries = {}
    for name in NAMES:
        arrays = layers.get(keras_name(name)) or layers.get(_numbered(name)) or {}
        if 4 not in arrays or 1 not in arrays:
            raise WeightsError(
                f"expected a group {keras_name(name)} with kernel and bias in {printable(path)}, "
                f"got none; {_ADVICE}"
            )
        height, width, channels, filters = arrays[4].shape
        shape = (filters, channels, height, width)
        entries[f"{name}.weight"] = Entry(shape, _reader(arrays[4], (3, 2, 0, 1)))
        entries[f"{name}.bias"] = Entry(arrays[1].shape, _reader(arrays[1], (0,)))
    return entries


def keras_name(name: str) -> str:
    """Return Keras' name of a layer: ``block1_conv1`` for ``conv1_1``."""
    return re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", name)


def _numbered(name: str) -> str:
    index = NAMES.index(name)
    return f"conv2d_{index}" if index else "conv2d"


def _layer(place: tuple[str, ...]) -> str | None:
    """Return the layer that a dataset belongs to, from the names on the way to it."""
    if any(name.startswith("optimizer") for name in place):  # moments have the weights' names
        return None
    known = [name for name in place[:-1] if re.fullmatch(r"block\d_conv\d|conv2d(_\d+)?", name)]
    return known[-1] if known else None


def _datasets(file: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield datasets with their places. Links within the file only: it may hold itself."""
    import h5py

    waiting: list[tuple[tuple[str, ...], Any]] = [((), file)]
    count = 0
    while waiting:
        place, held = waiting.pop()
        if not isinstance(held, h5py.Group):
            if isinstance(held, h5py.Dataset):
                yield place, held
            continue
        for name in held if len(place) < _DEEPEST else ():
            count += 1
            if count > _MOST_OBJECTS:
                raise ValueError("it has too many groups")
            if isinstance(held.get(name, getlink=True), h5py.HardLink):
                waiting.append(((*place, name), held[name]))


def _reader(dataset: Any, order: tuple[int, ...]) -> Any:
    def read() -> NDArray[Any]:
        _check(dataset)
        return np.asarray(dataset, np.float32).transpose(order)

    return read


def _check(dataset: Any) -> None:
    """Refuse what is not in the file as plain numbers, which is how Keras writes; ValueError.

    An array may lie in other files, be made up of them, be absent, or unpack to any length.
    """
    import h5py

    plist = dataset.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL or plist.get_external_count():
        raise ValueError("an array lies in other files")
    if plist.get_nfilters():
        raise ValueError("an array is compressed, which Keras does not do")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise ValueError(f"an array has the type {dataset.dtype}")
    if not 0 < dataset.nbytes <= dataset.id.get_storage_size():
        raise ValueError("an array has no numbers in the file")
    if dataset.chunks and np.prod([float(n) for n in dataset.chunks]) > 2 * dataset.size:
        raise ValueError("an array lies in pieces larger than itself")
