"""The content in the colours of the styles."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import random_pixels

from nstx import Picture, choose_settings, prepare_job
from nstx.engine.colours.linear import fit_map, match_colours

Colour = tuple[float, float, float]


def coloured(seed: int, scale: Colour, shift: Colour) -> Picture:
    """A picture whose colours are correlated in a way of their own and stay within 0–255."""
    mixed = (random_pixels(60, 80, seed) - 127.5) @ np.array(
        [[0.3, 0.1, 0.0], [0.0, 0.3, 0.2], [0.1, 0.0, 0.3]]
    )
    return Picture((mixed * scale + shift).astype(np.float32), None)


CONTENT = coloured(1, (0.8, 0.5, 0.3), (120, 100, 90))
STYLE = coloured(2, (0.3, 0.6, 0.9), (100, 130, 150))


def statistics(picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    colours = picture.pixels.reshape(-1, 3).astype(np.float64)
    return colours.mean(0), np.cov(colours.T)


def test_mean_and_covariance_are_the_styles() -> None:
    matched = match_colours(CONTENT, [(STYLE, 1.0)])
    for ours, expected in zip(statistics(matched), statistics(STYLE), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1.5)
    assert not np.allclose(statistics(CONTENT)[1], statistics(STYLE)[1], atol=30)


def test_a_picture_in_its_own_colours_stays_as_it_is() -> None:
    matched = match_colours(CONTENT, [(CONTENT, 2.0)])
    np.testing.assert_allclose(matched.pixels, CONTENT.pixels, atol=1e-2)


def test_several_styles_are_averaged_by_their_weights() -> None:
    other = coloured(3, (0.9, 0.2, 0.4), (140, 90, 110))
    mean, covariance = statistics(match_colours(CONTENT, [(STYLE, 3.0), (other, 1.0)]))
    expected = [
        0.75 * a + 0.25 * b for a, b in zip(statistics(STYLE), statistics(other), strict=True)
    ]
    np.testing.assert_allclose(mean, expected[0], atol=0.5)
    np.testing.assert_allclose(covariance, expected[1], atol=1.5)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_pictures_of_one_colour_are_no_trouble(value: int) -> None:
    flat = Picture(np.full((20, 30, 3), value, np.uint8), None)
    for pictures in ((flat, CONTENT), (CONTENT, flat), (flat, flat)):
        matched = match_colours(pictures[0], [(pictures[1], 1.0)])
        assert np.isfinite(matched.pixels).all()
        assert matched.pixels.min() >= 0
        assert matched.pixels.max() <= 255
    assert match_colours(flat, [(flat, 1.0)]).pixels == pytest.approx(value, abs=0.01)


def test_a_run_starts_from_it_at_every_scale() -> None:
    settings = choose_settings(size=48, scales=2, init="matched", device="cpu", backend="onnx")
    job = prepare_job(CONTENT, [(STYLE, 1.0)], settings)
    for scale in (0, 1):
        start = job.start(scale)
        assert start.shape[:2] == job.sizes[scale]
        np.testing.assert_allclose(start.mean((0, 1)), statistics(STYLE)[0], atol=2)


def test_targets_alone_have_no_colours(
    nstx: Callable[..., tuple[int, str, str]], save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    file = tmp_path / "t.safetensors"
    assert (
        nstx("precompute", "--content", content, "--style", style, "-o", file, "--size", 48)[0] == 0
    )
    more = ["--device", "cpu", "--steps", 2, "--init", "matched"]
    code, _, err = nstx("optimize", "--targets", file, "-o", tmp_path / "o.png", *more)
    assert code == 2
    assert "style pictures" in err
    code, out, _ = nstx(
        "optimize", content, style, "-o", tmp_path / "o.png", "--size", 48, "--json", *more
    )
    assert code == 0
    assert json.loads(out)["init"] == "matched"


def test_what_is_not_seen_does_not_count() -> None:
    alpha = np.zeros((60, 80), np.uint8)
    alpha[:40] = 255
    pixels = STYLE.pixels.copy()
    pixels[40:] = (255, 0, 255)
    seen = match_colours(CONTENT, [(Picture(pixels, alpha), 1.0)]).pixels
    cropped = match_colours(CONTENT, [(Picture(STYLE.pixels[:40], None), 1.0)]).pixels
    np.testing.assert_allclose(seen, cropped, atol=0.01)
    alpha[:40] = 128  # of which all counts alike
    alpha[:40, :40] = 64
    half = match_colours(CONTENT, [(Picture(pixels, alpha), 1.0)]).pixels
    parts = [
        (Picture(STYLE.pixels[:40, 40:], None), 2.0),
        (Picture(STYLE.pixels[:40, :40], None), 1.0),
    ]
    expected = np.average([part.pixels.mean((0, 1)) for part, _ in parts], 0, [2, 1])
    np.testing.assert_allclose(half.mean((0, 1)), expected, atol=1)


def test_the_map_is_the_symmetric_one() -> None:
    matrix = fit_map(CONTENT, [(STYLE, 1.0)]).matrix
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert np.linalg.eigvalsh(matrix).min() > 0
    swapped = [Picture(picture.pixels[..., ::-1].copy(), None) for picture in (CONTENT, STYLE)]
    reverse = fit_map(swapped[0], [(swapped[1], 1.0)]).matrix
    np.testing.assert_allclose(reverse[::-1, ::-1], matrix, atol=1e-6)
