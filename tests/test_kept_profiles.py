"""``--keep-profile``: a result in the colours of its content's profile, which is embedded in it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import profiles
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from profiles import ADOBE, GREY, P3

import nstx as api
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.transparency import fill_transparent
from nstx.engine.pictures.writing import write_image
from nstx.engine.profiles.icc import NODES, make_srgb_profile, parse_profile
from nstx.models.errors import ImageError, OutputError

Command = Callable[..., tuple[int, str, str]]

# Colours of all of a space, most of which sRGB lacks.
COLOURS = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
UNMOVED = ("--steps", 1, "--style-weight", 0, "--size", 40, "--device", "cpu", "--json")


def lab(colours: NDArray[Any], profile: bytes) -> NDArray[np.float64]:
    """Return CIELAB of colours of 0–1 in a profile's space, by the definitions."""
    space = parse_profile(profile)
    assert space.to_xyz is not None
    light = np.stack([np.interp(colours[..., i], NODES, space.curves[i]) for i in range(3)], -1)
    ratio = light @ space.to_xyz / profiles.WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def difference(first: NDArray[Any], second: NDArray[Any], profile: bytes) -> float:
    """Return the largest ΔE (CIE 1976)."""
    return float(np.linalg.norm(lab(first, profile) - lab(second, profile), axis=-1).max())


def save(path: Path, profile: bytes | None, **options: Any) -> Path:
    Image.fromarray(COLOURS).save(path, icc_profile=profile, **options)
    return path


def shown(path: Path) -> tuple[NDArray[np.float64], bytes | None]:
    """Return the colours of a file as they stand in it, 0–1, and its profile."""
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if page.dtype == np.uint16:
                return page.asarray() / 65535, page.tags[34675].value
    with Image.open(path, formats=["PNG", "TIFF", "WEBP", "JPEG", "AVIF"]) as image:
        return np.asarray(image.convert("RGB")) / 255, image.info.get("icc_profile")


@pytest.fixture
def style(save_picture: Callable[..., Path]) -> Path:
    return save_picture("style.png", 40, 44, 9)


@pytest.mark.parametrize("profile", [P3, ADOBE], ids=["p3", "adobe"])
@pytest.mark.parametrize("depth", [8, 16])
def test_colours_come_back_as_they_were(
    nstx: Command, tmp_path: Path, style: Path, profile: bytes, depth: int
) -> None:
    content = save(tmp_path / "c.png", profile)
    output = tmp_path / "out.tif"
    code, out, err = nstx(
        "optimize", content, style, "-o", output, *UNMOVED, "--keep-profile", "--depth", depth
    )
    assert code == 0, err
    colours, kept = shown(output)
    assert kept == profile
    assert difference(colours, COLOURS / 255, profile) < 0.01
    assert (json.loads(out)["depth"], json.loads(out)["profile"]) == (depth, "test")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".avif"])
def test_every_format_embeds_it(tmp_path: Path, suffix: str) -> None:
    picture = read_image(save(tmp_path / "c.png", P3), wide=True)
    write_image(tmp_path / f"o{suffix}", picture, keep_profile=True)
    colours, kept = shown(tmp_path / f"o{suffix}")
    assert kept == P3
    if suffix in (".png", ".tif"):
        np.testing.assert_array_equal(np.rint(colours * 255), COLOURS)
        again = read_image(tmp_path / f"o{suffix}").pixels.astype(float)
        np.testing.assert_allclose(again, picture.pixels, atol=1)


def test_what_srgb_holds_comes_back_without_a_wide_reading(tmp_path: Path) -> None:
    picture = read_image(save(tmp_path / "c.png", P3))
    assert picture.pixels.dtype == np.uint8
    write_image(tmp_path / "o.png", picture, keep_profile=True)
    colours, _ = shown(tmp_path / "o.png")
    held = (picture.pixels > 2).all(2) & (picture.pixels < 253).all(2)
    assert difference(colours[held], COLOURS[held] / 255, P3) < 1.2  # rounded to 8 bits twice


def test_a_picture_without_a_profile_gets_that_of_srgb(tmp_path: Path) -> None:
    pixels = read_image(save(tmp_path / "c.png", None))
    write_image(tmp_path / "o.png", pixels, keep_profile=True)
    colours, kept = shown(tmp_path / "o.png")
    assert kept == make_srgb_profile()
    np.testing.assert_array_equal(np.rint(colours * 255), COLOURS)
    own = profiles.rgb_profile(profiles.DISPLAY_P3, desc=profiles.text("sRGB"))
    write_image(tmp_path / "o.png", read_image(save(tmp_path / "c.png", own)), keep_profile=True)
    assert shown(tmp_path / "o.png")[1] == own
    write_image(tmp_path / "o.png", read_image(tmp_path / "c.png"))
    assert shown(tmp_path / "o.png")[1] is None  # as ever


@pytest.mark.parametrize(("profile", "mode", "reason"), [
    (GREY, "L", "it is of greys"), (profiles.rgb_profile(A2B0=b"mft2" + bytes(60)), "RGB", "tables"),
    (P3 + bytes(2**22), "RGB", "more than 4 MiB"),
])  # fmt: skip
def test_a_profile_that_cannot_be_kept_is_told(
    tmp_path: Path, logged_warnings: list[str], profile: bytes, mode: str, reason: str
) -> None:
    path = tmp_path / "c.jpg"
    Image.fromarray(COLOURS).convert(mode).save(path, icc_profile=profile)
    picture = read_image(path, wide=True)
    write_image(tmp_path / "o.png", picture, keep_profile=True)
    assert shown(tmp_path / "o.png")[1] == make_srgb_profile()
    assert "cannot be kept" in logged_warnings[-1]
    assert reason in logged_warnings[-1]


