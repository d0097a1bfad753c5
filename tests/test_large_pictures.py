"""Pictures too large to be held whole: read by bands, at the size that they are used at."""

import json
import logging
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from large import lower_bounds
from numpy.typing import NDArray
from PIL import Image

import nstx
from nstx.engine.formats.tiff_layout import Layout
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.resizing import resize_alpha, resize_picture
from nstx.engine.preparation.inputs import style_fit, take_content
from nstx.engine.streaming import png, reduced, tiff
from nstx.engine.streaming.file_bytes import FileBytes
from nstx.engine.streaming.reduced import Fit, read_fitting
from nstx.models.errors import ImageError

SIZE = (17, 23)
FIT = Fit(size=lambda _: SIZE, resampling="lanczos", allowed=True)

Write = Callable[[Path, NDArray[Any]], Path]


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_bounds(monkeypatch)


def noise(channels: int, dtype: Any = np.uint8, size: tuple[int, int] = (61, 47)) -> NDArray[Any]:
    """Return a picture of noise on a gradient, (height, width, channels)."""
    rng = np.random.default_rng(channels)
    most = np.iinfo(dtype).max
    ramp = np.linspace(0, most, size[0])[:, None, None]
    values = 0.5 * ramp + 0.5 * rng.integers(0, most, (*size, channels))
    return values.astype(dtype)


def by_pillow(path: Path, values: NDArray[Any], mode: str = "", **options: Any) -> Path:
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def by_tifffile(path: Path, values: NDArray[Any], **options: Any) -> Path:
    colours = "minisblack" if values.shape[2] == 1 else "rgb"
    tifffile.imwrite(path, values, photometric=options.pop("photometric", colours), **options)
    return path


def deep_png(path: Path, values: NDArray[Any]) -> Path:
    nstx.write_image(path, values[..., :3].astype(np.float32) / np.float32(257), depth=16)
    return path


def whole(path: Path) -> Picture:
    """Return what reading a picture whole and resizing it makes."""
    picture = read_image(path)
    return Picture(resize_picture(picture, *SIZE), resize_alpha(picture, *SIZE))


OPAQUE: dict[str, tuple[str, NDArray[Any], Write]] = {
    "png": ("a.png", noise(3), by_pillow),
    "png grey": ("a.png", noise(1), by_pillow),
    "png palette": ("a.png", noise(3), partial(by_pillow, mode="P")),
    "png 1 bit": ("a.png", noise(1), partial(by_pillow, mode="1")),
    "png 4 bits": ("a.png", noise(1), partial(by_pillow, mode="P", bits=4)),
    "tiff lzw": ("a.tif", noise(3), partial(by_pillow, compression="tiff_lzw")),
    "tiff one strip": ("a.tif", noise(3), partial(by_tifffile, rowsperstrip=61)),
    "tiff strips": ("a.tif", noise(3), partial(by_tifffile, rowsperstrip=4)),
    "tiff one packed strip": (
        "a.tif", noise(3), partial(by_tifffile, rowsperstrip=61, compression="zlib")
    ),
    "tiff 1 bit": ("a.tif", noise(1), partial(by_pillow, mode="1", compression="tiff_adobe_deflate")),
    "tiff tiles": (
        "a.tif", noise(3), partial(by_tifffile, tile=(16, 16), compression="zlib", predictor=True)
    ),
    "tiff grey": ("a.tif", noise(1), by_tifffile),
    "tiff cmyk": ("a.tif", noise(4), partial(by_tifffile, photometric="separated")),
    "bigtiff": ("a.tif", noise(3), partial(by_tifffile, bigtiff=True)),
}  # fmt: skip

