"""Files whose pixels are whole and whose metadata is not: written anew without what is damaged.

A decoder refuses a whole photograph for a comment that it cannot read. Here a file is taken apart
into its segments or chunks, as far as its format's outermost frame tells them, and only those that
make the pixels are put together again. Nothing of the pixels is made up.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from .png_frame import SIGNATURE, png_chunk, png_chunks

_PNG_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_PNG_HEADER = frozenset((b"IHDR",))
_PNG_COLOURS = frozenset((b"IHDR", b"PLTE"))
_PNG_PALETTE = 3  # the colour type whose pixels are places in a palette
_WEBP_PIXELS = frozenset((b"VP8 ", b"VP8L", b"ALPH"))
_WEBP_ALPHA = 0x10  # a flag of the extended header
_MOST_PROFILE = 2**24  # bytes of an ICC profile; the largest in use have some megabytes

_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_JPEG_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC)))
_JPEG_APPS_AND_COMMENTS = frozenset((*range(0xE0, 0xF0), 0xFE))
# The two that libjpeg goes by, with the lengths below which it does not.
_JPEG_COLOUR = ((0xE0, b"JFIF", 14), (0xEE, b"Adobe", 12))
# What is read as pixels where a JPEG's own end before its picture does: noise without a marker,
# and unlike the zeros that a decoder makes up at the end marker.
_NO_PIXELS = bytes((index * 151 + 181) % 255 for index in range(2**14))


@dataclass(frozen=True, slots=True)
class Repaired:
    """A file without its metadata, and what of it is worth keeping.

    Attributes:
        data: the file that a decoder reads.
        info: Pillow's ``exif`` and ``icc_profile``, as far as they are whole.
    """

    data: bytes
    info: dict[str, bytes] = field(default_factory=dict)


def repair(data: bytes, kind: str) -> Repaired | None:
    """Return a picture without its metadata; None if it cannot be taken apart."""
    take_apart = {"JPEG": _repair_jpeg, "PNG": _repair_png, "WEBP": _repair_webp}.get(kind)
    if take_apart is None:
        return None
    try:
        return take_apart(data)
    except (struct.error, IndexError):  # it ends within what frames its parts
        return None


def has_damaged_pixels(data: bytes) -> bool:
    """Tell whether a PNG's compressed pixels fail both their checks: the chunks' and zlib's."""
    pixels, whole = [], True
    for name, body, sound in png_chunks(data):
        if name == b"IDAT":
            pixels.append(body)
            whole = whole and sound
    if whole:
        return False
    stream = zlib.decompressobj()
    try:
        for body in pixels:
            while body and not stream.eof:
                stream.decompress(body, 2**20)
                body = stream.unconsumed_tail
    except zlib.error:
        return True
    return not stream.eof


def _repair_png(data: bytes) -> Repaired | None:
    parts, info = [SIGNATURE], dict[str, bytes]()
    least_key = {0: 2, 2: 6}.get(data[25], 0)  # bytes of a transparent colour, by colour type
    colours = None if data[25] != _PNG_PALETTE else 0
    needed = _PNG_COLOURS if data[25] == _PNG_PALETTE else _PNG_HEADER  # elsewhere a proposal
    for name, body, sound in png_chunks(data):
        if name == b"PLTE" and colours is not None:
            colours = len(body) // 3
        if name == b"tRNS" and (
            len(body) < least_key or (colours is not None and len(body) > colours)
        ):
            continue
        if name in needed and not sound:
            return None
        # Pixels have a check of their own.
        if name in _PNG_PIXELS and (sound or name == b"IDAT"):
            parts.append(png_chunk(name, body))
        elif name == b"eXIf" and sound:
            info["exif"] = body
        elif name == b"iCCP" and sound and (profile := _inflate_profile(body)):
            info["icc_profile"] = profile
    return Repaired(b"".join(parts), info)


def _inflate_profile(chunk: bytes) -> bytes | None:
    _, _, rest = chunk.partition(b"\0")  # its name; then the method, 0
    stream = zlib.decompressobj()
    try:
        profile = stream.decompress(rest[1:], _MOST_PROFILE)
    except zlib.error:
        return None
    return profile if stream.eof else None


def _repair_webp(data: bytes) -> Repaired:
    parts, info = list[bytes](), dict[str, bytes]()
    extended = b""
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if len(body) == length:
            if name in _WEBP_PIXELS:
                parts.append(struct.pack("<4sI", name, length) + body + bytes(length % 2))
            elif name == b"VP8X":
                header = bytes([body[0] & _WEBP_ALPHA]) + body[1:10]
                extended = struct.pack("<4sI", name, 10) + header
            elif name in (b"EXIF", b"ICCP"):
                info["exif" if name == b"EXIF" else "icc_profile"] = body
        at += 8 + length + length % 2
    body = b"WEBP" + extended + b"".join(parts)
    return Repaired(struct.pack("<4sI", b"RIFF", len(body)) + body, info)


def _repair_jpeg(data: bytes) -> Repaired:
    parts, exif, profile = [data[:2]], b"", dict[int, bytes]()
    for marker, start, end in jpeg_segments(data):
        body = data[start + 4 : end]
        if marker == _JPEG_SCAN:
            parts.append(data[start:])
            break
        if marker not in _JPEG_APPS_AND_COMMENTS or any(
            marker == colour and body.startswith(name) and len(body) >= least
            for colour, name, least in _JPEG_COLOUR
        ):
            parts.append(data[start:end])
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
    info = {"exif": exif} if exif else {}
    if profile and sorted(profile) == list(range(1, len(profile) + 1)):
        info["icc_profile"] = b"".join(profile[index] for index in sorted(profile))
    return Repaired(b"".join(parts), info)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment of a JPEG, where it starts and where it ends."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at + 1] == 0xFF:
            at += 1
        marker = data[at + 1]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        if marker == 0xD9:
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, at, at + 2 + length
        at += 2 + length


def ended_jpegs(data: bytes) -> tuple[bytes, bytes] | None:
    """Return a JPEG that lacks its end marker with two ends, between which other pixels would lie.

    If both show the same picture, nothing of its pixels is missing. None if a scan is missing.
    """
    missing = dict[int, set[int]]()
    try:
        for marker, start, _ in jpeg_segments(data):
            if marker in _JPEG_FRAMES:
                count = data[start + 9]
                missing = {data[start + 10 + 3 * i]: set(range(64)) for i in range(count)}
            elif marker == _JPEG_SCAN:
                count = data[start + 4]
                first, last, precision = data[start + 5 + 2 * count : start + 8 + 2 * count]
                if precision & 15 == 0:
                    for index in range(count):
                        missing[data[start + 5 + 2 * index]] -= set(range(first, last + 1))
    except (struct.error, IndexError, ValueError, KeyError):
        pass  # it ends here
    if not missing or any(missing.values()):
        return None
    pixels = data.rstrip(b"\xff")  # half an end marker
    return pixels + _JPEG_END, pixels + _NO_PIXELS + _JPEG_END
