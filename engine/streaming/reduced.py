"""Reading a picture at the size that it is used at, without ever holding it whole where it is large.

Pillow's filters are separable: it resizes along rows first. So each band becomes as narrow as the result, and what is
so narrow is resized along columns once all rows are there: the same numbers as of the whole picture.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import get_ident
from typing import BinaryIO

from PIL import JpegImagePlugin

from nstx.models.errors import ImageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import open_input

from ..formats.identify import TIFF, identify_format
from ..pictures.decoding import (
    DECODER_ERRORS,
    MOST_PIXELS,
    MOST_PROGRESSIVE,
    SIDEWAYS,
    check_pixels,
    quiet_decoder,
    read_orientation,
    refuse_damaged,
    turn_upright,
)
from ..pictures.picture import Picture
from ..pictures.reading import Source, as_picture, read_image
from ..pictures.samples import Samples
from ..pictures.srgb import to_picture
from ..pictures.transparency import fill_transparent
from ..settings import MAX_SIDE, Settings
from .bands import Bands
from .narrow import Narrow, Reduction, Size, reduce_to, turn_picture
from .png import open_png, png_size
from .tiff import open_tiff, read_tiff_page

_log = logging.getLogger("nstx")

MOST_LARGE_PIXELS = 2**32
"""Of a picture that is read by bands."""

MOST_LARGE_BYTES = 2**38
"""Of its file."""

_MOST_NARROW = 2**30
"""Pixels of all its rows at the width that it is used at; bytes of them where it has more rows than `MAX_SIDE`."""

_MOST_OF_JPEG = 64  # times the usual bound, by what a decoder holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The size that a picture is used at.

    Attributes:
        size: returns height and width for those of its file, upright.
        resampling: how it is brought to it.
        allowed: whether it may have more pixels than Pillow's bound against decompression bombs.
        change: what becomes of it, or of each of its bands, before that.
        advice: what to try with a picture of more pixels than are allowed.
    """

    size: Callable[[Size], Size]
    resampling: Reduction = "lanczos"
    allowed: bool
    change: Callable[[Picture], Picture] = lambda picture: picture
    advice: str = "--size, or --large, with which it is read at the size that it is used at"


WHOLE = Fit(size=lambda size: size, allowed=False, advice="a smaller copy of it")
"""Of a picture whose size of use is not known."""


def fit_by(settings: Settings, size: Callable[[Size], Size]) -> Fit:
    """Return a size with the filter of settings, which may allow large pictures."""
    return Fit(size=size, resampling=settings.resampling, allowed=settings.large)


def read_source(source: Source, fit: Fit) -> Picture:
    """Return the picture that `as_picture` does, changed; of a path what `read_fitting` does."""
    if isinstance(source, str | os.PathLike):
        return read_fitting(source, fit)
    return fit.change(as_picture(source))


def read_input_at(
    path: str | os.PathLike[str], fit: Fit, *, wide: bool = False, name: str = ""
) -> Picture:
    """Return a content or style picture: `read_fitting`, with the colours around where it is fully transparent."""
    return fill_transparent(read_fitting(path, fit, wide=wide, name=name))


def read_fitting(
    path: str | os.PathLike[str], fit: Fit, *, wide: bool = False, name: str = ""
) -> Picture:
    """Read a picture as `read_image` does; one of more than 89 million pixels at the size that it is used at.

    That may be a PNG, a TIFF or BigTIFF of grey, RGB or CMYK, of up to 4 milliard pixels, or a JPEG, which is
    reduced to a half, a quarter or an eighth as it is decoded. No more of them is in memory than some rows, and all
    rows as narrow as the result. Where they are opaque, the pixels are those of the picture read whole and resized,
    to rounding; where they are not, those around differ by some levels.

    Raises:
        ImageError: as of `read_image`; it is large, and ``fit`` does not allow it, or is of another format.
    """
    path = Path(path)
    with open_input(
        path, kind="a picture", most_bytes=MOST_LARGE_BYTES, error=ImageError, advice="another path"
    ) as file:
        shown = Path(name or path)
        with _each_message_once():
            picture = _read_large(file, shown, fit, wide=wide)
        if picture is None:
            return fit.change(read_image(path, wide=wide, name=name))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return replace(picture, file_sha256=digest, path=str(shown))


def _read_large(file: BinaryIO, path: Path, fit: Fit, *, wide: bool) -> Picture | None:
    """Return a large picture at the size that it is used at; None of any other."""
    head = file.read(1024)
    length = file.seek(0, 2)
    kind = identify_format(head, path) if head else ""
    size = _find_size(file, kind, head, path)
    if size is None or size[0] * size[1] <= MOST_PIXELS:
        return None
    if kind == "JPEG" and not fit.allowed:
        return None  # it is halved, and that is said
    height, width = size
    if not fit.allowed:
        raise ImageError(
            f"expected a picture of at most {MOST_PIXELS // 10**6} million pixels in {printable(path)}, got "
            f"{width}×{height}; try {fit.advice}"
        )
    check_pixels((width, height), length, kind, path, MOST_LARGE_PIXELS)
    try:
        if kind == "JPEG":
            return _read_jpeg(file, path, fit, wide=wide)
        open_bands = open_png if kind == "PNG" else open_tiff
        bands = open_bands(file, path, MOST_LARGE_PIXELS)
        picture = _reduce(bands, path, fit, wide=wide)
    except DECODER_ERRORS as error:
        refuse_damaged(path, kind, error, error)
    if bands.doubt:
        _log.warning("%s: %s", printable(path), bands.doubt)
    return picture