DEEP: dict[str, tuple[str, NDArray[Any], Write]] = {
    "png 16 bits": ("a.png", noise(3, np.uint16), deep_png),
    "tiff 16 bits": ("a.tif", noise(3, np.uint16), by_tifffile),
    "tiff one deep strip": (
        "a.tif",
        noise(3, np.uint16),
        partial(by_tifffile, rowsperstrip=61, compression="zlib"),
    ),
    "tiff float": (
        "a.tif",
        noise(3, np.uint16).astype(np.float32) / np.float32(65535),
        by_tifffile,
    ),
    "tiff planes": (
        "a.tif",
        noise(3, np.uint16),
        lambda path, values: by_tifffile(path, values.transpose(2, 0, 1), planarconfig="separate"),
    ),
}


@pytest.mark.parametrize("kind", OPAQUE)
def test_a_large_picture_has_the_pixels_of_one_that_is_read_whole(
    kind: str, tmp_path: Path
) -> None:
    name, values, write = OPAQUE[kind]
    path = write(tmp_path / name, values)
    picture, expected = read_fitting(path, FIT), whole(path)
    assert picture.alpha is None
    assert picture.pixels.dtype == np.uint8
    np.testing.assert_array_equal(picture.pixels, expected.pixels)
    assert picture.file_sha256 == read_image(path).file_sha256


@pytest.mark.parametrize("kind", DEEP)
def test_a_large_picture_of_more_bits_keeps_them(kind: str, tmp_path: Path) -> None:
    name, values, write = DEEP[kind]
    path = write(tmp_path / name, values)
    picture, expected = read_fitting(path, FIT), whole(path)
    assert picture.encoding.depth == 16
    np.testing.assert_allclose(picture.pixels, expected.pixels, atol=1e-3)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_large_transparent_picture_is_that_which_is_read_whole_but_around_edges(
    name: str, tmp_path: Path
) -> None:
    values = noise(4)
    values[..., 3] = 255
    values[:30, :20, 3] = 0
    path = by_pillow(tmp_path / name, values)
    picture, expected = read_fitting(path, FIT), whole(path)
    assert picture.alpha is not None
    assert expected.alpha is not None
    assert np.abs(picture.alpha.astype(int) - expected.alpha).max() <= 1
    inside = expected.alpha == 255
    inside[:11, :12] = False  # within reach of a filter from what is clear
    assert inside.mean() > 0.5
    np.testing.assert_array_equal(picture.pixels[inside], expected.pixels[inside])
    seen = expected.alpha > 0
    assert np.abs(picture.pixels[seen] - expected.pixels[seen]).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_large_picture_is_turned_as_it_says(name: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = by_pillow(tmp_path / name, noise(3), exif=exif)
    picture, expected = read_fitting(path, FIT), whole(path)
    assert picture.size == SIZE
    assert np.abs(picture.pixels.astype(int) - expected.pixels).max() <= 1


def test_a_large_jpeg_is_reduced_while_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduced, "MOST_PIXELS", 20_000)
    smooth = np.asarray(Image.fromarray(noise(3, size=(8, 6))).resize((470, 610)))
    path = by_pillow(tmp_path / "a.jpg", smooth, quality=95)
    picture = read_fitting(path, Fit(size=lambda _: (61, 47), resampling="lanczos", allowed=True))
    expected = resize_picture(read_image(path), 61, 47)
    assert np.abs(picture.pixels - expected).mean() < 2


def test_a_large_jpeg_that_is_reduced_below_its_use_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = by_pillow(tmp_path / "a.jpg", noise(3))
    assert read_fitting(path, FIT).size == SIZE
    assert not caplog.messages
    large = Fit(size=lambda _: (61, 47), resampling="lanczos", allowed=True)
    assert read_fitting(path, large).size == (61, 47)
    (message,) = caplog.messages
    assert "of 47×61 pixels, its decoder gives 24×31, less than it is used at" in message


def test_a_size_allows_large_pictures_and_is_that_of_the_result(tmp_path: Path) -> None:
    path = by_pillow(tmp_path / "a.png", noise(3))
    default = nstx.choose_settings()
    with pytest.raises(ImageError, match=r"got 47×61; try --size, or --large"):
        take_content(path, default)
    with pytest.raises(ImageError, match="--size, or --large"):
        read_fitting(path, style_fit((40, 30), default))
    assert take_content(path, nstx.choose_settings(size=31)).size == (31, 24)
    assert take_content(path, nstx.choose_settings(width=20, height=30)).size == (30, 20)
    assert take_content(path, nstx.choose_settings(large=True)).size == (512, 394)
    half = nstx.choose_settings(size=60, style_scale=0.5)
    assert read_fitting(path, style_fit((60, 50), half)).size == (30, 23)


