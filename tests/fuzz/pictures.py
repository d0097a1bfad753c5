"""Pictures: of every format that is read, with fields that lie, and checksums that fit them."""

import functools
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageCms

from nstx.engine.formats.deep_png import encode_deep
from nstx.engine.pictures.reading import read_image
from nstx.engine.profiles.icc import make_srgb_profile

from .damage import STEMS, damage, number, packed, splice
from .inputs import Input

_SIZE = (24, 20)
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_BOXES = b"ftyp meta hdlr pitm iloc iinf infe iprp ipco ispe pixi av1C hvcC colr auxC ipma mdat iref irot"


@functools.cache
def samples() -> Mapping[str, bytes]:
    """Return whole pictures by a name that ends in their suffix."""
    return {**_by_pillow(), **_by_tifffile(), **_deep_colours(), **_arrays()}


def _pixels(*shape: int, dtype: str = "u1") -> Any:
    values = np.random.default_rng(0).integers(0, 255, shape or (*_SIZE, 3))
    return (values / 255 if dtype.startswith("f") else values).astype(dtype)


def _by_pillow() -> dict[str, bytes]:
    rgb = Image.fromarray(_pixels())
    rgba = Image.fromarray(_pixels(*_SIZE, 4))
    deep = Image.fromarray(_pixels(*_SIZE, dtype="u2") * 257)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    tags = {"exif": exif.tobytes(), "icc_profile": profile}
    frames: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(90)]}
    made: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("rgb.jpg", rgb, tags),
        ("grey.jpg", rgb.convert("L"), {}),
        ("cmyk.jpg", rgb.convert("CMYK"), {}),
        ("progressive.jpg", rgb, {"progressive": True, "restart_marker_rows": 1}),
        ("rgb.png", rgb, tags),
        ("rgba.png", rgba, {}),
        ("palette.png", rgb.convert("P"), {"transparency": 3}),
        ("bits.png", rgb.convert("1"), {}),
        ("greys.png", rgb.convert("LA"), {}),
        ("deep.png", deep, {"dpi": (72, 72)}),
        ("animated.png", rgb, frames),
        ("lossy.webp", rgb, tags),
        ("lossless.webp", rgba, {"lossless": True}),
        ("animated.webp", rgb, frames),
        ("rgb.avif", rgb, tags),
        ("rgba.avif", rgba, {}),
        ("rgb.gif", rgb, frames),
        ("rgb.bmp", rgb, {}),
        ("palette.bmp", rgb.convert("P"), {}),
        ("rgb.ppm", rgb, {}),
        ("rgb.jp2", rgb, {}),
        ("pillow.tif", rgb, {"compression": "tiff_lzw", **tags}),
        ("jpeg.tif", rgb, {"compression": "jpeg"}),
        ("fax.tif", rgb.convert("1"), {"compression": "group4"}),
    ]
    data = {}
    for name, image, options in made:
        buffer = io.BytesIO()
        kind = Image.registered_extensions()[Path(name).suffix]
        image.save(buffer, format=kind, **options)
        data[name] = buffer.getvalue()
    return data


def _deep_colours() -> dict[str, bytes]:
    """Return PNGs of 16 bits in colour, with a profile of a matrix and curves that is not named sRGB."""
    profile = make_srgb_profile().replace("sRGB".encode("utf-16-be"), "else".encode("utf-16-be"))
    deep = {
        name: _pixels(*_SIZE, count, dtype="u2") * 250 for name, count in (("rgb", 3), ("rgba", 4))
    }
    return {f"deep-{name}.png": encode_deep(values, profile) for name, values in deep.items()}


