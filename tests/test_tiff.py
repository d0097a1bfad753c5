"""Reading TIFF of every layout: the same picture, whichever way its samples lie in the file."""

import io
import os
import shutil
import struct
import subprocess
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from nstx.engine.formats.tiff_directories import check_blocks, read_pages
from nstx.engine.pictures import tiff as tiff_reading
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.tiff import read_page
from nstx.models.errors import ImageError

ROWS, COLUMNS = np.mgrid[:40, :48]
RGB = np.stack([COLUMNS * 5, ROWS * 6, (COLUMNS + ROWS) * 2], 2).astype(np.uint8)
GREY = np.repeat(RGB[..., :1], 3, 2)
ALPHA = np.where(COLUMNS > 9, 255, 51).astype(np.uint8)


def tiff(samples: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def widen(values: NDArray[np.uint8], kind: str) -> NDArray[Any]:
    """Return 8-bit values on the whole range of another type."""
    if kind.startswith("f"):
        return (values / 255).astype(kind)
    bits = 8 * int(kind[1:])
    whole = values.astype(np.int64) * ((2**bits - 1) // 255)
    least = 2 ** (bits - 1) if kind.startswith("i") else 0
    return np.asarray(whole - least, kind)


def read(tmp_path: Path, data: bytes, name: str = "p.tif") -> Any:
    path = tmp_path / name
    path.write_bytes(data)
    return read_image(path)


def without(data: bytes, tag: int) -> bytes:
    """Return a TIFF whose first page has another number in place of a tag's."""
    changed = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if entry := file.pages.first.tags.get(tag):
            changed[entry.offset : entry.offset + 2] = struct.pack("<H", 65000)
    return bytes(changed)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("options", [
    {}, {"compression": "zlib", "predictor": True}, {"tile": (16, 32)},
    {"tile": (32, 16), "compression": "zlib", "predictor": True}, {"bigtiff": True},
    {"rowsperstrip": 7},
], ids=str)  # fmt: skip
def test_samples_are_read_however_they_lie(
    tmp_path: Path, order: str, planes: str, options: dict[str, Any]
) -> None:
    pixels = np.dstack([RGB, ALPHA])
    for kind in ("u1", "u2", "u4", "i2", "f2", "f4", "f8"):
        if options.get("predictor") and kind.startswith("f"):
            continue  # tifffile writes none without another library
        samples = widen(pixels, kind)
        if planes == "separate":
            samples = np.moveaxis(samples, 2, 0)
        data = tiff(
            samples, photometric="rgb", planarconfig=planes, byteorder=order,
            extrasamples=["unassalpha"], **options,
        )  # fmt: skip
        picture = read(tmp_path, data)
        np.testing.assert_array_equal(picture.alpha, ALPHA, kind)
        np.testing.assert_allclose(picture.pixels, RGB.astype(float), atol=1, err_msg=kind)


@pytest.mark.parametrize("kind", ["u1", "u2", "i1", "i2", "u4", "f4"])
def test_greys_and_their_negatives(tmp_path: Path, kind: str) -> None:
    grey = widen(RGB[..., 0], kind)
    np.testing.assert_allclose(
        read(tmp_path, tiff(grey, photometric="minisblack")).pixels, GREY, atol=1
    )
    negative = widen(255 - RGB[..., 0], kind)
    np.testing.assert_allclose(
        read(tmp_path, tiff(negative, photometric="miniswhite")).pixels, GREY, atol=1
    )


def test_grey_with_alpha_and_premultiplied_alpha(tmp_path: Path) -> None:
    samples = widen(np.dstack([RGB[..., 0], ALPHA]), "u2")
    data = tiff(samples, photometric="minisblack", extrasamples=["unassalpha"])
    assert (read(tmp_path, data).alpha == ALPHA).all()
    whole = np.full((40, 48, 3), 200, np.uint8)
    for alpha in ("assocalpha", "unassalpha"):
        colour = whole * (ALPHA[..., None] / 255) if alpha == "assocalpha" else whole
        samples = widen(np.dstack([np.rint(colour).astype(np.uint8), ALPHA]), "u2")
        picture = read(tmp_path, tiff(samples, photometric="rgb", extrasamples=[alpha]))
        assert (picture.pixels == 200).all()


def test_16_bit_cmyk_is_that_of_8_bits(tmp_path: Path) -> None:
    cmyk = np.dstack([255 - RGB, ROWS.astype(np.uint8)])
    eight = read(tmp_path, tiff(cmyk, photometric="separated"))
    sixteen = read(tmp_path, tiff(widen(cmyk, "u2"), photometric="separated"))
    np.testing.assert_array_equal(sixteen.pixels, eight.pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_what_only_libtiff_unpacks_is_read(tmp_path: Path, compression: str) -> None:
    values = widen(RGB[..., 0], "u2")
    Image.fromarray(values).save(tmp_path / "p.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "p.tif").pixels, GREY)


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_a_page_that_does_not_say_what_its_samples_are(tmp_path: Path, kind: str) -> None:
    for samples, right in ((RGB, RGB), (RGB[..., 0], GREY)):
        whole = tiff(widen(samples, kind), photometric="rgb" if samples is RGB else "minisblack")
        np.testing.assert_array_equal(read(tmp_path, without(whole, 262)).pixels, right)


def test_a_palette_of_8_bits_is_not_black(tmp_path: Path) -> None:
    colours = np.random.default_rng(3).integers(0, 256, (3, 256)).astype(np.uint16)
    for scale in (1, 257):
        data = tiff(RGB[..., 0], photometric="palette", colormap=colours * scale)
        right = colours[:, RGB[..., 0]].transpose(1, 2, 0)
        np.testing.assert_array_equal(read(tmp_path, data).pixels, right)


@pytest.mark.parametrize("width", range(1, 33))
def test_every_width_is_read_on_its_own_scale(tmp_path: Path, width: int) -> None:
    white = 2**width - 1
    values = np.rint(RGB[..., 0] / RGB[..., 0].max() * white).astype(np.uint64)
    bits = (values[..., None] >> np.arange(width - 1, -1, -1, dtype=np.uint64)) & 1
    packed = np.packbits(bits.reshape(40, -1).astype(np.uint8), axis=1)
    data = bytearray(tiff(packed, photometric="minisblack", byteorder=">"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages.first.tags
        for code, value in ((256, 48), (258, width)):
            at, size = tags[code].valueoffset, {3: 2, 4: 4}[tags[code].dtype]
            data[at : at + size] = value.to_bytes(size, "big")
    grey = read(tmp_path, bytes(data)).pixels
    right = values * (255 / white)
    right = np.rint(right) if width <= 8 else right.astype(np.float32)
    np.testing.assert_allclose(grey, right[..., None].repeat(3, 2), rtol=1e-7 * (width > 8))


def pages(*parts: tuple[NDArray[np.uint8], dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for samples, options in parts:
            writer.write(samples, **options)
    return buffer.getvalue()


THUMBNAIL = (RGB[::4, ::4], {"photometric": "rgb", "subfiletype": 1})
WHOLE = (RGB, {"photometric": "rgb"})
RAW_MOSAIC = (RGB[..., 0], {"photometric": 32803})
DNG = {"extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}


@pytest.mark.parametrize("parts", [
    [THUMBNAIL, WHOLE],
    [WHOLE, THUMBNAIL],
    [WHOLE, (255 - RGB, {"photometric": "rgb"})],
    [(THUMBNAIL[0], {**THUMBNAIL[1], "subifds": 1}), WHOLE],
    [(THUMBNAIL[0], {**THUMBNAIL[1], **DNG, "subifds": 2}), (RGB[::2, ::2], WHOLE[1]), WHOLE],
    [(RGB, {"photometric": "rgb", "subfiletype": 1})],
], ids=["first", "last", "document", "below", "dng", "alone"])  # fmt: skip
def test_the_picture_is_not_a_thumbnail_of_it(tmp_path: Path, parts: list[Any]) -> None:
    np.testing.assert_array_equal(read(tmp_path, pages(*parts)).pixels, RGB)


def test_a_16_bit_page_after_a_thumbnail_is_read(tmp_path: Path) -> None:
    data = pages(THUMBNAIL, (widen(RGB, "u2"), {"photometric": "rgb"}))
    np.testing.assert_array_equal(read(tmp_path, data).pixels, RGB)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_orientation_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    tag = (274, 3, 1, orientation, True)
    picture = read(tmp_path, tiff(widen(RGB, kind), photometric="rgb", extratags=[tag]))
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, turns))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pages((RGB[::4, ::4, 0], {"photometric": 32803})), "raw mosaic of a camera"),
        (pages((THUMBNAIL[0], {**THUMBNAIL[1], "subifds": 1}), RAW_MOSAIC), "raw mosaic"),
        (tiff(RGB, photometric="cielab"), "CIELab"),
        (without(tiff(RGB, photometric="ycbcr"), 530), "uncompressed YCbCr"),
        (tiff(widen(RGB, "u2"), photometric="ycbcr"), "TIFF of 16 bits, PhotometricInterp"),
        (tiff((RGB * 40.0).astype("f4"), photometric="rgb"), "samples of 0–1"),
        (tiff(np.full((40, 48), np.nan, "f4")), "finite numbers"),
        (tiff((GREY[..., 0] * 2.0 - 300).astype("f4")), "samples of 0–1"),
        (tiff(RGB[..., 0].astype("u4") << 12), "whole range of 32 bits"),
        (tiff(RGB[..., 0].astype("i4") << 12), "whole range of 32 bits"),
        (tiff(RGB[..., 0].astype("i4") - 9), "signed samples of the whole range"),
        (tiff(RGB[..., 0].astype("i2") * 4 - 100), "signed samples of the whole range"),
        (tiff(widen(RGB, "u2"), photometric="rgb")[:-4000], "damaged TIFF"),
        (b"II*\0\x08\0\0\0" + bytes(40), "damaged TIFF"),
        (b"II*\0\xff\xff\xff\x7f", "damaged TIFF"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(tmp_path, data)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize(("kind", "white"), [
    ("u4", 255), ("i4", 255), ("i2", 255), ("f4", 255), ("i1", 127), ("i2", 32767),
    ("u4", 65535), ("i4", 65535), ("i4", 2**31 - 1),
])  # fmt: skip
def test_samples_that_do_not_use_their_range_are_read_as_those_of_npy(
    tmp_path: Path, logged_warnings: list[str], kind: str, white: int, planes: str
) -> None:
    samples = np.rint(RGB * (white / 255)).astype(kind)
    laid = np.moveaxis(samples, 2, 0) if planes == "separate" else samples
    options: dict[str, Any] = {"tile": (16, 32)} if white == 65535 else {}
    data = tiff(laid, photometric="rgb", planarconfig=planes, **options)
    np.testing.assert_allclose(read(tmp_path, data).pixels, RGB.astype(float), atol=1)
    assert len(logged_warnings) == 1
    assert logged_warnings[0].endswith(f"taken as pixels on the scale 0–{white}")
    if white in (255, 32767, 65535):
        np.save(tmp_path / "p.npy", samples)
        pixels = read_image(tmp_path / "p.npy").pixels
        np.testing.assert_allclose(pixels, RGB.astype(float), atol=1)
        assert len(logged_warnings) == 1 + (white > 255)


@pytest.mark.parametrize("kind", ["u2", "u4"])
def test_dark_samples_of_16_bits_stay_dark_with_a_word(
    tmp_path: Path, logged_warnings: list[str], kind: str
) -> None:
    samples = (RGB.astype(np.uint16) * 16).astype(kind)  # 12 bits
    picture = read(tmp_path, tiff(samples, photometric="rgb"))
    np.testing.assert_allclose(picture.pixels, RGB / 16.06, atol=0.6)
    assert len(logged_warnings) == 1
    assert ("nowhere brighter" if kind == "u2" else "0–65535") in logged_warnings[0]


def test_a_page_that_says_it_is_huge_takes_no_memory(tmp_path: Path) -> None:
    data = bytearray(tiff(widen(RGB, "u2"), photometric="rgb"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for code in (256, 257):
            at = file.pages.first.tags[code].valueoffset
            data[at : at + 2] = struct.pack("<H", 9000)
    with pytest.raises(ImageError, match="9000×9000"):
        read(tmp_path, bytes(data))


def test_libtiff_complains_in_one_warning_and_not_on_stderr(
    tmp_path: Path, logged_warnings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    image = Image.fromarray(RGB).convert("1")
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression="group4")
    data = bytearray(buffer.getvalue())
    with Image.open(buffer) as saved:
        offset = saved.tag_v2[273][0]  # type: ignore[attr-defined]
    data[offset + 20 : offset + 24] = b"\xff\x00\xff\x00"
    read(tmp_path, bytes(data))
    assert [line.count("libtiff complains") for line in logged_warnings] == [1]
    assert capfd.readouterr().err == ""


def test_what_others_write_meanwhile_is_no_complaint(
    tmp_path: Path,
    logged_warnings: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = "loading weights …\nnstx: warning: something else.\nValueError: expected a number.\n"
    frame = "\r\x1b[2K\x1b[32m⠹\x1b[0m loading weights"
    complaint = "TIFFFillStrip: Read error on strip 3.\n"

    def load(*arguments: object) -> None:
        os.write(2, f"{lines}{frame}{complaint}{lines}".encode())

    monkeypatch.setattr(tiff_reading, "_load_with_pillow", load)
    read(tmp_path, tiff(RGB, photometric="rgb"))
    assert len(logged_warnings) == 1
    assert "(TIFFFillStrip: Read error on strip 3.)" in logged_warnings[0]
    assert capfd.readouterr().err == lines + frame + lines


def imagemagick() -> str | None:
    for name in ("magick", "convert"):
        program = shutil.which(name)
        if program is not None:
            done = subprocess.run(
                [program, "-version"], capture_output=True, text=True, check=False
            )
            if done.stdout.startswith("Version: ImageMagick"):
                return program
    return None


@pytest.mark.parametrize("kind", ["u2", "i2", "f4", "planes", "white", "alpha"])
def test_imagemagick_sees_the_same_picture(tmp_path: Path, kind: str) -> None:
    program = imagemagick()
    if program is None:
        pytest.skip("ImageMagick is not installed")
    data = {
        "planes": lambda: tiff(
            np.moveaxis(widen(RGB, "u2"), 2, 0), photometric="rgb", planarconfig="separate"
        ),
        "white": lambda: tiff(widen(RGB[..., 0], "u2"), photometric="miniswhite"),
        "alpha": lambda: tiff(
            widen(np.dstack([RGB, ALPHA]), "u2"), photometric="rgb", extrasamples=["unassalpha"]
        ),
        # It takes signed samples in colour for unsigned ones.
        "i2": lambda: tiff(widen(RGB[..., 0], "i2"), photometric="minisblack"),
    }.get(kind, lambda: tiff(widen(RGB, kind), photometric="rgb"))()
    picture = read(tmp_path, data)
    command = [program, f"{tmp_path}/p.tif", "-alpha", "off"]
    command += ["-depth", "8", "rgb:-"]
    shown = subprocess.run(command, capture_output=True, check=True).stdout
    np.testing.assert_allclose(
        picture.pixels, np.frombuffer(shown, np.uint8).reshape(40, 48, 3).astype(float), atol=1
    )


def test_no_folder_for_temporary_files_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert (read(tmp_path, tiff(RGB)).pixels == RGB).all()


def test_threads_that_read_at_once_leave_stderr_as_it_was(tmp_path: Path) -> None:
    before, data = os.fstat(2).st_ino, tiff(RGB)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda index: read(tmp_path, data, f"{index}.tif"), range(40)))
    assert os.fstat(2).st_ino == before


def with_entry(data: bytes, code: int, kind: int, count: int, place: int) -> bytes:
    """Return a TIFF whose first directory is written anew at its end, with another entry."""
    order, is_big = "<>"[data[:2] == b"MM"], b"+" in data[2:4]
    at, counted, tag, offset = (8, "Q", "HHQQ", "Q") if is_big else (4, "H", "HHII", "I")
    (start,) = struct.unpack_from(order + offset, data, at)
    (tags,) = struct.unpack_from(order + counted, data, start)
    first, size = struct.calcsize(counted), struct.calcsize(order + tag)
    entries = {
        data[entry : entry + 2]: data[entry : entry + size]
        for entry in range(start + first, start + first + tags * size, size)
    }
    entry = struct.pack(order + tag, code, kind, count, place)
    entries[entry[:2]] = entry
    listed = sorted(entries.values(), key=lambda entry: struct.unpack(order + "H", entry[:2]))
    directory = struct.pack(order + counted, len(listed)) + b"".join(listed) + bytes(8)
    head = data[:at] + struct.pack(order + offset, len(data)) + data[at + struct.calcsize(offset) :]
    return head + directory


FORMS = pytest.mark.parametrize(
    "form", [{"bigtiff": big, "byteorder": order} for big in (False, True) for order in "<>"], ids=str
)  # fmt: skip


@FORMS
@pytest.mark.parametrize("code", [273, 279, 258, 274, 320, 330, 700, 34675])
def test_an_array_of_more_numbers_than_a_picture_needs_is_refused_unread(
    form: dict[str, Any], code: int
) -> None:
    many = 2**20
    data = with_entry(tiff(RGB, photometric="rgb", **form) + bytes(4 * many), code, 4, many, 16)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=f"damaged TIFF .tag {code} has {many} numbers"):
            read_page(io.BytesIO(data), Path("a.tif"))
        assert tracemalloc.get_traced_memory()[1] < len(data) + 2**18
    finally:
        tracemalloc.stop()


@FORMS
def test_arrays_in_exif_are_refused_and_those_that_nobody_reads_are_not(
    form: dict[str, Any], tmp_path: Path, logged_warnings: list[str]
) -> None:
    many = 2**19
    data = tiff(RGB, photometric="rgb", **form) + bytes(4 * many)
    data = with_entry(data, 37724, 7, 4 * many, 16)
    exif = len(data)
    np.testing.assert_array_equal(read(tmp_path, with_entry(data, 65000, 4, many, 16)).pixels, RGB)
    assert logged_warnings == []
    inner = with_entry(tiff(RGB, **form), 37386, 4, many, 16)
    big = form["bigtiff"]
    (place,) = struct.unpack_from(form["byteorder"] + ("Q" if big else "I"), inner, 8 if big else 4)
    with pytest.raises(ImageError, match=f"tag 37386 has {many} numbers"):
        read(tmp_path, with_entry(data + inner[place:], 34665, 16 if big else 4, 1, exif))


@FORMS
def test_directories_that_go_round_or_never_end_are_read_or_refused_at_once(
    form: dict[str, Any], tmp_path: Path
) -> None:
    order, is_big = form["byteorder"], form["bigtiff"]
    plain = tiff(RGB, photometric="rgb", **form)
    place = struct.unpack_from(order + ("Q" if is_big else "I"), plain, 8 if is_big else 4)[0]
    kind = 16 if is_big else 4
    below = with_entry(plain, 330, kind, 1, len(plain))  # its own place
    exif = with_entry(plain, 34665, kind, 1, len(plain))
    for data in (below, exif):
        np.testing.assert_array_equal(read(tmp_path, data).pixels, RGB)
    many = struct.pack(order + ("Q" if is_big else "H"), 2**40 if is_big else 65535)
    with pytest.raises(ImageError, match="damaged TIFF"):
        read(tmp_path, plain[:place] + many + plain[place + len(many) :] + bytes(2**20))
    every = pages(*[(RGB[::2, ::2], {"photometric": "rgb"})] * 70)
    assert len(read_pages(io.BytesIO(every)).chain) == 64


def test_a_strip_or_tile_has_some_pixels_where_there_are_many() -> None:
    plain = read_page(io.BytesIO(tiff(RGB, photometric="rgb")), Path("a.tif")).layout
    rows = replace(plain, width=8, height=2**22, block=(8, 1))
    with pytest.raises(ValueError, match="strips or tiles of 8×4194304 pixels"):
        check_blocks(rows)
    tiles = replace(plain, width=2**14, height=2**14, block=(16, 16), tiled=True)
    assert check_blocks(tiles) == 2**20
    assert check_blocks(replace(plain, width=17, height=2**20, block=(16, 16), tiled=True)) == 2**17


def test_what_programs_write_around_a_picture_is_passed_over(
    tmp_path: Path, logged_warnings: list[str]
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif.get_ifd(34665)[37510] = b"ASCII\0\0\0" + b"x" * 9000
    exif.get_ifd(34853)[2] = (1.0, 2.0, 3.0)
    path = tmp_path / "p.tif"
    Image.fromarray(RGB).save(
        path, exif=exif, icc_profile=profile, compression="tiff_lzw",
        tiffinfo={700: b"<x:xmpmeta/>" * 9000, 37724: b"Adobe Photoshop" * 200_000},
    )  # fmt: skip
    np.testing.assert_array_equal(read_image(path).pixels, RGB)
    assert logged_warnings == []
