"""ICC profiles that the tests make on the spot."""

import io
import struct
from collections.abc import Mapping

import numpy as np
from PIL import ImageCms

# From the standards' chromaticities, adapted to D50 by Bradford's matrix; a row for each of red, green and blue.
DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
WHITE = (0.9642, 1.0, 0.8249)


def fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(encoded), 28) + encoded


def curve(*points: int) -> bytes:
    return b"curv" + struct.pack(f">II{len(points)}H", 0, len(points), *points)


def parametric(kind: int, *numbers: float) -> bytes:
    return b"para" + struct.pack(">IHH", 0, kind, 0) + fixed(*numbers)


SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile(
    tags: Mapping[bytes, bytes],
    colours: bytes = b"RGB ",
    connection: bytes = b"XYZ ",
    kind: bytes = b"mntr",
) -> bytes:
    """Return a profile of some tags, beside those that every one has."""
    tags = {
        b"desc": text("test"),
        b"cprt": text("none"),
        b"wtpt": b"XYZ \0\0\0\0" + fixed(*WHITE),
        **tags,
    }
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x", at + len(body), b"", 0x04300000, kind, colours, connection, b"acsp"
    )
    return header + fixed(*WHITE) + bytes(48) + struct.pack(">I", len(tags)) + table + body


def rgb_profile(
    primaries: tuple[tuple[float, ...], ...] = DISPLAY_P3, tone: bytes = SRGB_CURVE, **more: bytes
) -> bytes:
    names = (b"r", b"g", b"b")
    return profile({
        **{name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*row) for name, row in zip(names, primaries, strict=True)},
        **{name + b"TRC": tone for name in names},
        **{name.encode(): tag for name, tag in more.items()},
    })  # fmt: skip


def grey_profile(tone: bytes = SRGB_CURVE) -> bytes:
    return profile({b"kTRC": tone}, b"GRAY")


P3, ADOBE, GREY = rgb_profile(), rgb_profile(ADOBE_RGB, curve(563)), grey_profile(curve(461))


def by_little_cms(colours: np.ndarray, data: bytes) -> np.ndarray:
    """Return uint8 colours in sRGB, by Little CMS."""
    from PIL import Image

    image = Image.fromarray(colours)
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(data)),
        ImageCms.createProfile("sRGB"),
        image.mode,
        "RGB",
    )
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return np.asarray(converted)