def _by_tifffile() -> dict[str, bytes]:
    planar = {"planarconfig": "separate", "photometric": "rgb"}
    made: list[tuple[str, Any, dict[str, Any]]] = [
        ("planar.tif", _pixels(3, *_SIZE, dtype="u2"), planar),
        ("deep.tif", _pixels(*_SIZE, 3, dtype="u2"), {"photometric": "rgb", "rowsperstrip": 5}),
        ("tiles.tif", _pixels(32, 32, 3), {"tile": (16, 16), "photometric": "rgb"}),
        ("white.tif", _pixels(*_SIZE, dtype="u2"), {"photometric": "miniswhite"}),
        ("float.tif", _pixels(*_SIZE, 3, dtype="f4"), {"photometric": "rgb"}),
        ("signed.tif", _pixels(*_SIZE, dtype="i2"), {}),
        ("deflate.tif", _pixels(*_SIZE, 3), {"photometric": "rgb", "compression": "zlib"}),
        (
            "alpha.tif",
            _pixels(*_SIZE, 4, dtype="u2"),
            {"photometric": "rgb", "extrasamples": [2], "predictor": False},
        ),
        ("pages.tif", _pixels(3, *_SIZE), {"photometric": "minisblack"}),
    ]
    data = {}
    for name, pixels, options in made:
        for prefix, container in (
            ("", {}),
            ("big-", {"bigtiff": True}),
            ("mm-", {"byteorder": ">"}),
        ):
            buffer = io.BytesIO()
            with tifffile.TiffWriter(buffer, **container) as file:
                file.write(pixels, **options)
            data[prefix + name] = buffer.getvalue()
    return data


def _arrays() -> dict[str, bytes]:
    arrays = {
        "floats.npy": _pixels(dtype="f4") * 255,
        "bytes.npy": _pixels(),
        "batch.npy": _pixels(1, *_SIZE, 3, dtype="f8"),
        "halves.npy": _pixels(dtype="f2"),
        "whole.npy": _pixels(dtype="i8"),
        "grey.npy": _pixels(*_SIZE),
        "fortran.npy": np.asfortranarray(_pixels(dtype="f4")),
        "complex.npy": _pixels(dtype="f4") + 0j,
        "bools.npy": _pixels() > 9,
        "dates.npy": _pixels(dtype="i8").view("M8[s]"),
        "fields.npy": np.zeros(_SIZE, [("r", "f4"), ("g", "f4")]),
        "text.npy": np.full((*_SIZE, 3), "text"),
    }
    data = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        data[name] = buffer.getvalue()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=arrays["floats.npy"])
    return {**data, "zip.npy": buffer.getvalue()}


def make_picture(random: Random) -> Input:
    """Return a picture that is damaged or lies."""
    name = random.choice(list(samples()))
    data, suffix = samples()[name], Path(name).suffix
    draw = random.random()
    if draw < 0.55:
        change, data = _STRUCTURES.get(suffix, damage)(data, random)
    elif draw < 0.95:
        change, data = damage(data, random)
    else:
        other = random.choice([key for key in samples() if key.endswith(suffix)])
        change, data = splice(data, samples()[other], random)
    if random.random() < 0.05:  # a name that says something else
        suffix = random.choice((".jpg", ".png", ".npy", ".tif", ".heic", ".jfif", ""))
    return Input(f"{name} {change}", {random.choice(STEMS) + suffix: data})


def read_picture(path: Path) -> None:
    """Read a picture, and check what is accepted."""
    picture = read_image(path)
    pixels, alpha = picture.pixels, picture.alpha
    assert pixels.ndim == 3, pixels.shape
    assert pixels.shape[2] == 3, pixels.shape
    assert pixels.dtype in (np.uint8, np.float32), pixels.dtype
    assert np.isfinite(pixels).all()
    assert alpha is None or (alpha.shape == pixels.shape[:2] and alpha.dtype == np.uint8)


