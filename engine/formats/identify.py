"""What a file holds, by its first bytes: its name says nothing about that.

Only formats named here reach a decoder. Pillow left to itself would try all that it knows, and
hand PostScript to Ghostscript, a program that a picture can order about.
"""

import re

from nstx.models.errors import ImageError
from nstx.models.printable import printable

NPY = "NPY"
HEIC = "HEIC"
TIFF = "TIFF"

DOUBT = "doubt"
"""In the ``info`` of an image of more than 8 bits: what a warning says of its scale, perhaps nothing."""

READ_SUFFIXES = frozenset((
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2c", ".j2k",
    ".jfi", ".jfif", ".jif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo",
    ".npy", ".pbm", ".pgm", ".pjp", ".pjpeg", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))  # fmt: skip
"""Suffixes of files that are taken for pictures in a folder; a file that is named may have any."""

# Beginnings of formats that are read; the names are Pillow's, but for HEIC and NPY.
_READ: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM", "BMP"),
    (rb"P[1-6]\s", "PPM"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG2000"),
    (rb"\x93NUMPY", NPY),
)

# Beginnings of formats that people take for pictures and that are not read, with their names.
_NOT_READ: tuple[tuple[bytes, str], ...] = (
    (
        rb"(II\*\0|MM\0\*)....CR|IIR[OS]|IIU\0|FUJIFILMCCD-RAW|FOVb|....ftypcrx ",
        "a camera's raw file",
    ),
    (rb"(\x04|\xef\xbb\xbf|\s)*%!|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"\s*%PDF", "PDF"),
    (rb"8BPS", "a Photoshop file (PSD)"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (rb"II\xbc", "JPEG XR"),
    (rb"\0\0[\x01\x02]\0", "an icon (ICO)"),
    (rb"gimp xcf", "a GIMP file (XCF)"),
    (rb"v/1\x01", "OpenEXR"),
    (rb"#\?(RADIANCE|RGBE)", "Radiance HDR"),
    (rb"P(7\s|[fF]\s)", "PAM or PFM"),
    (rb"qoif", "QOI"),
    (rb"DDS ", "a texture (DDS)"),
    (rb"AT&TFORM", "DjVu"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"PK\x03\x04|PK\x05\x06", "a zip archive"),
    (rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"version https://git-lfs", "a Git LFS pointer"),
    (rb"(\xef\xbb\xbf)?\s*<[^\0]*<?svg", "SVG"),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html)", "a web page"),
)

_TIFF = re.compile(rb"II\*\0|MM\0\*|II\+\0\x08\0\0\0|MM\0\+\0\x08\0\0")
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


def identify_format(data: bytes, path: object) -> str:
    """Return the name of the format that a picture's bytes are in.

    It is Pillow's name of one that it decodes, `TIFF`, `HEIC` or `NPY`.

    Raises:
        ImageError: it is a format that is not read, which the message names, or none at all.
    """
    brands = _brands(data)
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIC_BRANDS or brands >= {b"mif1"}:
        return HEIC
    head = data[:1024]
    for pattern, name in _READ:
        if re.match(pattern, head, re.DOTALL):
            return name
    for pattern, name in _NOT_READ:
        if re.match(pattern, head, re.DOTALL):
            raise ImageError(
                f"expected a picture in {printable(path)}, got {name}, which is not read; "
                "try to save it as PNG or JPEG"
            )
    if _TIFF.match(head):
        return TIFF
    raise ImageError(
        f"expected a picture (JPEG, PNG, WebP, AVIF, HEIC, TIFF, GIF, BMP), got something else in "
        f"{printable(path)}; try to open it in an image viewer and save it as PNG"
    )


def _brands(data: bytes) -> set[bytes]:
    """Return the brands of an ISO media file, such as AVIF and HEIC; none of another file."""
    if data[4:8] != b"ftyp":
        return set()
    box = data[8 : min(int.from_bytes(data[:4]), 256)]
    return {box[:4], *(box[at : at + 4] for at in range(8, len(box), 4))}
