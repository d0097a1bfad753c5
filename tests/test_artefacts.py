"""Figures of artefacts, on pictures that are made to have them."""

import json
import runpy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nstx import measure_artefacts
from nstx.engine.artefacts.measure import find_artefacts
from nstx.engine.artefacts.rim import measure_rim
from nstx.engine.artefacts.ripple import _count_shared, find_flat, measure_texture
from nstx.engine.artefacts.untouched import measure_untouched
from nstx.models.errors import UsageError

Floats = NDArray[np.float64]
SIZE = (144, 192)


def natural(seed: int, size: tuple[int, int] = SIZE) -> Floats:
    """Return a colour picture whose amplitudes fall with the frequency, as photographs' do."""
    generator = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])
    falling = 1 / np.maximum(np.hypot(down, across), 1 / max(size))
    layers = [
        np.fft.irfft2(np.fft.rfft2(generator.normal(size=size)) * falling, s=size) for _ in range(3)
    ]
    stacked = np.stack(layers, 2)
    picture: Floats = (128 + 25 * stacked / stacked.std()).clip(0, 255)
    return picture


def wave(period: float) -> Floats:
    """Return a wave across a picture of grey, of which a root mean square is 5."""
    values: Floats = 128 + 5 * np.sqrt(2) * np.sin(2 * np.pi * np.arange(SIZE[1]) / period)
    return np.tile(values, (SIZE[0], 1))


@pytest.mark.parametrize(("period", "band"), [(2.4, 0), (4.0, 1), (6.0, 2)])
def test_a_wave_is_seen_in_its_band_at_its_strength(period: float, band: int) -> None:
    texture = measure_texture(wave(period), np.ones(len_windows(), bool))
    assert texture.ripple[band] == pytest.approx(5, rel=0.1)
    assert all(value < 2 for index, value in enumerate(texture.ripple) if index != band)


def len_windows(size: tuple[int, int] = SIZE) -> int:
    """Return how many windows a picture has."""
    flat = find_flat(np.zeros(size))
    assert flat is not None
    return len(flat)


