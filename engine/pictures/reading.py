"""Reading a picture file as 8-bit sRGB.

The EXIF orientation is applied, an embedded ICC profile is converted to sRGB, and what is
transparent lies on white (the alpha channel is kept beside the pixels). ``.npy`` files hold pixels
as numbers, which may lie outside 0–255.
"""

from pathlib import Path

from PIL import Image

from nstx.models.errors import ImageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input

from .decoding import decode_image
from .formats import NPY, TIFF, identify_format
from .npy import read_npy
from .picture import Picture
from .srgb import to_picture

_SHORTEST_SIDE = 8  # in pixels; a smaller picture shows nothing
_MOST_BYTES = 2**31
# Pillow's bound against decompression bombs, 89 million.
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 2**26


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
    most_pixels = _MOST_PIXELS * (2 if trusted else 1)
    kind = identify_format(data, path)
    if kind == NPY:
        picture = read_npy(data, path, most_pixels, trusted=trusted)
    else:
        picture = to_picture(_decode(data, kind, path, most_pixels), path)
    if min(picture.height, picture.width) < _SHORTEST_SIDE:
        raise ImageError(
            f"expected a picture of at least {_SHORTEST_SIDE}×{_SHORTEST_SIDE} pixels, "
            f"got {picture.width}×{picture.height} in {printable(path)}; try a larger one"
        )
    return picture


def _decode(data: bytes, kind: str, path: Path, most_pixels: int) -> Image.Image:
    if kind != TIFF:
        return decode_image(data, kind, path, most_pixels)
    from .tiff import read_tiff  # tifffile takes a moment to import

    return read_tiff(data, path, most_pixels)
