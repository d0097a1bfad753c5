"""Untouched areas: holes in the style, where a picture stayed the photograph though the painting has no such colour."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .strips import Mask, Pixels, box_means

Floats = NDArray[np.float64]

_SHARE_OF_SIDE = 1 / 24
_UNTOUCHED = 0.1
_LEAST_CHANGE = 2.0  # levels of 0–255, below which there is no style to be missed

_CELL = 8.0  # levels that colours are rounded to
_CELLS = 33
_NEAR = 2  # cells


def measure_untouched(pixels: Floats, content: Floats, styles: Sequence[Pixels]) -> float:
    """Return the share of a picture, 0–1, that stayed the photograph's while the rest was changed.

    The change is the mean distance of colours in a square of a 24th of the long side. An area is untouched if
    it has changed by less than a tenth of what a tenth of the picture exceeds, and its mean colour is that of no
    such square of a painting, within about 20 levels: what is black in a woodcut may stay black.

    Args:
        pixels: the picture's, (height, width, 3), 0–255.
        content: the photograph's, of that size.
        styles: the paintings', float32, of any size.
    """
    side = min(max(3, round(max(pixels.shape) * _SHARE_OF_SIDE)), *pixels.shape[:2])
    change = _means_around(np.abs(pixels - content).mean(2), side)
    much = float(np.quantile(change, 0.9))
    still = change < _UNTOUCHED * much
    if much < _LEAST_CHANGE or not still.any():
        return 0.0
    own = _cells(np.stack([_means_around(pixels[..., c], side)[still] for c in range(3)], 1))
    return float(np.count_nonzero(~_colours(styles, side)[tuple(own.T)]) / change.size)


def _colours(styles: Sequence[Pixels], side: int) -> Mask:
    """Return a table of cells of colours, (33, 33, 33): whether a square of a painting is near to it."""
    table: Mask = np.zeros((_CELLS + 2 * _NEAR,) * 3, bool)
    for style in styles:
        own = min(side, *style.shape[:2])
        means = [box_means(style[..., c].astype(np.float64), own).ravel() for c in range(3)]
        table[tuple((_cells(np.stack(means, 1)) + _NEAR).T)] = True
    for axis in range(3):
        table = np.asarray(
            np.lib.stride_tricks.sliding_window_view(table, 2 * _NEAR + 1, axis).any(-1)
        )
    return table


def _cells(colours: Floats) -> NDArray[np.int64]:
    """Return the cells of colours, 0–32."""
    return np.asarray(np.rint(colours / _CELL).clip(0, _CELLS - 1), np.int64)


def _means_around(values: Floats, side: int) -> Floats:
    """Return the means of squares around each pixel, of the picture mirrored at its border."""
    before = side // 2
    return box_means(np.pad(values, (before, side - 1 - before), mode="symmetric"), side)
