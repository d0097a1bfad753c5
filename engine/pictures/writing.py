"""Writing a picture: which suffixes there are, and with which settings."""

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstx.models.errors import OutputError
from nstx.models.printable import printable
from nstx.models.storage.files import check_output, write_output

from .picture import Picture, Pixels
from .srgb import lay_on_white

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
# For a process that must end: half the time, or less, for a file that is as good and larger.
_HASTE: dict[str, Mapping[str, Any]] = {
    "PNG": {"compress_type": 2},  # zlib's Huffman codes alone
    "WEBP": {"method": 0},
    "AVIF": {"speed": 10},
}
SUFFIXES = (*_FORMATS, ".npy")
"""Suffixes that a picture can be written with; ``.npy`` keeps float32 pixels, unrounded."""

_MAX_SIDE = {"WEBP": 16383, "JPEG": 65535, "AVIF": 65536}


def check_output_size(path: Path, height: int, width: int) -> None:
    """Check that a format can hold a picture of this size; `OutputError` if not."""
    name = _FORMATS.get(path.suffix.lower(), ("", {}))[0]
    limit = _MAX_SIDE.get(name)
    if limit is not None and max(height, width) > limit:
        raise OutputError(
            f"expected at most {limit} pixels a side for {name}, got {width}×{height}; "
            f"try {printable(path.stem)}.png"
        )


def to_8_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """Round float pixels to the nearest of 0 … 255."""
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def with_alpha(pixels: Pixels, alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 (height, width, 4) that show float pixels on white, where they can.

    The colours of what is not quite opaque are those that give the pixels once they lie on white.
    """
    cover = np.maximum(alpha, 1).astype(np.float32)[..., None] / 255
    colours = ((pixels - 255 * (1 - cover)) / cover).astype(np.float32)
    return np.concatenate([to_8_bit(colours), alpha[..., None]], axis=2)


def encode_image(
    pixels: Pixels,
    suffix: str,
    alpha: NDArray[np.uint8] | None = None,
    *,
    in_haste: bool = False,
) -> bytes:
    """Return the bytes of a picture file of one of `SUFFIXES`; equal pixels give equal bytes.

    Pixels are float32, (height, width, 3), 0–255; they are rounded, except for ``.npy``. ``alpha``
    is kept where the format can; a JPEG shows the picture on its white ground. ``in_haste`` takes less time
    and more bytes.
    """
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, pixels.astype(np.float32), allow_pickle=False)
        return buffer.getvalue()
    name, options = _FORMATS[suffix]
    if in_haste:
        options = {**options, **_HASTE.get(name, {})}
    image = Image.fromarray(to_8_bit(pixels) if alpha is None else with_alpha(pixels, alpha))
    if image.mode == "RGBA" and name == "JPEG":
        image = lay_on_white(image.convert("RGB"), image.getchannel("A"))
    image.save(buffer, format=name, **options)
    return buffer.getvalue()


def write_image(path: str | Path, picture: Picture | Pixels, *, in_haste: bool = False) -> None:
    """Write a picture with its transparency, or opaque pixels of 0–255; see `encode_image`.

    Raises:
        OutputError: the suffix is none of `SUFFIXES`, or the file cannot be written. What stood at
            ``path`` before still stands there.
    """
    path = Path(path)
    check_output(path, SUFFIXES)
    pixels, alpha = (
        (picture.pixels.astype(np.float32, copy=False), picture.alpha)
        if isinstance(picture, Picture)
        else (picture, None)
    )
    write_output(path, encode_image(pixels, path.suffix.lower(), alpha, in_haste=in_haste))


def write_or_rescue(path: Path, picture: Picture, *, in_haste: bool = False) -> None:
    """Write a picture that took long to make; if that fails, write it where temporary files go.

    Or else to the home folder, or the working folder; its name stays. `OutputError` if it could not be
    written where it was asked for; the message says where it is.
    """
    try:
        write_image(path, picture, in_haste=in_haste)
    except OutputError as error:
        raise rescue(error, path.name, lambda place: write_image(place, picture)) from error


def rescue(error: OutputError, name: str, write: Callable[[Path], None]) -> OutputError:
    """Write a picture elsewhere, and return the error with where it is.

    Args:
        error: of the place where it was asked for.
        name: of the file, in a folder of its own.
        write: writes the file, whole or not at all; `OutputError` if it cannot be.
    """
    place = _write_elsewhere(name, write)
    if place is None:
        return OutputError(f"{error}; nor could it be saved elsewhere, so it is lost")
    return OutputError(f"{error}; the picture was saved as {printable(place)} instead")


def _write_elsewhere(name: str, write: Callable[[Path], None]) -> Path | None:
    """Return where a file was written after all; None if nowhere."""
    places: tuple[Callable[[], str | Path], ...] = (tempfile.gettempdir, Path.home, Path.cwd)
    for find in places:
        folder: Path | None = None
        try:
            folder = Path(tempfile.mkdtemp(prefix="nstx-rescued-", dir=find()))
            write(folder / name)
        except (OSError, RuntimeError, OutputError):  # RuntimeError: a user without a home
            if folder is not None:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            continue
        return folder / name
    return None
