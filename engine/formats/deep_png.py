"""PNG of 16 bits a channel, read whole and written: Pillow keeps the upper 8 bits of colours.

So its decoder, which undoes filters and interlacing, is asked a second time, for the lower ones.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .png_frame import GREY_ALPHA, RGBA, png_chunk, png_chunks, png_head

Samples16 = NDArray[np.uint16]
"""uint16, (height, width, channels): grey, grey and alpha, RGB or RGBA."""

_COLOUR_TYPE = 25  # its place in a file whose first chunk is the header
_BAND = 2**22  # samples that are filtered at a time
_LEVEL = 6  # of zlib


def is_deep(data: bytes) -> bool:
    """Whether a file's first chunk is the header of a PNG of 16 bits a channel."""
    return data[12:16] == b"IHDR" and data[24:25] == b"\x10"


def read_deep(data: bytes, image: Image.Image) -> Samples16:
    """Return the samples of a PNG of 16 bits a channel, as they lie in the file.

    A transparent colour becomes an alpha channel of 0 and 65535.

    Args:
        data: of the file.
        image: that Pillow has read from it, loaded.

    Raises:
        ValueError: the file has two headers; or any other error of a decoder.
    """
    if [name for name, *_ in png_chunks(data)].count(b"IHDR") > 1:
        raise ValueError("it has two headers")
    samples = _read(data, image)
    key = image.info.get("transparency")
    if key is None or samples.shape[2] in (2, 4):
        return samples
    opaque = (samples != np.asarray(key, np.uint16)).any(2, keepdims=True)
    return np.concatenate([samples, np.where(opaque, np.uint16(65535), np.uint16(0))], axis=2)


def _read(data: bytes, image: Image.Image) -> Samples16:
    if data[_COLOUR_TYPE] == GREY_ALPHA:
        # Of as many bytes as RGBA of 8 bits, by whose name Pillow hands over all of them.
        header = data[16:24] + bytes((8, RGBA)) + data[26:29]
        check = struct.pack(">I", zlib.crc32(b"IHDR" + header))
        patched = data[:16] + header + check + data[33:]
        both = _decode(patched, "RGBA")
        samples, lower = both[..., ::2].astype(np.uint16), both[..., 1::2]
    elif image.mode.startswith("I"):
        return np.asarray(image)[..., None].astype(np.uint16)
    else:
        samples = np.asarray(image).astype(np.uint16)
        # "Little-endian" samples: their upper byte is the other one.
        lower = _decode(data, f"{image.mode};16L")
    samples <<= 8
    samples |= lower
    return samples


def _decode(data: bytes, raw_mode: str) -> NDArray[np.uint8]:
    """Return what Pillow makes of a file whose pixels it takes for those of a raw mode."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        return np.asarray(image)


def encode_deep(
    samples: Samples16, profile: bytes | None, comment: str | None = None, *, level: int = _LEVEL
) -> bytes:
    """Return a PNG file of 16 bits a channel; equal samples give equal bytes.

    Args:
        samples: (height, width, 3 or 4), RGB or RGBA.
        profile: the ICC profile that is embedded.
        comment: a text of ASCII that the file carries.
        level: of zlib's compression.
    """
    height, width, channels = samples.shape
    stream, step = zlib.compressobj(level), max(1, _BAND // (width * channels))
    bands = (samples[top : top + step] for top in range(0, height, step))
    lines = [stream.compress(rows) for rows in filter_rows(bands, samples.shape, 2)]
    pixels = png_chunk(b"IDAT", b"".join([*lines, stream.flush()]))
    return png_head(samples.shape, 16, profile, comment) + pixels + png_chunk(b"IEND", b"")


def filter_rows(
    bands: Iterable[NDArray[Any]], shape: tuple[int, ...], size: int
) -> Iterator[bytes]:
    """Yield rows of bytes, each as the one of PNG's filters that leaves least has it.

    Least by the sum of the differences' absolutes, as the specification advises; of no filter, Sub and Paeth.

    Args:
        bands: a picture's rows from the top down, some at a time.
        shape: of the picture, (height, width, channels).
        size: of a sample, in bytes.
    """
    _, width, channels = shape
    step = size * channels
    above = np.zeros((1, step + width * step), np.uint8)
    for samples in bands:
        band = samples.astype(f">u{size}").view(np.uint8).reshape(-1, width * step)
        padded = np.pad(band, ((0, 0), (step, 0)))
        upper = np.concatenate([above, padded[:-1]])
        above = padded[-1:]
        ways = {
            0: band,
            1: band - padded[:, :-step],
            4: band - _paeth(padded[:, :-step], upper[:, step:], upper[:, :-step]),
        }
        left = [np.abs(way.view(np.int8).astype(np.int16)).sum(1) for way in ways.values()]
        chosen = np.argmin(left, axis=0)[:, None]
        lines = np.select([chosen == index for index in range(len(ways))], list(ways.values()))
        numbers = np.array(list(ways), np.uint8)[chosen]
        yield np.concatenate([numbers, lines], axis=1).tobytes()


def _paeth(
    left: NDArray[np.uint8], above: NDArray[np.uint8], corner: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return which of three neighbours is nearest to left + above − corner, the first of equals."""
    a, b, c = (part.astype(np.int16) for part in (left, above, corner))
    to_left, to_above, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = (to_left <= to_above) & (to_left <= to_corner)
    return np.where(nearest, left, np.where(to_above <= to_corner, above, corner))