def test_a_picture_that_is_not_large_is_read_whole(tmp_path: Path) -> None:
    path = by_pillow(tmp_path / "a.png", noise(3, size=(30, 30)))
    np.testing.assert_array_equal(read_fitting(path, FIT).pixels, read_image(path).pixels)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, rows: bytes, *more: bytes, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlace)
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows, 9))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


HOSTILE_PNGS = {
    "a bomb": png_of(2**20, 2**20, bytes(1000)),
    "short": png_of(40, 40, bytes(41 * 30)),
    "a filter that there is none of": png_of(40, 40, b"\x09" + bytes(41 * 40 - 1)),
    "wide": png_of(2**31 - 1, 1, bytes(100)),
    "high": png_of(1, 2**31 - 1, bytes(100)),
    "interlaced": png_of(40, 40, bytes(41 * 40), interlace=1),
    "two headers": png_of(40, 40, bytes(41 * 40), chunk(b"IHDR", bytes(13))),
    "no pixels": b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, 8, 0, 0, 0, 0))
    + chunk(b"IEND", b""),
    "truncated": png_of(40, 40, bytes(41 * 40))[:-20],
    "a checksum": png_of(40, 40, np.arange(41 * 40, dtype=np.uint8).tobytes()).replace(
        b"IEND", b"IENX"
    ),
}


@pytest.mark.parametrize("kind", HOSTILE_PNGS)
def test_a_hostile_large_png_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(HOSTILE_PNGS[kind])
    with pytest.raises(ImageError, match=r"^expected "):
        read_fitting(path, FIT)


def test_a_row_of_a_png_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_of(40, 40, bytes(41 * 40)))
    monkeypatch.setattr(png, "_MOST_OF_A_ROW", 39)
    with pytest.raises(ImageError, match="expected rows of at most"):
        read_fitting(path, FIT)


