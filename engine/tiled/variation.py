"""The total variation of large pictures and its gradient, rows by rows, so that little is in memory at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 64
"""At once."""


def total_variation(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean squared difference of horizontal plus that of vertical neighbours, (batch).

    Of pictures (batch, height, width, 3), as `nstx.models.reference.cost.reference_total_variation` has it.
    """
    batch, height, width, channels = pixels.shape
    down, across = np.zeros(batch), np.zeros(batch)
    for first in range(0, height, _ROWS):
        rows = pixels[:, first : first + _ROWS + 1].astype(np.float64)
        down += np.square(np.diff(rows, axis=1)).sum((1, 2, 3))
        across += np.square(np.diff(rows[:, :_ROWS], axis=2)).sum((1, 2, 3))
    mean: NDArray[np.float64] = down / ((height - 1) * width * channels) + across / (
        height * (width - 1) * channels
    )
    return mean


def add_variation_gradient(
    pixels: NDArray[Any], weights: NDArray[np.float64], gradient: NDArray[Any]
) -> None:
    """Add weights (batch) times the gradient of `total_variation` to a gradient, in place."""
    _, height, width, channels = pixels.shape
    scales = weights.reshape(-1, 1, 1, 1) * 2 / channels
    down = (scales / ((height - 1) * width)).astype(pixels.dtype)
    across = (scales / (height * (width - 1))).astype(pixels.dtype)
    for first in range(0, height, _ROWS):
        last = min(first + _ROWS, height)
        slope = np.diff(pixels[:, first : last + 1], axis=1) * down
        gradient[:, first : first + slope.shape[1]] -= slope
        gradient[:, first + 1 : first + 1 + slope.shape[1]] += slope
        slope = np.diff(pixels[:, first:last], axis=2) * across
        gradient[:, first:last, :-1] -= slope
        gradient[:, first:last, 1:] += slope
