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

_RUNS: Mapping[str, Any] = {"compress_type": 3}
"""Of a PNG: zlib's runs alone, which it searches in a quarter of the time."""

_WORTH = 1_000_000  # pixels, of which the search takes half a second
_SAMPLE_ROWS = 24  # of each of three places
_MOST_GROWTH = 1.02

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
    elif name == "PNG" and _has_only_runs(samples):
        options = {**options, **_RUNS}
    image, buffer = Image.fromarray(samples), io.BytesIO()
    try:
        image.save(buffer, format=name, **options)
    except (OSError, ValueError):
        if name not in _FOR_NOISE:
            raise
        buffer = io.BytesIO()
        image.save(buffer, format=name, **{**options, **_FOR_NOISE[name]})
    return buffer.getvalue()


def _has_only_runs(samples: NDArray[np.uint8]) -> bool:
    """Whether a large picture is one that a PNG repeats next to nothing of but single bytes, as photographs are.

    So it is where some rows of it take little more that way: flat and drawn pictures take half as much again.
    """
    height, width = samples.shape[:2]
    if height * width < _WORTH:
        return False
    places = (height * quarter // 4 for quarter in (1, 2, 3))
    rows = np.concatenate([samples[place : place + _SAMPLE_ROWS] for place in places])
    image, sizes = Image.fromarray(rows), []
    for options in ({}, _RUNS):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", **options)
        sizes.append(buffer.tell())
    return sizes[1] <= _MOST_GROWTH * sizes[0]
