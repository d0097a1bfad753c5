"""Tensors of a weight file before they are read, and which of them are VGG-19's convolutions."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..printable import printable
from ..vgg19 import CONVOLUTIONS

Array = NDArray[np.float32]
Tensors = dict[str, Array]
"""``conv1_1.weight``, (out, in, 3, 3), ``conv1_1.bias``, (out,), and so on."""

NAMES = tuple(layer.name for layer in CONVOLUTIONS)

TORCHVISION_INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
"""Positions of the convolutions in torchvision's ``features``."""

SEQUENTIAL_INDICES = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
"""Their positions in the sequential network of the feed-forward literature, which counts reflection
paddings and starts with a 1×1 convolution."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a file: its shape, known before it is read, and how it is read."""

    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]


def find_network(entries: Mapping[str, Entry], keys: Sequence[str], path: object) -> str | None:
    """Return what stands in front of all the keys (``module.features.``); None if they are absent.

    `WeightsError` if the file holds several such networks.
    """
    endings = [f"{key}.{part}" for key in keys for part in ("weight", "bias")]
    prefixes = [
        name.removesuffix(endings[0])
        for name in entries
        if re.search(rf"(^|\.){re.escape(endings[0])}$", name)
    ]
    whole = [prefix for prefix in prefixes if all(prefix + end in entries for end in endings)]
    if len(whole) > 1:
        places = " and ".join(printable(prefix or "the top") for prefix in whole[:3])
        raise WeightsError(
            f"expected one network in {printable(path)}, got several, at {places}; "
            "try to save one of them alone"
        )
    return whole[0] if whole else None


def read_network(entries: Mapping[str, Entry], path: object) -> Tensors:
    """Read the convolutions, ``conv1_1.weight`` and so on, once every shape is VGG-19's."""
    check_shapes({name: entry.shape for name, entry in entries.items()}, path)
    tensors = {}
    for name in (f"{layer}.{part}" for layer in NAMES for part in ("weight", "bias")):
        numbers = entries[name].read()
        if numbers.dtype.kind != "f":  # quantised, by a scale that nobody knows
            raise WeightsError(
                f"expected floating-point numbers for {name} in {printable(path)}, got "
                f"{numbers.dtype}; try weights that are not quantised"
            )
        with np.errstate(all="ignore"):  # float64 beyond float32 becomes infinite, and is refused
            tensors[name] = np.array(numbers, np.float32, order="C")
        if not np.isfinite(tensors[name]).all():
            raise WeightsError(
                f"expected finite numbers for {name} in {printable(path)}, got NaN or infinity; "
                "the file is damaged; try to fetch it again"
            )
    return tensors


def check_shapes(shapes: Mapping[str, tuple[int, ...]], path: object) -> None:
    """Check that all convolutions are there, with VGG-19's shapes; `WeightsError` if not."""
    for layer in CONVOLUTIONS:
        kernel, bias = (shapes.get(f"{layer.name}.{part}") for part in ("weight", "bias"))
        if kernel is None or bias is None:
            raise WeightsError(
                f"expected all 16 convolutions of VGG-19 in {printable(path)}, got no {layer.name}; "
                "try --weights embedded"
            )
        shape = (layer.channels, layer.in_channels, 3, 3)
        if kernel != shape or bias != (layer.channels,):
            raise WeightsError(
                f"expected shape {shape} for {layer.name} in {printable(path)}, got "
                f"{kernel[:8]} with bias {bias[:8]}; "
                "try the weights of VGG-19, without batch normalisation"
            )


def widen_bfloat16(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return bfloat16 numbers, which NumPy does not have, as the float32 that they are half of."""
    return (halves.astype("<u4") << 16).view("<f4")
