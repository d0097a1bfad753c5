"""Pillow's encoders of pictures of 8 bits a channel, and with which settings they are used."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_JPEG: tuple[str, Mapping[str, Any]] = ("JPEG", {"quality": 95, "subsampling": 0, "optimize": True})
_TIFF: tuple[str, Mapping[str, Any]] = ("TIFF", {"compression": "tiff_lzw"})
FORMATS: dict[str, tuple[str, Mapping[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    ".avif": ("AVIF", {"quality": 90}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}
"""Of each suffix, Pillow's name of its format, and settings that favour the picture over the size of its file."""

MAX_SIDE = {"WEBP": 16383, "JPEG": 65535, "AVIF": 65536}
"""Pixels of a side that a format holds."""

# For a process that must end: half the time, or less, for a file that is as good and larger.
_HASTE: dict[str, Mapping[str, Any]] = {
    "PNG": {"compress_type": 2},  # zlib's Huffman codes alone
    "WEBP": {"method": 0},
    "AVIF": {"speed": 10},
}
# For noise: Pillow has two bytes a pixel for a JPEG with Huffman codes of its own, and libwebp 512 KiB for what is not
# pixels in a lossy WebP; beyond these they fail.
_FOR_NOISE: dict[str, Mapping[str, Any]] = {
    "JPEG": {"optimize": False},
    "WEBP": {"lossless": True, "quality": 0, "method": 0},
}


def encode_samples(
    samples: NDArray[np.uint8], name: str, options: Mapping[str, Any], *, in_haste: bool = False
) -> bytes:
    """Return the bytes of a file.

    Args:
        samples: (height, width), or (height, width, 3 or 4).
        name: of the format, as Pillow has it.
        options: of its encoder.
        in_haste: in less time, with more bytes.
    """
    if in_haste:
        options = {**options, **_HASTE.get(name, {})}
    image, buffer = Image.fromarray(samples), io.BytesIO()
    try:
        image.save(buffer, format=name, **options)
    except (OSError, ValueError):
        if name not in _FOR_NOISE:
            raise
        buffer = io.BytesIO()
        image.save(buffer, format=name, **{**options, **_FOR_NOISE[name]})
    return buffer.getvalue()
