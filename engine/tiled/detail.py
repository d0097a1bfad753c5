"""The cost of the content's detail in large pictures and its gradient, rows by rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..targets.detail import laplacian, split_rows, spread_laplacian


def detail_costs(
    pixels: NDArray[Any], targets: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Return the mean squares of Δ P x less its target, (batch), of pictures (batch, height, width, 3)."""
    sums = [
        sum(np.square(laplacian(x[rows]) - target[own]).sum() for rows, own in split_rows(x))
        for x, target in zip(pixels, targets, strict=True)
    ]
    return np.array(sums) / targets[0].size


def add_detail_gradient(
    pixels: NDArray[Any],
    targets: Sequence[NDArray[np.float32]],
    weights: NDArray[np.float64],
    gradient: NDArray[Any],
) -> None:
    """Add weights (batch) times the gradient of `detail_costs` to a gradient, in place."""
    scales = weights * 2 / targets[0].size
    for x, target, scale, of_picture in zip(pixels, targets, scales, gradient, strict=True):
        for rows, own in split_rows(x):
            slope = scale * (laplacian(x[rows]) - target[own])
            of_picture[rows] += spread_laplacian(slope)[..., None].astype(of_picture.dtype)
