"""Reading a picture file as 8-bit sRGB, and bringing it to a size.

Applied on reading: the EXIF orientation, conversion of an embedded ICC profile to sRGB, and white
behind transparency (the alpha channel is kept beside the pixels). ``.npy`` files hold pixels as
numbers, with values outside 0–255 allowed.
"""

import hashlib
import io
import logging
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from nstx.models.errors import ImageError

from .pixels import Pixels

_log = logging.getLogger("nstx")

# Descriptions of profiles that are sRGB itself; converting would only round.
_SRGB = ("sRGB", "sRGB built-in", "sRGB IEC61966-2.1", "sRGB IEC61966-2-1", "c2")

RESAMPLING = "lanczos"
"""The filter of `resize_picture`."""

MIN_SOURCE_SIDE = 8
"""Shorter side, in pixels, below which a file holds nothing to look at."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture as it was read.

    Attributes:
        pixels: (height, width, 3), RGB in sRGB, 0–255; uint8, or float32 from a ``.npy`` file.
        alpha: (height, width) uint8, 255 is opaque; None if the picture is opaque.
        path: where it was read from, for messages.

    Raises:
        ImageError: the shapes, dtypes or values are others.
    """

    pixels: NDArray[np.uint8] | Pixels
    alpha: NDArray[np.uint8] | None
    path: str = "an array"

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] != 3 or dtype not in (np.uint8, np.float32):
            raise ImageError(
                f"expected uint8 or float32 pixels (height, width, 3), got {dtype} {shape}; "
                "try pixels.astype('uint8')"
            )
        if dtype == np.float32 and not np.isfinite(self.pixels).all():
            raise ImageError("expected finite pixels, got NaN or infinity")
        if self.alpha is not None and (
            self.alpha.shape != shape[:2] or self.alpha.dtype != np.uint8
        ):
            raise ImageError(
                f"expected uint8 alpha {shape[:2]}, got {self.alpha.dtype} {self.alpha.shape}"
            )

    @property
    def digest(self) -> str:
        """Sha256 of the pixels with their shape and type: the same however they were encoded."""
        pixels = np.ascontiguousarray(self.pixels)
        digest = hashlib.sha256(f"{pixels.dtype.str} {pixels.shape} ".encode())
        digest.update(pixels.data)
        return digest.hexdigest()

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])


WeightedPicture = tuple[Picture, float]
"""A style picture and its weight among the styles, above 0."""


