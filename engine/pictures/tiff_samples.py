"""The samples of a TIFF's page: of 8 to 64 bits, in pixels or planes, strips or tiles.

What the page's tags say of it is checked once, in `read_layout`.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from ..formats.identify import DOUBT, TIFF
from ..formats.tiff_layout import COLOURS, UNSIGNED, Layout
from .decoding import check_pixels, quiet_decoder
from .npy import SampleRange, choose_range, round_samples, scale_samples
from .samples import Samples, divide_by_alpha

_Part = tuple[tuple[slice, slice, slice], NDArray[Any]]

_DEFLATE = (8, 32946)
_BYTES = (5, 32773, 34925, 50000)  # LZW, PackBits, LZMA, Zstandard, which libtiff undoes
_OVERHEAD = 2**16  # bytes of what is compressed, however little
_AT_ONCE = 2**22  # samples, or bits of them
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_SIGNED, _FLOAT = 2, 3
_CMYK = 5
_WIDTHS = {UNSIGNED: range(1, 33), _SIGNED: (8, 16, 32), _FLOAT: (16, 32, 64)}
_KINDS = {UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}
_PREDICTORS = {2: (UNSIGNED, _SIGNED, _FLOAT), 3: (_FLOAT,)}


class Bytes(Protocol):
    """A file's bytes, in memory or on disk."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, span: slice, /) -> bytes:
        """Return some of them, fewer where the file ends."""


def read_samples(
    data: Bytes,
    layout: Layout,
    path: Path,
    most_pixels: int,
    span: SampleRange | None = None,
) -> Image.Image | Samples:
    """Return a page's pixels, of up to 8 bits and of CMYK as an image in mode L, LA, RGB, RGBA or CMYK.

    Unsigned integers are brought from 0 … 2ⁿ − 1 to 0 … 255, signed ones from their whole range,
    floats from 0 … 1, as sRGB; but see `choose_range`, whose doubt is in the image's ``info`` as `DOUBT`. In an
    image they are rounded.

    Raises:
        ImageError: samples of a kind that is not read, or more than is sensible.
        ValueError: strips or tiles that are missing or short, or any of `DECODER_ERRORS`.
    """
    _check_kind(layout, path)
    kept = _kept_samples(layout)
    across, down = layout.blocks
    if layout.tiled:
        padded = (across * layout.block[0], down * layout.block[1])
        check_pixels(padded, len(data), TIFF, path, most_pixels)
    if min(len(layout.offsets), len(layout.counts)) < across * down * layout.planes:
        raise ValueError("strips or tiles are missing")
    span = span or find_range(data, layout, path)
    is_deep = layout.bits > 8 and layout.photometric != _CMYK
    bring, kind = (scale_samples, np.float32) if is_deep else (round_samples, np.uint8)
    pixels = np.empty((layout.height, layout.width, len(kept)), kind)
    for place, values in _parts(data, layout, kept):
        target = pixels[place]
        for rows in _spans(values.shape):
            target[rows] = bring(values[rows], span)
    if layout.photometric == 0:
        pixels[..., :1] = 255 - pixels[..., :1]
    if not is_deep:
        (image := _to_image(pixels, layout)).info[DOUBT] = span.doubt
        return image
    return Samples(divide_by_alpha(pixels) if layout.is_premultiplied else pixels, doubt=span.doubt)


def _kept_samples(layout: Layout) -> list[int]:
    """Return the indices of a pixel's samples that make colour and alpha."""
    colours = COLOURS[layout.photometric]
    kept = [*range(colours), *([] if layout.alpha is None else [layout.alpha])]
    if layout.samples <= max(kept):
        raise ValueError(f"{layout.samples} samples a pixel")
    return kept


def _check_kind(layout: Layout, path: Path) -> None:
    expected = got = ""
    if layout.bits not in _WIDTHS.get(layout.sample_format, ()):
        names = {UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "floating-point"}
        name = names.get(layout.sample_format, "complex or undefined")
        expected, got = "8 or 16 bits a channel", f"{layout.bits} bits, {name}"
    elif layout.compression not in (1, *_DEFLATE, *_BYTES):
        expected = "a TIFF compressed by LZW, Deflate or not at all"
        got = f"compression {layout.compression} of {layout.bits} bits"
    elif layout.predictor != 1 and layout.sample_format not in _PREDICTORS.get(
        layout.predictor, ()
    ):
        expected, got = "predictor 1, 2 or 3 of a TIFF", f"predictor {layout.predictor}"
    elif layout.predictor != 1 and layout.bits not in (8, 16, 32, 64):
        expected, got = "8 or 16 bits a channel", f"{layout.bits} bits with a predictor"
    if got:
        raise ImageError(
            f"expected {expected} in {printable(path)}, got {got}; try to save it as 16-bit PNG"
        )


def _parts(data: Bytes, layout: Layout, kept: list[int]) -> Iterator[_Part]:
    """Yield the samples that are kept of each strip or tile, without its padding, and their place."""
    for plane, top, left, values in _blocks(data, layout):
        channels, used = slice(None), values[: layout.height - top, : layout.width - left]
        if layout.planes > 1:
            if plane not in kept:
                continue
            channels = slice(kept.index(plane), kept.index(plane) + 1)
        elif len(kept) < layout.samples:
            used = used[..., kept]
        bottom, right = top + used.shape[0], left + used.shape[1]
        yield (slice(top, bottom), slice(left, right), channels), used