def _png(data: bytes, random: Random) -> tuple[str, bytes]:
    """Change a chunk, with the checksum that then fits."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    index = random.randrange(len(chunks))
    kind, body = chunks[index]
    change = random.choice(("header", "body", "body", "kind", "drop", "twice", "new", "length"))
    claimed: int | None = None
    if change == "header":
        kind, body = chunks[0]
        index, start = 0, random.choice((0, 4, 8, 9, 10, 11, 12))
        value = packed(random) if start >= 8 else struct.pack(">I", number(random) % 2**32)
        body = (body[:start] + value + body[start + len(value) :])[:13]
    elif change == "body":
        body = damage(body, random)[1]
    elif change == "kind":
        kind = random.choice((b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"acTL", b"fdAT", b"ABCD"))
    elif change == "length":
        claimed = number(random) % 2**32
    out = [_png_chunk(*chunk) for chunk in chunks]
    out[index] = _png_chunk(kind, body, claimed)
    if change == "drop":
        del out[index]
    elif change == "twice":
        out.insert(index, out[index])
    elif change == "new":
        out.insert(random.randrange(1, len(out)), _png_chunk(*_ancillary(random)))
    return f"{change} of {kind!r}", data[:8] + b"".join(out)


def _png_chunk(kind: bytes, body: bytes, claimed: int | None = None) -> bytes:
    length = len(body) if claimed is None else claimed
    return struct.pack(">I", length) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _ancillary(random: Random) -> tuple[bytes, bytes]:
    kind = random.choice(
        (b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"gAMA", b"cHRM", b"pHYs", b"tRNS", b"sRGB")
    )
    packed_zeros = b"name\0\0" + zlib.compress(bytes(random.choice((10, 10**6, 3 * 10**7))))
    short = random.randbytes(random.choice((0, 1, 3, 9)))
    exif = _tiff_tag(samples()["pages.tif"], random)[1]
    return kind, random.choice((packed_zeros, short, random.randbytes(300), exif))


def _jpeg(data: bytes, random: Random) -> tuple[str, bytes]:
    """Change a segment before the scan, with the length that then fits, or one that does not."""
    segments, place = [], 2
    while data[place] == 0xFF and data[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, place + 2)
        segments.append((data[place + 1], data[place + 4 : place + 2 + length]))
        place += 2 + length
    index = random.randrange(len(segments))
    marker, body = segments[index]
    change = random.choice(("body", "body", "length", "drop", "twice", "marker", "new"))
    claimed: int | None = None
    if change == "body":
        body = damage(body, random)[1][:65000]
    elif change == "length":
        claimed = number(random) % 2**16
    elif change == "marker":
        marker = random.randrange(0xC0, 0xFF)
    out = [_jpeg_segment(*segment) for segment in segments]
    out[index] = _jpeg_segment(marker, body, claimed)
    if change == "drop":
        del out[index]
    elif change == "twice":
        out.insert(index, out[index])
    elif change == "new":
        exif = b"Exif\0\0" + _tiff_tag(samples()["pages.tif"], random)[1]
        app = random.choice((exif, b"ICC_PROFILE\0" + random.randbytes(20), random.randbytes(9)))
        out.insert(random.randrange(len(out)), _jpeg_segment(random.randrange(0xE0, 0xF0), app))
    return f"{change} of {marker:x}", data[:2] + b"".join(out) + data[place:]


def _jpeg_segment(marker: int, body: bytes, claimed: int | None = None) -> bytes:
    length = len(body) + 2 if claimed is None else claimed
    return struct.pack(">BBH", 0xFF, marker, length) + body


def _tiff_tag(data: bytes, random: Random) -> tuple[str, bytes]:
    """Change an entry of the first directory: tag, type, count or value."""
    order = ">" if data[:2] == b"MM" else "<"
    is_big = data[2:4] in (b"\x2b\0", b"\0\x2b")
    offset, entry = (8, "HHQQ") if is_big else (4, "HHII")
    (start,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, offset)
    count = data[start] or data[start + (7 if is_big else 1)]
    first, size = start + (8 if is_big else 2), struct.calcsize("<" + entry)
    place = first + size * random.randrange(max(1, count))
    if place + size > len(data):
        return damage(data, random)
    fields = list(struct.unpack_from(order + entry, data, place))
    which = random.choice((0, 1, 2, 3, 3, 3))
    if which == 0:
        fields[0] = random.choice((254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 330,
                                   338, 339, 322, 324, 34675, 50706))  # fmt: skip
    elif which == 1:
        fields[1] = random.choice((*_TIFF_SIZES, 13, 99))
    else:
        fields[which] = number(random) % (2**64 if is_big else 2**32)
    out = bytearray(data)
    struct.pack_into(order + entry, out, place, *fields)
    return f"field {which} of tag {fields[0]}", bytes(out)


def _riff(data: bytes, random: Random) -> tuple[str, bytes]:
    """Change a chunk of a WebP: its name, its length, or what is in it."""
    places, place = [12], 12
    while place + 8 <= len(data):
        places.append(place)
        place += 8 + (struct.unpack_from("<I", data, place + 4)[0] + 1) // 2 * 2
    place = random.choice(places)
    (length,) = struct.unpack_from("<I", data, place + 4)
    change = random.choice(("name", "length", "body", "drop"))
    if change == "name":
        name = random.choice((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"EXIF", b"ICCP", b"ANMF"))
        return change, data[:place] + name + data[place + 4 :]
    if change == "length":
        value = struct.pack("<I", number(random) % 2**32)
        return change, data[: place + 4] + value + data[place + 8 :]
    end = place + 8 + length
    body = b"" if change == "drop" else damage(data[place + 8 : end], random)[1]
    start = place if change == "drop" else place + 8
    return change, data[:start] + body + data[end:]


def _box(data: bytes, random: Random) -> tuple[str, bytes]:
    """Change the size of a box of AVIF, or what follows its name."""
    names = [name for name in _BOXES.split() if name in data]
    name = random.choice(names)
    place = data.index(name)
    if random.random() < 0.3:
        size = struct.pack(">I", number(random) % 2**32)
        return f"size of {name!r}", data[: place - 4] + size + data[place:]
    start, value = place + 4 + random.randrange(24), packed(random)
    return f"body of {name!r}", data[:start] + value + data[start + len(value) :]


def _npy(data: bytes, random: Random) -> tuple[str, bytes]:
    """Write another header, of the length that it then has."""
    kind = random.choice(("<f4", "|O", "|V9", ">f8", "<U9", "<m8[s]", "|b1", "f99", "a" * 9999))
    shape = random.choice(
        ("(20, 24, 3)", "()", "(0, 9, 3)", "(-1, 9, 3)", "(2**40, 2**40, 3)", "[20, 24, 3]",
         "(9999999999999, 9, 3)", "(8, 8, 3, 1, 1)", "'text'", "None", "(True, 9, 3)",
         f"({'(' * 300}{')' * 300},)", "(1" + "0" * 5000 + ",)", "(9.5, 9, 3)")
    )  # fmt: skip
    fields = {"descr": repr(kind), "fortran_order": "False", "shape": shape}
    change = random.choice(("shape", "descr", "order", "missing", "syntax", "long", "plain"))
    if change == "order":
        fields["fortran_order"] = random.choice(("1", "None", "'yes'", "[]"))
    elif change == "missing":
        del fields[random.choice(list(fields))]
    if change != "descr":
        fields["descr"] = "'<f4'"
    text = "{" + ", ".join(f"'{key}': {value}" for key, value in fields.items()) + "}"
    if change == "syntax":
        text = random.choice(("[" * 5000, "{}", "", "\0", "{1: 2}", "[]", "-" * 3000 + "1", "é"))
    elif change == "long":
        text += " " * random.choice((10_000, 70_000))
    version = random.choice((1, 1, 2, 3, 4))
    header = text.encode("utf-8" if version == 3 else "latin-1") + b"\n"
    length = (
        struct.pack("<H", len(header) % 2**16) if version == 1 else struct.pack("<I", len(header))
    )
    return f"header {change} {shape[:20]}", b"\x93NUMPY" + bytes(
        [version, 0]
    ) + length + header + data[128:]


_STRUCTURES: Mapping[str, Callable[[bytes, Random], tuple[str, bytes]]] = {
    ".png": _png,
    ".jpg": _jpeg,
    ".tif": _tiff_tag,
    ".webp": _riff,
    ".avif": _box,
    ".npy": _npy,
}
