"""Pictures that the tests make on the spot."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def random_pixels(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """Return smooth random pixels, float32 (height, width, 3), within 0–255.

    They stay off the bounds: saturated areas are flat, and flat areas make ties in max pooling.
    """
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(50, 205, (max(2, height // 6), max(2, width // 6), 3))
    image = Image.fromarray(coarse.astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noise = generator.normal(0, 8, (height, width, 3))
    return (np.asarray(image, np.float32) + noise).clip(0, 255).astype(np.float32)


def frame_count(image: Image.Image) -> int:
    """Return how many frames an image has."""
    return int(getattr(image, "n_frames", 1))