def test_noise_has_the_variance_that_it_was_made_with() -> None:
    noise = np.random.default_rng(0).normal(128, 7, SIZE)
    texture = measure_texture(noise, np.ones(len_windows(), bool))
    # All frequencies but those of periods above 9 pixels, an annulus of π / 9².
    expected = 7 * np.sqrt(1 - np.pi / 81)
    assert np.linalg.norm(texture.ripple) == pytest.approx(expected, rel=0.05)
    assert max(texture.locked) < 0.15 * expected


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_what_repeats_with_a_stride_is_locked_to_its_grid(stride: int) -> None:
    generator = np.random.default_rng(stride)
    tile = generator.normal(size=(stride, stride))
    if stride > 2:  # without what a smaller stride has
        half = stride // 2
        tile -= np.tile(tile.reshape(2, half, 2, half).mean((0, 2)), (2, 2))
    tile *= 4 / np.sqrt((tile**2).mean())
    picture = 128 + np.tile(tile - tile.mean(), (SIZE[0] // stride, SIZE[1] // stride))
    texture = measure_texture(picture, np.ones(len_windows(), bool))
    index = (2, 4, 8).index(stride)
    assert texture.locked[index] == pytest.approx(
        np.sqrt(((tile - tile.mean()) ** 2).mean()), rel=0.1
    )
    assert all(value < 0.5 for other, value in enumerate(texture.locked) if other != index)


def test_texture_is_hardly_ever_locked_by_chance() -> None:
    """Half of the windows, of which a third has texture that is three times as strong."""
    generator = np.random.default_rng(12)
    flat = generator.random(len_windows()) < 0.5
    locked = []
    for _ in range(60):
        noise = generator.normal(128, 5, SIZE)
        noise[:, :64] = 128 + 3 * (noise[:, :64] - 128)
        locked.append(measure_texture(noise, flat).locked)
    assert (np.array(locked) > 0).mean() < 0.07
    assert np.max(locked) < 2


def test_what_texture_has_by_chance_is_taken_off() -> None:
    """The mean square of a sum of windows that overlap, over many pictures, beside what is predicted of each."""
    generator = np.random.default_rng(13)
    flat = generator.random(len_windows()) < 0.6
    corners = np.argwhere(np.ones(((SIZE[0] - 40) // 8 + 1, (SIZE[1] - 40) // 8 + 1)))[flat] * 8 + 8
    hann = np.hanning(26)[1:-1]
    sums, predicted = [], []
    for _ in range(60):
        noise = generator.normal(0, 5, SIZE)
        noise[: SIZE[0] // 2] *= 2
        windows = np.stack([noise[y : y + 24, x : x + 24] for y, x in corners])
        spectra = np.fft.fft2(windows * hann[:, None] * hann)[:, 3::3, 3::3]
        sums.append((np.abs(spectra.sum(0)) ** 2).mean())
        shared = _count_shared(SIZE, flat)
        predicted.append((np.abs(spectra) ** 2 * shared[:, None, None]).sum(0).mean())
    assert np.mean(sums) == pytest.approx(np.mean(predicted), rel=0.08)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_weak_grid_below_strong_texture_is_found(stride: int) -> None:
    generator = np.random.default_rng(14)
    tile = np.zeros((stride, stride))
    tile[0, 0] = 1
    size = (240, 320)
    grid = np.tile(tile - tile.mean(), (size[0] // stride, size[1] // stride))
    picture = 128 + generator.normal(0, 4, size) + grid / grid.std()
    figures = measure_texture(picture, np.ones(len_windows(size), bool))
    assert 0.4 < np.linalg.norm(figures.locked) < 1.1


def test_flat_windows_are_those_of_the_sky() -> None:
    picture = natural(1)[..., 0]
    picture[: SIZE[0] // 2] = np.linspace(100, 180, SIZE[1])  # a sky
    flat = find_flat(picture)
    assert flat is not None
    rows, columns = (SIZE[0] - 16 - 24) // 8 + 1, (SIZE[1] - 16 - 24) // 8 + 1
    chosen = flat.reshape(rows, columns)
    assert flat.mean() == pytest.approx(0.3, abs=0.1)
    assert not chosen[rows // 2 :].any()


@pytest.mark.parametrize("seed", range(8))
def test_natural_pictures_have_no_artefacts(seed: int) -> None:
    picture, style = (natural(n).astype(np.float32) for n in (seed, seed + 50))
    figures = find_artefacts(picture, picture, [style])
    assert figures.ripple == figures.locked == 0
    assert figures.untouched == 0
    assert figures.speckles is not None
    assert figures.speckles < 0.2
    assert figures.rim is not None
    assert figures.rim < 1


@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("depth", [2, 4])
def test_a_strip_at_a_border_stands_out(side: int, depth: int) -> None:
    picture = natural(3)
    turned = np.rot90(picture, side)
    turned[:depth, :, 1] += 40  # a view: greenish
    assert (measure_rim(picture) or 0) > 2


def test_speckles_are_counted_where_it_is_flat() -> None:
    content, style = (natural(n).astype(np.float32) for n in (4, 5))
    picture = content.copy()
    generator = np.random.default_rng(6)
    spots = generator.choice(picture.shape[0] * picture.shape[1], 100, replace=False)
    picture.reshape(-1, 3)[spots] += 120
    figures = find_artefacts(picture, content, [style])
    expected = 1000 * 100 / (144 * 192)
    assert expected / 2 < (figures.speckles or 0) < 2 * expected


def test_untouched_areas_are_measured() -> None:
    content = natural(7)
    picture = content + np.random.default_rng(8).normal(0, 30, content.shape)
    white = [np.full((60, 60, 3), 255.0)]
    assert measure_untouched(picture, content, white) == 0
    picture[:72, :96] = content[:72, :96]
    assert 0.18 < measure_untouched(picture, content, white) < 0.25
    assert measure_untouched(content, content, white) == 0


def test_what_has_a_colour_of_the_paintings_may_stay() -> None:
    content = np.full((*SIZE, 3), 90.0)
    picture = content + np.random.default_rng(8).normal(0, 30, content.shape)
    picture[:72, :96] = content[:72, :96]
    painting = np.full((50, 70, 3), 200.0)
    assert measure_untouched(picture, content, [painting]) > 0.15
    painting[:30, :40] = 95
    assert measure_untouched(picture, content, [painting]) == 0


def test_small_pictures_have_fewer_figures() -> None:
    small = natural(9, (40, 40)).astype(np.float32)
    figures = find_artefacts(small, small, [small])
    assert (figures.ripple, figures.locked, figures.rim, figures.speckles) == (None,) * 4
    assert figures.picture is None
    assert figures.untouched == 0
    with pytest.raises(UsageError, match="16 or more"):
        measure_artefacts(small[:8], small, small)


def test_evaluate_prints_them(nstx: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    content, style = natural(10, (96, 112)), natural(11, (96, 112))
    noisy = content + np.random.default_rng(0).normal(0, 20, content.shape)
    pictures = {"out.png": noisy, "c.png": content, "s.png": style}
    for name, pixels in pictures.items():
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / name)
    arguments = [
        tmp_path / "out.png",
        "--content",
        tmp_path / "c.png",
        "--style",
        tmp_path / "s.png",
        *("--content-layers", "conv1_1", "--style-layers", "conv1_1"),
    ]
    code, out, _ = nstx("evaluate", *arguments, "--artefacts", "--json")
    assert code == 0
    figures = json.loads(out)["artefacts"]
    image, photograph, painting = (tmp_path / name for name in pictures)
    expected = measure_artefacts(image, photograph, painting)
    assert figures == json.loads(json.dumps(asdict(expected)))
    assert figures["ripple"] > 5
    code, out, _ = nstx("evaluate", *arguments, "--artefacts")
    assert f"ripple    {figures['ripple']:5.2f}" in out


def test_the_sheet_shows_that_figures_rise_with_what_they_are_for() -> None:
    """Of `docs/artefacts.jpg`."""
    script = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "artefacts.py"))
    size = (160, 176)
    photograph = np.full((*size, 3), 60, np.float32)
    style = natural(51, size).astype(np.float32)
    picture = (natural(3, size) * 0.1 + 180).astype(np.float32)
    share = np.ones(size, np.float32)
    before = asdict(find_artefacts(picture, photograph, [style]))
    for name, (worse, _) in script["add_artefacts"](picture, photograph, share).items():
        assert asdict(find_artefacts(worse, photograph, [style]))[name] > before[name]
    assert script["draw"](picture, photograph, [style], share).size == (1232, 524)
