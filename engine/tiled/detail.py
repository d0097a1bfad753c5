"""The cost of a content's detail in large pictures and its gradient, rows by rows: see `nstx.models.objective`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.objective import LAPLACIAN_POOL

from ..targets.targets import difference_squares, laplacian

_ROWS = 64
"""Of squares, at once."""


def detail_differences(
    pixels: NDArray[Any], targets: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Return Δ P x less its target, (batch, h, w), of pictures (batch, height, width, 3)."""
    return np.stack([laplacian(x) - target for x, target in zip(pixels, targets, strict=True)])


def add_detail_gradient(
    differences: NDArray[np.float64], weights: NDArray[np.float64], gradient: NDArray[Any]
) -> None:
    """Add weights (batch) times the gradient of the mean square of differences to a gradient, in place."""
    side = LAPLACIAN_POOL
    scales = weights * 2 / differences[0].size / side**2
    for difference, scale, of_picture in zip(differences, scales, gradient, strict=True):
        squares = difference_squares(np.pad(scale * difference, 2)).astype(gradient.dtype)
        width = squares.shape[1] * side
        for first in range(0, len(squares), _ROWS):
            spread = squares[first : first + _ROWS].repeat(side, 0).repeat(side, 1)
            of_picture[first * side : first * side + len(spread), :width] += spread[..., None]