def test_transparency_and_palettes_are_read_wide(tmp_path: Path) -> None:
    alpha = np.where(np.arange(40) > 9, 255, 51).astype(np.uint8)[None].repeat(24, 0)
    Image.fromarray(np.dstack([COLOURS, alpha])).save(tmp_path / "a.png", icc_profile=P3)
    picture = read_image(tmp_path / "a.png", wide=True)
    np.testing.assert_array_equal(picture.alpha, alpha)
    write_image(tmp_path / "o.png", picture, keep_profile=True)
    np.testing.assert_array_equal(np.rint(shown(tmp_path / "o.png")[0] * 255), COLOURS)
    Image.fromarray(COLOURS).quantize(16).save(tmp_path / "p.png", icc_profile=P3)
    write_image(tmp_path / "o.png", read_image(tmp_path / "p.png", wide=True), keep_profile=True)
    np.testing.assert_allclose(shown(tmp_path / "o.png")[0], shown(tmp_path / "p.png")[0])


def test_colours_beyond_srgb_fade_where_the_result_departs(tmp_path: Path, style: Path) -> None:
    content = read_image(save(tmp_path / "c.png", P3), wide=True)
    assert content.beyond is not None
    assert content.pixels.min() >= 0
    assert content.pixels.max() <= 255
    job = api.prepare_job(content, style, size=30, device="cpu", backend="onnx")
    assert job.beyond is not None
    assert job.beyond.shape == (18, 30, 3)
    same, far = job.picture(job.contents[-1]), job.picture(job.contents[-1] + 90)
    half = job.picture(job.contents[-1] - 32).beyond
    assert same.beyond is not None
    assert half is not None
    np.testing.assert_array_equal(same.beyond, job.beyond)
    np.testing.assert_allclose(half, job.beyond / 2, atol=1e-4)
    assert far.beyond is not None
    assert not far.beyond.any()
    with pytest.raises(ImageError, match="beyond sRGB"):
        api.Picture(content.pixels, None, beyond=np.zeros((2, 3), np.float32))


def test_what_cannot_be_kept_is_refused_before_anything_is_read(
    nstx: Command, tmp_path: Path, style: Path
) -> None:
    with pytest.raises(OutputError, match="numbers are sRGB"):
        write_image(tmp_path / "o.npy", COLOURS, keep_profile=True)
    for arguments, message in (
        (("no.png", style, "-o", tmp_path / "o.npy"), "numbers are sRGB"),
        (("no.png", style, "-o", tmp_path / "o.gif"), ".png"),
    ):
        code, _, err = nstx("optimize", *arguments, "--keep-profile")
        assert code > 0
        assert message in err
    content, file = save(tmp_path / "c.png", P3), tmp_path / "t.safetensors"
    code, _, err = nstx(
        "precompute", "--content", content, "--style", style, "-o", file, "--size", 40
    )
    assert code == 0, err
    code, _, err = nstx("optimize", "--targets", file, "-o", tmp_path / "o.png", "--keep-profile")
    assert code == 2
    assert "whose profile is kept" in err


def test_snapshots_and_the_watched_picture_have_it_too(
    nstx: Command, tmp_path: Path, style: Path
) -> None:
    content = save(tmp_path / "c.png", P3)
    more = ("--save-every", 1, "--watch", tmp_path / "w.jpg", "--save-init", tmp_path / "i.npy")
    code, _, err = nstx(
        "optimize", content, style, "-o", tmp_path / "o.png", "--steps", 2, "--size", 40,
        "--device", "cpu", "--scales", 1, "--keep-profile", *more,
    )  # fmt: skip
    assert code == 0, err
    for name in ("o.png", "o_0001.png", "w.jpg"):
        assert shown(tmp_path / name)[1] == P3, name
    assert np.load(tmp_path / "i.npy").max() <= 255


def test_a_picture_from_standard_input_keeps_it(
    nstx: Command, tmp_path: Path, style: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save(tmp_path / "c.png", P3).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, _, err = nstx(
        "optimize", "-", style, "-o", tmp_path / "o.png", *UNMOVED, "--keep-profile"
    )
    assert code == 0, err
    np.testing.assert_array_equal(np.rint(shown(tmp_path / "o.png")[0] * 255), COLOURS)


def test_a_huge_profile_is_not_held(tmp_path: Path, logged_warnings: list[str]) -> None:
    path = tmp_path / "c.tif"
    tifffile.imwrite(path, COLOURS, photometric="rgb", iccprofile=P3 + bytes(2**23))
    picture = read_image(path)
    assert picture.encoding.profile is not None
    assert len(picture.encoding.profile) <= 2**22 + 1
    write_image(tmp_path / "o.png", picture, keep_profile=True)
    assert "more than 4 MiB" in logged_warnings[-1]


def test_hidden_colours_beyond_srgb_are_none(tmp_path: Path) -> None:
    alpha = np.full((24, 40), 255, np.uint8)
    alpha[:, :9] = 0
    Image.fromarray(np.dstack([COLOURS, alpha])).save(tmp_path / "a.png", icc_profile=P3)
    picture = read_image(tmp_path / "a.png", wide=True)
    filled = fill_transparent(picture)
    assert picture.beyond is not None
    assert filled.beyond is not None
    assert picture.beyond[:, :9].any()
    assert not filled.beyond[:, :9].any()
    np.testing.assert_array_equal(filled.beyond[:, 9:], picture.beyond[:, 9:])
