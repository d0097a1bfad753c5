"""Histograms: a picture whose channels have another's distribution of values, each by itself."""

import numpy as np
from numpy.typing import NDArray

from ..pictures.picture import Pixels

_EDGES = np.arange(-0.5, 256.5)  # of bins around whole values
_EMPTY = 1e-9  # of all pixels: with so many, no bin is empty, and distributions can be inverted


def match_histograms(
    pixels: Pixels, content: Pixels, alpha: NDArray[np.uint8] | None = None
) -> Pixels:
    """Return a picture whose red, green and blue are distributed as another's are.

    x ↦ F_c⁻¹(F(x)) of each channel, with the distributions F of the picture and F_c of the other. Values are taken to
    be spread evenly within half a step of 8 bits, so that slopes stay slopes.

    Args:
        pixels: (height, width, 3), 0–255; what is beyond is cut off.
        content: the other, of that shape.
        alpha: of both, uint8 (height, width), if they are not opaque: what is not seen does not count.
    """
    if alpha is None or alpha.max() == 0:
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
    is_seen = alpha > 0
    weights = alpha[is_seen] / 255
    matched = np.empty(pixels.shape, np.float32)
    for channel in range(3):
        values = pixels[..., channel].clip(0, 255)
        others = content[..., channel].clip(0, 255)[is_seen]
        own, other = _distribution(values[is_seen], weights), _distribution(others, weights)
        moved = np.interp(values, _EDGES, np.interp(own, other, _EDGES))
        matched[..., channel] = moved.clip(others.min(), others.max())
    return matched


def _distribution(values: Pixels, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of values below each edge, (257), which rises all the way from 0 to 1."""
    counts = np.bincount(np.rint(values).astype(np.intp), weights, minlength=256)
    shares = counts / counts.sum() + _EMPTY
    return np.concatenate([[0.0], shares.cumsum() / shares.sum()])
