"""From an image as its decoder gives it to sRGB, with the alpha channel apart."""

import functools
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from ..profiles.conversion import Colours, from_srgb, to_srgb
from ..profiles.icc import MOST_BYTES, Space, UnusableProfileError, make_srgb_profile, parse_profile
from .picture import Encoding, Picture, Pixels, row_bands
from .samples import Samples, grey_samples

_log = logging.getLogger("nstx")

# Descriptions of profiles that are sRGB itself; converting would only round.
_SRGB = ("sRGB", "sRGB built-in", "sRGB IEC61966-2.1", "sRGB IEC61966-2-1", "c2")

# Modes that a profile cannot convert, with those that stand for them.
_OPAQUE_MODES = {"1": "RGB", "P": "RGB", "PA": "RGB", "RGBA": "RGB", "RGBX": "RGB", "LA": "L"}

_LEAST_BEYOND = 1 / 257  # of 255: a step of 16 bits
_RGB_MODES = ("RGB", "RGBA", "RGBX", "P", "PA")

ToRgb = Callable[[Image.Image], Image.Image]


def to_picture(image: Image.Image | Samples, path: Path, *, wide: bool = False) -> Picture:
    """Return a picture of any mode as sRGB, its colours as they are where they are transparent.

    Those of more than 8 bits are float32, and not rounded. An embedded ICC profile is applied, or told and ignored
    if it cannot be. ``wide`` is for a picture that goes back to its profile: colours that sRGB lacks are not cut, and
    lie `beyond`, and none are rounded.

    Raises:
        ImageError: an image whose samples are floating point.
    """
    if isinstance(image, Samples):
        return _from_samples(image, path, wide=wide)
    if image.mode.startswith("I"):
        return _from_samples(grey_samples(image), path)
    if wide and image.mode in _RGB_MODES and _is_wide(image.info.get("icc_profile")):
        kind = "RGBA" if image.has_transparency_data else "RGB"
        values = np.asarray(image.convert(kind))
        return _from_samples(Samples(values, image.info["icc_profile"], depth=8), path, wide=True)
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
        if alpha is not None:
            band = _to_rgba(band)
            alpha[span] = np.asarray(band.getchannel("A"))
        opaque = band.convert(_OPAQUE_MODES.get(band.mode, band.mode))
        to_rgb = to_rgb or _profile_conversion(opaque, path)
        pixels[span] = np.asarray(to_rgb(opaque))
    if alpha is not None and alpha.min() == 255:
        alpha = None
    encoding = _encoding(8, image.info.get("icc_profile"))
    return Picture(pixels, alpha, str(path), encoding=encoding)


def _encoding(depth: Literal[8, 16], profile: bytes | None) -> Encoding:
    # A profile that is too large to be kept is held no longer than that shows.
    return Encoding(depth=depth, profile=(profile or b"")[: MOST_BYTES + 1] or None)


def _from_samples(samples: Samples, path: Path, *, wide: bool = False) -> Picture:
    """Return a picture of samples; with uint8 pixels where 8 bits hold it as well, so that it is that of 8 bits."""
    height, width, channels = samples.values.shape
    colours = 3 if channels > 2 else 1
    alpha = np.empty((height, width), np.uint8) if channels > colours else None
    to_rgb = _samples_conversion(samples.profile, colours, path, cut=not wide)
    pixels, beyond = np.empty((height, width, 3), np.float32), None
    if wide:
        beyond = np.empty_like(pixels)
    is_whole = True
    for span in row_bands(height, width):
        values = samples.rows(span)
        if alpha is not None:
            alpha[span] = np.rint(values[..., -1])
        rgb = to_rgb(values[..., :colours])
        pixels[span] = rgb.clip(0, 255)
        if beyond is not None:
            np.subtract(rgb, pixels[span], out=beyond[span])
        is_whole = is_whole and bool((pixels[span] == np.rint(pixels[span])).all())
    if beyond is not None and max(-beyond.min(), beyond.max()) <= _LEAST_BEYOND:
        beyond = None
    return Picture(
        pixels.astype(np.uint8) if is_whole else pixels,
        None if alpha is None or alpha.min() == 255 else alpha,
        str(path),
        encoding=_encoding(samples.depth, samples.profile),
        beyond=beyond,
    )


def _samples_conversion(
    profile: bytes | None, channels: int, path: Path, *, cut: bool
) -> Callable[[Colours], Colours]:
    """Return what converts samples, (…, channels), to sRGB by their profile, if they have one; it may have 1 channel."""
    if not profile or is_srgb(profile):
        return lambda colours: colours
    try:
        space = parse_profile(profile)
        if len(space.curves) == channels:
            return functools.partial(to_srgb, space=space, cut=cut)
        reason = "it is of grey" if channels == 3 else "it is not of grey"
    except UnusableProfileError as error:
        reason = str(error)
    image = Image.new("RGB" if channels == 3 else "L", (1, 1))
    image.info["icc_profile"] = profile
    by_8_bits = _profile_conversion(image, path)
    if by_8_bits is _convert:
        return lambda colours: colours
    _log.warning("%s: its profile is applied in 8 bits (%s)", printable(path), reason)

    def convert(colours: Colours) -> Colours:
        eight = np.rint(colours).astype(np.uint8)
        rgb = by_8_bits(Image.fromarray(eight if channels == 3 else eight[..., 0]))
        return np.asarray(rgb, np.float32)

    return convert


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
        if is_srgb(profile):
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


def choose_profile(profile: bytes | None) -> tuple[bytes, Space | None]:
    """Return the profile that a picture in colours of this one is saved with, and its space; None of sRGB itself.

    It is sRGB's where there is none, or none that can be kept, which a warning says.
    """
    if not profile:
        return make_srgb_profile(), None
    try:
        space = _parse_rgb(profile)
    except UnusableProfileError as error:
        _log.warning("the content's colour profile cannot be kept (%s); sRGB is saved", error)
        return make_srgb_profile(), None
    return profile, None if is_srgb(profile) else space


def _parse_rgb(profile: bytes) -> Space:
    space = parse_profile(profile)
    if space.to_xyz is None:
        raise UnusableProfileError("it is of greys")
    return space


def _is_wide(profile: bytes | None) -> bool:
    """Whether a profile can be kept, and is another than sRGB."""
    try:
        return bool(profile and _parse_rgb(profile)) and not is_srgb(profile or b"")
    except UnusableProfileError:
        return False


def to_own_profile(picture: Picture) -> tuple[NDArray[np.uint8] | Pixels, bytes]:
    """Return a picture's pixels in the colours of its file's profile (`choose_profile`), and that profile.

    Colours that the profile lacks are cut to 0–255.
    """
    profile, space = choose_profile(picture.encoding.profile)
    if space is None:
        return picture.pixels, profile
    pixels = np.empty(picture.pixels.shape, np.float32)
    for span in row_bands(*picture.size):
        pixels[span] = rows_in_profile(picture, space, span)
    return pixels, profile


def rows_in_profile(picture: Picture, space: Space, span: slice) -> Pixels:
    """Return some rows of a picture in the colours of a profile, cut to 0–255."""
    colours = picture.pixels[span].astype(np.float32).clip(0, 255)
    colours = colours if picture.beyond is None else colours + picture.beyond[span]
    return from_srgb(colours, space)


def describe_profile(profile: bytes) -> str:
    """Return what a profile calls itself; empty if it cannot be read."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.getProfileDescription(source).strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return ""


def is_srgb(profile: bytes) -> bool:
    """Whether a profile is sRGB itself: converting would only round."""
    return describe_profile(profile) in _SRGB
