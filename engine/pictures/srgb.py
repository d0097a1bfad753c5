"""From an image as its decoder gives it to 8-bit sRGB, with the alpha channel apart."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from .picture import Picture, row_bands

_log = logging.getLogger("nstx")

# Descriptions of profiles that are sRGB itself; converting would only round.
_SRGB = ("sRGB", "sRGB built-in", "sRGB IEC61966-2.1", "sRGB IEC61966-2-1", "c2")

# Modes that a profile cannot convert, with those that stand for them.
_OPAQUE_MODES = {"1": "RGB", "P": "RGB", "PA": "RGB", "RGBA": "RGB", "RGBX": "RGB", "LA": "L"}

_FROM_16_BIT = np.rint(np.arange(2**16) / 257).astype(np.uint8)

ToRgb = Callable[[Image.Image], Image.Image]


def to_picture(image: Image.Image, path: Path) -> Picture:
    """Return a picture of any mode as 8-bit sRGB, its colours as they are where they are transparent.

    An embedded ICC profile is applied, or told and ignored if it cannot be. 16-bit greys are
    rounded to 8 bits.

    Raises:
        ImageError: its samples are floating point.
    """
    if image.mode == "F":
        raise ImageError(
            f"expected 8 or 16 bits a channel in {printable(path)}, got floating point; "
            "try .npy, or save it as 8-bit"
        )
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    alpha = np.empty((height, width), np.uint8) if image.has_transparency_data else None
    to_rgb: ToRgb | None = None
    for span in row_bands(height, width):
        band = image.crop((0, span.start, width, span.stop))
        if band.mode.startswith("I"):
            band = _from_16_bit(band)
        if alpha is not None:
            band = _to_rgba(band)
            alpha[span] = np.asarray(band.getchannel("A"))
        opaque = band.convert(_OPAQUE_MODES.get(band.mode, band.mode))
        to_rgb = to_rgb or _profile_conversion(opaque, path)
        pixels[span] = np.asarray(to_rgb(opaque))
    if alpha is not None and alpha.min() == 255:
        alpha = None
    return Picture(pixels, alpha, str(path))


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    # Mode I holds 32 bits, in which Pillow hands over some 16-bit pictures.
    converted = Image.fromarray(_FROM_16_BIT[values.clip(0, 2**16 - 1)])
    clear = image.info.get("transparency")
    if clear is not None:
        converted.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    if profile := image.info.get("icc_profile"):
        converted.info["icc_profile"] = profile
    return converted


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")  # premultiplied greys know no other way
    return image.convert("RGBA")


def _profile_conversion(image: Image.Image, path: Path) -> ToRgb:
    """Return what converts images of this one's mode to sRGB by its profile, if it has one."""
    profile = image.info.get("icc_profile")
    if not profile:
        return _convert
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).strip() in _SRGB:
            return _convert
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, srgb, image.mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        _log.warning(
            "%s: the colour profile cannot be used (%s); read as sRGB",
            printable(path), printable(error),
        )  # fmt: skip
        return _convert
    return transform.apply


def _convert(image: Image.Image) -> Image.Image:
    return image.convert("RGB")