@pytest.mark.parametrize(("kind", "most"), [("L", 640 // 3), ("I;16", 640 // 12)])
def test_rows_of_a_picture_far_higher_than_wide_are_bounded_by_their_bytes(
    kind: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new(kind, (8, 250)).save(path)
    monkeypatch.setattr(reduced, "MAX_SIDE", 40)
    monkeypatch.setattr(reduced, "_MOST_NARROW", 8 * 640)
    with pytest.raises(ImageError, match=f"at most {most} rows for a width of 8 in .*, got 250"):
        read_fitting(path, replace(FIT, size=lambda _: (8, 8)))


def test_pixels_whose_checksum_is_another_are_refused(tmp_path: Path) -> None:
    data = bytearray(by_pillow(tmp_path / "a.png", noise(3)).read_bytes())
    data[data.index(b"IEND") - 7] ^= 1  # of the checksum of the last pixels
    path = tmp_path / "b.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="checksum"):
        read_fitting(path, FIT)


def _with_tag(data: bytes, code: int, value: int) -> bytes:
    """Return a TIFF of little-endian numbers whose tag has another value."""
    changed = bytearray(data)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == code:
            struct.pack_into("<HII", changed, entry + 2, 4, 1, value)
    return bytes(changed)


TIFF_TAGS = {
    "wide": (256, 2**30),
    "high": (257, 2**30),
    "strips of no rows": (278, 0),
    "strips elsewhere": (273, 2**31),
    "more samples": (277, 60000),
    "no bits": (258, 0),
    "an odd compression": (259, 34712),
}


@pytest.mark.parametrize("kind", TIFF_TAGS)
def test_a_hostile_large_tiff_is_refused(kind: str, tmp_path: Path) -> None:
    path = by_tifffile(tmp_path / "a.tif", noise(3), rowsperstrip=61)
    path.write_bytes(_with_tag(path.read_bytes(), *TIFF_TAGS[kind]))
    with pytest.raises(ImageError, match=r"^expected "):
        read_fitting(path, FIT)


def test_a_strip_is_read_as_far_as_its_pixels_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    class Noted(FileBytes):
        def __getitem__(self, span: slice, /) -> bytes:
            read.append(len(data := super().__getitem__(span)))
            return data

    path = by_tifffile(tmp_path / "a.tif", noise(3), rowsperstrip=61, compression="zlib")
    expected = read_fitting(path, FIT)
    path.write_bytes(_with_tag(path.read_bytes(), 279, 2**24))
    with path.open("r+b") as file:
        file.truncate(2**25)
    monkeypatch.setattr(tiff, "FileBytes", Noted)
    np.testing.assert_array_equal(read_fitting(path, FIT).pixels, expected.pixels)
    assert max(read) < 2**17


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"block": (2**17, 2**10), "tiled": True, "width": 2**10}, "at most 4294967296 pixels"),
        ({"samples": 2**9, "block": (47, 100), "height": 2**18}, "GiB of samples in 10000 bytes"),
        ({"bits": 1, "compression": 8, "block": (2**15, 2**15), "width": 2**15}, "256 MiB a row"),
    ],
)
def test_a_tiff_of_more_than_its_pixels_is_refused(layout: dict[str, Any], message: str) -> None:
    plain = Layout(
        width=47, height=2**22, samples=1, planes=1, bits=8, sample_format=1, photometric=1, compression=8, predictor=1,
        fill_order=1, extra=(), block=(47, 1), tiled=False, offsets=(), counts=(), order="<",
    )  # fmt: skip
    length = 10_000 if "samples" in layout else 2**30
    with pytest.raises(ImageError, match=message):
        tiff._check_layout(replace(plain, **layout), length, Path("a.tif"), 2**32)


def test_a_tiff_whose_pages_go_round_is_read_or_refused(tmp_path: Path) -> None:
    path = by_tifffile(tmp_path / "a.tif", noise(3))
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)  # the next page is the first
    path.write_bytes(data)
    assert read_fitting(path, FIT).size == SIZE


def test_truncated_pixels_of_a_tiff_are_refused(tmp_path: Path) -> None:
    path = by_pillow(tmp_path / "a.tif", noise(3), compression="tiff_deflate")
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes(len(data) - 200))
    with pytest.raises(ImageError, match=r"^expected "):
        read_fitting(path, FIT)


def test_a_message_of_all_bands_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = by_pillow(tmp_path / "a.png", noise(3), icc_profile=b"no profile" * 20)
    with caplog.at_level(logging.WARNING):
        read_fitting(path, FIT)
    assert len([line for line in caplog.messages if "profile" in line]) == 1


def test_bytes_of_a_file_end_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        data = FileBytes(file)
        assert len(data) == 10
        assert (data[2:4], data[8:20], data[12:14]) == (b"23", b"89", b"")


def test_large_pictures_are_computed_ahead_as_runs_read_them(
    nstx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    content = by_pillow(tmp_path / "content.png", noise(3))
    style = by_pillow(tmp_path / "style.tif", noise(3, size=(90, 70)))
    layers = ["--content-layers", "conv1_2", "--style-layers", "conv1_1", "--size", 32]
    named = ["--content", content, "--style", style]
    assert nstx("precompute", *named, *layers)[0] == 0
    run = ["optimize", content, style, "-o", tmp_path / "out.png", "--steps", 1, "--json"]
    code, out, err = nstx(*run, *layers)
    assert code == 0, err
    assert json.loads(out)["targets"] == {"content": "hit", "style": ["hit"]}
    assert nstx("precompute", *named, *layers, "-o", tmp_path / "t.safetensors")[0] == 0
    code, _, err = nstx("precompute", *named, *layers[:4])
    assert code == 3
    assert "try --size, or --large" in err
