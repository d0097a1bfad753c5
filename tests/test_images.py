"""Reading pictures of every kind, and refusing what is none."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.resizing import resize_picture, resize_pixels
from nstx.engine.targets.precompute import find_pictures
from nstx.models.errors import ImageError


def solid(mode: str, colour: float | tuple[float, ...]) -> Image.Image:
    return Image.new(mode, (20, 12), colour)


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("RGB", (10, 20, 30), ".png", (10, 20, 30)),
        ("L", 77, ".png", (77, 77, 77)),
        ("1", 1, ".png", (255, 255, 255)),
        ("LA", (50, 255), ".png", (50, 50, 50)),
        ("RGBA", (10, 20, 30, 255), ".png", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), ".png", (10, 20, 30)),
        ("RGB", (10, 20, 30), ".tif", (10, 20, 30)),
        ("CMYK", (0, 255, 255, 0), ".jpg", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), ".tif", (255, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path,
    mode: str,
    colour: float | tuple[float, ...],
    suffix: str,
    expected: tuple[int, int, int],
) -> None:
    path = tmp_path / f"picture{suffix}"
    solid(mode, colour).save(path)
    picture = read_image(path)
    assert picture.pixels.shape == (12, 20, 3)
    assert picture.pixels.dtype == np.uint8
    np.testing.assert_allclose(picture.pixels.mean(axis=(0, 1)), expected, atol=3)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_lossy_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    solid("RGB", (200, 100, 50)).save(path, quality=95)
    np.testing.assert_allclose(read_image(path).pixels.mean(axis=(0, 1)), (200, 100, 50), atol=4)


def test_palette_with_transparency_keeps_its_alpha(tmp_path: Path) -> None:
    image = solid("RGBA", (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 12))
    image.quantize(4).save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as saved:
        assert saved.mode == "P"
    picture = read_image(tmp_path / "p.png")
    assert picture.alpha is not None
    assert (picture.alpha[:, 0].max(), picture.alpha[:, -1].min()) == (0, 255)
    assert tuple(picture.pixels[0, -1]) == (255, 0, 0)


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.full((12, 20), 32896, np.uint16)
    Image.fromarray(values).save(tmp_path / "g.png")
    assert read_image(tmp_path / "g.png").pixels.max() == 128


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = solid("RGB", (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 5, 12))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    picture = read_image(tmp_path / "turned.png")
    assert (picture.height, picture.width) == (20, 12)
    assert picture.pixels[0].min() == 255
    assert picture.pixels[-1].max() == 0


def swapped_profile() -> bytes:
    """Return an sRGB profile whose red and green primaries are exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack(">I", data[128:132])
    for index in range(count):
        at = 132 + 12 * index
        exchange = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
        data[at : at + 4] = exchange.get(bytes(data[at : at + 4]), bytes(data[at : at + 4]))
    return bytes(data).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


def test_icc_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    solid("RGB", (255, 0, 0)).save(tmp_path / "p.png", icc_profile=swapped_profile())
    np.testing.assert_allclose(read_image(tmp_path / "p.png").pixels[0, 0], (0, 255, 0), atol=3)


