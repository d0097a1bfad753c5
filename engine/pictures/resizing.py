"""Resizing pictures, and the sizes that fit into a box."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..settings import Resampling
from .picture import Picture, Pixels


def fit_box(
    size: tuple[int, int], box: tuple[int, int], *, enlarge: bool = True
) -> tuple[int, int]:
    """Return the largest size of the same proportions that fits into a box.

    Both are in pixels, (height, width) or the reverse; the sides are rounded, at least 1. A
    picture that is smaller than the box grows only if ``enlarge``.
    """
    scale = min(box[0] / size[0], box[1] / size[1])
    if not enlarge:
        scale = min(1.0, scale)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_picture(
    picture: Picture, height: int, width: int, resampling: Resampling = "lanczos"
) -> Pixels:
    """Return a picture's pixels at a size; unchanged if it has that size."""
    if picture.size == (height, width):
        return picture.pixels.astype(np.float32)
    if picture.pixels.dtype == np.uint8:
        return _resize(picture.pixels, height, width, resampling).astype(np.float32)
    return resize_pixels(picture.pixels.astype(np.float32), height, width, resampling)


def resize_pixels(
    pixels: Pixels, height: int, width: int, resampling: Resampling = "lanczos"
) -> Pixels:
    """Resize float pixels without rounding or clipping them."""
    channels = [np.ascontiguousarray(pixels[..., index]) for index in range(pixels.shape[2])]
    return np.stack([_resize(channel, height, width, resampling) for channel in channels], axis=2)


def resize_8_bit(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return uint8 pixels (height, width, 3) at a size, by a Lanczos filter, as such."""
    return _resize(pixels, height, width, "lanczos")


def resize_alpha(picture: Picture, height: int, width: int) -> NDArray[np.uint8] | None:
    """Return a picture's alpha channel at a size, or None if it has none."""
    return None if picture.alpha is None else resize_channel(picture.alpha, height, width)


def resize_beyond(
    picture: Picture, height: int, width: int, resampling: Resampling = "lanczos"
) -> Pixels | None:
    """Return a picture's colours beyond 0–255 at a size, or None if it has none."""
    if picture.beyond is None or picture.size == (height, width):
        return picture.beyond
    return resize_pixels(picture.beyond, height, width, resampling)


def resize_channel(values: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return an alpha channel, uint8 (height, width), at a size.

    By Hamming's filter, which overshoots nowhere: others let what is not seen at all shine through around edges.
    """
    if values.shape == (height, width):
        return values
    return _resize(values, height, width, "hamming")


def _resize(
    values: NDArray[Any], height: int, width: int, resampling: Resampling | Literal["hamming"]
) -> NDArray[Any]:
    image = Image.fromarray(values)
    return np.asarray(image.resize((width, height), Image.Resampling[resampling.upper()]))
