"""The content's detail: its Laplacian, as a target, and what follows from it by NumPy; see `nstx.models.objective`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.objective import LAPLACIAN_POOL, LAPLACIAN_REACH, Objective

from ..pictures.picture import Pixels
from .targets import Targets

Values = NDArray[np.float64]
"""Of a picture (height, width, 3), (height − 11, width − 11)."""

_ROWS = 64
"""At once, so that large pictures need no copies in float64."""


def with_details(
    targets: Sequence[Targets], contents: Sequence[Pixels], objective: Objective
) -> tuple[Targets, ...]:
    """Return targets of several scales with the Laplacian of the content's pixels, if the objective compares it.

    It follows from pixels at once, so that no cache and no targets file need hold it.
    """
    if objective.laplacian_weight == 0:
        return tuple(targets)
    return tuple(
        replace(
            target,
            laplacian=np.concatenate(
                [laplacian(pixels[rows]).astype(np.float32) for rows, _ in split_rows(pixels)]
            ),
        )
        for target, pixels in zip(targets, contents, strict=True)
    )


def split_rows(pixels: NDArray[Any]) -> Iterator[tuple[slice, slice]]:
    """Yield rows of a picture, and those of its Laplacian that follow from them."""
    count = len(pixels) - LAPLACIAN_REACH
    for first in range(0, count, _ROWS):
        last = min(first + _ROWS, count)
        yield slice(first, last + LAPLACIAN_REACH), slice(first, last)


def laplacian(pixels: NDArray[Any]) -> Values:
    """Return Δ P x of rows (height, width, 3) of a picture."""
    return _differences(_means(pixels.sum(2, dtype=np.float64)))


def spread_laplacian(values: Values) -> Values:
    """Return the adjoint of `laplacian`, (height, width), the same for all channels.

    That of a symmetric kernel is the kernel, with zeros around.
    """
    side = LAPLACIAN_POOL
    return _means(np.pad(_differences(np.pad(values, 2 * side)), side - 1))


def _means(x: Values) -> Values:
    """Return means over squares at every position, without edges."""
    side = LAPLACIAN_POOL
    for axis in (0, 1):
        count = x.shape[axis] - side + 1
        x = np.sum([x.take(range(i, i + count), axis) for i in range(side)], axis=0)
    return x / side**2


def _differences(x: Values) -> Values:
    """Return Δ of squares, of which neighbours are a side apart, without edges."""
    side = LAPLACIAN_POOL
    middle = x[side:-side, side:-side]
    rows, columns = x[:, side:-side], x[side:-side]
    around = rows[2 * side :] + rows[: -2 * side] + columns[:, 2 * side :] + columns[:, : -2 * side]
    return np.asarray(4 * middle - around)