def _blocks(data: Bytes, layout: Layout) -> Iterator[tuple[int, int, int, NDArray[Any]]]:
    """Yield plane, top, left and samples (height, width, samples) of each strip or tile."""
    width, height = layout.block
    across, down = layout.blocks
    samples = 1 if layout.planes > 1 else layout.samples
    stride = (width * samples * layout.bits + 7) // 8
    for index in range(across * down * layout.planes):
        plane, rest = divmod(index, across * down)
        row, column = divmod(rest, across)
        rows = height if layout.tiled else min(height, layout.height - row * height)
        start, count = layout.offsets[index], layout.counts[index]
        # Lengths are sometimes wrong where nothing is compressed, and not needed. No compression makes twice as much.
        most = stride * rows if layout.compression == 1 else 2 * stride * rows + _OVERHEAD
        packed = data[start : start + (most if layout.compression == 1 else min(count, most))]
        if layout.fill_order == 2:
            packed = packed.translate(_REVERSED)
        unpacked = _decompress(packed, layout.compression, stride, rows)
        if len(unpacked) != stride * rows:
            raise ValueError("its pixels end early")
        lines = np.frombuffer(unpacked, np.uint8).reshape(rows, stride)
        values = _samples(lines, layout, width * samples)
        values = values.reshape(rows, width, samples)
        if layout.predictor == 2:
            unsigned = values.view(f"{layout.order}u{layout.bits // 8}")
            values = np.cumsum(unsigned, 1, dtype=unsigned.dtype.newbyteorder("=")).view(
                values.dtype.newbyteorder("=")
            )
        yield plane, row * height, column * width, values


def _decompress(packed: bytes, compression: int, stride: int, rows: int) -> bytes:
    if compression == 1:
        return packed
    if compression in _DEFLATE:
        return zlib.decompressobj().decompress(packed, stride * rows)
    # A picture of one strip that holds plain bytes: libtiff undoes the compression, nothing else.
    short, long = 3, 4
    tags = (
        (256, long, stride), (257, long, rows), (258, short, 8), (259, short, compression),
        (262, short, 1), (273, long, 8), (277, short, 1), (278, long, rows),
        (279, long, len(packed)),
    )  # fmt: skip
    header = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    entries = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    page = struct.pack("<H", len(tags)) + entries + bytes(4)
    with (
        quiet_decoder(),
        TiffImagePlugin.TiffImageFile(io.BytesIO(header + packed + page)) as strip,
    ):
        return strip.tobytes()


def _samples(lines: NDArray[np.uint8], layout: Layout, count: int) -> NDArray[Any]:
    """Return the samples of rows of bytes, (rows, count)."""
    size = layout.bits // 8
    if layout.bits % 8 or size == 3:
        places = 1 << np.arange(layout.bits - 1, -1, -1, dtype=np.uint32)
        values = np.empty((len(lines), count), np.uint8 if layout.bits <= 8 else np.uint32)
        for rows in _spans((len(lines), count, layout.bits)):
            ones = np.unpackbits(lines[rows], axis=1, count=count * layout.bits)
            values[rows] = ones.reshape(-1, count, layout.bits) @ places
        return values
    if layout.predictor == 3:
        samples = 1 if layout.planes > 1 else layout.samples
        summed = np.cumsum(lines.reshape(len(lines), -1, samples), 1, dtype=np.uint8)
        # The bytes of a row's samples lie apart, the most significant ones first.
        apart = summed.reshape(len(lines), size, count).transpose(0, 2, 1)
        return np.ascontiguousarray(apart).view(f">f{size}")[..., 0]
    return lines.view(f"{layout.order}{_KINDS[layout.sample_format]}{size}")


def _spans(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield some rows at a time, as what is computed of them takes several times their memory."""
    step = max(1, _AT_ONCE // math.prod(shape[1:]))
    for top in range(0, shape[0], step):
        yield slice(top, top + step)


def find_range(data: Bytes, layout: Layout, path: Path) -> SampleRange:
    """Return which samples of a page are black and white; errors as of `read_samples`."""
    _check_kind(layout, path)
    if layout.bits <= 16 and layout.sample_format == UNSIGNED:
        return SampleRange(0.0, 2.0**layout.bits - 1)
    parts = _parts(data, layout, _kept_samples(layout))
    seen = [(float(values.min()), float(values.max()), values.dtype) for _, values in parts]
    lows, highs, (dtype, *_) = zip(*seen, strict=True)
    # np.min and np.max, with which NaN prevails.
    return choose_range(float(np.min(lows)), float(np.max(highs)), dtype, layout.bits, path)


def _to_image(pixels: NDArray[np.uint8], layout: Layout) -> Image.Image:
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[COLOURS[layout.photometric]]
    if layout.alpha is not None:
        mode = {"L": "La", "RGB": "RGBa"}[mode] if layout.is_premultiplied else mode + "A"
    size = (layout.width, layout.height)
    if mode in ("LA", "La"):  # Pillow packs these as four bytes, of which no array is a view
        image = Image.frombytes(mode, size, pixels.tobytes())
    else:
        image = Image.frombuffer(mode, size, pixels, "raw", mode, 0, 1)
    return image.convert(mode.upper()) if mode in ("La", "RGBa") else image