def _find_size(file: BinaryIO, kind: str, head: bytes, path: Path) -> Size | None:
    """Return height and width of a picture as it lies in its file; None of formats that are read whole alone."""
    file.seek(0)
    try:
        if kind == "PNG":
            return png_size(head, path)
        if kind == TIFF:
            layout = read_tiff_page(file, path).layout
            return layout.height, layout.width
        if kind == "JPEG":
            with quiet_decoder(), JpegImagePlugin.JpegImageFile(file) as image:
                return image.height, image.width
    except (*DECODER_ERRORS, ImageError):
        pass  # which reading it says in other words
    return None


def _read_jpeg(file: BinaryIO, path: Path, fit: Fit, *, wide: bool) -> Picture:
    file.seek(0)
    with quiet_decoder(), JpegImagePlugin.JpegImageFile(file) as image:
        whole = image.size
        times = MOST_PROGRESSIVE if "progressive" in image.info else _MOST_OF_JPEG
        if whole[0] * whole[1] > times * MOST_PIXELS:
            raise ImageError(
                f"expected a JPEG of at most {int(times * MOST_PIXELS) // 10**6} million pixels in "
                f"{printable(path)}, got {whole[0]}×{whole[1]}; try a smaller copy of it"
            )
        turned = read_orientation(image, path) in SIDEWAYS
        height, width = fit.size(whole if turned else whole[::-1])
        least = (height, width) if turned else (width, height)
        # Twice as large as it is used, where there is as much: the decoder's own filter is a box.
        factor = 2
        while factor < 8 and (whole[0] // factor) * (whole[1] // factor) > MOST_PIXELS:
            factor *= 2
        while factor < 8 and all(
            side // (2 * factor) >= 2 * small for side, small in zip(whole, least, strict=True)
        ):
            factor *= 2
        image.draft(image.mode, (whole[0] // factor, whole[1] // factor))
        image.load()
        if any(side < small for side, small in zip(image.size, least, strict=True)):
            _log.warning(
                "%s: of %d×%d pixels, its decoder gives %d×%d, less than it is used at; try a copy of it as PNG or TIFF",
                printable(path), *whole, *image.size,
            )  # fmt: skip
        upright = turn_upright(image, path)
    picture = fit.change(to_picture(upright, path, wide=wide))
    own = whole if turned else whole[::-1]
    return replace(reduce_to(picture, (height, width), fit.resampling), own_size=own)


def _reduce(bands: Bands, path: Path, fit: Fit, *, wide: bool) -> Picture:
    """Return a picture at the size that it is used at."""
    sideways = bands.orientation in SIDEWAYS
    own = bands.size[::-1] if sideways else bands.size
    upright = fit.size(own)
    height, width = upright[::-1] if sideways else upright
    _check_rows(bands.size[0], width, None, path)
    narrow = Narrow(bands.size[0], width, fit.resampling)
    for band in bands.read():
        rows = to_picture(band, path, wide=wide)
        changed = fit.change(rows)
        # One that is changed has the depth that it was given.
        deep = isinstance(band, Samples) and changed is rows
        _check_rows(bands.size[0], width, _pixel_bytes(changed, deep=deep), path)
        narrow.add(changed, deep=deep)
    picture = narrow.reduce(height, path)
    return replace(turn_picture(picture, bands.orientation), own_size=own)


def _pixel_bytes(picture: Picture, *, deep: bool) -> int:
    """Return what a pixel of narrow rows takes, with what lies beyond sRGB and its transparency."""
    wide = 12 if picture.beyond is not None else 0
    return (12 if deep else 3) + wide + (picture.alpha is not None)


def _check_rows(rows: int, width: int, pixel: int | None, path: Path) -> None:
    """Raise `ImageError` where rows of a width, with so many bytes a pixel, take more memory than a picture may."""
    most = _MOST_NARROW // width
    if rows > MAX_SIDE and pixel is not None:
        most = min(most, max(MAX_SIDE, most // pixel))
    if rows > most:
        raise ImageError(
            f"expected a picture of at most {most} rows for a width of {width} in {printable(path)}, got {rows}; "
            "try a smaller --size"
        )


@contextmanager
def _each_message_once() -> Iterator[None]:
    """Keep what is logged of each band from being logged of all of them."""
    seen, thread = set[str](), get_ident()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.thread != thread or text not in seen:
            seen.add(text)
            return True
        return False

    _log.addFilter(is_new)
    try:
        yield
    finally:
        _log.removeFilter(is_new)
