"""How much of a result shows at each pixel: all of it within a mask, none outside, with a soft edge between."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

_FEATHER = 1 / 128
"""Of the long side: how far inside a mask its edge ends."""

_LEVELS = 8


def feather(mask: NDArray[np.uint8]) -> Values:
    """Return the share of a result, float32 (height, width), 0–1, that shows through a mask of its size.

    It rises from a mask's edge inwards, so that it is 0 wherever the mask is: the mean of the mask and of what is
    left of it when its edge is taken off, more and more. So thin parts fade and do not vanish. The picture's own
    border is no edge.
    """
    radius = max(1, round(max(mask.shape) * _FEATHER))
    levels = min(radius, _LEVELS)
    ends = [round(radius * (index + 1) / levels) for index in range(levels)]
    total, worn, before = mask.astype(np.float32), mask, 0
    for end in ends:
        worn = _erode(_erode(worn, end - before, 0), end - before, 1)
        total += worn
        before = end
    return total / np.float32(255 * (levels + 1))


def _erode(mask: NDArray[np.uint8], radius: int, axis: int) -> NDArray[np.uint8]:
    """Return the least value within a radius along an axis."""
    # Windows that double, so that a wide one takes a few passes.
    width = 1
    pads = [(radius, radius) if index == axis else (0, 0) for index in (0, 1)]
    values = np.pad(mask, pads, mode="edge")
    while width < 2 * radius + 1:
        shift = min(width, 2 * radius + 1 - width)
        along = np.moveaxis(values, axis, 0)
        values = np.moveaxis(np.minimum(along[:-shift], along[shift:]), 0, axis)
        width += shift
    return values
