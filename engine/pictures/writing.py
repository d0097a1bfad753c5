"""Writing a picture: which suffixes there are, and with which settings."""

import io
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.files import check_output, write_output, writing_output
from nstx.models.values import check_text, describe

from ..formats import deep_png, deep_tiff
from ..formats.comment import LONGEST_COMMENT, carry_comment
from ..formats.deep_png import Samples16
from ..formats.encoders import FORMATS, MAX_SIDE, encode_samples
from ..formats.row_writers import Rows, write_png, write_tiff
from ..profiles.icc import make_srgb_profile
from .npy import take_picture
from .picture import Picture, Pixels
from .srgb import choose_profile, rows_in_profile, to_own_profile
from .transparency import on_white, with_alpha

_log = logging.getLogger("nstx")

SUFFIXES = (*FORMATS, ".npy")
"""Suffixes that a picture can be written with; ``.npy`` keeps float32 pixels, unrounded."""

_MOST_AT_ONCE = 2**25
"""Pixels of a picture that is encoded whole; a larger PNG or TIFF is written some rows at a time."""

_MOST_IN_HASTE = 2**21
"""And by a process that must end: a larger one is stored, uncompressed, as compression takes 0.1 s a megapixel."""

_ROUNDED = 2**20
"""Numbers that are rounded at a time, so that a picture takes no more than it does in 8 bits besides."""

_DEEP = {"PNG", "TIFF"}
DEEP_SUFFIXES = (*(suffix for suffix, (name, _) in FORMATS.items() if name in _DEEP), ".npy")
"""Those of formats that hold 16 bits a channel, or more."""

Depth = Literal[8, 16]


class Saving(TypedDict, total=False):
    """How a picture is saved.

    Attributes:
        depth: 8 or 16 bits a channel. None takes that of the picture's file, or of its content's, where the
            format holds it (`DEEP_SUFFIXES`).
        keep_profile: whether its colours are brought back to the profile of that file, which is embedded then;
            that of sRGB where it has none.
        manifest: whether the file of a result carries what it was made from (`nstx.engine.manifests`), as EXIF's
            UserComment; ``.npy`` has no place for it. True where it is not named.
    """

    depth: Depth | None
    keep_profile: bool
    manifest: bool


_NO_ALPHA = {
    (".jpg", ".jpeg", ".mp4"): (
        "JPEG and MP4 have no transparency: in them the picture lies on white, and so the cost of a JPEG is "
        "that of the picture on white; .png keeps it as it is"
    ),
    (
        ".npy",
    ): ".npy has no transparency: it holds the colours alone, seen or not; .png keeps it as well",
}
"""What is said of the suffixes of pictures and animations that lose transparency."""


def check_output_size(path: Path, height: int, width: int) -> None:
    """Check that a format can hold a picture of this size; `OutputError` if not."""
    name = FORMATS.get(path.suffix.lower(), ("", {}))[0]
    limit = MAX_SIDE.get(name)
    if limit is not None and max(height, width) > limit:
        raise OutputError(
            f"expected at most {limit} pixels a side for {name}, got {width}×{height}; "
            f"try '{printable(path.stem)}.png'"
        )


def warn_of_lost_alpha(paths: Iterable[Path]) -> None:
    """Log that a picture that is not opaque loses its transparency in some of its files, if it does in any."""
    suffixes = {path.suffix.lower() for path in paths}
    for without_alpha, message in _NO_ALPHA.items():
        if not suffixes.isdisjoint(without_alpha):
            _log.warning(message)


def to_8_bit(pixels: Pixels | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Round float pixels to the nearest of 0 … 255; uint8 ones are returned as they are."""
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    rounded = np.empty(pixels.shape, np.uint8)
    rows = max(1, _ROUNDED // max(1, pixels[:1].size))
    for first in range(0, len(pixels), rows):
        band = np.rint(pixels[first : first + rows])
        rounded[first : first + rows] = band.clip(0, 255, out=band)
    return rounded


def to_16_bit(pixels: Pixels | NDArray[np.uint8]) -> Samples16:
    """Round pixels of 0–255 to the nearest of 0 … 65535; uint8 ones are as they would be."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    scaled = pixels.clip(0, 255)
    scaled *= np.float32(257)
    samples: Samples16 = np.rint(scaled, out=scaled).astype(np.uint16)
    return samples


def check_depth(depth: Depth, suffix: str) -> None:
    """Check that a format holds so many bits a channel; `OutputError` if not, `UsageError` of other numbers."""
    if depth not in (8, 16):
        raise UsageError(
            f"expected a depth of 8 or 16 bits, got {describe(depth)}; try 16", setting="depth"
        )
    if depth == 16 and suffix not in DEEP_SUFFIXES:
        raise OutputError(
            f"expected a picture of 16 bits a channel in {', '.join(DEEP_SUFFIXES)}, got "
            f"{printable(suffix)}; try .png"
        )


def check_profiled(suffix: str) -> None:
    """Check that a format has a place for a colour profile; `OutputError` if not."""
    if suffix == ".npy":
        raise OutputError(
            "expected a picture with a colour profile in a picture's format, got .npy, whose numbers are sRGB; "
            "try .png"
        )


def choose_depth(picture: Picture, suffix: str) -> Depth:
    """Return 16 for a picture of 16 bits and a format that holds them, else 8."""
    return picture.encoding.depth if suffix in DEEP_SUFFIXES else 8


def encode_image(
    pixels: Pixels | NDArray[np.uint8],
    suffix: str,
    alpha: NDArray[np.uint8] | None = None,
    *,
    depth: Depth = 8,
    profile: bytes | None = None,
    comment: str | None = None,
    in_haste: bool = False,
) -> bytes:
    """Return the bytes of a picture file of one of `SUFFIXES`; equal pixels give equal bytes.

    Pixels are (height, width, 3), 0–255; float32 ones are rounded, except for ``.npy``. ``alpha``
    is kept beside them where the format can, with the colours of what is not seen; a JPEG shows the picture
    on white. ``profile`` is the ICC profile that they are in, and is embedded; without one, a file of 16 bits a
    channel has that of sRGB. ``comment`` is a text of ASCII that the file carries, but for ``.npy``. ``in_haste``
    takes less time and more bytes.
    """
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, pixels.astype(np.float32), allow_pickle=False)
        return buffer.getvalue()
    name, options = FORMATS[suffix]
    if depth == 16:
        return _encode_deep(
            pixels, name, alpha, profile or make_srgb_profile(), comment=comment, in_haste=in_haste
        )
    eight = with_alpha(to_8_bit(pixels), alpha)
    if name == "WEBP" and alpha is not None:
        options = {**options, "exact": True}  # else libwebp changes what is not seen
    if profile is not None:
        options = {**options, "icc_profile": profile}
    if comment is not None:
        options = {**options, **carry_comment(comment, name)}
    return encode_samples(
        on_white(eight) if name == "JPEG" else eight, name, options, in_haste=in_haste
    )


