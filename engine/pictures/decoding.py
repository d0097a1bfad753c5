"""Decoding a picture file by Pillow: bounded, upright, and whole where its pixels are."""

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from ..formats.comment import read_exif
from ..formats.deep_png import Samples16, is_deep, read_deep
from ..formats.identify import HEIC
from ..formats.repairs import ended_jpegs, has_damaged_pixels, repair
from .samples import Samples

_log = logging.getLogger("nstx")

DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError,
    AssertionError, EOFError, MemoryError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip
"""What decoders raise for a damaged file: they have no common error."""

MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 2**26
"""Of a picture that is read whole: Pillow's bound against decompression bombs, 89 million."""

_FEW_PIXELS = 2**24  # that any file may have
# A file may say that it is huge. More pixels a byte than these have only flat pictures; decoders of
# the formats for photographs take several times the memory of the pixels.
_MOST_PIXELS_A_BYTE = 2000
_MOST_PIXELS_A_BYTE_OF = {"WEBP": 200, "AVIF": 200, "JPEG2000": 200, HEIC: 200}
_MOST_REDUCED = 4.0
"""JPEGs of more pixels than the bound are reduced while they are decoded, up to this many times it."""

MOST_PROGRESSIVE = 1.5
"""Of progressive ones, as the decoder holds all their coefficients."""

_ORIENTATION = 0x0112  # EXIF's tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(data: bytes, kind: str, path: Path, most_pixels: int) -> Image.Image | Samples:
    """Return a picture of a format that `identify_format` names, upright, in its own mode.

    Of a PNG of 16 bits a channel, all bits; Pillow keeps those of greys alone.

    Damaged metadata is left out with a warning, as is a JPEG's missing end marker. A JPEG of more
    than ``most_pixels`` is reduced to a half, a quarter or an eighth while it is decoded, with a
    warning.

    Raises:
        ImageError: its pixels are damaged, missing, or too many; HEIC without pillow-heif.
    """
    image, samples = load_image(data, kind, path, most_pixels)
    orientation = read_orientation(image, path)
    if samples is None:
        return turn_image(image, orientation)
    profile = image.info.get("icc_profile")
    return Samples(samples, profile).turned(orientation)


SIDEWAYS = (5, 6, 7, 8)
"""EXIF's orientations of pictures that lie on their sides: their rows are the file's columns."""


class Loaded(NamedTuple):
    """A picture as it lies in its file; with its samples where Pillow's image has not all of their bits."""

    image: Image.Image
    samples: Samples16 | None = None


def load_image(data: bytes, kind: str, path: Path, most_pixels: int) -> Loaded:
    """Return a picture as it lies in its file, with errors and warnings as `decode_image`."""
    if kind == "PNG" and has_damaged_pixels(data):
        refuse_damaged(path, kind, "a bad checksum of its pixels")
    try:
        return _load(data, kind, path, most_pixels)
    except DECODER_ERRORS as error:
        repaired = (
            None
            if isinstance(error, MemoryError)
            else _load_repaired(data, kind, path, most_pixels)
        )
        if repaired is None:
            refuse_damaged(path, kind, error, error)
        return repaired


def refuse_damaged(
    path: Path, kind: str, reason: object, error: BaseException | None = None
) -> NoReturn:
    """Raise the `ImageError` of a picture whose pixels cannot all be read."""
    words = str(reason).strip().splitlines() or [type(error).__name__]
    if isinstance(error, UnidentifiedImageError):
        words = ["its header does not fit"]
    raise ImageError(
        f"expected a whole picture in {printable(path)}, got damaged {kind} "
        f"({printable(words[0])[:200]}); "
        "try to fetch or save it again"
    ) from error


def check_pixels(
    size: tuple[int, int], length: int, kind: str, path: Path, most_pixels: int
) -> None:
    """Raise `ImageError` if a picture has more pixels than is sensible, or than a file of this length can hold."""
    width, height = size
    a_byte = _MOST_PIXELS_A_BYTE_OF.get(kind, _MOST_PIXELS_A_BYTE)
    most = min(most_pixels, max(_FEW_PIXELS, length * a_byte))
    if width * height > most:
        raise ImageError(
            f"expected a picture of at most {most} pixels, got {width}×{height} in "
            f"{printable(path)}, a file of {length} bytes; try a smaller copy of it"
        )


@contextmanager
def quiet_decoder() -> Iterator[None]:
    """Keep decoders' warnings off the terminal; the one about too many pixels is our own to give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def turn_upright(image: Image.Image, path: Path) -> Image.Image:
    """Return a picture turned as its EXIF or XMP says; as it is if that cannot be read."""
    return turn_image(image, read_orientation(image, path))


def read_orientation(image: Image.Image, path: Path) -> object:
    """Return how a picture's EXIF or XMP says that it is to be turned; None if that cannot be read."""
    try:
        with quiet_decoder():
            orientation = read_exif(image).get(_ORIENTATION)
    except DECODER_ERRORS:
        _log.warning("%s: its EXIF data cannot be read; taken as upright", printable(path))
        return None
    if isinstance(orientation, bytes) and len(orientation) == 1:
        return orientation[0]
    return orientation


