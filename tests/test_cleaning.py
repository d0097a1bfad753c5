"""Cleaning: what it takes away, what it leaves, and that strips do not show."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nstx import Picture, choose_settings, evaluate_picture, prepare_job, run_job, stylize
from nstx.engine.artefacts import strips
from nstx.engine.artefacts.cleaning import clean_pixels
from nstx.engine.artefacts.grain import (
    BANDS,
    FIGURES,
    combine_grains,
    find_flatness,
    measure_flat,
    measure_grain,
    split,
)
from nstx.engine.artefacts.rim import measure_rim
from nstx.engine.artefacts.speckles import isolate
from nstx.engine.artefacts.strips import FROM_RGB, Values, measured_strips

Pixels = NDArray[np.float32]
SIZE = (140, 180)
NO_GRAIN = (0.0,) * FIGURES
LARGE = (255.0,) * FIGURES


def smooth_photograph(size: tuple[int, int] = SIZE) -> Pixels:
    """Return a sky above a busy ground."""
    height, width = size
    down = np.linspace(150, 200, height)[:, None, None]
    pixels = np.broadcast_to(down, (height, width, 3)).astype(np.float32).copy()
    ground = slice(2 * height // 3, None)
    pixels[ground] += np.random.default_rng(1).normal(0, 40, pixels[ground].shape)
    return pixels.clip(0, 255)


def ripple(size: tuple[int, int], strength: float, period: float = 3.5) -> Pixels:
    """Return a wave that runs aslant, of a root mean square."""
    y, x = np.mgrid[: size[0], : size[1]]
    wave = strength * np.sqrt(2) * np.sin(2 * np.pi * (x + 0.6 * y) / period)
    return np.repeat(wave[..., None], 3, 2).astype(np.float32)


def sky(pixels: Pixels) -> Pixels:
    """Return the inside of the sky, where it is without its slope."""
    part = pixels[20 : SIZE[0] // 2, 20:-20]
    level: Pixels = part - part.mean((1, 2), keepdims=True)
    return level


def test_a_ripple_in_the_sky_goes_and_the_ground_stays() -> None:
    photograph = smooth_photograph()
    picture = (photograph + ripple(SIZE, 5)).clip(0, 255)
    before = picture.copy()
    cleaned = clean_pixels(picture, photograph, NO_GRAIN)
    assert picture.tobytes() == before.tobytes()
    assert cleaned.dtype == np.float32
    assert sky(picture).std() > 4.5
    assert sky(cleaned).std() < 1
    ground = slice(2 * SIZE[0] // 3 + 20, -10)
    moved = np.abs(cleaned[ground] - picture[ground])[:, 10:-10].mean()
    assert moved < 0.05 * picture[ground].std()
    assert before.min() <= cleaned.min()
    assert cleaned.max() <= before.max()


def canvas(strength: float, seed: int) -> Pixels:
    """Return noise of a root mean square, without its coarsest parts."""
    noise = np.random.default_rng(seed).normal(0, 1, (*SIZE, 1))
    noise = noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)
    return np.repeat(strength * noise / noise.std(), 3, 2).astype(np.float32)


def test_a_paintings_own_grain_is_left() -> None:
    photograph = smooth_photograph()
    picture = (photograph + canvas(5, 1)).clip(0, 255)
    own = measure_grain(np.float32(128) + canvas(5, 2))
    assert own is not None
    cleaned = clean_pixels(picture, photograph, own)
    assert sky(cleaned).std() == pytest.approx(sky(picture).std(), rel=0.15)
    weaker = measure_grain(np.float32(128) + canvas(2, 2))
    assert weaker is not None
    cleaned = clean_pixels(picture, photograph, weaker)
    assert 1 < sky(cleaned).std() < 3


@pytest.mark.parametrize("width", [1, 2, 4])
def test_strokes_in_the_sky_stay(width: int) -> None:
    photograph = smooth_photograph()
    picture = (photograph + ripple(SIZE, 3)).clip(0, 255)
    stroke = np.zeros(SIZE, bool)
    stroke[30 : 30 + width, 40:120] = True
    picture[stroke] = 40
    cleaned = clean_pixels(picture, photograph, NO_GRAIN)
    assert np.abs(cleaned[stroke] - 40).mean() < 25 / width
    away = sky(cleaned)[30:, :]
    assert away.std() < 1.5


def lines(strength: float) -> Pixels:
    """Return dark lines of three pixels, 12 apart, across the sky."""
    strokes = np.zeros((*SIZE, 3), np.float32)
    for row in range(12, SIZE[0] // 2, 12):
        strokes[row : row + 3, 24:-24] = strength
    return strokes


def measure_bands(pixels: Pixels, photograph: Pixels) -> tuple[float, ...]:
    """Return the grain of a picture where the photograph is flat."""
    flatness = find_flatness(photograph)
    assert flatness is not None
    return (*np.sqrt(measure_flat(pixels, flatness)), 0.0)


def test_strokes_are_weakened_that_are_somewhat_stronger_than_the_paintings_own() -> None:
    photograph = smooth_photograph()
    strokes = lines(90)
    picture = (photograph - strokes).clip(0, 255)
    own = measure_bands(picture, photograph)

    def share_left(times: float) -> float:
        grain = tuple(value / times for value in own)
        left = photograph - clean_pixels(picture, photograph, grain)
        return float(left[24:60, 30:-30].std() / strokes[24:60, 30:-30].std())

    shares = {times: share_left(times) for times in (1.0, 1.4, 2.4, 20.0)}
    assert shares[1.0] > 0.9
    assert shares[1.4] > 0.9
    assert shares[2.4] < 0.92 * shares[1.0]
    assert shares[20.0] == pytest.approx(shares[1.4])


def test_faint_strokes_go_before_strong_ones() -> None:
    photograph = smooth_photograph()
    faint, strong = lines(24), lines(90)
    faint[:, SIZE[1] // 2 :] = 0
    strong[:, : SIZE[1] // 2] = 0
    picture = photograph - faint - strong
    own = measure_bands(picture, photograph)
    left = photograph - clean_pixels(picture, photograph, tuple(value / 2.2 for value in own))
    inside = slice(24, 60)
    faint_left = left[inside, 30:80].std() / faint[inside, 30:80].std()
    strong_left = left[inside, -80:-30].std() / strong[inside, -80:-30].std()
    assert faint_left < 0.5
    assert strong_left > 0.7


def test_speckles_go_but_for_those_that_the_painting_has() -> None:
    photograph = smooth_photograph()
    picture = photograph.copy()
    generator = np.random.default_rng(4)
    rows, columns = generator.integers(12, SIZE[0] // 2, 60), generator.integers(12, 168, 60)
    picture[rows, columns] = (250, 60, 60)
    own = measure_grain(picture)
    assert own is not None
    assert own[-1] > 20
    distance = np.abs(picture - photograph)[rows, columns].mean()
    left = np.abs(clean_pixels(picture, photograph, NO_GRAIN) - photograph)[rows, columns].mean()
    assert left < 0.3 * distance
    left = np.abs(clean_pixels(picture, photograph, own) - photograph)[rows, columns].mean()
    assert left > 0.8 * distance


def test_speckles_of_the_photograph_and_of_busy_areas_stay() -> None:
    photograph = smooth_photograph()
    busy = np.zeros((*SIZE, 3), np.float32)
    busy[: SIZE[0] // 2, : SIZE[1] // 2] = canvas(40, 3)[: SIZE[0] // 2, : SIZE[1] // 2]
    generator = np.random.default_rng(4)
    rows, columns = generator.integers(12, SIZE[0] // 2 - 12, 60), generator.integers(12, 168, 60)
    speckled = photograph.copy()
    speckled[rows, columns] = 250
    assert np.abs(clean_pixels(speckled, speckled, NO_GRAIN) - speckled)[12:-12, 12:-12].max() < 60
    is_busy = columns < SIZE[1] // 2 - 16
    cleaned = clean_pixels(speckled, (photograph + busy).clip(0, 255), NO_GRAIN)
    moved = np.abs(cleaned - speckled)[rows, columns].mean(1)
    assert moved[is_busy].max() < 25
    assert moved[columns > SIZE[1] // 2 + 16].mean() > 45


@pytest.mark.parametrize(
    ("stroke", "is_isolated"),
    [
        ([(0, 0)], True),
        ([(0, 0), (0, 1)], True),
        ([(0, n) for n in range(-2, 3)], False),
        ([(n, n) for n in range(-2, 3)], False),
        ([(0, 0), (0, 1), (1, 0), (1, 1)], False),
    ],
)
def test_a_pixel_is_isolated_if_hardly_a_neighbour_is_like_it(
    stroke: list[tuple[int, int]], is_isolated: bool
) -> None:
    around = np.random.default_rng(1).uniform(100, 101, (15, 17)).astype(np.float32)
    for row, column in stroke:
        around[7 + row, 8 + column] = 150
    where = np.zeros((11, 13), bool)
    where[5, 6] = True
    distance = isolate(around, where)
    assert distance == pytest.approx([49.5 if is_isolated else 0], abs=0.6)


GRID = np.random.default_rng(5).normal(0, 1, (8, 8, 1))


def tiled(tile: NDArray[np.float64], size: tuple[int, int]) -> Values:
    """Return a tile without its mean, laid all over a picture."""
    times = (size[0] // tile.shape[0] + 1, size[1] // tile.shape[1] + 1, 1)
    return np.asarray(np.tile(tile - tile.mean(), times)[: size[0], : size[1]], np.float32)


@pytest.mark.parametrize("size", [SIZE, (137, 181)])
@pytest.mark.parametrize("rows", [17, 128])
def test_what_repeats_with_the_grid_goes(
    size: tuple[int, int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "_STRIP", rows)
    plain = np.full((*size, 3), 120, np.float32)
    grain = np.random.default_rng(6).normal(0, 3, (*size, 3)).astype(np.float32)
    grid, inside = tiled(2 * GRID, size), (slice(8, -8), slice(8, -8))
    left = (clean_pixels(plain + grain + grid, plain, LARGE) - plain - grain)[inside]
    assert left.std() < 0.15 * grid.std()


@pytest.mark.parametrize(
    "kept", ["chance", "photograph", "half of it", "none of it", "period of 16", "hidden"]
)
def test_no_other_grid_goes_or_comes(kept: str) -> None:
    plain = np.full((*SIZE, 3), 120, np.float32)
    grain = np.random.default_rng(6).normal(0, 3, (*SIZE, 3)).astype(np.float32)
    photograph, picture, alpha = plain, plain + grain, None
    inside = (slice(8, -8), slice(8, -8))
    shares = {"photograph": 1.0, "half of it": 0.5, "none of it": 0.0}
    if kept in shares:
        photograph = plain + tiled(2 * GRID, SIZE)
        picture = plain + grain + shares[kept] * tiled(2 * GRID, SIZE)
    elif kept == "period of 16":
        half = np.random.default_rng(7).normal(0, 1, (8, 16, 1))
        picture = picture + tiled(np.concatenate([half, -half]), SIZE)
    elif kept == "hidden":
        alpha = np.zeros(SIZE, np.uint8)
        alpha[SIZE[0] // 2 :] = 255
        picture[: SIZE[0] // 2] += tiled(2 * GRID, SIZE)[: SIZE[0] // 2]
        inside = (slice(SIZE[0] // 2 + 12, -8), slice(8, -8))
    cleaned = clean_pixels(picture, photograph, LARGE, alpha)
    assert np.abs(cleaned - picture)[inside].mean() < 0.15


@pytest.mark.parametrize("turned", [False, True])
def test_a_stroke_does_not_repeat_itself(turned: bool) -> None:
    plain = np.full((*SIZE, 3), 160, np.float32)
    grain = np.random.default_rng(6).normal(0, 3, SIZE)[..., None]
    stroke = np.zeros(SIZE, bool)
    stroke[:, 40:44] = not turned
    stroke[50:54] |= turned
    picture = (plain + grain).astype(np.float32)
    picture[stroke] = 40
    away = (slice(70, -8), slice(60, -8))
    cleaned = clean_pixels(picture, plain, LARGE)
    assert np.abs(cleaned - picture)[away].max() < 0.5


@pytest.mark.parametrize("colour", [(1, -1, 0), (0, 1, -1)])
def test_ripples_of_colour_go_too(colour: tuple[int, int, int]) -> None:
    photograph = smooth_photograph()
    picture = (photograph + ripple(SIZE, 4) * np.array(colour, np.float32)).clip(0, 255)
    cleaned = clean_pixels(picture, photograph, NO_GRAIN)
    assert sky(cleaned).std() < 0.4 * sky(picture).std()


@pytest.mark.parametrize("depth", [3, 6])
def test_the_rim_is_like_what_lies_within(depth: int) -> None:
    generator = np.random.default_rng(3)
    picture: Pixels = generator.normal(120, 12, (160, 200, 3)).astype(np.float32)
    picture = ((picture + np.roll(picture, 1, 0) + np.roll(picture, 1, 1)) / 3).astype(np.float32)
    picture[:, -depth:] += np.array([-30, 40, -30], np.float32)
    picture[-2:] = np.where(np.arange(200) % 4 < 2, 250, 20)[None, :, None]
    cleaned = clean_pixels(picture, picture, LARGE)
    before, after = measure_rim(picture.astype(np.float64)), measure_rim(cleaned.astype(np.float64))
    assert before is not None
    assert after is not None
    assert before > 30
    assert after < 3
    inside = (slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(cleaned[inside], picture[inside], atol=0.02)


def test_a_stroke_beside_the_border_leaves_white_white() -> None:
    """A woodcut has no greys: what is black within the rim must not darken the paper on both sides of it."""
    picture = np.full((*SIZE, 3), 255, np.float32)
    picture[3:30, 60:68] = 0
    cleaned = clean_pixels(picture, picture, LARGE)
    paper = np.r_[:60, 68:180]
    np.testing.assert_allclose(cleaned[:3, paper], 255, atol=1)


def test_a_cast_at_the_border_goes_and_a_slope_stays() -> None:
    picture = np.full((*SIZE, 3), 100, np.float32)
    picture += 1.5 * np.arange(SIZE[1], dtype=np.float32)[None, :, None] / 2
    bent = picture.copy()
    bent[:3] += np.array([-20, 30, -10], np.float32)
    cleaned = clean_pixels(bent, picture, LARGE)
    np.testing.assert_allclose(cleaned[:3, 20:-20], picture[:3, 20:-20], atol=1)
    np.testing.assert_allclose(cleaned[20:-20, -3:], picture[20:-20, -3:], atol=1)


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    photograph = smooth_photograph()
    picture = (photograph + ripple(SIZE, 5)).clip(0, 255)
    whole = clean_pixels(picture, photograph, NO_GRAIN)
    for rows in (17, 64, 1000):
        monkeypatch.setattr(strips, "_STRIP", rows)
        in_strips = clean_pixels(picture, photograph, NO_GRAIN)
        np.testing.assert_allclose(in_strips, whole, atol=5e-3)


def test_a_share_of_a_large_picture_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and there, but only where it is flat."""
    size = (600, 200)
    painting = np.random.default_rng(0).normal(128, 40, (*size, 3)).astype(np.float32).clip(0, 255)
    painting[260:460] = 128 + ripple((200, 200), 4)
    whole = measure_grain(painting)
    monkeypatch.setattr(strips, "_MOST_MEASURED", 20_000)
    flatness = find_flatness(painting)
    assert flatness is not None
    measured = measured_strips(flatness.flat)
    assert len(measured) == 8
    assert all(flatness.flat[strip].any() for strip in measured)
    assert whole is not None
    assert measure_grain(painting) == pytest.approx(whole, rel=0.1, abs=0.05)
    photograph = painting.copy()
    photograph[260:460] = 128
    cleaned = clean_pixels(painting, photograph, NO_GRAIN)
    assert cleaned[290:430, 20:-20].std() < 0.25 * painting[290:430, 20:-20].std()