def _encode_deep(
    pixels: Pixels | NDArray[np.uint8],
    name: str,
    alpha: NDArray[np.uint8] | None,
    profile: bytes,
    *,
    comment: str | None,
    in_haste: bool,
) -> bytes:
    samples = to_16_bit(pixels)
    if alpha is not None:
        samples = np.concatenate([samples, to_16_bit(alpha)[..., None]], axis=2)
    if name == "TIFF":
        return deep_tiff.encode_deep(samples, profile, comment)
    return deep_png.encode_deep(samples, profile, comment, level=1 if in_haste else 6)


def write_image(
    path: str | Path,
    picture: Picture | Pixels,
    *,
    depth: Depth | None = None,
    keep_profile: bool = False,
    manifest: bool = True,
    in_haste: bool = False,
) -> None:
    """Write a picture with its transparency, or opaque pixels of 0–255; see `encode_image`.

    Arrays of uint8 may be grey or RGBA, too. For ``depth``, ``keep_profile`` and ``manifest`` see
    `Saving`.

    Raises:
        UsageError: it is neither a picture nor an array, or ``path`` is no path.
        ImageError: an array of another shape, with NaN, or on another scale, such as 0–1.
        OutputError: the suffix is none of `SUFFIXES`, or of a format without such a depth or without profiles, or
            the file cannot be written. What stood at ``path`` before still stands there.
    """
    path = Path(check_text("path", path, "out.png"))
    picture, suffix = take_picture(picture), path.suffix.lower()
    check_output(path, SUFFIXES)
    depth = choose_depth(picture, suffix) if depth is None else depth
    check_depth(depth, suffix)
    if picture.alpha is not None:
        warn_of_lost_alpha([path])
    if keep_profile:
        check_profiled(suffix)
    comment = None
    if manifest and picture.manifest is not None and suffix != ".npy":
        saved = {"depth": depth if suffix in DEEP_SUFFIXES else None, "keep_profile": keep_profile}
        comment = _write_manifest({**picture.manifest, "saved": saved})
    name = FORMATS.get(suffix, ("", {}))[0]
    if name in _DEEP and picture.height * picture.width > (
        _MOST_IN_HASTE if in_haste else _MOST_AT_ONCE
    ):
        rows = _take_rows(picture, depth, comment, keep_profile=keep_profile)
        with writing_output(path) as file:
            if name == "TIFF":
                write_tiff(file, rows, is_stored=in_haste)
            else:
                write_png(file, rows, is_stored=in_haste)
        return
    pixels, profile = to_own_profile(picture) if keep_profile else (picture.pixels, None)
    data = encode_image(
        pixels, suffix, picture.alpha, depth=depth, profile=profile, comment=comment, in_haste=in_haste
    )  # fmt: skip
    write_output(path, data)


def _take_rows(picture: Picture, depth: Depth, comment: str | None, *, keep_profile: bool) -> Rows:
    """Return a picture's rows as `encode_image` encodes them."""
    profile, space = None if depth == 8 else make_srgb_profile(), None
    if keep_profile:
        profile, space = choose_profile(picture.encoding.profile)
    bring = to_8_bit if depth == 8 else to_16_bit

    def read(span: slice) -> NDArray[Any]:
        pixels = picture.pixels[span] if space is None else rows_in_profile(picture, space, span)
        samples = bring(pixels)
        if picture.alpha is None:
            return samples
        return np.concatenate([samples, bring(picture.alpha[span])[..., None]], axis=2)

    channels = 3 if picture.alpha is None else 4
    return Rows(
        shape=(*picture.size, channels), depth=depth, read=read, profile=profile, comment=comment
    )


def _write_manifest(manifest: Mapping[str, Any]) -> str | None:
    """Return a manifest as a text of ASCII; None, with a warning, of one that is too long for a file to carry."""
    text = json.dumps(manifest, separators=(",", ":"))
    if len(text) <= LONGEST_COMMENT:
        return text
    _log.warning("the picture carries no manifest, as that is too long; try fewer styles")
    return None
