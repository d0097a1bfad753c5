"""What both pictures share: smooth noise, colours and the final size."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Array = NDArray[np.float32]
WIDTH, HEIGHT, SCALE = 800, 600, 2  # drawn SCALE times as large, then reduced
NOISE: Array = np.random.default_rng(7).random((256, 256), dtype=np.float32)


def fbm(x: Array, y: Array, octaves: int = 4) -> Array:
    """Sum octaves of smooth value noise; the result is about 0.5 on average."""
    total, weight = np.zeros_like(x), 0.5
    for octave in range(octaves):
        i, j = np.floor(x), np.floor(y)
        u, v = x - i, y - j
        u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
        a, b = i.astype(np.int32) & 255, j.astype(np.int32) & 255
        a1, b1 = (a + 1) & 255, (b + 1) & 255
        near = NOISE[a, b] * (1 - u) + NOISE[a1, b] * u
        total += weight * (near * (1 - v) + (NOISE[a, b1] * (1 - u) + NOISE[a1, b1] * u) * v)
        x, y, weight = 2.03 * x + 19.7 * (octave + 1), 2.03 * y + 7.3, weight / 2
    return total / np.float32(1 - 0.5**octaves)


def cell(i: Array, j: Array, seed: int = 0) -> Array:
    """Give every integer cell (i, j) its own fixed random number in [0, 1)."""
    return NOISE[(i.astype(np.int32) + 37 * seed) & 255, (j.astype(np.int32) + 91 * seed) & 255]


def rgb(code: str) -> Array:
    """Turn an sRGB hex code into linear light."""
    return (np.frombuffer(bytes.fromhex(code), np.uint8) / np.float32(255)) ** np.float32(2.2)


def mix(a: Array, b: Array, amount: ArrayLike) -> Array:
    """Blend colours a into colours b by an amount for each pixel, clipped to [0, 1]."""
    t = np.clip(amount, 0, 1)[..., None]
    return a * (1 - t) + b * t


def unit(v: ArrayLike) -> Array:
    """Scale vectors (the last axis) to length one."""
    v = np.asarray(v, np.float32)
    return v / np.sqrt((v * v).sum(-1, keepdims=True))


def finish(picture: Array) -> Image.Image:
    """Turn sRGB values in [0, 1] into an image of the final size."""
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
