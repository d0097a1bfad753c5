"""Untouched areas: holes in the style, where a picture stayed the photograph though the painting has no such colour."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .strips import box_means

Floats = NDArray[np.float64]

_SHARE_OF_SIDE = 1 / 24
_UNTOUCHED = 0.1
_LEAST_CHANGE = 2.0  # levels of 0–255, below which there is no style to be missed

_CELL = 8.0  # levels that colours are rounded to
_NEAR = 2  # cells


def measure_untouched(pixels: Floats, content: Floats, styles: Sequence[Floats]) -> float:
    """Return the share of a picture, 0–1, that stayed the photograph's while the rest was changed.

    The change is the mean distance of colours in a square of a 24th of the long side. An area is untouched if
    it has changed by less than a tenth of what a tenth of the picture exceeds, and its mean colour is that of no
    such square of a painting, within about 16 levels: what is black in a woodcut may stay black.

    Args:
        pixels: the picture's, (height, width, 3), 0–255.
        content: the photograph's, of that size.
        styles: the paintings', of any size.
    """
    side = max(3, round(max(pixels.shape) * _SHARE_OF_SIDE))
    change = _means_around(np.abs(pixels - content).mean(2), side)
    much = float(np.quantile(change, 0.9))
    still = change < _UNTOUCHED * much
    if much < _LEAST_CHANGE or not still.any():
        return 0.0
    colours = _round(np.stack([_means_around(pixels[..., c], side)[still] for c in range(3)], 1))
    distinct, counts = np.unique(colours, axis=0, return_counts=True)
    of_styles = np.unique(np.concatenate([_colours(style, side) for style in styles]), axis=0)
    missing = [
        count
        for colour, count in zip(distinct, counts.tolist(), strict=True)
        if np.abs(of_styles - colour).max(1).min() > _NEAR
    ]
    return float(sum(missing) / change.size)


def _colours(style: Floats, side: int) -> NDArray[np.int64]:
    """Return the mean colours of a painting's squares, in cells, (number, 3)."""
    side = min(side, *style.shape[:2])
    return _round(np.stack([box_means(style[..., c], side).ravel() for c in range(3)], 1))


def _round(colours: Floats) -> NDArray[np.int64]:
    return np.asarray(np.rint(colours / _CELL), np.int64)


def _means_around(values: Floats, side: int) -> Floats:
    """Return the means of squares around each pixel, of the picture mirrored at its border."""
    before = side // 2
    return box_means(np.pad(values, (before, side - 1 - before), mode="symmetric"), side)
