"""Reading pixels from NumPy's ``.npy``: what its header says is checked before a pixel is touched.

And the scale that numbers are on where nothing says it, in files of other kinds, too: `choose_white`; and arrays
that are to be written.
"""

import io
import logging
import math
import warnings
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from nstx.models.errors import ImageError, UsageError
from nstx.models.printable import printable
from nstx.models.values import describe

from .picture import Picture, Pixels

_log = logging.getLogger("nstx")

_ADVICE = "numpy.save(path, pixels) of RGB pixels (height, width, 3) on the 0–255 scale"

_SAMPLE_ADVICE = "to save it as 16-bit TIFF or PNG"

# What NumPy raises for a header that is none; it evaluates the header as a literal.
_HEADER_ERRORS = (
    ValueError, TypeError, KeyError, AttributeError, SyntaxError, TokenError, OverflowError,
    MemoryError, RecursionError,
)  # fmt: skip

_WHITE, _WHITE_INT16, _WHITE_16_BIT = 255.0, 32767.0, 65535.0
_SLACK = 0.01  # beyond 0–1, by which sharpening and rounding go
_UNIT = (-0.5, 1.5)  # within which pixels on the scale 0–1 lie, with what noise adds
# What is nowhere brighter is on no scale that can be told: it would show as black on 0–255.
_DARKEST = 8.0
# Of optimised pixels, which may lie outside 0–255, never so many lie so far below.
_MOST_BELOW, _BELOW = 1 / 8, -25.0
_FARTHEST = 4095  # nor any so far outside


def read_npy(data: bytes, path: Path, most_pixels: int, *, trusted: bool) -> Picture:
    """Return the pixels of a ``.npy`` file, (height, width, 3) or (1, height, width, 3).

    Integers and floats of any size and byte order become float32 on the scale 0–255, on which they
    may lie outside that range. Which scale they are on, `choose_white` tells by their values, with a
    warning if it is another. What has the mean subtracted is refused. ``trusted`` pixels are nstx's
    own, and 0–255 whatever they are.

    Raises:
        ImageError: the header is damaged or says more than the file holds, it is no picture, or
            the scale of its values cannot be told.
    """
    return take_pixels(_parse(data, path), path, most_pixels, trusted=trusted)


def take_pixels(
    array: NDArray[Any], path: Path, most_pixels: int, *, trusted: bool = False
) -> Picture:
    """Return the pixels of an array, as `read_npy` does those of a file; ``path`` is for messages."""
    _check_numbers(array.dtype, path)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]  # the assignment's pictures carry a batch axis of one
    if array.ndim != 3 or array.shape[2] != 3:
        _refuse(path, "an array (height, width, 3)", str(array.shape))
    if array.size > 3 * most_pixels:
        _refuse(path, f"at most {most_pixels} pixels", str(array.shape))
    if not array.size:
        _refuse(path, "a picture", f"an empty array {array.shape}")
    return Picture(_scale(array, path, trusted), None, str(path))


def _parse(data: bytes, path: Path) -> NDArray[Any]:
    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = npy_format.read_magic(file)
            if version == (1, 0):
                shape, by_columns, dtype = npy_format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, by_columns, dtype = npy_format.read_array_header_2_0(file)
            else:
                raise ValueError(version)
    except _HEADER_ERRORS as error:
        raise ImageError(
            f"expected a .npy array in {printable(path)}, got a header that cannot be read; "
            f"try {_ADVICE}"
        ) from error
    _check_numbers(dtype, path)
    # NumPy takes True for a length here, and refuses it below.
    if len(shape) > 4 or any(type(length) is not int or length < 0 for length in shape):
        _refuse(path, "an array (height, width, 3)", f"{len(shape)} axes")
    count = math.prod(shape)
    if count * dtype.itemsize > len(data) - file.tell():
        _refuse(path, "a whole array", f"{shape} in {len(data)} bytes")
    array: NDArray[Any] = np.frombuffer(data, dtype, count, file.tell())
    return array.reshape(shape, order="F" if by_columns else "C")


def _check_numbers(dtype: np.dtype[Any], path: Path) -> None:
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        _refuse(path, "numbers of 8 to 64 bits", printable(dtype)[:80])


def _scale(array: NDArray[Any], path: Path, trusted: bool) -> Pixels:
    """Return pixels as float32 on the scale 0–255."""
    with np.errstate(invalid="ignore"):
        lowest, highest = float(array.min()), float(array.max())
    white = choose_white(lowest, highest, array.dtype, path, trusted=trusted)
    if white != _WHITE:
        _log.warning(
            "%s: %s; taken as pixels on the scale 0–%.0f, not 0–255",
            printable(path), _span(lowest, highest), white,
        )  # fmt: skip
    elif not trusted and lowest < _BELOW and np.mean(array < _BELOW) > _MOST_BELOW:
        span = f"{_span(lowest, highest)}, as with the mean subtracted"
        _refuse(path, "pixels on the scale 0–255", span)
    pixels = array.astype(np.float32, order="C")
    if white != _WHITE:
        pixels *= np.float32(_WHITE / white)
    return pixels


