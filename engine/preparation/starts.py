"""The picture that a run starts from: noise, the content, or one of its own."""

from collections.abc import Sequence

import numpy as np

from ..pictures.picture import Picture, Pixels
from ..pictures.resizing import resize_picture

# The assignment's start: 0.6·U(−20, 20) + 0.4·content, in mean-subtracted pixels.
_NOISE_RANGE, _NOISE_RATIO = 20.0, 0.6

# That of the assignment since it uses TensorFlow 2: content + U(−0.25, 0.25), on the scale 0–1.
_NOISY_RANGE = 0.25 * 255


def make_start(init: str | Picture, content: Pixels, mean: Sequence[float], seed: int) -> Pixels:
    """Return the start at the content picture's size, float32 (height, width, 3).

    ``content``; ``noise``, the mean colour (RGB) plus U(−20, 20); ``blend``, the mean colour plus
    0.6·U(−20, 20) + 0.4·(content − mean); ``noisy``, the content plus U(−63.75, 63.75), cut to
    0–255; or a picture.
    """
    height, width = content.shape[:2]
    if isinstance(init, Picture):
        return resize_picture(init, height, width)
    if init == "content":
        return content.copy()
    if init == "noisy":
        generator = np.random.default_rng(seed)
        added = generator.uniform(-_NOISY_RANGE, _NOISY_RANGE, content.shape).astype(np.float32)
        noisy: Pixels = (content + added).clip(0, 255)
        return noisy
    colour = np.asarray(mean, np.float32)
    generator = np.random.default_rng(seed)
    noise = generator.uniform(-_NOISE_RANGE, _NOISE_RANGE, content.shape).astype(np.float32)
    if init == "noise":
        return colour + noise
    blended: Pixels = colour + _NOISE_RATIO * noise + (1 - _NOISE_RATIO) * (content - colour)
    return blended.astype(np.float32)
