"""Reading a picture file as 8-bit sRGB.

The EXIF orientation is applied, an embedded ICC profile is converted to sRGB, and what is
transparent lies on white (the alpha channel is kept beside the pixels). ``.npy`` files hold pixels
as numbers, which may lie outside 0–255.
"""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from nstx.models.errors import ImageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input

from .formats import HEIC, NPY, identify_format
from .picture import Picture

_log = logging.getLogger("nstx")

# Descriptions of profiles that are sRGB itself; converting would only round.
_SRGB = ("sRGB", "sRGB built-in", "sRGB IEC61966-2.1", "sRGB IEC61966-2-1", "c2")

# Modes that a profile cannot convert, with those that stand for them.
_OPAQUE_MODES = {"1": "RGB", "P": "RGB", "RGBA": "RGB", "LA": "L"}

_SHORTEST_SIDE = 8  # in pixels; a smaller picture shows nothing
_MOST_BYTES = 2**31


def read_image(path: str | Path, *, trusted: bool = False) -> Picture:
    """Read a picture: JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP, PPM, JPEG 2000 or NumPy's ``.npy``.

    Greyscale, palette, CMYK and 16-bit greyscale pictures become 8-bit RGB. Of an animation, the
    first frame is read. ``trusted`` allows twice as many pixels, for a file of nstx's own.

    Raises:
        ImageError: there is no such file, it is no picture, it is damaged, it is smaller than
            8 pixels on a side, or it has more pixels than Pillow's bound against decompression
            bombs (89 million).
    """
    path = Path(path)
    data = read_input(
        path, kind="a picture", most_bytes=_MOST_BYTES, error=ImageError, advice="another path"
    )
    if not data:
        raise ImageError(
            f"expected a picture at {printable(path)}, got an empty file; try another file"
        )
    kind = identify_format(data, path)
    picture = _read_npy(data, path) if kind == NPY else _read_file(data, kind, path, trusted)
    if min(picture.height, picture.width) < _SHORTEST_SIDE:
        raise ImageError(
            f"expected a picture of at least {_SHORTEST_SIDE}×{_SHORTEST_SIDE} pixels, "
            f"got {picture.width}×{picture.height} in {printable(path)}; try a larger one"
        )
    return picture


def _read_file(data: bytes, kind: str, path: Path, trusted: bool) -> Picture:
    if kind == HEIC:
        raise ImageError(
            f"expected a picture in {printable(path)}, got HEIC, which is not read; "
            "try to save it as JPEG"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if trusted:
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                image.load()
                return _to_srgb(image, path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"expected a picture of at most {Image.MAX_IMAGE_PIXELS} pixels, got more in {printable(path)}; "
            "try a smaller copy of it"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"expected a whole picture in {printable(path)}, got {kind} of an unknown or damaged "
            "kind; try to save it again as PNG"
        ) from error
    except ImageError:
        raise
    except Exception as error:
        # Decoders have no common error for a damaged file: OSError, SyntaxError, ValueError, …
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ImageError(
            f"expected a whole picture in {printable(path)}, got a damaged one ({reason[0]}); "
            "try to fetch or save it again"
        ) from error


def _to_srgb(image: Image.Image, path: Path) -> Picture:
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ImageError(
            f"expected 8 or 16 bits a channel in {printable(path)}, got floating point; "
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
    opaque = image.convert(_OPAQUE_MODES.get(image.mode, image.mode))
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
            f"expected a .npy array in {printable(path)}, got a file that cannot be read; "
            "try numpy.save(path, pixels)"
        ) from error
    # The assignment's pictures carry a batch axis of one.
    if isinstance(array, np.ndarray) and array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(
            f"expected an array (height, width, 3) in {printable(path)}, got {getattr(array, 'shape', '?')}; "
            "try RGB pixels on the 0–255 scale"
        )
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ImageError(
            f"expected finite numbers in {printable(path)}, got {array.dtype} with others; "
            "try float32 pixels on the 0–255 scale"
        )
    return Picture(array.astype(np.float32), None, str(path))
