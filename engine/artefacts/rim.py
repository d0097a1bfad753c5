"""The rim: whether the outer four pixels of a picture look different from those within.

Zeros beyond the border are what the network sees there, and a picture's outer pixels are bent to suit them.
"""

import numpy as np
from numpy.typing import NDArray

_DEPTH = 4  # pixels
_STRIPS = 12  # from the border on, which are compared with one another
_BLOCK = 16  # pixels along the border that are averaged
_LEAST_SIDE = 2 * _DEPTH * _STRIPS
_USUAL = 3.0  # standard deviations, which the strips of photographs and paintings stay within


def measure_rim(pixels: NDArray[np.float64]) -> float | None:
    """Return by how much the rim stands out, in standard deviations of a picture's own strips.

    With S₀ the strip of the outer four pixels along a side, S₁ that of the next four and so on, averaged over
    16 pixels along it, dᵢ is the mean distance of Sᵢ and Sᵢ₊₁ in RGB, cᵢ the length of their mean difference,
    as of a cast, and vᵢ the logarithm of the variance of luminance within Sᵢ. The figure is how far d₀, c₀ or v₀
    is beyond three standard deviations of the others; the largest of all sides; 0 where they are within.

    Args:
        pixels: (height, width, 3), 0–255.

    Returns:
        The figure, 0 or more; None of a picture that is less than 96 pixels high or wide.
    """
    if min(pixels.shape[:2]) < _LEAST_SIDE:
        return None
    across = pixels.transpose(1, 0, 2)
    return max(_of_side(side) for side in (pixels, pixels[::-1], across, across[::-1]))


def _of_side(pixels: NDArray[np.float64]) -> float:
    """Return the figure of the upper side."""
    length = pixels.shape[1] // _BLOCK * _BLOCK
    strips = pixels[: _DEPTH * _STRIPS, :length].reshape(_STRIPS, _DEPTH, -1, _BLOCK, 3)
    colours = strips.mean((1, 3))
    changes = np.diff(colours, axis=0)
    distances, casts = (
        np.linalg.norm(changes, axis=2).mean(1),
        np.linalg.norm(changes.mean(1), axis=1),
    )
    spread = strips.mean(4).var((1, 3)).mean(1)
    return max(_stands_out(distances), _stands_out(casts), _stands_out(np.log(spread + 1.0)))


def _stands_out(values: NDArray[np.float64]) -> float:
    """Return how far the first value is beyond what the others vary by."""
    others = values[1:]
    # A twentieth of the mean at least: strips that are all alike would make anything stand out.
    deviation = max(float(others.std()), 0.05 * float(np.abs(others).mean()), 1e-3)
    return max(0.0, abs(float(values[0] - others.mean())) / deviation - _USUAL)