def read_size(data: bytes, kind: str, path: Path) -> tuple[int, int] | None:
    """Return height and width of a picture that Pillow reads, upright, by its header; None if it does not tell them."""
    try:
        with quiet_decoder(), _open(data, kind, path, 0) as image:
            width, height = image.size
            orientation = read_exif(image).get(_ORIENTATION)
    except (*DECODER_ERRORS, ImageError):
        return None
    return (width, height) if orientation in SIDEWAYS else (height, width)


def turn_image(image: Image.Image, orientation: object) -> Image.Image:
    """Return an image turned as EXIF's number says; as it is for 1 and for what is no such number."""
    turn = next((turn for number, turn in _TURNS.items() if number == orientation), None)
    return image if turn is None else image.transpose(turn)


def _load(data: bytes, kind: str, path: Path, most_pixels: int) -> Loaded:
    with quiet_decoder(), _open(data, kind, path, most_pixels) as image:
        width, height = image.size
        if kind == "JPEG" and width * height > most_pixels:
            progressive = "progressive" in image.info
            times = MOST_PROGRESSIVE if progressive else _MOST_REDUCED
            check_pixels(image.size, len(data), kind, path, int(times * most_pixels))
            image.draft(image.mode, (width // 2, height // 2))
            image.load()
            _log.warning(
                "%s: %d×%d is more than %d million pixels; read at %d×%d",
                printable(path), width, height, most_pixels // 10**6, *image.size,
            )  # fmt: skip
        else:
            check_pixels(image.size, len(data), kind, path, most_pixels)
            image.load()
        if kind == "PNG" and image.mode == "P":
            _check_palette(image)
        if kind == "PNG" and is_deep(data):
            return Loaded(image, read_deep(data, image))
        if kind == "PNG" and "transparency" in image.info and image.mode in ("L", "RGB"):
            _set_clear_colour(image, data[24])
        return Loaded(image)


def _open(data: bytes, kind: str, path: Path, most_pixels: int) -> Image.Image:
    file = io.BytesIO(data)
    if kind == "JPEG":
        # Image.open refuses pictures that can be reduced while they are decoded.
        return JpegImagePlugin.JpegImageFile(file)
    if kind == HEIC:
        try:
            from pillow_heif import HeifImageFile
        except ImportError as error:
            raise ImageError(
                f"expected a picture in {printable(path)}, got HEIC, which needs an extra; "
                "try pip install 'nstx[heic]', or save it as JPEG"
            ) from error
        return HeifImageFile(file)  # type: ignore[no-untyped-call]
    try:
        return Image.open(file, formats=[kind])
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"expected a picture of at most {most_pixels} pixels in {printable(path)}, got more; "
            "try a smaller copy of it"
        ) from error


def _load_repaired(data: bytes, kind: str, path: Path, most_pixels: int) -> Loaded | None:
    """Return a picture of which only metadata or the end marker is damaged; None of any other."""
    repaired = repair(data, kind)
    if repaired is None:
        return None
    damage = "its metadata is damaged"
    try:
        loaded = _load(repaired.data, kind, path, most_pixels)
    except DECODER_ERRORS:
        ends = ended_jpegs(repaired.data) if kind == "JPEG" else None
        if ends is None:
            return None
        damage = "its end marker is missing"
        try:
            loaded, other = (_load(end, kind, path, most_pixels) for end in ends)
        except DECODER_ERRORS:
            return None
        if loaded.image.tobytes() != other.image.tobytes():
            return None
    loaded.image.info.update(repaired.info)
    _log.warning("%s: %s; its pixels are whole, and read", printable(path), damage)
    return loaded


def _check_palette(image: Image.Image) -> None:
    """Raise ValueError where Pillow would make up a palette, or trip over its transparency later."""
    clear = image.info.get("transparency", b"")
    if not image.palette:
        raise ValueError("its palette is missing")
    if isinstance(clear, bytes) and 3 * len(clear) > len(image.palette.palette):
        raise ValueError("its transparency has more entries than its palette")


def _set_clear_colour(image: Image.Image, depth: int) -> None:
    """Let the transparent colour of a PNG be the one that Pillow's pixels have.

    Pillow keeps it as it stands in the file, and widens the pixels to 8 bits.
    """
    key, most = image.info["transparency"], 2**depth - 1
    scaled = tuple((value & most) * 255 // most for value in np.atleast_1d(key).tolist())
    image.info["transparency"] = scaled if image.mode == "RGB" else scaled[0]
