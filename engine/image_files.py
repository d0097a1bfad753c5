"""Writing a picture: which suffixes there are, with which settings, and never half a file."""

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..models.cache import write_atomically
from ..models.errors import OutputError
from .images import Pixels

# Pillow's name of each format, and settings that favour the picture over the size of its file.
_JPEG: tuple[str, Mapping[str, Any]] = ("JPEG", {"quality": 95, "subsampling": 0, "optimize": True})
_TIFF: tuple[str, Mapping[str, Any]] = ("TIFF", {"compression": "tiff_lzw"})
_FORMATS: dict[str, tuple[str, Mapping[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    ".avif": ("AVIF", {"quality": 90}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}
SUFFIXES = (*_FORMATS, ".npy")
"""Suffixes that a picture can be written with; ``.npy`` keeps float32 pixels, unrounded."""

_MAX_SIDE = {"WEBP": 16383, "JPEG": 65535, "AVIF": 65536}
_LONGEST_NAME = 255  # on every common file system
_OPAQUE_FORMATS = ("JPEG",)


def check_output(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Check that a file can be written at ``path``, before any work is done for it.

    Raises:
        OutputError: the suffix is none of ``suffixes``, the folder is missing or not writable, or
            a folder stands at the path.
    """
    if os.path.isdir(path):  # noqa: PTH112  (unlike Path.is_dir, never raises)
        raise OutputError(f"expected a file to write, got the folder {path}; try {path}/out.png")
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise OutputError(
            f"expected an output that ends in {', '.join(suffixes)}, got {str(path)!r}; "
            f"try {path.stem or 'out'}{suffixes[0]}"
        )
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(
            f"expected a file name of at most {_LONGEST_NAME} bytes, got more; try a shorter one"
        )
    if not os.path.isdir(path.parent):  # noqa: PTH112
        raise OutputError(
            f"expected an existing folder for the output, got {path.parent}; "
            f"try 'mkdir -p {path.parent}'"
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(b"nstx")
    except OSError as error:
        raise OutputError(
            f"expected a folder that can be written, got {path.parent}: "
            f"{error.strerror or error}; try another folder"
        ) from error


def check_distinct(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Check that no output is an input or another output.

    Raises:
        OutputError: one is.
    """
    seen = {_real(path) for path in inputs}
    for path in outputs:
        if _real(path) in seen:
            raise OutputError(
                f"expected an output that is neither an input nor another output, got {path}; "
                "try another name"
            )
        seen.add(_real(path))


def _real(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def check_output_size(path: Path, height: int, width: int) -> None:
    """Check that a format can hold a picture of this size.

    Raises:
        OutputError: it cannot.
    """
    name = _FORMATS.get(path.suffix.lower(), ("", {}))[0]
    limit = _MAX_SIDE.get(name)
    if limit is not None and max(height, width) > limit:
        raise OutputError(
            f"expected at most {limit} pixels a side for {name}, got {width}×{height}; "
            f"try {path.stem}.png"
        )


def to_8_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """Round float pixels to the nearest of 0 … 255."""
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def encode_image(pixels: Pixels, suffix: str, alpha: NDArray[np.uint8] | None = None) -> bytes:
    """Return the bytes of a picture file; equal pixels give equal bytes.

    Args:
        pixels: float32, (height, width, 3), 0–255; rounded, except for ``.npy``.
        suffix: one of `SUFFIXES`.
        alpha: kept where the format can; a JPEG shows the picture on its white ground.
    """
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, pixels.astype(np.float32), allow_pickle=False)
        return buffer.getvalue()
    name, options = _FORMATS[suffix]
    if alpha is not None:
        # The pixels lie on white already; what the alpha will be applied to must not.
        cover = np.maximum(alpha, 1).astype(np.float32)[..., None] / 255
        pixels = ((pixels - 255 * (1 - cover)) / cover).astype(np.float32)
    image = Image.fromarray(to_8_bit(pixels))
    if alpha is not None:
        if name in _OPAQUE_FORMATS:
            white = Image.new("RGB", image.size, (255, 255, 255))
            image = Image.composite(image, white, Image.fromarray(alpha))
        else:
            image.putalpha(Image.fromarray(alpha))
    image.save(buffer, format=name, **options)
    return buffer.getvalue()


def write_image(path: str | Path, pixels: Pixels, alpha: NDArray[np.uint8] | None = None) -> None:
    """Write a picture in the format that the suffix of ``path`` names.

    Raises:
        OutputError: it cannot be written. What stood at ``path`` before still stands there.
    """
    path = Path(path)
    check_output(path)
    write_output(path, encode_image(pixels, path.suffix.lower(), alpha))


def write_output(path: Path, data: bytes) -> None:
    """Write a result's bytes, whole or not at all.

    Raises:
        OutputError: they cannot be written.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise OutputError(
            f"expected to write {path}, got: {error.strerror or error}; "
            "try another folder or free some space"
        ) from error
