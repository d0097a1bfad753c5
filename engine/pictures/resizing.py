"""Resizing pictures, and the sizes that fit into a box."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..settings import Resampling
from .picture import Picture, Pixels

Filter = Resampling | Literal["hamming"]
"""Of Pillow's: Hamming's overshoots nowhere."""

_OPAQUE = 1e-3  # of the share that is seen: rounding
_LEAST_COVER = 0.25


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
    picture: Picture, height: int, width: int, resampling: Filter = "lanczos"
) -> Pixels:
    """Return a picture's pixels at a size, recoloured if it is to be; else unchanged if it has that size.

    Around what is not opaque, colours count by their alpha, so that those that are hardly seen do not mix with others.
    """
    pixels = _bring_to_size(picture, height, width, resampling)
    return pixels if picture.recolouring is None else picture.recolouring(pixels)


def _bring_to_size(picture: Picture, height: int, width: int, resampling: Filter) -> Pixels:
    if picture.size == (height, width):
        return picture.pixels.astype(np.float32)
    if picture.pixels.dtype == np.uint8:
        resized = _resize(picture.pixels, height, width, resampling).astype(np.float32)
    else:
        resized = resize_pixels(picture.pixels.astype(np.float32), height, width, resampling)
    if picture.alpha is not None and picture.alpha.min() < 255:
        _weigh_edges(resized, picture.pixels, picture.alpha, resampling)
    return resized


def _weigh_edges(
    resized: Pixels,
    pixels: NDArray[np.uint8] | Pixels,
    alpha: NDArray[np.uint8],
    resampling: Filter,
) -> None:
    """Let colours of resized pixels that are not all opaque around be weighed by their alpha, in place.

    That is the mean of premultiplied colours, divided by that of alpha. A filter that overshoots has no mean to divide
    by where hardly anything is seen: there it is Hamming's.
    """
    height, width = resized.shape[:2]
    cover = alpha / np.float32(255)
    sharp = _resize(cover, height, width, resampling)
    soft = _resize(cover, height, width, "hamming")
    edges = np.abs(sharp - 1) > _OPAQUE
    ways: tuple[tuple[Filter, NDArray[Any], NDArray[Any]], ...] = (
        (resampling, sharp, edges & (sharp >= _LEAST_COVER)),
        ("hamming", soft, edges & (sharp < _LEAST_COVER) & (soft > 0)),
    )
    for channel in range(3):
        premultiplied = pixels[..., channel] * cover
        for name, share, place in ways:
            colours = _resize(premultiplied, height, width, name)[place] / share[place]
            colours = np.rint(colours) if pixels.dtype == np.uint8 else colours
            resized[place, channel] = colours.clip(0, 255)


def resize_pixels(
    pixels: Pixels, height: int, width: int, resampling: Filter = "lanczos"
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
    picture: Picture, height: int, width: int, resampling: Filter = "lanczos"
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


def _resize(values: NDArray[Any], height: int, width: int, resampling: Filter) -> NDArray[Any]:
    image = Image.fromarray(values)
    return np.asarray(image.resize((width, height), Image.Resampling[resampling.upper()]))
