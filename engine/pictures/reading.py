"""Reading a picture file as sRGB, 0–255, with all bits that it has.

The EXIF orientation is applied, and an embedded ICC profile is converted to sRGB. The alpha channel is
kept beside the pixels, whose colours are those of the file, seen or not. ``.npy`` files hold pixels
as numbers, which may lie outside 0–255.
"""

import hashlib
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nstx.models.arguments import check_arguments
from nstx.models.errors import ImageError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input
from nstx.models.values import describe

from ..formats.identify import DOUBT, NPY, TIFF, identify_format
from .decoding import DECODER_ERRORS, MOST_PIXELS, decode_image, refuse_damaged
from .npy import read_npy, take_pixels
from .picture import Picture
from .samples import Samples
from .srgb import to_picture
from .transparency import fill_transparent

Source = str | os.PathLike[str] | Picture | NDArray[Any] | Image.Image
"""What a picture can be taken from; see `as_picture`."""

_log = logging.getLogger("nstx")

_DARK = 16  # of 255; where nothing is brighter, a picture shows as black
_SCALED = ("PNG", "PPM")  # formats of whose 32-bit greys Pillow makes 0–65535

_SHORTEST_SIDE = 8  # in pixels; a smaller picture shows nothing
MOST_BYTES = 2**31
"""Of a picture's file."""


@check_arguments
def read_image(
    path: str | os.PathLike[str], *, trusted: bool = False, wide: bool = False, name: str = ""
) -> Picture:
    """Read a picture: JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP, PPM, JPEG 2000, HEIC or ``.npy``.

    What a file holds is told by its content, whatever its name. Greyscale, palette and CMYK
    pictures become RGB; those of more than 8 bits a channel, float32. Of an animation, the first frame is read; of a TIFF, the first page
    that is no thumbnail. Damaged metadata is left out with a warning where the pixels are whole. A
    JPEG of more than 89 million pixels is read at half its size, with a warning. HEIC needs the
    extra ``heic``. ``trusted`` is for a file of nstx's own: it allows twice as many pixels, and
    takes ``.npy`` for 0–255 whatever its values. ``wide`` is for a
    content whose profile the result is to keep: colours that sRGB lacks are kept in `Picture.beyond`, and none
    are rounded. ``name`` stands in messages in the path's place.

    Raises:
        ImageError: there is no such file, it is no picture, its pixels are damaged, it is smaller
            than 8 pixels on a side, it has more than 2 GiB or, but for a JPEG, more pixels than
            Pillow's bound against decompression bombs (89 million), or far more than its bytes can
            tell.
    """
    path = Path(path)
    data = read_input(
        path, kind="a picture", most_bytes=MOST_BYTES, error=ImageError, advice="another path"
    )
    path = Path(name or path)
    if not data:
        raise ImageError(
            f"expected a picture at {printable(path)}, got an empty file; try another file"
        )
    most_pixels = MOST_PIXELS * (2 if trusted else 1)
    kind = identify_format(data, path)
    if kind == NPY:
        picture = read_npy(data, path, most_pixels, trusted=trusted)
    else:
        image = decode_file(data, kind, path, most_pixels)
        try:
            picture = to_picture(image, path, wide=wide)
        except DECODER_ERRORS as error:  # such as a palette that is missing
            refuse_damaged(path, kind, error, error)
        doubt = image.doubt if isinstance(image, Samples) else image.info.get(DOUBT)
        if doubt is not None or picture.encoding.depth > 8:
            _tell_doubt(picture, doubt or "")
    digest = hashlib.sha256(data).hexdigest()
    return replace(_check_sides(picture), file_sha256=digest)


def as_picture(source: Source) -> Picture:
    """Return the picture in a file, an array or an image of Pillow's; a `Picture` as it is.

    Arrays are RGB, (height, width, 3). Of uint8 they are taken as they are, and may be grey or RGBA,
    too; others, and Pillow's images of 32-bit integers and floats, are scaled as those of ``.npy``
    files are (`nstx.engine.pictures.npy.read_npy`).

    Raises:
        UsageError: it is nothing of the kind.
        ImageError: as `read_image`.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | os.PathLike):
        return read_image(Path(source))
    name = Path("an image" if isinstance(source, Image.Image) else "an array")
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8:
            return _check_sides(take_pixels(source, name, MOST_PIXELS))
        array = source[0] if source.ndim == 4 and len(source) == 1 else source
        if 0 in array.shape or array.shape[2:] not in ((), (3,), (4,)) or array.ndim < 2:
            raise ImageError(
                f"expected an array (height, width, 3) of uint8, got one of shape {source.shape}; "
                "try RGB pixels"
            )
        source = Image.fromarray(array)
    if not isinstance(source, Image.Image):
        raise UsageError(
            "expected a picture as a path, a Picture, an array (height, width, 3) or an image of "
            f"Pillow's, got {describe(source)}; try 'photo.jpg'"
        )
    try:
        if source.mode in ("I", "F") and source.format not in _SCALED:
            grey = np.asarray(ImageOps.exif_transpose(source))[..., None]
            return _check_sides(take_pixels(np.repeat(grey, 3, axis=2), name, MOST_PIXELS))
        return _check_sides(to_picture(ImageOps.exif_transpose(source), name))
    except DECODER_ERRORS as error:  # what was opened is only decoded now
        refuse_damaged(name, source.format or "picture", error, error)


def take_input(source: Source) -> Picture:
    """Return a content or style picture: `as_picture`, with the colours around where it is fully transparent."""
    return fill_transparent(as_picture(source))


def _check_sides(picture: Picture) -> Picture:
    if min(picture.size) < _SHORTEST_SIDE:
        raise ImageError(
            f"expected a picture of at least {_SHORTEST_SIDE}×{_SHORTEST_SIDE} pixels, "
            f"got {picture.width}×{picture.height} in {printable(picture.path)}; try a larger one"
        )
    return picture


def _tell_doubt(picture: Picture, doubt: str) -> None:
    """Log what is not certain of the scale of a picture of more than 8 bits."""
    brightest = int(picture.pixels.max())
    if doubt:
        _log.warning("%s: %s", printable(picture.path), doubt)
    elif 0 < brightest <= _DARK and picture.alpha is None:
        _log.warning(
            "%s: nowhere brighter than %d of 255; if its values have fewer bits than its format, such as 12 "
            "in 16, try to save it on the whole range",
            printable(picture.path), brightest,
        )  # fmt: skip


def decode_file(data: bytes, kind: str, path: Path, most_pixels: int) -> Image.Image | Samples:
    """Return a picture of a format that `identify_format` names but ``.npy``, with errors as `decode_image`."""
    if kind != TIFF:
        return decode_image(data, kind, path, most_pixels)
    from .tiff import read_tiff  # few pictures need it

    return read_tiff(data, path, most_pixels)
