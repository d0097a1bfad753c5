"""Pictures of 16 bits a channel: read whole, carried through a run, and written whole."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

import nstx as api
from nstx.engine.formats.deep_png import encode_deep
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.writing import write_image
from nstx.models.errors import ImageError, NstxError, UsageError

Command = Callable[..., tuple[int, str, str]]

RAMP = np.linspace(0, 65535, 24 * 40 * 3).round().astype(np.uint16).reshape(24, 40, 3)
NOISE = np.random.default_rng(0).integers(0, 65536, (21, 33, 4), np.uint16)
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# First column and row of each pass of Adam7, and the steps between its columns and rows.
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(samples: NDArray[np.uint16], *extra: bytes, interlaced: bool = False) -> bytes:
    """Return a PNG of 16 bits without filters."""
    height, width, channels = samples.shape
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [samples]
    lines = b"".join(
        b"\0" + row.astype(">u2").tobytes() for part in parts if part.size for row in part
    )
    header = struct.pack(
        ">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, int(interlaced)
    )
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def tiff(samples: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def read(tmp_path: Path, data: bytes) -> Picture:
    (tmp_path / "picture").write_bytes(data)
    return read_image(tmp_path / "picture")


def sixteen(picture: Picture) -> NDArray[np.uint16]:
    return np.rint(picture.pixels.astype(np.float64) * 257).astype(np.uint16)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_is_read_with_all_its_bits(tmp_path: Path, channels: int, interlaced: bool) -> None:
    samples = NOISE[..., :channels] if channels > 2 else NOISE[..., 4 - channels :]
    picture = read(tmp_path, png(samples, interlaced=interlaced))
    colours = samples[..., :3] if channels > 2 else samples[..., :1].repeat(3, 2)
    np.testing.assert_array_equal(sixteen(picture), colours)
    assert picture.encoding.depth == 16
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, np.rint(samples[..., -1] / 257))
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("channels", [1, 3])
def test_a_clear_colour_is_that_of_all_its_bits(tmp_path: Path, channels: int) -> None:
    samples = NOISE[..., :channels] % np.uint16(3) + np.uint16(0x1200)  # all have one upper byte
    key = samples[4, 5].tolist()
    picture = read(tmp_path, png(samples, chunk(b"tRNS", struct.pack(f">{channels}H", *key))))
    np.testing.assert_array_equal(picture.alpha, np.where((samples == key).all(2), 0, 255))


def test_a_16_bit_picture_is_turned_upright(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = png(RAMP, chunk(b"eXIf", exif.tobytes()[6:]))
        eight = io.BytesIO()
        upper = Image.fromarray((RAMP >> 8).astype(np.uint8))
        upper.save(eight, "PNG", exif=exif)
        expected = read(tmp_path, eight.getvalue()).pixels
        np.testing.assert_array_equal(sixteen(read(tmp_path, data)) >> 8, expected)


def test_what_8_bits_hold_is_the_picture_of_8_bits(tmp_path: Path) -> None:
    eight = NOISE[..., :3].astype(np.uint8)
    for data in (png(eight.astype(np.uint16) * 257), tiff(eight.astype(np.uint16) * 257)):
        picture = read(tmp_path, data)
        assert picture.digest == Picture(eight, None).digest
        assert picture.encoding.depth == 16


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, channels: int) -> None:
    path, samples = tmp_path / f"p{suffix}", np.concatenate([RAMP[:21, :33], NOISE[:, :, :3]])
    alpha = None if channels == 3 else (NOISE[..., 3].repeat(2, 0) >> 8).astype(np.uint8)
    write_image(path, Picture((samples / 257).astype(np.float32), alpha), depth=16)
    picture = read_image(path)
    np.testing.assert_array_equal(sixteen(picture), samples)
    assert (picture.alpha is None) == (channels == 3)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha, alpha)
    assert picture.encoding.profile is not None
    before = path.read_bytes()
    write_image(path, picture)  # as it was read
    assert path.read_bytes() == before
    if suffix == ".tif":
        np.testing.assert_array_equal(tifffile.imread(path)[..., :3], samples)
    with Image.open(path, formats=["PNG", "TIFF"]) as image:
        if suffix == ".png":
            np.testing.assert_array_equal(np.asarray(image)[..., :3], samples >> 8)
        assert image.info["icc_profile"] == picture.encoding.profile


def test_rows_of_a_png_are_filtered_across_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode_deep(RAMP, None)
    monkeypatch.setattr("nstx.engine.formats.deep_png._BAND", 7 * 40 * 3)
    assert encode_deep(RAMP, None) == whole
    assert len(whole) < RAMP.nbytes / 4
    np.testing.assert_array_equal(sixteen(read(tmp_path, whole)), RAMP)


def test_rounding_is_to_the_nearest_of_16_bits(tmp_path: Path) -> None:
    pixels = np.full((12, 12, 3), 100.3, np.float32)
    pixels[0], pixels[1] = -3, 300
    write_image(tmp_path / "p.png", pixels, depth=16)
    written = sixteen(read_image(tmp_path / "p.png"))
    assert written[:, 0, 0].tolist() == [0, 65535, *[round(100.3 * 257)] * 10]


def test_formats_of_8_bits_take_no_more(tmp_path: Path) -> None:
    picture = read(tmp_path, png(RAMP))
    for name in ("p.jpg", "p.webp"):
        with pytest.raises(NstxError, match=r"16 bits a channel in \.png, \.tif"):
            write_image(tmp_path / name, picture, depth=16)
        write_image(tmp_path / name, picture)
        assert read_image(tmp_path / name).encoding.depth == 8
    with pytest.raises(UsageError, match="depth of 8 or 16"):
        write_image(tmp_path / "p.png", picture, depth=12)  # type: ignore[arg-type]


@pytest.mark.parametrize("cut", [20, 40, 60, 1000, -13, -5])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_that_ends_early_is_refused(tmp_path: Path, cut: int, channels: int) -> None:
    data = png(NOISE[..., :channels])
    try:
        picture = read(tmp_path, data[:cut])
    except ImageError:
        return
    assert cut < 0  # the end marker alone is missing
    np.testing.assert_array_equal(sixteen(picture), sixteen(read(tmp_path, data)))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_png_of_two_headers_is_refused(tmp_path: Path, channels: int) -> None:
    samples = NOISE[..., :channels]
    for depth, colour, width in ((8, 6, 33), (16, 6, 5), (8, 2, 66), (16, 0, 99)):
        other = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 21, depth, colour, 0, 0, 0))
        with pytest.raises(ImageError, match="damaged PNG"):
            read(tmp_path, png(samples, other))


@pytest.fixture
def style(save_picture: Callable[..., Path]) -> Path:
    return save_picture("style.png", 40, 44, 9)


UNMOVED = ("--steps", 1, "--style-weight", 0, "--size", 40, "--device", "cpu", "--json")


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("names", [("in.png", "out.tif"), ("in.tif", "out.png")])
def test_a_ramp_comes_out_as_it_went_in(
    nstx: Command, tmp_path: Path, style: Path, names: tuple[str, str], solver: str
) -> None:
    source, output = (tmp_path / name for name in names)
    source.write_bytes(png(RAMP) if source.suffix == ".png" else tiff(RAMP, photometric="rgb"))
    code, out, err = nstx("optimize", source, style, "-o", output, *UNMOVED, "--solver", solver)
    assert code == 0, err
    np.testing.assert_array_equal(sixteen(read_image(output)), RAMP)
    assert json.loads(out)["depth"] == 16
    assert json.loads(out)["cleaned"] is False


def test_the_depth_of_outputs_is_the_contents_or_what_is_asked_for(
    nstx: Command, tmp_path: Path, style: Path, save_picture: Callable[..., Path]
) -> None:
    deep, eight = tmp_path / "deep.png", save_picture("eight.png", 24, 40, 3)
    deep.write_bytes(png(RAMP))

    def depth(content: Path, output: str, *options: object) -> int:
        path = tmp_path / output
        code, out, err = nstx("optimize", content, style, "-o", path, *UNMOVED, *options)
        assert code == 0, err
        assert json.loads(out)["depth"] == read_image(path).encoding.depth
        return read_image(path).encoding.depth

    assert depth(deep, "a.jpg") == 8
    assert depth(deep, "a.png", "--depth", 8) == 8
    assert depth(eight, "b.png") == 8
    assert depth(eight, "c.png", "--depth", 16, "--watch", tmp_path / "w.jpg") == 16
    assert depth(deep, "d.png", "--save-init", tmp_path / "i.tif") == 16
    np.testing.assert_array_equal(sixteen(read_image(tmp_path / "i.tif")), RAMP)
    for output, asked, message in (("e.jpg", 16, ".png, .tif"), ("e.png", 12, "auto, 8, 16")):
        code, _, err = nstx("optimize", deep, style, "-o", tmp_path / output, "--depth", asked)
        assert code == 2 + 4 * (output == "e.jpg") or code > 0
        assert message in err


def test_steps_and_targets_have_the_contents_depth(
    nstx: Command, tmp_path: Path, style: Path
) -> None:
    (tmp_path / "deep.tif").write_bytes(tiff(RAMP, photometric="rgb"))
    settings = api.choose_settings(size=40, steps=1, device="cpu", backend="onnx")
    job = api.prepare_job(tmp_path / "deep.tif", style, settings)
    result = api.run_job(job, on_step=lambda step: step.save(tmp_path / "step.png"))
    result.save(tmp_path / "result.png")
    result.save(tmp_path / "eight.png", depth=8)
    depths = [
        read_image(tmp_path / f"{name}.png").encoding.depth for name in ("step", "result", "eight")
    ]
    assert depths == [16, 16, 8]
    file = tmp_path / "t.safetensors"
    code, _, err = nstx(
        "precompute", "--content", tmp_path / "deep.tif", "--style", style, "-o", file, "--size", 40
    )
    assert code == 0, err
    saved = api.read_targets(file)
    assert saved.depth == 16
    np.testing.assert_array_equal(np.rint(saved.contents[-1] * 257), RAMP)
    assert api.prepare_job_from_targets(saved, steps=1).encoding.depth == 16
