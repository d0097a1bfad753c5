"""Bands of a PNG, which its decoder reads whole alone.

Its rows are inflated some at a time, and each band is handed to Pillow's decoder as a PNG of its own: the rows as they
are, filtered, below the last one of the band before, which they may refer to. So filters, palettes and
depths are undone by the decoder that reads all other PNGs; no other one reads strangers' files here.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from nstx.models.errors import ImageError
from nstx.models.printable import printable

from ..formats.comment import MOST_EXIF
from ..formats.png_frame import SIGNATURE, png_chunk, png_header
from ..pictures.decoding import decode_image, read_orientation, refuse_damaged
from ..pictures.samples import Samples
from .bands import BAND, Band, Bands

_KIND = "PNG"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour types."""

_KEPT = {b"PLTE": 768, b"tRNS": 768, b"iCCP": 2**24}
"""Chunks that a band needs, with the most bytes that they may have."""

_TURNING = {b"eXIf": MOST_EXIF, b"iTXt": 2**20}
_MOST_CHUNKS = 2**22
_MOST_OF_A_ROW = 2**26
"""Bytes, of which there are several copies at a time; eight million pixels of the deepest kind."""

_PIECE = 2**20  # bytes that are inflated at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What a PNG says of its pixels.

    Attributes:
        chunks: those of its file that a band needs, whole.
    """

    width: int
    height: int
    depth: int
    kind: int
    interlaced: bool
    chunks: bytes = b""

    @property
    def stride(self) -> int:
        """Bytes of a row, without that of its filter."""
        return (self.width * _CHANNELS[self.kind] * self.depth + 7) // 8

    def wrap(self, rows: list[bytes]) -> bytes:
        """Return a PNG of rows with their filters."""
        return _wrap((self.width, len(rows), self.depth, self.kind), rows, self.chunks)


def png_size(head: bytes, path: Path) -> tuple[int, int]:
    """Return height and width of a PNG by its first bytes; `ImageError` if they are none of its header."""
    header = _read_header(head[16:29] if head[12:16] == b"IHDR" else b"", path)
    return header.height, header.width


def open_png(file: BinaryIO, path: Path, most_pixels: int) -> Bands:
    """Return a PNG as bands; `ImageError` if it is damaged, or interlaced, so that its rows are not in order."""
    header, turning = _scan(file, path)
    if header.interlaced:
        raise ImageError(
            f"expected a large PNG whose rows are in order in {printable(path)}, got an interlaced one; "
            "try to save it without"
        )
    if header.stride > _MOST_OF_A_ROW:
        raise ImageError(
            f"expected rows of at most {_MOST_OF_A_ROW >> 20} MiB in {printable(path)}, got {header.stride >> 20} MiB; "
            "try a smaller copy of it"
        )
    tiny = Image.open(io.BytesIO(_wrap((1, 1, 8, 0), [b"\0\0"], turning)), formats=[_KIND])
    return Bands(
        size=(header.height, header.width),
        read=lambda: _read(file, header, path, most_pixels),
        orientation=read_orientation(tiny, path),
    )


def _read(file: BinaryIO, header: _Header, path: Path, most_pixels: int) -> Iterator[Band]:
    lines = _inflate(file, header.stride + 1, path)
    step, above = max(1, BAND // header.width), b""
    for top in range(0, header.height, step):
        rows = [next(lines, b"") for _ in range(min(step, header.height - top))]
        if not rows[-1]:
            refuse_damaged(path, _KIND, "its pixels end early")
        data = header.wrap([above, *rows] if above else rows)
        band = decode_image(data, _KIND, path, most_pixels)
        above_now = b"\0" + _last_row(band, rows, header, above, path)
        yield _without_first(band) if above else band
        above = above_now
    next(lines, None)  # to the end, where checksums are


def _without_first(band: Band) -> Band:
    if isinstance(band, Samples):
        return replace(band, values=band.values[1:])
    rest = band.crop((0, 1, *band.size))
    rest.info = band.info
    return rest


def _last_row(band: Band, rows: list[bytes], header: _Header, above: bytes, path: Path) -> bytes:
    """Return the bytes of a band's last row, as they were before its filter."""
    if isinstance(band, Samples):
        channels = _CHANNELS[header.kind]  # a transparent colour has become one more
        return np.ascontiguousarray(band.values[-1, :, :channels]).astype(">u2").tobytes()
    if header.depth == 8:
        return band.crop((0, band.height - 1, *band.size)).tobytes()
    # Of less than a byte a pixel: filters go by bytes, as those of greys of 8 bits.
    lines = [above, *rows] if above else rows
    bare = decode_image(
        _wrap((header.stride, len(lines), 8, 0), lines), _KIND, path, header.stride * len(lines)
    )
    assert isinstance(bare, Image.Image)
    return bare.crop((0, bare.height - 1, *bare.size)).tobytes()


