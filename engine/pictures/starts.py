"""The picture that the optimisation starts from."""

from collections.abc import Sequence

import numpy as np

from .picture import Picture
from .pixels import Pixels
from .resizing import resize_picture

# The assignment's start: 0.6·U(−20, 20) + 0.4·content, in mean-subtracted pixels.
_NOISE_RANGE = 20.0
_NOISE_RATIO = 0.6


def make_start(init: str | Picture, content: Pixels, mean: Sequence[float], seed: int) -> Pixels:
    """Return the start at the content picture's size, float32 (height, width, 3).

    ``content``; ``noise``, the mean colour (RGB) plus U(−20, 20); ``blend``, the mean colour plus
    0.6·U(−20, 20) + 0.4·(content − mean); or a picture.
    """
    height, width = content.shape[:2]
    if isinstance(init, Picture):
        return resize_picture(init, height, width)
    if init == "content":
        return content.copy()
    colour = np.asarray(mean, np.float32)
    generator = np.random.default_rng(seed)
    noise = generator.uniform(-_NOISE_RANGE, _NOISE_RANGE, content.shape).astype(np.float32)
    if init == "noise":
        return colour + noise
    blended: Pixels = colour + _NOISE_RATIO * noise + (1 - _NOISE_RATIO) * (content - colour)
    return blended.astype(np.float32)
