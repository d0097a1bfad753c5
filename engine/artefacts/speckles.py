"""Speckles: single pixels that are unlike all around them, and how they are brought near to these.

How isolated a pixel is, is how far its luminance is from the median of the 5 × 5 pixels around it. A picture's own
measure is what hardly a pixel of its flat areas exceeds: half a thousandth of them, or 12 levels, which an eye sees.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .strips import (
    FROM_RGB,
    Pixels,
    Strip,
    Values,
    box_means,
    in_strips,
    measured_strips,
    strips,
    window,
)

RARE = 0.0005
"""The share of pixels that may be isolated by more than is usual."""

LEAST = 12.0
"""Levels of luminance that an eye sees in a flat area."""

Mask = NDArray[np.bool_]

_AROUND = 2  # pixels on each side
_SIDE = 2 * _AROUND + 1
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
    usual = (float(np.quantile(_isolations(*other), 1 - RARE)) for other in others)
    limit = max(LEAST, *usual)
    return 1000 * max(0.0, float((_isolations(luminance, flat) > limit).mean()) - RARE)


def measure_isolation(pixels: Pixels, flat: Mask) -> float:
    """Return by how many levels but few pixels of flat areas are unlike their neighbours.

    Args:
        pixels: float32 (height, width, 3), 0–255.
        flat: which areas those are, bool (height, width); some pixels are.
    """

    def measure(strip: Strip) -> Values:
        return isolation(window(pixels, strip, _AROUND) @ _LUMINANCE, flat[strip])

    values = np.concatenate(in_strips(measured_strips(flat), measure))
    return float(np.quantile(values, 1 - RARE))


def isolation(luminance: Values, where: Mask) -> Values:
    """Return how far pixels are from the medians of their neighbours, in levels, in the order of rows.

    Args:
        luminance: with two more pixels on all sides, float32 (height + 4, width + 4).
        where: the pixels, bool (height, width).
    """
    around = _neighbours(luminance, where)
    middle = _SIDE**2 // 2
    medians = np.partition(around, middle, axis=1)[:, middle]
    return np.asarray(np.abs(around[:, middle] - medians), np.float32)


def clamp_speckles(pixels: Pixels, share: Values, limit: float) -> Pixels:
    """Return a picture without speckles: none is further from its neighbours than a limit, where it is flat.

    Only single pixels are looked at, which are far from their neighbours' mean, too; edges are not.

    Args:
        pixels: float32 (height, width, 3), 0–255; not changed.
        share: how flat it is, 0–1, float32 (height, width): the share of the change that is made.
        limit: levels of luminance; of a speckle, colour shrinks with it.
    """

    def clamp(strip: Strip) -> Pixels:
        around = window(pixels, strip, _AROUND)
        inner = around[_AROUND:-_AROUND, _AROUND:-_AROUND].copy()
        luminance = around @ _LUMINANCE
        own = luminance[_AROUND:-_AROUND, _AROUND:-_AROUND]
        beyond = np.abs(own - box_means(luminance.astype(np.float64), _SIDE)) > limit / 2
        where = beyond & (share[strip] > _LEAST_SHARE)
        distance = isolation(luminance, where)
        kept = np.minimum(1, np.float32(limit) / np.maximum(distance, np.float32(1e-6)))
        kept = (1 - share[strip][where] * (1 - kept))[:, None]
        medians = np.stack(
            [np.median(_neighbours(around[..., channel], where), axis=1) for channel in range(3)], 1
        )
        inner[where] = np.where(kept < 1, medians + (inner[where] - medians) * kept, inner[where])
        return inner

    return np.concatenate(in_strips(strips(*pixels.shape[:2]), clamp))


def _isolations(luminance: Values, where: Mask) -> Values:
    """Return what `isolation` does, of a whole picture."""
    padded = np.pad(luminance, _AROUND, mode="edge")
    parts = strips(*luminance.shape)
    return np.concatenate(
        [isolation(padded[s.start : s.stop + 2 * _AROUND], where[s]) for s in parts]
    )


def _neighbours(values: Values, where: Mask) -> Values:
    """Return pixels with those around them, (count, 25), of values with two more on all sides."""
    rows, columns = np.nonzero(where)
    offsets = np.arange(_SIDE)[:, None] * values.shape[1] + np.arange(_SIDE)
    places = (rows * values.shape[1] + columns)[:, None] + offsets.ravel()
    return np.asarray(values.ravel()[places], np.float32)
