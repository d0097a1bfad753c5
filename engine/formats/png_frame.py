"""PNG's outermost frame: a signature, and chunks with lengths and checksums, of which the first is the header."""

import struct
import zlib
from collections.abc import Iterator

from .comment import make_exif

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY_ALPHA, RGB, RGBA = 4, 2, 6
"""Colour types."""


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int, depth: int, colour_type: int) -> bytes:
    """Return the signature and the header of a PNG that is not interlaced; ``depth`` in bits a sample."""
    return SIGNATURE + png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    )


def png_head(
    shape: tuple[int, ...], depth: int, profile: bytes | None, comment: str | None
) -> bytes:
    """Return all of a PNG that comes before its pixels.

    Args:
        shape: height, width and channels, 3 for RGB or 4 for RGBA.
        depth: 8 or 16 bits a channel.
        profile: the ICC profile that is embedded.
        comment: a text of ASCII that the file carries.
    """
    height, width, channels = shape
    head = png_header(width, height, depth, {3: RGB, 4: RGBA}[channels])
    if profile is not None:
        head += png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile, 9))
    if comment is not None:
        head += png_chunk(b"eXIf", make_exif(comment))
    return head


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield the name, the contents and the integrity of each chunk of a PNG that is there whole."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        check = data[at + 8 + length : at + 12 + length]
        if len(check) < 4:
            return
        yield name, body, zlib.crc32(name + body) == int.from_bytes(check)
        at += 12 + length
