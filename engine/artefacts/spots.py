"""Spots: single pixels that are unlike all around them, and areas that were left as they were."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .grain import box_means

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SIDE = 5  # pixels, of a neighbourhood
_RARE = 0.0005
_LEAST = 12.0  # levels of luminance that an eye sees in a flat area
_ROWS = 64  # at a time

_SHARE_OF_SIDE = 1 / 24
_UNTOUCHED = 0.1
_LEAST_CHANGE = 2.0  # levels of 0–255, below which there is no style to be missed


def measure_speckles(luminance: Floats, flat: Mask, others: Sequence[tuple[Floats, Mask]]) -> float:
    """Return the share of flat areas' pixels, in thousandths, that are speckles; half a thousandth may be.

    A pixel is one if it is further from the median of its 5 × 5 neighbours than all but half a thousandth of
    each other picture's pixels are in its own flat areas, and than 12 levels.

    Args:
        luminance: of the picture, (height, width), 0–255.
        flat: where the photograph is flat, (height, width).
        others: of the photograph and the paintings, at the scale that goes with the picture, with theirs.
    """
    usual = (float(np.quantile(_isolation(y)[where], 1 - _RARE)) for y, where in others)
    limit = max(_LEAST, *usual)
    return 1000 * max(0.0, float((_isolation(luminance)[flat] > limit).mean()) - _RARE)


def measure_untouched(pixels: Floats, content: Floats) -> float:
    """Return the share of a picture, 0–1, that stayed the photograph's while the rest was changed.

    The change is the mean distance of colours in a square of a 24th of the long side. An area is untouched if
    it has changed by less than a tenth of what a tenth of the picture exceeds.

    Args:
        pixels: the picture's, (height, width, 3), 0–255.
        content: the photograph's, of that size.
    """
    change = _box_mean(
        np.abs(pixels - content).mean(2), max(3, round(max(pixels.shape) * _SHARE_OF_SIDE))
    )
    much = float(np.quantile(change, 0.9))
    return float((change < _UNTOUCHED * much).mean()) if much >= _LEAST_CHANGE else 0.0


def _isolation(luminance: Floats) -> Floats:
    """Return how far each pixel is from the median of its neighbourhood."""
    return np.concatenate([np.abs(rows - medians) for rows, medians in _medians(luminance)])


def _medians(luminance: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Yield some rows at a time with the medians of their pixels' neighbourhoods."""
    around = _SIDE // 2
    padded = np.pad(luminance.astype(np.float32), around, mode="edge")
    for top in range(0, len(luminance), _ROWS):
        rows = padded[top : top + _ROWS + 2 * around]
        views = np.lib.stride_tricks.sliding_window_view(rows, (_SIDE, _SIDE))
        medians = np.partition(views.reshape(*views.shape[:2], -1), _SIDE**2 // 2, axis=2)
        yield luminance[top : top + _ROWS], medians[..., _SIDE**2 // 2].astype(np.float64)


def _box_mean(values: Floats, side: int) -> Floats:
    """Return the means of squares around each pixel, of the picture mirrored at its border."""
    before = side // 2
    return box_means(np.pad(values, (before, side - 1 - before), mode="symmetric"), side)