def _wrap(header: tuple[int, int, int, int], rows: list[bytes], chunks: bytes = b"") -> bytes:
    """Return a PNG of width, height, depth and colour type, whose rows are not compressed."""
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(rows), 0))
    return b"".join((png_header(*header), chunks, pixels, png_chunk(b"IEND", b"")))


def _chunks(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the name and length of each chunk; the file then stands at its contents."""
    at = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        start = file.read(8)
        if len(start) < 8:
            refuse_damaged(path, _KIND, "it ends early")
        length, name = struct.unpack(">I4s", start)
        if length >= 2**31:
            refuse_damaged(path, _KIND, "a chunk's length")
        yield name, length
        if name == b"IEND":
            return
        at += 12 + length
    refuse_damaged(path, _KIND, f"more than {_MOST_CHUNKS} chunks")


def _scan(file: BinaryIO, path: Path) -> tuple[_Header, bytes]:
    """Return what a PNG says of its pixels, and the chunks that may say how it is to be turned."""
    header: _Header | None = None
    kept, turning, seen = list[bytes](), list[bytes](), set[bytes]()
    for name, length in _chunks(file, path):
        if name == b"IHDR":
            if header is not None:
                refuse_damaged(path, _KIND, "it has two headers")
            header = _read_header(_take(file, name, length, path) if length == 13 else b"", path)
        elif header is None:
            refuse_damaged(path, _KIND, "its header is not the first")
        elif name in _KEPT and name not in seen and b"IDAT" not in seen:
            if length > _KEPT[name]:
                refuse_damaged(path, _KIND, f"its {name.decode()} is too long")
            kept.append(png_chunk(name, _take(file, name, length, path)))
        elif name in _TURNING and name not in seen and length <= _TURNING[name]:
            turning.append(png_chunk(name, _take(file, name, length, path)))
        seen.add(name)
    if header is None or b"IDAT" not in seen:
        refuse_damaged(path, _KIND, "its pixels are missing")
    return replace(header, chunks=b"".join(kept)), b"".join(turning)


def _read_header(body: bytes, path: Path) -> _Header:
    if len(body) != 13:
        refuse_damaged(path, _KIND, "its header is missing")
    width, height, depth, kind, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    depths = {0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(kind, (8, 16))
    if kind not in _CHANNELS or depth not in depths or compression or filtering or interlace > 1:
        refuse_damaged(path, _KIND, "its header does not fit")
    if not width or not height:
        refuse_damaged(path, _KIND, "it has no pixels")
    return _Header(width=width, height=height, depth=depth, kind=kind, interlaced=bool(interlace))


def _take(file: BinaryIO, name: bytes, length: int, path: Path) -> bytes:
    """Return a chunk's contents; `ImageError` if it is short, or its checksum is another."""
    body = file.read(length)
    if len(body) < length or file.read(4) != struct.pack(">I", zlib.crc32(name + body)):
        refuse_damaged(path, _KIND, f"a bad checksum of its {name.decode('latin-1')}")
    return body


def _inflate(file: BinaryIO, size: int, path: Path) -> Iterator[bytes]:
    """Yield the rows of a PNG, each of ``size`` bytes, as they are inflated."""
    stream, ready = zlib.decompressobj(), bytearray()
    try:
        for piece in _pixels(file, path):
            while piece and not stream.eof:
                ready += stream.decompress(piece, max(_PIECE, size))
                piece = stream.unconsumed_tail
                whole = len(ready) // size * size
                for at in range(0, whole, size):
                    yield bytes(ready[at : at + size])
                del ready[:whole]
        ready += stream.flush()
        if len(ready) >= size:
            yield bytes(ready[:size])
    except zlib.error as error:
        refuse_damaged(path, _KIND, error, error)


def _pixels(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the compressed pixels, at most so many bytes at a time; `ImageError` if a checksum is another."""
    at = len(SIGNATURE)
    for name, length in _chunks(file, path):
        if name != b"IDAT":
            continue
        at, check = file.tell(), zlib.crc32(name)
        for start in range(0, length, _PIECE):
            file.seek(at + start)
            piece = file.read(min(_PIECE, length - start))
            check = zlib.crc32(piece, check)
            yield piece
        file.seek(at + length)
        if file.read(4) != struct.pack(">I", check):
            refuse_damaged(path, _KIND, "a bad checksum of its pixels")
