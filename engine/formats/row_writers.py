"""PNG and TIFF written some rows at a time, so that a large picture is never there as a whole besides.

The pixels are those that the writers of whole pictures keep; compression, and TIFF's tiles, are of their own.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .deep_png import filter_rows
from .deep_tiff import tiff_options
from .png_frame import png_chunk, png_head

_PIECE = 2**20  # bytes of a chunk of compressed pixels, about
_TILE = 256  # rows and columns of a TIFF's tile
_MOST_CLASSIC = (
    2**32 - 2**25
)  # bytes that a TIFF of 32-bit places has room for, as they are before compression


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A picture to be written.

    Attributes:
        shape: height, width and channels, 3 or 4.
        depth: 8 or 16 bits a channel.
        read: returns some of its rows, uint8 or uint16, (rows, width, channels).
        profile: the ICC profile that is embedded, if there is one.
        comment: a text of ASCII that the file carries.
    """

    shape: tuple[int, int, int]
    depth: int
    read: Callable[[slice], NDArray[Any]]
    profile: bytes | None = None
    comment: str | None = None

    def bands(self, rows: int) -> Iterator[NDArray[Any]]:
        """Yield so many rows at a time, at the end fewer."""
        height = self.shape[0]
        for top in range(0, height, rows):
            yield self.read(slice(top, min(height, top + rows)))


def write_png(file: BinaryIO, picture: Rows, *, is_stored: bool = False) -> None:
    """Write a PNG, compressed; ``is_stored``, which is without filters and compression, takes a sixteenth of the time."""
    _, width, channels = picture.shape
    file.write(png_head(picture.shape, picture.depth, picture.profile, picture.comment))
    stream, ready = zlib.compressobj(0 if is_stored else 6), bytearray()
    bands = picture.bands(max(1, _PIECE // (width * channels)))
    filtered = (
        _plain_rows(bands) if is_stored else filter_rows(bands, picture.shape, picture.depth // 8)
    )
    for lines in filtered:
        ready += stream.compress(lines)
        if len(ready) >= _PIECE:
            file.write(png_chunk(b"IDAT", bytes(ready)))
            ready.clear()
    file.write(png_chunk(b"IDAT", bytes(ready + stream.flush())))
    file.write(png_chunk(b"IEND", b""))


def _plain_rows(bands: Iterable[NDArray[Any]]) -> Iterator[bytes]:
    """Yield rows of bytes as a PNG has them that are not filtered."""
    for samples in bands:
        lines = samples.astype(f">u{samples.itemsize}").view(np.uint8).reshape(len(samples), -1)
        yield np.pad(lines, ((0, 0), (1, 0))).tobytes()


def write_tiff(file: BinaryIO, picture: Rows, *, is_stored: bool = False) -> None:
    """Write a TIFF in tiles, compressed by Deflate unless ``is_stored``; a BigTIFF if its pixels take over 4 GiB."""
    import tifffile  # it takes a moment to import

    height, width, channels = picture.shape
    dtype = np.dtype(np.uint16 if picture.depth == 16 else np.uint8)
    is_big = height * width * channels * dtype.itemsize > _MOST_CLASSIC
    with tifffile.TiffWriter(file, bigtiff=is_big) as writer:
        writer.write(
            _tiles(picture, dtype),
            shape=picture.shape,
            dtype=dtype,
            tile=(_TILE, _TILE),
            **tiff_options(channels, picture.profile, picture.comment, is_stored=is_stored),
        )


def _tiles(picture: Rows, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield tiles, padded by zeros, row by row of them."""
    _, width, channels = picture.shape
    for band in picture.bands(_TILE):
        for left in range(0, width, _TILE):
            part = band[:, left : left + _TILE]
            tile = np.zeros((_TILE, _TILE, channels), dtype)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
