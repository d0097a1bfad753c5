"""From a mask's pixels to the positions of layers: how much each counts in a statistic."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nstx.models.vgg19 import PoolRounding, truncate

Values = NDArray[np.float32]


def share_positions(
    counts: NDArray[np.uint8], layers: Sequence[str], rounding: PoolRounding
) -> dict[str, Values]:
    """Return how much each position of some layers counts, float32 (h, w), summing to 1.

    A position counts as much as the pixels that it lies over do on average, so that no region vanishes on the way
    to a deep layer. What a position sees beyond a region's edge is in its statistic, too: rules that leave such
    positions out, or weigh them less, have been looked at and were worse (docs/controls.md).

    Args:
        counts: how much each pixel does, uint8 (height, width), not 0 throughout.
        layers: names of VGG-19's convolutions.
        rounding: of odd sizes, by poolings.
    """
    shares: dict[str, Values] = {}
    values = counts.astype(np.float64)
    for layer in truncate(layers):
        if layer.kind == "pool":
            values = _halve(values, rounding)
        elif layer.name in layers:
            shares[layer.name] = (values / values.sum()).astype(np.float32)
    return shares


def weigh_statistics(
    activations: Mapping[str, Values], shares: Mapping[str, Values], moments: Sequence[str]
) -> dict[str, Values]:
    """Return G = F diag(s) Fᵀ of activations (channels, h, w) and their positions' shares (h, w), by layer.

    Of the layers in ``moments``, the moments (`nstx.models.statistics`).
    """
    values: dict[str, Values] = {}
    for name, activation in activations.items():
        flat = activation.reshape(len(activation), -1)
        if name in moments:
            flat = np.concatenate([flat, np.ones_like(flat[:1])])
        weighed = flat * shares[name].ravel()
        values[name] = np.asarray(weighed @ flat.T, np.float32)
    return values


def _halve(values: NDArray[np.float64], rounding: PoolRounding) -> NDArray[np.float64]:
    """Return the means of 2 × 2 values; an odd last row or column is dropped, or taken alone.

    Where nothing else counts, what would be dropped is added to what is beside it.
    """
    height, width = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2)), mode="edge")
    rows = padded[0::2] + padded[1::2]
    halved = (rows[:, 0::2] + rows[:, 1::2]) / 4
    if rounding == "ceil":
        return halved
    kept = halved[: height // 2, : width // 2]
    if kept.any():
        return kept
    if height % 2:
        kept[-1] += halved[-1, : width // 2]
    if width % 2:
        kept[:, -1] += halved[: height // 2, -1]
        kept[-1, -1] += halved[-1, -1]
    return kept
