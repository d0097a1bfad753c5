"""Transparency: what lies under it, and how a picture with it shows.

A picture's colours are those of its file, whatever lies over or under them: its alpha channel says how much is
seen of each, and is neither mixed into them nor taken out of them. What is painted at half opacity shows as paint
at half opacity.
"""

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstx.models.printable import printable

from .picture import Picture, Pixels, row_bands

_log = logging.getLogger("nstx")

_WHITE = (255, 255, 255)


def with_alpha(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return uint8 (height, width, 4) of (height, width, 3) and an alpha channel; without one, the pixels."""
    return pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)


def on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 (height, width, 3) of (height, width, 4) as they show on white; of 3, as they are."""
    if pixels.shape[2] == 3:
        return pixels
    rgb, alpha = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels[..., 3])
    return np.asarray(Image.composite(rgb, Image.new("RGB", rgb.size, _WHITE), alpha))


def fill_transparent(picture: Picture) -> Picture:
    """Return a content or style picture whose fully transparent pixels have the colours of those around.

    What a file has there was never seen: black, white, what an editor erased. It would make edges that the
    picture does not have, and mix with what is seen where the picture is resized. All other pixels, and the
    alpha channel, stay. A picture of which nothing is seen becomes white, with a warning.
    """
    if picture.alpha is None or picture.alpha.min() > 0:
        return picture
    if picture.alpha.max() == 0:
        _log.warning("%s is transparent throughout; taken as white", printable(picture.path))
    pixels, hidden = picture.pixels.copy(), picture.alpha == 0
    ground = _fill(_halve(pixels, ~hidden))
    height, width = picture.size
    for span in row_bands(height, width):
        box = (0.0, span.start / 2, width / 2, span.stop / 2)
        size = (width, span.stop - span.start)
        around = np.asarray(ground.resize(size, Image.Resampling.BILINEAR, box))
        pixels[span][hidden[span]] = around[hidden[span]]
    beyond = picture.beyond
    if beyond is not None:
        beyond = np.where(hidden[..., None], np.float32(0), beyond)
    return replace(picture, pixels=pixels, beyond=beyond)


def _halve(pixels: NDArray[np.uint8] | Pixels, seen: NDArray[np.bool_]) -> Image.Image:
    """Return an RGBA image at half the size: the mean colours of what is seen, and the share of it."""
    height, width = seen.shape
    half = Image.new("RGBA", (-(-width // 2), -(-height // 2)))
    for span in row_bands(height, width):
        eight = pixels[span] if pixels.dtype == np.uint8 else np.rint(pixels[span]).clip(0, 255)
        cover = np.where(seen[span], 255, 0).astype(np.uint8)
        band = Image.fromarray(with_alpha(eight.astype(np.uint8), cover))
        half.paste(band.reduce(2), (0, span.start // 2))
    return half


def _fill(image: Image.Image) -> Image.Image:
    """Return an RGBA image as RGB, its gaps filled from itself at half the size, and so on."""
    rgb, alpha = image.convert("RGB"), image.getchannel("A")
    if alpha.getextrema()[0] != 0:
        return rgb
    if image.size == (1, 1):
        return Image.new("RGB", image.size, _WHITE)
    seen = alpha.point(lambda cover: 255 if cover else 0)
    image.putalpha(seen)  # all that is seen counts alike, so that none fades away from size to size
    ground = _fill(image.reduce(2)).resize(image.size, Image.Resampling.BILINEAR)
    ground.paste(rgb, mask=seen)
    return ground
