"""Transparent pictures: their own colours are optimised, and their alpha comes back as it was."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import frame_count, random_pixels
from PIL import Image, ImageFilter

import nstx as library
from nstx.engine.comparison.folder import ComparisonFolder
from nstx.engine.comparison.plan import plan_comparison
from nstx.engine.comparison.records import RunKey, name_files
from nstx.engine.comparison.runs import ComparisonJobs, make_run
from nstx.engine.drawing.animation import can_write_video, encode_animation
from nstx.engine.drawing.film_strip import unpack_film
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.resizing import resize_alpha, resize_channel, resize_picture
from nstx.engine.pictures.transparency import fill_transparent, on_white, with_alpha
from nstx.engine.pictures.writing import write_image

Nstx = Callable[..., tuple[int, str, str]]

# A cost of the network's first layers alone.
LIGHT: Any = {"content_layers": "conv2_1", "style_layers": "conv1_1,conv2_1"}
OPTIONS = ["--content-layers", "conv2_1", "--style-layers", "conv1_1,conv2_1", "--scales", 1]

COLOURS = random_pixels(48, 64, 0).round().astype(np.uint8)
# The left third is clear, the next one soft and the right one opaque.
ALPHA = np.broadcast_to(np.linspace(-255, 510, 64).clip(0, 255), (48, 64)).astype(np.uint8)


@pytest.fixture
def cut_out(tmp_path: Path) -> Path:
    path = tmp_path / "cut.png"
    Image.fromarray(with_alpha(COLOURS, ALPHA)).save(path)
    return path


@pytest.fixture
def painting(save_picture: Callable[..., Path]) -> Path:
    return save_picture("style.png", seed=1)


def shown(
    pixels: NDArray[np.uint8], alpha: NDArray[np.uint8], ground: float
) -> NDArray[np.float64]:
    cover = alpha[..., None] / 255
    mixed: NDArray[np.float64] = pixels * cover + ground * (1 - cover)
    return mixed


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif", ".npy", ".jpg"])
def test_the_cost_is_that_which_evaluate_finds(
    nstx: Nstx, cut_out: Path, painting: Path, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"out{suffix}"
    arguments = ["optimize", cut_out, painting, "-o", output, "--size", 64, "--steps", 4, "--json"]
    code, out, _ = nstx(*arguments, *OPTIONS)
    assert code == 0
    data = json.loads(out)
    code, out, _ = nstx(
        "evaluate", output, "--content", cut_out, "--style", painting, *OPTIONS[:4], "--json"
    )
    assert code == 0
    assert data["cost"]["total"] == pytest.approx(json.loads(out)["cost"]["total"], rel=1e-4)
    exact = data["cost_before_rounding"]["total"]
    if suffix in (".png", ".tif", ".npy"):
        assert data["cost"]["total"] == pytest.approx(exact, rel=1e-3)
    if suffix in (".jpg", ".npy"):
        assert read_image(output).alpha is None
    elif suffix != ".avif":  # which rounds it
        np.testing.assert_array_equal(read_image(output).alpha, ALPHA)
    warned = [text for text in data["warnings"] if "no transparency" in text]
    assert [text[:4] for text in warned] == {".jpg": ["JPEG"], ".npy": [".npy"]}.get(suffix, [])


def test_paint_at_half_opacity_is_the_paint_of_the_opaque_photograph(cut_out: Path) -> None:
    half = np.where(ALPHA == 0, 128, ALPHA).astype(
        np.uint8
    )  # nothing is clear, so nothing is filled
    settings = library.choose_settings(size=64, steps=2, scales=1, **LIGHT)
    style = random_pixels(48, 64, 1)
    painted = library.stylize(Picture(COLOURS, half), style, settings)
    opaque = library.stylize(COLOURS, style, settings)
    np.testing.assert_array_equal(painted.pixels, opaque.pixels)
    np.testing.assert_array_equal(painted.picture.alpha, half)


def test_what_a_file_has_where_nothing_is_seen_changes_nothing(painting: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, COLOURS.shape).astype(np.uint8)
    settings = library.choose_settings(size=40, steps=1, scales=1, **LIGHT)
    pictures = [
        library.stylize(Picture(np.where(ALPHA[..., None] > 0, COLOURS, hidden), ALPHA), painting, settings)
        for hidden in (noise, np.zeros_like(COLOURS))
    ]  # fmt: skip
    np.testing.assert_array_equal(pictures[0].pixels, pictures[1].pixels)
    styles = [
        library.stylize(COLOURS, np.dstack([np.where(ALPHA[..., None] > 0, COLOURS, hidden), ALPHA]), settings)
        for hidden in (noise, np.zeros_like(COLOURS))
    ]  # fmt: skip
    np.testing.assert_array_equal(styles[0].pixels, styles[1].pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gaps_are_filled_with_what_is_around_them(dtype: type) -> None:
    pixels: NDArray[Any] = np.zeros((40, 60, 3), dtype)
    pixels[:, :20], pixels[:, 40:] = (200, 100, 50), (20, 30, 240)
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, :20], alpha[:, 40:] = 255, 1
    filled = fill_transparent(Picture(pixels, alpha))
    assert filled.pixels.dtype == dtype
    np.testing.assert_array_equal(filled.pixels[:, :20], pixels[:, :20])
    np.testing.assert_array_equal(filled.pixels[:, 40:], pixels[:, 40:])
    np.testing.assert_allclose(filled.pixels[:, 20], np.tile((200.0, 100, 50), (40, 1)), atol=60)
    np.testing.assert_allclose(filled.pixels[:, 39], np.tile((20.0, 30, 240), (40, 1)), atol=60)
    assert (pixels[:, 20:40] == 0).all()  # the caller's are not touched
    again = fill_transparent(filled)
    np.testing.assert_array_equal(again.pixels, filled.pixels)


def test_one_pixel_that_is_seen_is_enough(logged_warnings: list[str]) -> None:
    alpha = np.zeros((65, 130), np.uint8)
    pixels = np.zeros((65, 130, 3), np.uint8)
    pixels[40, 100], alpha[40, 100] = (10, 200, 90), 1
    filled = fill_transparent(Picture(pixels, alpha)).pixels
    np.testing.assert_allclose(filled, np.broadcast_to((10.0, 200, 90), filled.shape), atol=12)
    assert not logged_warnings
    alpha[:] = 0
    assert (fill_transparent(Picture(pixels, alpha, "p.png")).pixels == 255).all()
    assert logged_warnings == ["p.png is transparent throughout; taken as white"]


def test_an_alpha_channel_that_is_resized_stays_clear_and_opaque() -> None:
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 20:], alpha[:, 40:] = 128, 255
    for size in ((31, 47), (90, 130)):
        resized = resize_channel(alpha, *size)
        edge = size[1] // 3 - 4
        assert resized[:, :edge].max() == 0
        assert resized[:, edge + 8 : 2 * edge].min() == resized[:, edge + 8 : 2 * edge].max() == 128
        assert (np.diff(resized.astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
def test_colours_that_are_not_seen_are_written_and_read(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"p{suffix}", Picture(COLOURS, ALPHA))
    read = read_image(tmp_path / f"p{suffix}")
    assert read.alpha is not None
    difference = read.alpha.astype(int) - ALPHA
    assert np.abs(difference).max() <= (suffix == ".avif")
    assert np.abs(read.pixels.astype(int) - COLOURS).mean() < (
        0.01 if suffix in (".png", ".tif") else 8
    )


def test_a_jpeg_shows_the_picture_on_white(tmp_path: Path, logged_warnings: list[str]) -> None:
    write_image(tmp_path / "p.jpg", Picture(COLOURS, ALPHA))
    expected = shown(COLOURS, ALPHA, 255)
    assert np.abs(read_image(tmp_path / "p.jpg").pixels - expected).mean() < 4
    np.testing.assert_allclose(on_white(with_alpha(COLOURS, ALPHA)), expected, atol=1)
    assert len(logged_warnings) == 1
    write_image(tmp_path / "p.jpg", Picture(COLOURS, None))
    assert len(logged_warnings) == 1


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_snapshots_starts_and_animations_keep_what_is_transparent(
    nstx: Nstx, cut_out: Path, painting: Path, tmp_path: Path, suffix: str
) -> None:
    if suffix == ".mp4" and not can_write_video():
        pytest.skip("PyAV is not installed")
    animation, start = tmp_path / f"a{suffix}", tmp_path / "start.png"
    arguments = [
        "optimize",
        cut_out,
        painting,
        "-o",
        tmp_path / "o.png",
        "--size",
        64,
        "--steps",
        2,
    ]
    arguments += ["--save-every", 1, "--animate", animation, "--save-init", start]
    arguments += [*OPTIONS[:-1], 2]
    code, _, err = nstx(*arguments)
    assert code == 0
    assert ("MP4" in err) == (suffix == ".mp4")
    coarse, fine = read_image(tmp_path / "o_0001.png"), read_image(tmp_path / "o_0002.png")
    np.testing.assert_array_equal(fine.alpha, ALPHA)
    np.testing.assert_array_equal(read_image(start).alpha, ALPHA)
    seen = ALPHA > 0
    np.testing.assert_array_equal(read_image(start).pixels[seen], COLOURS[seen])
    assert coarse.alpha is not None
    assert coarse.size < fine.size
    assert (coarse.alpha[:, 0].max(), coarse.alpha[:, -1].min()) == (0, 255)
    if suffix == ".mp4":
        return
    with Image.open(animation) as image:
        assert frame_count(image) in (2, 3)  # the last are alike
        image.seek(frame_count(image) - 1)
        last = np.asarray(image.convert("RGBA"))
    exact = ALPHA if suffix == ".webp" else np.where(ALPHA >= 128, 255, 0)
    np.testing.assert_array_equal(last[..., 3], exact)
    shows = exact > 0
    difference = last[..., :3][shows].astype(int) - fine.pixels[shows]
    assert np.abs(difference).mean() < 12
    assert abs(difference.mean()) < 3  # no darker


def test_a_gif_is_clear_or_opaque_and_nowhere_dark() -> None:
    half = with_alpha(np.full((20, 40, 3), 180, np.uint8), np.full((20, 40), 128, np.uint8))
    half[:, :10, 3] = 127
    data = encode_animation([half], ".gif")
    with Image.open(io.BytesIO(data)) as image:
        frame = np.asarray(image.convert("RGBA"))
    assert (frame[:, :10, 3] == 0).all()
    assert (frame[:, 10:] == (180, 180, 180, 255)).all()


def test_a_start_that_was_saved_begins_the_same_run(
    nstx: Nstx, cut_out: Path, painting: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start.png"
    common = ["--size", 64, "--steps", 2, *OPTIONS, "--no-manifest"]
    arguments = ["optimize", cut_out, painting, *common]
    assert nstx(*arguments, "-o", tmp_path / "a.png", "--save-init", start)[0] == 0
    assert nstx(*arguments, "-o", tmp_path / "b.png", "--init", start)[0] == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_comparison_shows_transparent_pictures_on_white(
    cut_out: Path, painting: Path, tmp_path: Path
) -> None:
    plan = plan_comparison("default", {"steps": (1,)}, size=64, scales=1, **LIGHT)
    jobs = ComparisonJobs(read_image(cut_out), [(read_image(painting), 1.0)], plan.runs)
    (tmp_path / "runs").mkdir()
    run, folder = plan.runs[0], ComparisonFolder(tmp_path)
    record = make_run(run, jobs.prepare(run), RunKey("1", "2", "3"), folder)
    names = name_files(run.name)
    np.testing.assert_array_equal(read_image(tmp_path / names.picture).alpha, ALPHA)
    film = unpack_film(tmp_path / names.film, record.result["film_steps"])
    assert film.frames[-1][:, :20].min() > 240
    assert film.frames[-1][:, 44:].mean() < 200


ORANGE = np.array((240.0, 120, 20))


def disc(dtype: type, matte: tuple[float, float, float]) -> Picture:
    """Return an orange disc on nothing, whose edge fades; what is hardly seen of it has a colour of its own."""
    rows, columns = np.mgrid[:60, :90]
    cover = ((25 - np.hypot(rows - 30, columns - 45)) / 4).clip(0, 1)[..., None]
    pixels: np.ndarray = np.where(cover > 0.3, ORANGE, np.where(cover > 0, matte, 0))
    return fill_transparent(
        Picture(pixels.astype(dtype), np.rint(255 * cover[..., 0]).astype(np.uint8))
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(30, 45), (23, 37), (100, 140)])
def test_edges_are_resized_with_premultiplied_colours(dtype: type, size: tuple[int, int]) -> None:
    clean = resize_picture(disc(dtype, tuple(ORANGE)), *size)
    np.testing.assert_allclose(clean, np.broadcast_to(ORANGE, clean.shape), atol=2)
    fringed = disc(dtype, (0, 255, 255))
    assert fringed.alpha is not None
    plain = resize_picture(replace(fringed, alpha=None), *size)
    weighed = resize_picture(fringed, *size)
    reference = premultiplied(fringed, *size)
    atol = 6 if dtype is np.uint8 else 0.05  # Pillow rounds between rows and columns
    np.testing.assert_allclose(weighed.clip(0, 255), reference.clip(0, 255), atol=atol)
    seen = resize_alpha(fringed, *size)
    assert seen is not None
    off = [np.abs(picture[seen > 100] - ORANGE).mean() for picture in (plain, weighed)]
    assert off[0] > 1.5 * off[1], off
    inside = seen_through(fringed, *size)
    np.testing.assert_array_equal(weighed[inside], plain[inside])


def premultiplied(picture: Picture, height: int, width: int) -> np.ndarray:
    """Return the mean of premultiplied colours over that of alpha, in float64."""
    assert picture.alpha is not None
    cover = picture.alpha / 255.0
    means, shares = [], []
    for name in ("lanczos", "hamming"):
        rows, columns = filters(picture.size, (height, width), name)
        colours = picture.pixels * cover[..., None]
        means.append(np.einsum("ia,jb,abc->ijc", rows, columns, colours))
        shares.append((rows @ cover @ columns.T)[..., None])
    rows, columns = filters(picture.size, (height, width), "lanczos")
    plain = np.einsum("ia,jb,abc->ijc", rows, columns, picture.pixels.astype(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        sharp, soft = (mean / share for mean, share in zip(means, shares, strict=True))
    weighed = np.where(shares[0] >= 0.25, sharp, np.where(shares[1] > 1e-7, soft, plain))
    result: np.ndarray = np.where(np.abs(shares[0] - 1) > 1e-3, weighed, plain)
    return result


def filters(olds: tuple[int, int], news: tuple[int, int], name: str) -> list[np.ndarray]:
    """Return the weights of a filter along height and along width, (new, old), by its definition."""
    matrices = []
    for old, new in zip(olds, news, strict=True):
        scale = max(old / new, 1.0)
        x = (np.arange(old) + 0.5 - (np.arange(new)[:, None] + 0.5) * old / new) / scale
        window, reach = (
            (np.sinc(x / 3), 3) if name == "lanczos" else (0.54 + 0.46 * np.cos(np.pi * x), 1)
        )
        weights = np.where(np.abs(x) < reach, np.sinc(x) * window, 0)
        matrices.append(weights / weights.sum(1, keepdims=True))
    return matrices


def seen_through(picture: Picture, height: int, width: int) -> np.ndarray:
    """Return where all that a filter of three lobes sees is opaque."""
    assert picture.alpha is not None
    far = Image.fromarray(picture.alpha).filter(ImageFilter.MinFilter(2 * 3 * 3 + 1))
    opaque: np.ndarray = np.asarray(far.resize((width, height), Image.Resampling.NEAREST)) == 255
    return opaque


def test_one_opacity_throughout_is_resized_as_if_it_were_opaque() -> None:
    pixels = random_pixels(40, 60, 2).astype(np.uint8)
    for opacity in (255, 128, 40, 1):
        picture = Picture(pixels, np.full((40, 60), opacity, np.uint8))
        resized = resize_picture(picture, 23, 31)
        atol = 1 if opacity >= 64 else 40  # by a softer filter
        np.testing.assert_allclose(
            resized, resize_picture(Picture(pixels, None), 23, 31), atol=atol
        )


def test_targets_of_another_transparency_are_others() -> None:
    pixels = random_pixels(40, 60, 2).astype(np.uint8)
    opaque, half = Picture(pixels, None), Picture(pixels, np.full((40, 60), 128, np.uint8))
    assert opaque.digest != half.digest
    assert half.digest == Picture(pixels, np.full((40, 60), 128, np.uint8)).digest
