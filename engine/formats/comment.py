"""EXIF's UserComment: a text that a picture's file carries, in all formats at the same tag.

In a TIFF it stands among the picture's own tags, as what writes TIFFs here makes no EXIF of its own. Whatever
reads EXIF shows it: ``exiftool -UserComment``.
"""

import struct
from typing import Any

from PIL import Image, TiffImagePlugin

USER_COMMENT = 0x9286
_EXIF_IFD = 0x8769
_LONG, UNDEFINED = 4, 7
"""Types of tags."""

_ASCII = b"ASCII\0\0\0"

MOST_EXIF = 2**20
"""In bytes; a JPEG has 64 KiB at most. Pillow decodes all numbers that the array of a tag has, of other formats 2³² of them."""

LONGEST_COMMENT = 60_000
"""In bytes: a JPEG has room for 65,533 with what is around it."""


def make_comment(text: str) -> bytes:
    """Return the value of the tag that holds a text of ASCII."""
    return _ASCII + text.encode("ascii")


def make_exif(text: str) -> bytes:
    """Return EXIF data that holds a text and nothing else, beginning with the TIFF header."""
    comment = make_comment(text)
    # Each directory: how many entries; tag, type, count, value or its place in bytes; no other directory.
    own = struct.pack("<HHHIII", 1, _EXIF_IFD, _LONG, 1, 26, 0)
    exif = struct.pack("<HHHIII", 1, USER_COMMENT, UNDEFINED, len(comment), 44, 0)
    return b"II*\0" + struct.pack("<I", 8) + own + exif + comment


def carry_comment(text: str, name: str) -> dict[str, Any]:
    """Return the settings by which Pillow writes a text of ASCII into a file of the format that it names so."""
    if name != "TIFF":
        return {"exif": b"Exif\0\0" + make_exif(text)}
    # With libtiff, Pillow writes no directory but the picture's own.
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[USER_COMMENT] = make_comment(text)
    tags.tagtype[USER_COMMENT] = UNDEFINED
    return {"tiffinfo": tags}


def read_exif(image: Image.Image) -> Image.Exif:
    """Return a picture's EXIF data; `ValueError` of more than any camera writes, and any error of a decoder."""
    data = image.info.get("exif", b"")
    if len(data) > MOST_EXIF:
        raise ValueError(f"EXIF data of {len(data)} bytes")
    return image.getexif()


def find_comment(image: Image.Image) -> str | None:
    """Return the text that a picture's file carries; None without one, and of one that is not of ASCII.

    Any error of a decoder where its EXIF is damaged.
    """
    exif = read_exif(image)
    value = exif.get_ifd(_EXIF_IFD).get(USER_COMMENT, exif.get(USER_COMMENT))
    if not isinstance(value, bytes) or not value.startswith(_ASCII):
        return None
    text = value[len(_ASCII) :].rstrip(b"\0 ")
    return text.decode("ascii") if text.isascii() and len(text) <= LONGEST_COMMENT else None
