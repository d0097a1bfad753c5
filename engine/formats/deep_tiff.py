"""TIFF of 16 bits a channel, written: Pillow writes greys of 16 bits alone."""

import io

from .deep_png import Samples16


def encode_deep(samples: Samples16, profile: bytes | None) -> bytes:
    """Return a TIFF file of 16 bits a channel, compressed by Deflate; equal samples give equal bytes.

    Args:
        samples: (height, width, 3 or 4), RGB or RGBA.
        profile: the ICC profile that is embedded.
    """
    import tifffile  # it takes a moment to import

    buffer = io.BytesIO()
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
    )
    return buffer.getvalue()
