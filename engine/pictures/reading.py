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

from .decoding import DECODER_ERRORS, decode_image, refuse_damaged
from .formats import NPY, TIFF, identify_format
from .npy import read_npy
from .picture import Picture
from .srgb import to_picture

_SHORTEST_SIDE = 8  # in pixels; a smaller picture shows nothing
_MOST_BYTES = 2**31
# Pillow's bound against decompression bombs, 89 million.
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 2**26


def read_image(path: str | Path, *, trusted: bool = False) -> Picture:
    """Read a picture: JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP, PPM, JPEG 2000, HEIC or ``.npy``.

    What a file holds is told by its content, whatever its name. Greyscale, palette, CMYK and 16-bit
    pictures become 8-bit RGB. Of an animation, the first frame is read; of a TIFF, the first page
    that is no thumbnail. Damaged metadata is left out with a warning where the pixels are whole. A
    JPEG of more than 89 million pixels is read at half its size, with a warning. HEIC needs the
    extra ``heic``. ``trusted`` is for a file of nstx's own: it allows twice as many pixels, and
    takes ``.npy`` for 0–255 whatever its values.

    Raises:
        ImageError: there is no such file, it is no picture, its pixels are damaged, it is smaller
            than 8 pixels on a side, it has more than 2 GiB or, but for a JPEG, more pixels than
            Pillow's bound against decompression bombs (89 million), or far more than its bytes can
            tell.
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
        image = _decode(data, kind, path, most_pixels)
        try:
            picture = to_picture(image, path)
        except DECODER_ERRORS as error:  # such as a palette that is missing
            refuse_damaged(path, kind, error, error)
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
