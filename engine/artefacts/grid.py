"""The grid: what flat areas repeat every eight pixels, as the strides of the first poolings may make them.

Details are summed at the 8 × 8 places of a grid, in two halves: the black and the white squares of a chessboard of such
grids. With a and b the means of the halves, the pattern is m = (a + b) / 2 times Σ a b / Σ m², within 0 and 1, which is
near 0 of what is there by chance.
"""

import numpy as np
from numpy.typing import NDArray

from .strips import TO_RGB, Mask, Pixels, Values

Sums = NDArray[np.float64]
"""Of both halves: sums of details, luminance and two of colour, and how many there are; (2, 8, 8, 4)."""

_SIDE = 8  # pixels; the stride of the first three poolings
_STROKE = 12.0
"""Levels of luminance; stronger details are strokes, and would repeat themselves all over."""


def fold(details: Values, flat: Mask, top: int) -> Sums:
    """Return sums of a strip's details at the places of the grid.

    Args:
        details: of luminance and colour, float32 (rows, width, 3).
        flat: what is counted, but for strokes; bool (rows, width).
        top: the picture's row that the strip begins with.
    """
    counted = (flat & (np.abs(details[..., 0]) < _STROKE))[..., None]
    period = 2 * _SIDE
    rows, columns = (
        -(-side // period) * period for side in (top % period + len(flat), flat.shape[1])
    )
    padded = np.zeros((rows, columns, 4), np.float32)
    places = padded[top % period :][: len(flat), : flat.shape[1]]
    np.multiply(details, counted, out=places[..., :3])
    places[..., 3:] = counted
    squares = padded.reshape(-1, period, columns // period, period, 4).sum(2, dtype=np.float64)
    one, other, third, last = (
        squares.sum(0)
        .reshape(2, _SIDE, 2, _SIDE, 4)
        .transpose(0, 2, 1, 3, 4)
        .reshape(4, _SIDE, _SIDE, 4)
    )
    return np.stack([one + last, other + third])


def find_pattern(sums: Sums) -> Sums:
    """Return what repeats with the grid, as details are, (8, 8, 3)."""
    one, other = sums[..., :3] / np.maximum(sums[..., 3:], 1)
    mean = (one + other) / 2
    both = (one * other).sum((0, 1)) / np.maximum((mean**2).sum((0, 1)), 1e-9)
    return np.asarray(mean * both.clip(0, 1))


def leave_shared(pattern: Sums, photograph: Sums) -> Sums:
    """Return a pattern, (8, 8, 3), without as much of a photograph's as is in it: its projection on that, at most all."""
    squares = np.maximum((photograph**2).sum((0, 1)), 1e-9)
    shared = (pattern * photograph).sum((0, 1)) / squares
    return np.asarray(pattern - shared.clip(0, 1) * photograph)


def take_off(picture: Pixels, pattern: Sums, share: Values) -> None:
    """Take a pattern off a picture, float32 (height, width, 3), in RGB, by a share (height, width); in place."""
    colours = (pattern @ TO_RGB).astype(np.float32)
    for row in range(_SIDE):
        for column in range(_SIDE):
            places = slice(row, None, _SIDE), slice(column, None, _SIDE)
            picture[places] -= colours[row, column] * share[places][..., None]