def choose_white(
    lowest: float,
    highest: float,
    dtype: np.dtype[Any],
    path: Path,
    *,
    trusted: bool = False,
    darkest: float = _DARKEST,
    advice: str = _ADVICE,
) -> float:
    """Return what is white, 255 or another number, where 0 is black and nothing but the values tells.

    Floats that all lie within −0.5 … 1.5 are on the scale 0–1. Integers, none of which is negative
    and of which some are above 255, are on that of 16 bits: 0–32 767 of int16, else 0–65 535.
    ``trusted`` ones are on 0–255 whatever they are.

    Raises:
        ImageError: the values are not finite, or fit none of these scales: far outside, or none
            above ``darkest``, so that all would show as black.
    """
    white, is_float = _WHITE, dtype.kind == "f"
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        _refuse(path, "finite numbers", "NaN or infinity", advice)
    if trusted or lowest == highest == 0:  # black on any scale
        pass
    elif is_float and lowest >= _UNIT[0] and highest <= _UNIT[1]:
        white = 1.0
    elif highest < darkest:
        _refuse(path, "pixels on the scale 0–255", _span(lowest, highest), advice)
    elif not is_float and lowest >= 0 and _WHITE < highest <= _WHITE_16_BIT:
        white = _WHITE_INT16 if dtype.kind == "i" and dtype.itemsize == 2 else _WHITE_16_BIT
    if max(-lowest, highest) * _WHITE / white > _FARTHEST:
        _refuse(path, "pixels on the scale 0–255", _span(lowest, highest), advice)
    return white


class SampleRange(NamedTuple):
    """Which of a file's samples are black and white; ``doubt`` is what a warning says of it, if anything."""

    black: float
    white: float
    doubt: str = ""


def choose_range(
    lowest: float, highest: float, dtype: np.dtype[Any], bits: int, path: Path
) -> SampleRange:
    """Return which of a file's samples of an unusual kind are black and white.

    Its format has floats on 0–1, and integers on all of their range. Where the values say that they
    are not, they are what `choose_white` takes them for; where signed ones are never negative, the
    positive half of their range. Either is in doubt.

    Raises:
        ImageError: as `choose_white`; or signed samples of a sixteenth of their range, which would
            all be one grey.
    """
    half, span = 2.0 ** (bits - 1), _span(lowest, highest)
    is_float, is_signed = dtype.kind == "f", dtype.kind == "i"
    if is_float and lowest >= -_SLACK and highest <= 1 + _SLACK:
        return SampleRange(0.0, 1.0)
    if is_float and (lowest < _BELOW or highest > 2 * _WHITE):
        _refuse(path, "floating-point samples of 0–1", span, _SAMPLE_ADVICE)
    if is_signed and lowest < 0:
        if highest - lowest < half / 8:
            expected = f"signed samples of the whole range of {bits} bits"
            _refuse(path, expected, span, _SAMPLE_ADVICE)
        return SampleRange(-half, half - 1)
    if not is_float and (bits == 8 or highest > _WHITE_16_BIT):
        white = half - 1 if is_signed else 2 * half - 1
        if highest * _WHITE / white < _DARKEST:
            expected = f"samples of the whole range of {bits} bits"
            _refuse(path, expected, span, _SAMPLE_ADVICE)
        if not is_signed:
            return SampleRange(0.0, white)
    else:
        white = choose_white(lowest, highest, dtype, path, advice=_SAMPLE_ADVICE)
    return SampleRange(0.0, white, f"{span}; taken as pixels on the scale 0–{white:.0f}")


def round_samples(values: NDArray[Any], span: SampleRange) -> NDArray[np.uint8]:
    """Return samples as 0–255, from black to white."""
    if values.dtype.kind == "u" and span.white < 2**16:
        levels = np.arange(int(span.white) + 1)
        eight: NDArray[np.uint8] = np.rint(levels * (255 / span.white)).astype(np.uint8)
        return np.take(eight, values)
    return np.rint(scale_samples(values, span)).astype(np.uint8)


def scale_samples(values: NDArray[Any], span: SampleRange) -> Pixels:
    """Return samples as 0–255, not rounded, from black to white; of whole ones, 255ths of the range are whole."""
    black, white, _ = span
    kind = np.dtype("f4" if values.dtype.itemsize <= 2 else "f8")
    scaled = (values.astype(kind) - kind.type(black)) / kind.type((white - black) / 255)
    pixels: Pixels = scaled.clip(0, 255).astype(np.float32)
    return pixels


def _span(lowest: float, highest: float) -> str:
    return f"values of {lowest:.6g} … {highest:.6g}"


def _refuse(path: Path, expected: str, got: str, advice: str = _ADVICE) -> NoReturn:
    raise ImageError(f"expected {expected} in {printable(path)}, got {got}; try {advice}")


def take_picture(picture: object) -> Picture:
    """Return a picture that is to be written as it is, or that of an array.

    `UsageError` if it is neither; `ImageError` of an array of another shape, with NaN, or nearly black on 0–255.
    """
    if isinstance(picture, Picture):
        return picture
    if not isinstance(picture, np.ndarray):
        raise UsageError(
            f"expected a Picture or an array of pixels, got {describe(picture)}; try result.picture"
        )
    array: NDArray[Any] = picture
    if array.dtype == np.uint8 and array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 4:
        return Picture(array[..., :3], array[..., 3])
    if array.dtype.kind not in "fiu" or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ImageError(
            f"expected numbers (height, width, 3), got {printable(array.dtype)[:80]} {array.shape}; "
            "try RGB pixels of 0–255"
        )
    if array.dtype == np.uint8:
        return Picture(array, None)
    span, advice = (float(array.min()), float(array.max())), "RGB pixels of 0–255"
    white = choose_white(*span, array.dtype, Path("an array"), darkest=-255.0, advice=advice)
    if white != 255:
        change = "* 255" if white < 255 else f"/ {white / 255:.6g}"
        raise ImageError(
            f"expected pixels on the scale 0–255, got values of {span[0]:.6g} … {span[1]:.6g}; "
            f"try pixels {change}"
        )
    return Picture(array.astype(np.float32), None)
