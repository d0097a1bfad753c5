"""TIFF of 16 bits a channel, written: Pillow writes greys of 16 bits alone."""

import io
from typing import Any

from .comment import UNDEFINED, USER_COMMENT, make_comment
from .deep_png import Samples16


def encode_deep(samples: Samples16, profile: bytes | None, comment: str | None = None) -> bytes:
    """Return a TIFF file of 16 bits a channel, compressed by Deflate; equal samples give equal bytes.

    Args:
        samples: (height, width, 3 or 4), RGB or RGBA.
        profile: the ICC profile that is embedded.
        comment: a text of ASCII that the file carries.
    """
    import tifffile  # it takes a moment to import

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **tiff_options(samples.shape[2], profile, comment))
    return buffer.getvalue()


def tiff_options(
    channels: int, profile: bytes | None, comment: str | None, *, is_stored: bool = False
) -> dict[str, Any]:
    """Return the options by which tifffile writes a picture, of 3 or 4 channels; compressed unless ``is_stored``."""
    tags = []
    if comment is not None:
        value = make_comment(comment)
        tags.append((USER_COMMENT, UNDEFINED, len(value), value, True))
    return {
        "photometric": "rgb",
        "planarconfig": "contig",
        "extrasamples": ["unassalpha"] if channels == 4 else None,
        "compression": None if is_stored else "zlib",
        "predictor": not is_stored,
        "iccprofile": profile,
        "metadata": None,
        "software": False,
        "extratags": tags,
    }
