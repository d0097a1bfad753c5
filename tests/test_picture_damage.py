"""Pictures whose pixels are whole are read, whatever else is wrong with the file; others are not."""

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from nstx.engine.pictures import decoding
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.models.errors import ImageError

SEED = np.random.default_rng(0)
PIXELS = np.kron(SEED.integers(0, 256, (5, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
IMAGE = Image.fromarray(PIXELS)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(tmp_path: Path, data: bytes) -> Picture:
    path = tmp_path / "picture"
    path.write_bytes(data)
    return read_image(path)


def chunk(name: bytes, body: bytes, *, damaged: bool = False) -> bytes:
    check = zlib.crc32(name + body) ^ damaged
    return struct.pack(">I4s", len(body), name) + body + struct.pack(">I", check)


def png(extra: bytes, data: bytes = encode(IMAGE, "PNG")) -> bytes:
    """Return a PNG with more chunks behind its header."""
    return data[:33] + extra + data[33:]


def exif(*entries: bytes, orientation: int = 6) -> bytes:
    turned = struct.pack("<HHII", 0x0112, 3, 1, orientation)
    body = struct.pack("<H", 1 + len(entries)) + turned + b"".join(entries)
    return b"II*\0\x08\0\0\0" + body + bytes(4) + b"\xff\xff\xff\xff" * 4


# Entries that Pillow reads and cannot write, or cannot read.
NEGATIVE_RATIONAL = struct.pack("<HHII", 0x011A, 10, 1, 38)
ONE_BYTE = struct.pack("<HHII", 0x011B, 1, 1, 7)
PAST_THE_END = struct.pack("<HHII", 0x010F, 2, 99999, 99999)
UNKNOWN_TYPE = struct.pack("<HHII", 0x010F, 99, 1, 1)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(extra: bytes, **options: Any) -> bytes:
    data = encode(IMAGE, "JPEG", quality=95, **options)
    return data[:2] + extra + data[2:]


def webp(*parts: bytes) -> bytes:
    data = encode(IMAGE, "WEBP", lossless=True)
    header = struct.pack("<4sIIHBHB", b"VP8X", 10, 0x08, 47, 0, 39, 0)
    body = b"WEBP" + header + data[12:] + b"".join(parts)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def riff(name: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", name, len(body)) + body + bytes(len(body) % 2)


LARGE_TEXT = zlib.compress(bytes(2**21))

WHOLE_PNGS = {
    "text crc": png(chunk(b"tEXt", b"a\0b", damaged=True)),
    "profile crc": png(chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x"), damaged=True)),
    "short cHRM": png(chunk(b"cHRM", bytes(7))),
    "short gAMA": png(chunk(b"gAMA", b"\0")),
    "short pHYs": png(chunk(b"pHYs", b"\0")),
    "short tRNS": png(chunk(b"tRNS", b"\0")),
    "large text": png(chunk(b"zTXt", b"a\0\0" + LARGE_TEXT)),
    "large iTXt": png(chunk(b"iTXt", b"a\0\1\0\0\0" + LARGE_TEXT)),
    "large profile": png(chunk(b"iCCP", b"p\0\0" + LARGE_TEXT)),
    "palette that is a proposal": png(chunk(b"PLTE", bytes(6), damaged=True)),
    "bad eXIf": png(chunk(b"eXIf", b"garbage")),
}


@pytest.mark.parametrize("data", WHOLE_PNGS.values(), ids=WHOLE_PNGS.keys())
def test_a_png_with_damaged_or_large_chunks_is_read_with_a_warning(
    tmp_path: Path, data: bytes, logged_warnings: list[str]
) -> None:
    picture = read(tmp_path, data)
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.alpha is None
    assert 1 <= len(logged_warnings) <= 2  # a profile that is none is told of apart


def test_a_profile_over_pillows_bound_is_applied(tmp_path: Path) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    swapped = bytes(profile).replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ")
    swapped = swapped.replace(b"????", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    large = swapped + bytes(2**21)
    red = encode(Image.new("RGB", (16, 16), (255, 0, 0)), "PNG")
    picture = read(tmp_path, png(chunk(b"iCCP", b"p\0\0" + zlib.compress(large)), red))
    np.testing.assert_allclose(picture.pixels[0, 0], (0, 255, 0), atol=3)


@pytest.mark.parametrize("entry", [NEGATIVE_RATIONAL, ONE_BYTE, PAST_THE_END, UNKNOWN_TYPE])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_odd_exif_keeps_its_orientation(tmp_path: Path, kind: str, entry: bytes) -> None:
    block = exif(entry)
    data = {
        "png": png(chunk(b"eXIf", block)),
        "jpeg": jpeg(segment(0xE1, b"Exif\0\0" + block)),
        "webp": webp(riff(b"EXIF", block)),
    }[kind]
    expected = read(tmp_path, jpeg(b"")).pixels if kind == "jpeg" else PIXELS
    np.testing.assert_array_equal(read(tmp_path, data).pixels, np.rot90(expected, 3))


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_exif_longer_than_any_camera_writes_is_not_decoded(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = 2**20 // 4
    block = exif()[:8] + struct.pack("<HHHII", 1, 0x0112, 4, numbers, 26) + bytes(4 * numbers + 4)
    data = {"png": png(chunk(b"eXIf", block)), "webp": webp(riff(b"EXIF", block))}[kind]
    np.testing.assert_array_equal(read(tmp_path, data).pixels, PIXELS)
    assert "its EXIF data cannot be read; taken as upright" in caplog.text


WHOLE_JPEGS = {
    "short JFIF": segment(0xE0, b"JFIF"),
    "short Adobe": segment(0xEE, b"Adobe"),
    "short profile": segment(0xE2, b"ICC_PROFILE\0"),
    "bad MPF": segment(0xE2, b"MPF\0" + bytes(9)),
    "bad Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\x04"),
    "EXIF that is none": segment(0xE1, b"Exif\0\0garbage"),
    "comment": segment(0xFE, b""),
}


@pytest.mark.parametrize("extra", WHOLE_JPEGS.values(), ids=WHOLE_JPEGS.keys())
def test_a_jpeg_with_damaged_segments_is_read(tmp_path: Path, extra: bytes) -> None:
    expected = read(tmp_path, jpeg(b"")).pixels
    np.testing.assert_array_equal(read(tmp_path, jpeg(extra)).pixels, expected)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_is_read_with_a_warning(
    tmp_path: Path, progressive: bool, logged_warnings: list[str]
) -> None:
    data = jpeg(segment(0xE1, b"Exif\0\0" + exif()), progressive=progressive)
    expected = read(tmp_path, data).pixels
    for end in (2, 1):
        np.testing.assert_array_equal(read(tmp_path, data[:-end]).pixels, expected)
    assert [line.count("end marker is missing") for line in logged_warnings] == [1, 1]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_refused(tmp_path: Path, progressive: bool) -> None:
    noise = Image.fromarray(SEED.integers(0, 256, (40, 48, 3), np.uint8))
    data = encode(noise, "JPEG", progressive=progressive)
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    # Before the last scan, in its midst, and some bytes before the end.
    for cut in {scans[-1], (scans[-1] + len(data)) // 2, *range(len(data) - 40, len(data) - 3)}:
        with pytest.raises(ImageError, match="damaged JPEG"):
            read(tmp_path, data[:cut])


def test_webp_is_read_without_what_is_behind_its_pixels(tmp_path: Path) -> None:
    data = webp(riff(b"EXIF", exif()), riff(b"XMP ", bytes(50)))
    np.testing.assert_array_equal(read(tmp_path, data[:-40]).pixels, np.rot90(PIXELS, 3))


def test_damaged_pixels_of_a_png_are_refused(tmp_path: Path) -> None:
    data = bytearray(encode(IMAGE, "PNG"))
    at = data.index(b"IDAT")
    whole = bytes(data)
    data[at + 60] ^= 4
    with pytest.raises(ImageError, match="damaged PNG"):
        read(tmp_path, bytes(data))
    length = int.from_bytes(whole[at - 4 : at])
    wrong_check = whole[: at + 4 + length] + bytes(4) + whole[at + 8 + length :]
    np.testing.assert_array_equal(read(tmp_path, wrong_check).pixels, PIXELS)
    with pytest.raises(ImageError, match="damaged PNG"):
        read(tmp_path, whole[: at + length // 2])


def raw_png(samples: NDArray[Any], colour: int, depth: int, *extra: bytes) -> bytes:
    """Return a PNG of samples (height, width, channels) below 2**depth."""
    height, width = samples.shape[:2]
    if depth == 16:
        rows = samples.reshape(height, -1).astype(">u2").view(np.uint8)
    else:
        bits = samples.reshape(height, -1, 1) >> np.arange(depth - 1, -1, -1) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(lines))
    return SIGNATURE + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_grey_pngs_clear_shade_is_that_of_its_own_depth(tmp_path: Path, depth: int) -> None:
    most = 2**depth - 1
    grey = np.arange(16 * 16).reshape(16, 16, 1) * 257 % (most + 1)
    clear = int(grey[3, 1, 0])
    data = raw_png(grey, 0, depth, chunk(b"tRNS", struct.pack(">H", clear)))
    picture = read(tmp_path, data)
    np.testing.assert_array_equal(picture.alpha, np.where(grey[..., 0] == clear, 0, 255))
    np.testing.assert_array_equal(picture.pixels, np.repeat(np.rint(grey * (255 / most)), 3, 2))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_colour_pngs_clear_colour_is_that_of_its_own_depth(tmp_path: Path, depth: int) -> None:
    colours = SEED.integers(0, 2**depth, (16, 16, 3))
    colours[1, 2] = colours[0, 0] ^ 1  # differs in the last bit, which 8 bits do not have
    data = raw_png(colours, 2, depth, chunk(b"tRNS", struct.pack(">HHH", *colours[0, 0])))
    picture = read(tmp_path, data)
    expected = np.full((16, 16), 255)
    expected[0, 0] = 0
    np.testing.assert_array_equal(picture.alpha, expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palettes_alpha_is_kept(tmp_path: Path, depth: int) -> None:
    indices = np.arange(256).reshape(16, 16, 1) % 2
    palette = chunk(b"PLTE", bytes((10, 20, 30, 40, 50, 60)))
    picture = read(tmp_path, raw_png(indices, 3, depth, palette, chunk(b"tRNS", b"\0\xff")))
    np.testing.assert_array_equal(picture.alpha, indices[..., 0] * 255)
    assert tuple(picture.pixels[0, 1]) == (40, 50, 60)


def test_transparency_of_more_colours_than_there_are_is_left_out(tmp_path: Path) -> None:
    palette = chunk(b"PLTE", bytes((10, 20, 30)))
    data = raw_png(np.zeros((16, 16, 1), int), 3, 8, palette, chunk(b"tRNS", bytes(300)))
    picture = read(tmp_path, data)
    assert picture.alpha is None
    assert (picture.pixels == (10, 20, 30)).all()


@pytest.mark.parametrize("clear", [b"", chunk(b"tRNS", b"\0")])
@pytest.mark.parametrize("palette", [b"", chunk(b"PLTE", bytes(6), damaged=True)])
def test_a_palette_that_is_missing_is_damage(tmp_path: Path, palette: bytes, clear: bytes) -> None:
    with pytest.raises(ImageError, match="damaged PNG"):
        read(tmp_path, raw_png(np.zeros((16, 16, 1), int), 3, 8, palette, clear))


def test_16_bit_grey_with_alpha(tmp_path: Path) -> None:
    samples = np.full((16, 16, 2), 0x8080)
    samples[:, 8:] = 0xFFFF
    picture = read(tmp_path, raw_png(samples, 4, 16))
    assert picture.alpha is not None
    assert (picture.alpha[0, 0], picture.alpha[0, -1]) == (128, 255)


def test_heic_is_read_upright_where_its_library_is(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = io.BytesIO()
    heif.from_pillow(IMAGE).save(buffer, quality=95, exif=turned.tobytes())
    picture = read(tmp_path, buffer.getvalue())
    with Image.open(io.BytesIO(encode(IMAGE, "PNG")), formats=["PNG"]):
        assert "HEIF" not in Image.OPEN  # nothing is registered
    assert picture.size in {(40, 48), (48, 40)}
    upright = PIXELS if picture.size == (40, 48) else np.rot90(PIXELS, 3)
    assert np.abs(picture.pixels.astype(float) - upright).mean() < 15


def test_heic_without_its_library_is_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC.*pip install 'nstx\[heic\]'"):
        read(tmp_path, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))


def test_a_huge_jpeg_is_reduced_while_it_is_decoded(
    tmp_path: Path, logged_warnings: list[str]
) -> None:
    path = tmp_path / "p.jpg"
    path.write_bytes(jpeg(b""))
    image = decoding.decode_image(path.read_bytes(), "JPEG", path, 40 * 48 // 2)
    assert isinstance(image, Image.Image)
    assert image.size == (24, 20)
    assert "read at 24×20" in logged_warnings[0]
    with pytest.raises(ImageError, match="at most"):
        decoding.decode_image(path.read_bytes(), "JPEG", path, 40 * 48 // 5)


def test_a_small_file_cannot_say_that_it_is_huge(tmp_path: Path) -> None:
    data = raw_png(np.zeros((8, 8, 1), int), 0, 1)
    header = struct.pack(">IIBBBBB", 8000, 8000, 1, 0, 0, 0, 0)
    with pytest.raises(ImageError, match="8000×8000"):
        read(tmp_path, data[:8] + chunk(b"IHDR", header) + data[33:])


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


NUMBERS = np.linspace(0, 1, 12 * 20 * 3).reshape(12, 20, 3)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8"])
def test_npy_on_the_scale_0_to_1_is_recognised(
    tmp_path: Path, dtype: str, logged_warnings: list[str]
) -> None:
    picture = read(tmp_path, npy((NUMBERS * 1.3 - 0.2).astype(dtype)[None]))
    np.testing.assert_allclose(picture.pixels, (NUMBERS * 1.3 - 0.2) * 255, atol=0.2)
    assert [line.count("0–1, not 0–255") for line in logged_warnings] == [1]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "u1", "i2", ">i4", "u2", "i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_on_the_scale_0_to_255_is_kept(
    tmp_path: Path, dtype: str, order: Any, logged_warnings: list[str]
) -> None:
    array = np.asarray(np.rint(NUMBERS * 255), dtype=dtype, order=order)
    np.testing.assert_array_equal(read(tmp_path, npy(array)).pixels, np.rint(NUMBERS * 255))
    assert not logged_warnings


@pytest.mark.parametrize(
    "array",
    [
        NUMBERS * 1.9,  # beyond 0–1, and black on 0–255
        (NUMBERS - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        NUMBERS * 2 - 1,
        np.rint(NUMBERS).astype("u1"),
        NUMBERS * 255 - [123.68, 116.779, 103.939],
    ],
    ids=["over 1", "normalised", "signed", "of ones", "mean subtracted"],
)
def test_npy_on_a_scale_that_cannot_be_told_is_refused(tmp_path: Path, array: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match="expected pixels on the scale 0–255"):
        read(tmp_path, npy(array))


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_npy_of_16_bits_is_scaled_and_black_is_black(
    tmp_path: Path, dtype: str, logged_warnings: list[str]
) -> None:
    picture = read(tmp_path, npy((NUMBERS * 65535).astype(dtype)))
    np.testing.assert_allclose(picture.pixels, NUMBERS * 255, atol=0.01)
    assert len(logged_warnings) == 1
    assert read(tmp_path, npy(np.zeros((12, 20, 3), np.float32))).pixels.max() == 0
    assert len(logged_warnings) == 1


def test_nstx_own_npy_is_never_rescaled(tmp_path: Path) -> None:
    (tmp_path / "dark.npy").write_bytes(npy(NUMBERS))
    dark = read_image(tmp_path / "dark.npy", trusted=True)
    np.testing.assert_allclose(dark.pixels, NUMBERS, atol=1e-6)


def npy_header(text: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(NUMBERS * 2 - 1), "scale 0–255"),
        (npy(NUMBERS * 1e300), "scale 0–255"),
        (npy(NUMBERS * 65535), "scale 0–255"),
        (npy(NUMBERS > 0.5), "8 to 64 bits"),
        (npy(NUMBERS.astype(complex)), "8 to 64 bits"),
        (npy(np.zeros((12, 20, 3), [("r", "f4")])), "8 to 64 bits"),
        (npy(np.zeros((12, 0, 3))), "empty"),
        (npy(NUMBERS)[:-1], "whole array"),
        (npy_header("{'descr':'<f4','fortran_order':False,'shape':(10**12,4,3)}"), "header"),
        (npy_header("{'descr':'<f4','fortran_order':False,'shape':(999999999999,4,3)}"), "whole"),
        (
            npy_header("{'descr':'<f4','fortran_order':False,'shape':(True,4,3)}", bytes(48)),
            "3 axes",
        ),
        (npy_header("{'descr':'<f4','fortran_order':False,'shape':(-1,4,3)}"), "height, width, 3"),
        (npy_header("{'descr':'|O','fortran_order':False,'shape':(9,9,3)}", b"cos\n"), "8 to 64"),
        (npy_header("(" * 9000), "header"),
        (npy_header("'\\d'"), "header"),
        (b"\x93NUMPY\3\0" + bytes(90), "header"),
        (b"\x93NUMPY", "header"),
    ],
)
def test_npy_that_says_what_cannot_be_is_refused_in_a_line(
    tmp_path: Path, data: bytes, message: str
) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read(tmp_path, data)
    assert str(caught.value).isprintable()
