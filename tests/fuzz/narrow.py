"""VGG-19 with two channels where it has hundreds, which nstx is made to expect while it reads one.

So files of some kilobytes have right shapes, and whatever comes after the comparison of shapes is
reached. The first layer is the published one, by whose filters a convention is recognised.
"""

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from nstx.models.vgg19 import CONVOLUTIONS
from nstx.models.weights import entries
from nstx.models.weights.load import load_weights

_COUNT = 2
_FIRST, *_OTHERS = CONVOLUTIONS
LAYERS = (
    _FIRST,
    replace(_OTHERS[0], in_channels=_FIRST.channels, channels=_COUNT),
    *(replace(layer, in_channels=_COUNT, channels=_COUNT) for layer in _OTHERS[1:]),
)
SHAPES = [(layer.channels, layer.in_channels, 3, 3) for layer in LAYERS]

Arrays = Mapping[str, NDArray[Any]]


def expected() -> AbstractContextManager[Any]:
    """Have readers expect the narrow network, until the block ends."""
    return patch.object(entries, "CONVOLUTIONS", LAYERS)


@functools.cache
def kernels() -> tuple[NDArray[np.float32], ...]:
    """Return the kernels (out, in, height, width), the first for RGB on 0–255 minus a mean."""
    first = load_weights().kernels[_FIRST.name]
    return (first, *(np.full(shape, 0.25, np.float32) for shape in SHAPES[1:]))


@functools.cache
def biases() -> tuple[NDArray[np.float32], ...]:
    """Return the biases, (out,)."""
    first = load_weights().biases[_FIRST.name]
    return (first, *(np.ones(shape[0], np.float32) for shape in SHAPES[1:]))


def state_dict(names: list[str], *, is_bgr: bool = True) -> dict[str, NDArray[np.float32]]:
    """Return the tensors by names that layers have; ``is_bgr`` as it was published, by Oxford."""
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, kernel, bias in zip(names, kernels(), biases(), strict=True):
        is_first = not arrays
        swapped = kernel[:, ::-1] if is_bgr and is_first else kernel
        arrays |= {f"{name}.weight": np.ascontiguousarray(swapped), f"{name}.bias": bias}
    return arrays


def quantised() -> dict[str, NDArray[Any]]:
    """Return the tensors as numbers of codebooks, as the default file has them."""
    arrays: dict[str, NDArray[Any]] = {}
    for layer, kernel, bias in zip(LAYERS, kernels(), biases(), strict=True):
        key = f"block{layer.name[4]}_conv{layer.name[6]}"
        table = np.linspace(kernel.min(), kernel.max() + 1e-3, 256, dtype=np.float32)
        places = np.abs(kernel[..., None] - table).argmin(-1).astype(np.uint8)
        arrays |= {f"{key}_W_table": table, f"{key}_W_q": places, f"{key}_b": bias}
    arrays["block1_conv1_W_q"] = np.ascontiguousarray(arrays["block1_conv1_W_q"][:, ::-1])
    return arrays
