"""The samples of a TIFF's page: of 8 to 64 bits, in pixels or planes, strips or tiles.

What the page's tags say of it is checked once, in `read_layout`.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from ..formats.identify import DOUBT, TIFF
from .decoding import check_pixels, quiet_decoder
from .npy import SampleRange, choose_range, round_samples

_Part = tuple[tuple[slice, slice, slice], NDArray[Any]]

PageTags = dict[int, Any]
"""The values of a page's tags, by their numbers."""

LAYOUT_TAGS = (
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339,
)  # fmt: skip
"""The tags that `read_layout` goes by."""

_DEFLATE = (8, 32946)
_BYTES = (5, 32773, 34925, 50000)  # LZW, PackBits, LZMA, Zstandard, which libtiff undoes
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_COLOURS = {0: 1, 1: 1, 2: 3, 5: 4}  # samples of a pixel without the extra ones
_ASSOCIATED, _UNASSOCIATED = 1, 2
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_WIDTHS = {_UNSIGNED: range(1, 33), _SIGNED: (8, 16, 32), _FLOAT: (16, 32, 64)}
_KINDS = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}
_PREDICTORS = {2: (_UNSIGNED, _SIGNED, _FLOAT), 3: (_FLOAT,)}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of a page lie in its file.

    Attributes:
        planes: 1, or the number of samples of a pixel if they lie apart.
        bits: of a sample.
        block: width and height of a strip or tile, in pixels.
        offsets, counts: places and lengths of the strips or tiles in bytes, plane by plane.
        order: ``<`` or ``>``.
    """

    width: int
    height: int
    samples: int
    planes: int
    bits: int
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    fill_order: int
    extra: tuple[int, ...]
    block: tuple[int, int]
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    order: str

    @property
    def blocks(self) -> tuple[int, int]:
        """How many strips or tiles lie side by side, and one below the other."""
        return -(-self.width // self.block[0]), -(-self.height // self.block[1])

    @property
    def alpha(self) -> int | None:
        """The index of the sample that is alpha, and None if none is."""
        colours = _COLOURS[self.photometric]
        kinds = self.extra
        if not kinds and self.photometric == 2 and self.samples == 4:
            return 3  # written by programs that leave out what it is
        alphas = [i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)]
        return colours + alphas[0] if alphas and self.photometric != 5 else None


def read_layout(tags: PageTags, order: str, path: Path) -> Layout:
    """Return what a page's tags say of its pixels.

    Raises:
        ValueError: they say what cannot be.
    """
    width, height = _whole(tags, 256, None), _whole(tags, 257, None)
    photometric, samples = _whole(tags, 262, 0, least=0), _whole(tags, 277, 1)
    sample_format = _same(tags, 339, _UNSIGNED)
    tiled = 322 in tags
    strip = (width, min(_whole(tags, 278, height), height))
    block = (_whole(tags, 322, None), _whole(tags, 323, None)) if tiled else strip
    return Layout(
        width=width,
        height=height,
        samples=samples,
        planes=samples if _whole(tags, 284, 1) == 2 else 1,
        bits=_same(tags, 258, 1),
        sample_format=_UNSIGNED if sample_format == _UNDEFINED else sample_format,
        photometric=photometric,
        compression=_whole(tags, 259, 1),
        predictor=_whole(tags, 317, 1),
        fill_order=_whole(tags, 266, 1),
        extra=_tuple(tags, 338),
        block=block,
        tiled=tiled,
        offsets=_tuple(tags, 324 if tiled else 273),
        counts=_tuple(tags, 325 if tiled else 279),
        order=order,
    )


def read_samples(data: bytes, layout: Layout, path: Path, most_pixels: int) -> Image.Image:
    """Return a page's pixels as 8 bits a channel, in mode L, LA, RGB, RGBA or CMYK.

    Unsigned integers are rounded from 0 … 2ⁿ − 1 to 0 … 255, signed ones from their whole range,
    floats from 0 … 1, as sRGB; but see `choose_range`, whose doubt is in the image's ``info`` as `DOUBT`.

    Raises:
        ImageError: samples of a kind that is not read, or more than is sensible.
        ValueError: strips or tiles that are missing or short, or any of `DECODER_ERRORS`.
    """
    _check_kind(layout, path)
    colours = _COLOURS[layout.photometric]
    kept = [*range(colours), *([] if layout.alpha is None else [layout.alpha])]
    if layout.samples <= max(kept):
        raise ValueError(f"{layout.samples} samples a pixel")
    across, down = layout.blocks
    if layout.tiled:
        padded = (across * layout.block[0], down * layout.block[1])
        check_pixels(padded, data, TIFF, path, most_pixels)
    if min(len(layout.offsets), len(layout.counts)) < across * down * layout.planes:
        raise ValueError("strips or tiles are missing")
    pixels = np.empty((layout.height, layout.width, len(kept)), np.uint8)
    span = SampleRange(0.0, 2.0**layout.bits - 1)
    if layout.bits > 16 or layout.sample_format != _UNSIGNED:
        span = _find_range(_parts(data, layout, kept), layout, path)
    for place, values in _parts(data, layout, kept):
        pixels[place] = round_samples(values, span)
    if layout.photometric == 0:
        pixels[..., :1] = 255 - pixels[..., :1]
    (image := _to_image(pixels, layout)).info[DOUBT] = span.doubt
    return image


def _check_kind(layout: Layout, path: Path) -> None:
    expected = got = ""
    if layout.bits not in _WIDTHS.get(layout.sample_format, ()):
        names = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "floating-point"}
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


def _parts(data: bytes, layout: Layout, kept: list[int]) -> Iterator[_Part]:
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


def _blocks(data: bytes, layout: Layout) -> Iterator[tuple[int, int, int, NDArray[Any]]]:
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
        # Lengths are sometimes wrong where nothing is compressed, and not needed.
        packed = data[start : start + (stride * rows if layout.compression == 1 else count)]
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
        ones = np.unpackbits(lines, axis=1, count=count * layout.bits)
        places = 1 << np.arange(layout.bits - 1, -1, -1, dtype=np.uint32)
        return ones.reshape(len(lines), count, layout.bits) @ places
    if layout.predictor == 3:
        samples = 1 if layout.planes > 1 else layout.samples
        summed = np.cumsum(lines.reshape(len(lines), -1, samples), 1, dtype=np.uint8)
        # The bytes of a row's samples lie apart, the most significant ones first.
        apart = summed.reshape(len(lines), size, count).transpose(0, 2, 1)
        return np.ascontiguousarray(apart).view(f">f{size}")[..., 0]
    return lines.view(f"{layout.order}{_KINDS[layout.sample_format]}{size}")


def _find_range(parts: Iterator[_Part], layout: Layout, path: Path) -> SampleRange:
    """Return which samples are black and white."""
    seen = [(float(values.min()), float(values.max()), values.dtype) for _, values in parts]
    lows, highs, (dtype, *_) = zip(*seen, strict=True)
    # np.min and np.max, with which NaN prevails.
    return choose_range(float(np.min(lows)), float(np.max(highs)), dtype, layout.bits, path)


def _to_image(pixels: NDArray[np.uint8], layout: Layout) -> Image.Image:
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[_COLOURS[layout.photometric]]
    if layout.alpha is not None:
        colours = _COLOURS[layout.photometric]
        associated = layout.extra[layout.alpha - colours :][:1] == (_ASSOCIATED,)
        mode = {"L": "La", "RGB": "RGBa"}[mode] if associated else mode + "A"
    size = (layout.width, layout.height)
    if mode in ("LA", "La"):  # Pillow packs these as four bytes, of which no array is a view
        image = Image.frombytes(mode, size, pixels.tobytes())
    else:
        image = Image.frombuffer(mode, size, pixels, "raw", mode, 0, 1)
    return image.convert(mode.upper()) if mode in ("La", "RGBa") else image


def _whole(tags: PageTags, code: int, default: int | None, least: int = 1) -> int:
    value = tags.get(code, default)
    if not isinstance(value, int) or value < least:
        raise ValueError(f"tag {code} is {value!r:.40}")
    return int(value)


def _tuple(tags: PageTags, code: int) -> tuple[int, ...]:
    value = tags.get(code, ())
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(item, int) and item >= 0 for item in values):
        raise ValueError(f"tag {code} is {value!r:.40}")
    return values


def _same(tags: PageTags, code: int, default: int) -> int:
    """Return a number that is the same for all samples of a pixel."""
    values = set(_tuple(tags, code)) or {default}
    if len(values) > 1:
        raise ValueError(f"tag {code} differs among the samples: {sorted(values)}")
    return values.pop()
