"""Transparent pictures: their own colours are optimised, and their alpha comes back as it was."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import frame_count, random_pixels
from PIL import Image

import nstx as library
from nstx.engine.comparison.folder import ComparisonFolder
from nstx.engine.comparison.plan import plan_comparison
from nstx.engine.comparison.records import RunKey, name_files
from nstx.engine.comparison.runs import ComparisonJobs, make_run
from nstx.engine.drawing.animation import can_write_video, encode_animation
from nstx.engine.drawing.film_strip import unpack_film
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.resizing import resize_channel
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
    common = ["--size", 64, "--steps", 2, *OPTIONS]
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