def read_image(path: str | Path, *, trusted: bool = False) -> Picture:
    """Read a picture: JPEG, PNG, WebP, AVIF, TIFF, or whatever else Pillow reads, or ``.npy``.

    Greyscale, palette, CMYK and 16-bit greyscale pictures become 8-bit RGB. Of an animation, the
    first frame is read.

    Args:
        path: of the file.
        trusted: allow twice as many pixels, as from a file that was written a moment ago.

    Raises:
        ImageError: there is no such file, it is no picture, it is damaged, it is smaller than
            8 pixels on a side, or it has more pixels than Pillow's bound against decompression
            bombs (89 million).
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise ImageError(f"expected a picture at {path}, got a device or pipe; try a file")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"expected a picture at {path}, got: {error.strerror or error}; try another path"
        ) from error
    if not data:
        raise ImageError(f"expected a picture at {path}, got an empty file; try another file")
    picture = (
        _read_npy(data, path) if path.suffix.lower() == ".npy" else _read_file(data, path, trusted)
    )
    if min(picture.height, picture.width) < MIN_SOURCE_SIDE:
        raise ImageError(
            f"expected a picture of at least {MIN_SOURCE_SIDE}×{MIN_SOURCE_SIDE} pixels, "
            f"got {picture.width}×{picture.height} in {path}; try a larger one"
        )
    return picture


def _read_file(data: bytes, path: Path, trusted: bool) -> Picture:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if trusted:
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return _to_srgb(image, path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"expected a picture of at most {Image.MAX_IMAGE_PIXELS} pixels, got more in {path}; "
            "try a smaller copy of it"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"expected a picture (JPEG, PNG, WebP, AVIF, TIFF), got something else in {path}; "
            "try to open it in an image viewer"
        ) from error
    except ImageError:
        raise
    except Exception as error:
        # Decoders have no common error for a damaged file: OSError, SyntaxError, ValueError, …
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ImageError(
            f"expected a whole picture in {path}, got a damaged one ({reason[0]}); "
            "try to fetch or save it again"
        ) from error


def _to_srgb(image: Image.Image, path: Path) -> Picture:
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ImageError(
            f"expected 8 or 16 bits a channel in {path}, got floating point; "
            "try .npy, or save it as 8-bit"
        )
    if image.mode.startswith("I"):
        image = _from_16_bit(image)
    alpha: NDArray[np.uint8] | None = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        alpha = None if alpha.min() == 255 else alpha.copy()
    rgb = _apply_profile(image, path)
    if alpha is not None:
        white = Image.new("RGB", rgb.size, (255, 255, 255))
        rgb = Image.composite(rgb, white, Image.fromarray(alpha))
    return Picture(np.array(rgb), alpha, str(path))


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    # Mode I holds 32 bits, in which readers hand over 16-bit pictures and sometimes 8-bit ones.
    if values.max() > 65_535 or values.min() < 0:
        raise ImageError("expected 8 or 16 bits a channel, got 32; try to save it as 8-bit")
    if image.mode != "I" or values.max() > 255:
        values /= 257
    profile = image.info.get("icc_profile")
    converted = Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))
    if profile:
        converted.info["icc_profile"] = profile
    return converted


def _apply_profile(image: Image.Image, path: Path) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode in ("1", "P"):
        image = image.convert("RGB")
    opaque = image.convert("RGB") if image.mode in ("RGBA", "RGB") else image
    if image.mode == "LA":
        opaque = image.convert("L")
    if not profile:
        return opaque.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).strip() in _SRGB:
            return opaque.convert("RGB")
        converted = ImageCms.profileToProfile(
            opaque, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError) as error:
        _log.warning("%s: the colour profile cannot be used (%s); read as sRGB", path, error)
        return opaque.convert("RGB")
    assert converted is not None  # in-place conversion was not asked for
    return converted


def _read_npy(data: bytes, path: Path) -> Picture:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ImageError(
            f"expected a .npy array in {path}, got a file that cannot be read; "
            "try numpy.save(path, pixels)"
        ) from error
    # The assignment's pictures carry a batch axis of one.
    if isinstance(array, np.ndarray) and array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(
            f"expected an array (height, width, 3) in {path}, got {getattr(array, 'shape', '?')}; "
            "try RGB pixels on the 0–255 scale"
        )
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ImageError(
            f"expected finite numbers in {path}, got {array.dtype} with others; "
            "try float32 pixels on the 0–255 scale"
        )
    return Picture(array.astype(np.float32), None, str(path))


def resize_picture(picture: Picture, height: int, width: int) -> Pixels:
    """Return a picture's pixels at a size, by a Lanczos filter; unchanged if it has that size."""
    if (picture.height, picture.width) == (height, width):
        return picture.pixels.astype(np.float32)
    if picture.pixels.dtype != np.uint8:
        return resize_pixels(picture.pixels.astype(np.float32), height, width)
    image = Image.fromarray(picture.pixels)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), np.float32)


def resize_pixels(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize float pixels by a Lanczos filter, without rounding or clipping them."""
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
            (width, height), Image.Resampling.LANCZOS
        )
        for channel in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(channel, np.float32) for channel in channels], axis=2)


def resize_alpha(picture: Picture, height: int, width: int) -> NDArray[np.uint8] | None:
    """Return a picture's alpha channel at a size, or None if it has none."""
    if picture.alpha is None:
        return None
    image = Image.fromarray(picture.alpha)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
