"""Reading pixels from NumPy's ``.npy``: what its header says is checked before a pixel is touched."""

import io
import logging
import math
import warnings
from pathlib import Path
from tokenize import TokenError
from typing import Any, NoReturn

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from .picture import Picture, Pixels

_log = logging.getLogger("nstx")

_ADVICE = "numpy.save(path, pixels) of RGB pixels (height, width, 3) on the 0–255 scale"

# What NumPy raises for a header that is none; it evaluates the header as a literal.
_HEADER_ERRORS = (
    ValueError, TypeError, KeyError, AttributeError, SyntaxError, TokenError, OverflowError,
    MemoryError, RecursionError,
)  # fmt: skip

_UNIT = (-0.5, 1.5)  # within which pixels on the scale 0–1 lie, with what noise adds
# What is nowhere brighter is on no scale that can be told: it would show as black on 0–255.
_DARKEST = 8.0
# Of optimised pixels, which may lie outside 0–255, never so many lie so far below.
_MOST_BELOW, _BELOW = 1 / 8, -25.0
_FARTHEST = 4095  # nor any so far outside


def read_npy(data: bytes, path: Path, most_pixels: int, *, trusted: bool) -> Picture:
    """Return the pixels of a ``.npy`` file, (height, width, 3) or (1, height, width, 3).

    Integers and floats of any size and byte order become float32 on the scale 0–255, on which they
    may lie outside that range. Floats that all lie within −0.5 … 1.5 are taken as the scale 0–1,
    and uint16 above 255 as 0–65 535, both with a warning. What is dark throughout, or has the mean
    subtracted, is refused. ``trusted`` pixels are nstx's own, and 0–255 whatever they are.

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
    span = f"values of {lowest:.3g} … {highest:.3g}"
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        _refuse(path, "finite numbers", "NaN or infinity")
    factor = 1.0
    black = lowest == highest == 0  # on any scale
    is_unit = array.dtype.kind == "f" and lowest >= _UNIT[0] and highest <= _UNIT[1]
    if black or trusted:
        pass
    elif is_unit:
        factor = 255.0
        _warn(path, span, "0–1, not 0–255")
    elif highest < _DARKEST:
        _refuse(path, "pixels on the scale 0–255", span)
    elif lowest < _BELOW and np.mean(array < _BELOW) > _MOST_BELOW:
        _refuse(path, "pixels on the scale 0–255", f"{span}, as with the mean subtracted")
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2 and highest > 255:
        factor = 1 / 257
        _warn(path, span, "0–65535, not 0–255")
    if max(-lowest, highest) * factor > _FARTHEST:
        _refuse(path, "pixels on the scale 0–255", span)
    pixels = array.astype(np.float32, order="C")
    if factor != 1:
        pixels *= np.float32(factor)
    return pixels


def _warn(path: Path, reason: str, scale: str) -> None:
    _log.warning("%s: %s; taken as pixels on the scale %s", printable(path), reason, scale)


def _refuse(path: Path, expected: str, got: str) -> NoReturn:
    raise ImageError(f"expected {expected} in {printable(path)}, got {got}; try {_ADVICE}")