def test_srgb_profile_leaves_pixels_alone(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (12, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").pixels, pixels)


def test_broken_profile_is_told_and_ignored(tmp_path: Path, logged_warnings: list[str]) -> None:
    solid("RGB", (9, 8, 7)).save(tmp_path / "p.png", icc_profile=b"no profile at all")
    assert tuple(read_image(tmp_path / "p.png").pixels[0, 0]) == (9, 8, 7)
    assert ["colour profile" in line for line in logged_warnings] == [True]


def test_npy_keeps_values_outside_the_range(tmp_path: Path) -> None:
    pixels = np.linspace(-20, 300, 12 * 20 * 3).reshape(1, 12, 20, 3)
    np.save(tmp_path / "p.npy", pixels)
    picture = read_image(tmp_path / "p.npy")
    assert picture.pixels.dtype == np.float32
    np.testing.assert_allclose(picture.pixels, pixels[0], rtol=1e-6)


def bomb() -> bytes:
    """Return a small PNG that says it is 30000×30000."""
    buffer = io.BytesIO()
    solid("RGB", (0, 0, 0)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", 30000, 30000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def truncated_jpeg() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()[:1500]


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.png", b"", "empty file"),
        ("text.png", b"this is no picture", "something else"),
        ("cut.jpg", truncated_jpeg(), "damaged"),
        ("bomb.png", bomb(), "at most"),
        ("flat.npy", npy(np.zeros((12, 20))), "height, width, 3"),
        ("nan.npy", npy(np.full((12, 20, 3), np.nan)), "finite"),
        ("text.npy", b"text", "something else"),
        ("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        ("archive.npy", b"PK\x03\x04" + bytes(99), "zip archive"),
        ("page.jpg", b"<!DOCTYPE html><html>", "a web page"),
        ("drawing.png", b"<?xml version='1.0'?><svg/>", "SVG"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        ("photo.cr2", b"II*\0\x10\0\0\0CR\2\0", "raw file"),
        ("objects.npy", npy(np.array(["a"] * 12)), "height, width, 3"),
    ],
)
def test_what_is_no_picture_is_refused(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message):
        read_image(path)


@pytest.mark.parametrize("size", [(1, 1), (3, 10000), (10000, 3)])
def test_pictures_with_nothing_to_see_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "p.png")
    with pytest.raises(ImageError, match="at least 8×8"):
        read_image(tmp_path / "p.png")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="a folder"):
        read_image(tmp_path)


def test_a_folders_pictures_are_all_that_can_be_read(tmp_path: Path) -> None:
    Image.init()
    formats = {"JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "MPO"}
    suffixes = {suffix for suffix, name in Image.EXTENSION.items() if name in formats} - {".pfm"}
    right = {"a" + suffix for suffix in suffixes} | {"b.JPG", "c.HEIC", "d.npy", "e.pjpeg"}
    for name in {*right, ".h.png", "i.txt", "j.pfm", "k.eps", "png"}:
        (tmp_path / name).write_bytes(b"-")
    (tmp_path / "folder.png").mkdir()
    assert {path.name for path in find_pictures([tmp_path])} == right


@pytest.mark.parametrize("start", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6", b"\x04%!PS"])
def test_postscript_starts_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen.__init__", started)
    path = tmp_path / "photo.jpg"
    path.write_bytes(start + b"%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="PostScript"):
        read_image(path)


def test_resizing_keeps_the_mean_and_the_same_size_keeps_everything(
    save_picture: Callable[..., Path],
) -> None:
    picture = read_image(save_picture("p.png", 60, 80))
    np.testing.assert_array_equal(resize_picture(picture, 60, 80), picture.pixels)
    half = resize_picture(picture, 30, 40)
    assert half.shape == (30, 40, 3)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half.mean(), picture.pixels.mean(), rtol=0.01)


def test_float_pixels_are_resized_without_rounding_or_clipping() -> None:
    pixels = np.full((20, 20, 3), 300.25, np.float32)
    np.testing.assert_allclose(resize_pixels(pixels, 31, 17), 300.25, rtol=1e-6)


def test_dark_16_bit_grey_stays_dark(tmp_path: Path) -> None:
    values = np.full((12, 20), 200, np.uint16)
    Image.fromarray(values).save(tmp_path / "dark.png")
    (tmp_path / "dark.pgm").write_bytes(b"P5 20 12 65535\n" + values.astype(">u2").tobytes())
    for name in ("dark.png", "dark.pgm"):
        np.testing.assert_allclose(read_image(tmp_path / name).pixels, 200 / 257, rtol=1e-6)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((12, 20), np.uint8), np.zeros((12, 20, 3)), np.full((9, 9, 3), np.nan, np.float32)],
)
def test_arrays_that_are_no_picture_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected"):
        Picture(pixels, None)
