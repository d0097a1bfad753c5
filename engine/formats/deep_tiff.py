"""TIFF of 16 bits a channel, written: Pillow writes greys of 16 bits alone."""

import io

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

    buffer, tags = io.BytesIO(), []
    if comment is not None:
        value = make_comment(comment)
        tags.append((USER_COMMENT, UNDEFINED, len(value), value, True))
    tifffile.imwrite(
        buffer,
        samples,
        photometric="rgb",
        planarconfig="contig",
        extrasamples=["unassalpha"] if samples.shape[2] == 4 else None,
        compression="zlib",
        predictor=True,
        iccprofile=profile,
        metadata=None,
        software=False,
        extratags=tags,
    )
    return buffer.getvalue()