@pytest.mark.parametrize("size", [(64, 17_000), (3000, 64), (64, 64), (65, 66)])
def test_pictures_of_all_shapes_are_cleaned(size: tuple[int, int]) -> None:
    photograph = np.full((*size, 3), 120, np.float32)
    painting = photograph + ripple(size, 1)
    picture = photograph + ripple(size, 5)
    grain = measure_grain(painting)
    assert grain is not None
    assert np.isfinite(grain).all()
    cleaned = clean_pixels(picture, photograph, grain)
    inside = (slice(16, -16), slice(16, -16))
    assert cleaned[inside].std() < 0.5 * picture[inside].std()


def test_what_is_not_seen_says_nothing() -> None:
    half = np.full(SIZE, 255, np.uint8)
    half[: SIZE[0] // 2] = 0
    painting = np.float32(128) + canvas(8, 1)
    painting[: SIZE[0] // 2] = 128
    hidden, seen = measure_grain(painting), measure_grain(painting, half)
    assert hidden is not None
    assert seen is not None
    assert hidden[0] < 1
    assert seen[0] > 4
    assert measure_grain(painting, np.zeros(SIZE, np.uint8)) is None
    photograph = np.full((*SIZE, 3), 128, np.float32)
    picture = photograph + ripple(SIZE, 5)
    cleaned = clean_pixels(picture, photograph, NO_GRAIN, np.zeros(SIZE, np.uint8))
    np.testing.assert_array_equal(cleaned[8:-8, 8:-8], picture[8:-8, 8:-8])


def test_values_far_beyond_those_of_pictures_are_no_error() -> None:
    picture = smooth_photograph()
    picture[50, 50] = picture[1, 50] = 1e20
    cleaned = clean_pixels(picture, smooth_photograph(), NO_GRAIN)
    assert np.isfinite(cleaned).all()
    assert np.abs(cleaned - smooth_photograph())[60:80, 70:-8].max() < 0.05
    same = np.full((*SIZE, 3), 3e38, np.float32)
    np.testing.assert_array_equal(clean_pixels(same, smooth_photograph(), NO_GRAIN), same)


@pytest.mark.parametrize("size", [(64, 65), (97, 131)])
def test_bands_are_those_of_float64_and_add_up(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(5).uniform(0, 255, (*size, 3)).astype(np.float32)
    values = pixels.astype(np.float64) @ FROM_RGB.astype(np.float64)
    bands, rest = split(pixels, slice(0, size[0]))
    total = rest + sum(band[2:-2, 2:-2] for band in bands)
    np.testing.assert_allclose(total, values, atol=1e-3)
    for level, band in enumerate(bands):
        smooth = values
        for axis in (0, 1):
            smooth = np.apply_along_axis(smooth_line, axis, smooth, 2**level)
        inside = (slice(30, -30), slice(30, -30))
        exact = (values - smooth)[inside]
        np.testing.assert_allclose(band[2:-2, 2:-2][inside], exact, atol=1e-3)
        values = smooth


def smooth_line(line: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    kernel = np.zeros(4 * step + 1)
    kernel[::step] = np.array([1, 4, 6, 4, 1]) / 16
    mirrored = np.pad(line, 2 * step, mode="symmetric")
    return np.convolve(mirrored, kernel, mode="valid")


def test_flat_is_what_varies_least_about_a_plane() -> None:
    slope = np.linspace(0, 255, SIZE[1])[None, :, None] * np.ones((SIZE[0], 1, 3))
    slope[: SIZE[0] // 2] += np.random.default_rng(0).normal(0, 9, slope[: SIZE[0] // 2].shape)
    flatness = find_flatness(slope.astype(np.float32))
    assert flatness is not None
    assert not flatness.flat[: SIZE[0] // 2 - 12].any()
    assert flatness.flat[SIZE[0] // 2 + 16 : -16, 16:-16].mean() > 0.6
    assert flatness.share[: SIZE[0] // 2 - 12].max() < 0.2
    assert flatness.share.max() <= 1


def test_without_threads_the_same_is_done_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a thread that outlives the main one, or where no more may be started."""
    photograph = smooth_photograph()
    picture = (photograph + ripple(SIZE, 5)).clip(0, 255)
    expected = clean_pixels(picture, photograph, NO_GRAIN)

    def refuse(*_: object) -> object:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor", refuse)
    np.testing.assert_array_equal(clean_pixels(picture, photograph, NO_GRAIN), expected)


def test_small_pictures_have_no_grain_and_are_left() -> None:
    small = np.random.default_rng(0).uniform(0, 255, (63, 80, 3)).astype(np.float32)
    assert measure_grain(small) is None
    assert clean_pixels(small, small, NO_GRAIN) is small
    assert FIGURES == 2 * BANDS + 1


def test_grains_are_blended_by_their_weights() -> None:
    assert combine_grains([(None, 1.0), (None, 2.0)]) is None
    assert combine_grains([(None, 5.0), ((3.0, 1.0), 2.0)]) == (3.0, 1.0)
    blended = combine_grains([((1.0, 0.0, 5.0), 3.0), ((3.0, 2.0, 4.0), 1.0)])
    assert blended == pytest.approx((3**0.5, 1.0, 5.0))


FEW: Any = {"content_layers": "conv2_2", "style_layers": "conv1_1,conv2_1", "device": "cpu"}


def pictures(*sizes: tuple[int, int]) -> list[Picture]:
    return [
        Picture(np.random.default_rng(n).integers(0, 256, (*size, 3), np.uint8), None)
        for n, size in enumerate(sizes)
    ]


def test_the_default_result_is_cleaned_and_its_cost_is_the_cleaned_pictures() -> None:
    content, style = pictures((90, 120), (100, 80))
    settings = choose_settings(size=96, steps=3, precision="fp32", **FEW)
    assert settings.clean
    job = prepare_job(content, style, settings)
    assert job.grain is not None
    result = run_job(job)
    plain = run_job(prepare_job(content, style, replace(settings, clean=False)))
    assert (result.cleaned, plain.cleaned) == (True, False)
    assert result.pixels.tobytes() != plain.pixels.tobytes()
    expected = clean_pixels(plain.pixels, job.contents[-1], job.grain)
    np.testing.assert_allclose(result.pixels, expected, atol=1e-3)
    measured = evaluate_picture(Picture(result.pixels, None), content, style, settings)
    assert result.cost.total == pytest.approx(measured.total, rel=1e-4)


def test_paintings_too_small_to_say_what_is_clean_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    content, style = pictures((90, 120), (20, 80))
    job = prepare_job(content, style, size=96, steps=1, **FEW)
    assert job.grain is None
    assert "no painting shows 64 pixels" in caplog.text
    caplog.clear()
    prepare_job(content, style, size=96, steps=1, clean=False, **FEW)
    prepare_job(content, content, size=60, steps=1, **FEW)
    assert not caplog.text
    prepare_job(content, content, size=60, steps=1, preset="gatys", clean=True, **FEW)
    assert "under 64 pixels on a side" in caplog.text


@pytest.mark.parametrize("preset", ["coursera", "coursera-tf2", "gatys"])
def test_published_presets_are_not_cleaned_unless_asked(preset: str) -> None:
    assert not choose_settings(preset).clean
    assert choose_settings(preset, clean=True).clean


def test_a_run_that_is_interrupted_is_not_cleaned() -> None:
    content, style = pictures((90, 120), (100, 80))
    answers = iter([False, False, True])
    result = stylize(
        content, style, size=96, steps=9, should_stop=lambda: next(answers, True), **FEW
    )
    assert result.stopped == "interrupted"
    assert not result.cleaned


def test_an_option_says_whether_a_picture_is_cleaned(
    nstx: Callable[..., tuple[int, str, str]], save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    content, style = save_picture("c.png", 90, 120), save_picture("s.png", 100, 80, seed=1)
    for option, cleaned in ((["--preset", "gatys", "--clean"], True), (["--no-clean"], False)):
        out = tmp_path / f"{cleaned}.png"
        command = ["optimize", content, style, "-o", out, "--size", 96, "--steps", 2, "--json"]
        command += ["--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1"]
        code, printed, _ = nstx(*command, *option)
        assert code == 0
        assert json.loads(printed)["cleaned"] is cleaned
    assert (tmp_path / "True.png").read_bytes() != (tmp_path / "False.png").read_bytes()
