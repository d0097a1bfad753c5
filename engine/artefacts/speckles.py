"""Speckles: single pixels that are unlike all around them, and how they are brought near to these.

A pixel is isolated by how far its luminance is from the median of the 5 × 5 pixels around it, or, if that is less, from the
second nearest of its eight neighbours: pixels of lines and dots have neighbours that are like them, and speckles one at most. Of a
picture's flat areas, the usual isolation is the one that all but half a thousandth of the pixels stay under.
"""

from collections.abc import Sequence

import numpy as np

from .strips import (
    FROM_RGB,
    Mask,
    Pixels,
    Strip,
    Values,
    box_means,
    in_strips,
    measured_strips,
    strips,
    window,
)

LEAST_ISOLATION = 12.0
"""Levels of luminance that an eye sees in a flat area."""

_RARE = 0.0005  # of pixels, which may be isolated by more than is usual
_AROUND = 2  # pixels on each side
_SIDE = 2 * _AROUND + 1
_MIDDLE = _SIDE**2 // 2
_BESIDE = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
_LEAST_SHARE = 0.02  # of flatness; where there is less, nothing is changed
_LUMINANCE = FROM_RGB[:, 0]


def measure_speckles(luminance: Values, flat: Mask, others: Sequence[tuple[Values, Mask]]) -> float:
    """Return the share of flat areas' pixels, in thousandths, that are speckles; half a thousandth may be.

    A pixel is one if it is more isolated than all but half a thousandth of each other picture's pixels are in its
    own flat areas, and by more than 12 levels.

    Args:
        luminance: of the picture, float32 (height, width), 0–255.
        flat: where the photograph is flat, (height, width).
        others: of the photograph and the paintings, at the scale that goes with the picture, with theirs.
    """
    usual = (float(np.quantile(_isolate_all(*other), 1 - _RARE)) for other in others)
    limit = max(LEAST_ISOLATION, *usual)
    return 1000 * max(0.0, float((_isolate_all(luminance, flat) > limit).mean()) - _RARE)


def measure_isolation(pixels: Pixels, flat: Mask) -> float:
    """Return a picture's usual isolation, in levels; of less than six, some figure up to that.

    Args:
        pixels: float32 (height, width, 3), 0–255.
        flat: which areas are, bool (height, width); some pixels are.
    """

    def measure(strip: Strip) -> Values:
        luminance = window(pixels, strip, _AROUND) @ _LUMINANCE
        return isolate(luminance, flat[strip], LEAST_ISOLATION / 2)

    values = np.concatenate(in_strips(measured_strips(flat), measure))
    return float(np.quantile(values, 1 - _RARE))


def isolate(luminance: Values, where: Mask, least: float = 0.0) -> Values:
    """Return by how many levels pixels are isolated, in the order of rows, float32 (count).

    Args:
        luminance: with two more pixels on all sides, float32 (height + 4, width + 4).
        where: the pixels, bool (height, width).
        least: of pixels that are isolated by less, anything up to that is returned, which takes less time.
    """
    beside = _second_nearest(luminance[1:-1, 1:-1])[where]
    chosen = beside > least
    near = where.copy()
    near[where] = chosen
    around = _neighbours(luminance, near)
    medians = np.partition(around, _MIDDLE, axis=1)[:, _MIDDLE]
    beside[chosen] = np.minimum(beside[chosen], np.abs(around[:, _MIDDLE] - medians))
    return beside


def _second_nearest(luminance: Values) -> Values:
    """Return how far pixels are from the second nearest of their eight neighbours, without the picture's border."""
    height, width = luminance.shape[0] - 2, luminance.shape[1] - 2
    own = luminance[1:-1, 1:-1]
    nearest = second = np.full_like(own, np.inf)
    for row, column in _BESIDE:
        distance = np.abs(luminance[row : row + height, column : column + width] - own)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    return second


def clamp_speckles(pixels: Pixels, share: Values, limit: float) -> Pixels:
    """Return a picture whose speckles are near to their neighbours, where it is flat.

    A pixel that is isolated by more than a limit is moved towards that neighbour whose luminance is the median's, until it
    is that far from it.

    Args:
        pixels: float32 (height, width, 3), 0–255; not changed.
        share: how flat it is, 0–1, float32 (height, width): the share of the change that is made.
        limit: levels of luminance; the difference in colour shrinks with that.
    """

    def clamp(strip: Strip) -> Pixels:
        around = window(pixels, strip, _AROUND)
        inner = around[_AROUND:-_AROUND, _AROUND:-_AROUND].copy()
        luminance = around @ _LUMINANCE
        own = luminance[_AROUND:-_AROUND, _AROUND:-_AROUND]
        # Quick to tell: what is far from the median and from all but one neighbour is far from the mean, too.
        where = np.abs(own - box_means(luminance.astype(np.float64), _SIDE)) > limit / 2
        where &= share[strip] > _LEAST_SHARE
        where[where] = isolate(luminance, where, limit) > limit
        near = np.argpartition(_neighbours(luminance, where), _MIDDLE, axis=1)[:, _MIDDLE]
        rows, columns = np.nonzero(where)
        rows, columns = rows + near // _SIDE, columns + near % _SIDE
        distance = np.abs(own[where] - luminance[rows, columns])
        taken = share[strip][where] * (1 - np.float32(limit) / np.maximum(distance, limit))
        inner[where] += (around[rows, columns] - inner[where]) * taken[:, None]
        return inner

    return np.concatenate(in_strips(strips(*pixels.shape[:2]), clamp))


def _isolate_all(luminance: Values, where: Mask) -> Values:
    """Return what `isolate` does, of a picture without more pixels around it."""
    padded = np.pad(luminance, _AROUND, mode="edge")
    parts = strips(*luminance.shape)
    return np.concatenate(
        [isolate(padded[s.start : s.stop + 2 * _AROUND], where[s]) for s in parts]
    )


def _neighbours(values: Values, where: Mask) -> Values:
    """Return pixels with those around them, (count, 25), of values with two more on all sides."""
    squares = np.lib.stride_tricks.sliding_window_view(values, (_SIDE, _SIDE))
    return np.asarray(squares[where].reshape(-1, _SIDE**2), np.float32)
