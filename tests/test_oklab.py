"""OKLab, greys and chroma, against a reference in float64 that is written from Ottosson's description."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import random_pixels

from nstx.engine.colours.histogram import match_histograms
from nstx.engine.colours.oklab import from_oklab, to_grey, to_oklab, with_chroma

Numbers = NDArray[np.float64]

EVERY = np.stack(
    np.meshgrid(*[np.array([0, 1, 2, 7, 40, 128, 200, 254, 255])] * 3), -1
).reshape(27, 27, 3).astype(np.float32)  # fmt: skip
"""Colours of all kinds, with the corners of the gamut."""


def reference(pixels: NDArray[np.float32]) -> Numbers:
    """Return L, a and b in float64, one after another."""
    share = pixels.astype(np.float64) / 255
    light = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    r, g, b = np.moveaxis(light, -1, 0)
    long = np.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = np.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = np.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return np.stack(
        [
            0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
            1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
            0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
        ],
        -1,
    )


def test_colours_are_those_of_the_reference_and_come_back() -> None:
    np.testing.assert_allclose(to_oklab(EVERY), reference(EVERY), atol=2e-6)
    np.testing.assert_allclose(from_oklab(to_oklab(EVERY)), EVERY, atol=5e-3)
    white, red = reference(np.array([[255.0, 255, 255], [255, 0, 0]], np.float32))
    np.testing.assert_allclose(white, [1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(red, [0.62796, 0.22486, 0.12585], atol=1e-4)  # as published


def test_greys_are_as_light_as_their_colours_and_stay_as_they_are() -> None:
    grey = to_grey(EVERY)
    assert (grey == grey[..., :1]).all()
    np.testing.assert_allclose(reference(grey)[..., 0], reference(EVERY)[..., 0], atol=1e-5)
    assert (to_grey(grey) == grey).all()


def test_values_beyond_a_picture_are_no_trouble() -> None:
    far = np.array([[[-40.0, 300, 0]], [[-1, -2, -3]]], np.float32)
    grey = to_grey(far)
    assert np.isfinite(grey).all()
    assert grey[1].max() < 0
    coloured = with_chroma(grey, far)
    assert (coloured.min(), coloured.max()) >= (0, 0)
    assert coloured.max() <= 255


def test_a_picture_gets_its_own_colours_back() -> None:
    np.testing.assert_allclose(with_chroma(to_grey(EVERY), EVERY), EVERY, atol=0.02)
    photo = random_pixels(33, 47, 1).round()
    assert (np.rint(with_chroma(to_grey(photo), photo)) == photo).all()


def test_chroma_is_the_contents_wherever_there_is_such_a_colour() -> None:
    levels = np.random.default_rng(3).uniform(0, 255, (27, 27, 1)).repeat(3, 2).astype(np.float32)
    coloured = with_chroma(levels, EVERY)
    assert coloured.min() >= 0
    assert coloured.max() <= 255
    lightness, before, after = (reference(part) for part in (levels, EVERY, coloured))
    mixed = np.concatenate([lightness[..., :1], before[..., 1:]], -1).astype(np.float32)
    exact = from_oklab(mixed)
    inside = ((exact >= 0) & (exact <= 255)).all(-1)
    assert 0.2 < inside.mean() < 0.9
    # Where it can be, it is the exact colour; elsewhere chroma is smaller, and hue and lightness stay.
    assert np.abs(coloured - exact)[inside].max() < 0.05
    chroma = [np.hypot(part[..., 1], part[..., 2]) for part in (before, after)]
    assert (chroma[1] <= chroma[0] + 2e-2)[~inside].all()
    bright = ~inside & (levels[..., 0] > 40)
    np.testing.assert_allclose(after[..., 0][bright], lightness[..., 0][bright], atol=4e-3)
    turned = after[..., 1] * before[..., 2] - after[..., 2] * before[..., 1]
    assert np.abs(turned[bright]).max() < 2e-3
    # And no smaller than need be; but in some blues, whose red touches 0, comes back and leaves again.
    more = after[..., 1:] * 1.05
    beyond = from_oklab(np.concatenate([lightness[..., :1], more], -1).astype(np.float32))[bright]
    assert ((beyond < 0) | (beyond > 255)).any(-1).mean() > 0.97


@pytest.mark.parametrize("size", [(31, 45), (32, 46)])
def test_histograms_become_the_contents(size: tuple[int, int]) -> None:
    picture, content = random_pixels(*size, 1) * 0.4 + 90, random_pixels(*size, 2).round()
    matched = match_histograms(picture, content)
    for channel in range(3):
        # Ranks stay, and the value of each rank is the content's.
        order = picture[..., channel].argsort(axis=None, kind="stable")
        ours = matched[..., channel].ravel()[order]
        assert (np.diff(ours) >= 0).all()
        missing = np.abs(ours - np.sort(content[..., channel], axis=None))
        assert missing.mean() < 0.5
        assert np.quantile(missing, 0.98) < 3
    np.testing.assert_allclose(match_histograms(content, content), content, atol=1e-3)


def test_histograms_of_what_is_seen() -> None:
    picture, content = random_pixels(24, 30, 1), random_pixels(24, 30, 2).round()
    alpha = np.full((24, 30), 255, np.uint8)
    alpha[:10] = 0
    other_picture, other_content = picture.copy(), content.copy()
    other_picture[:10], other_content[:10] = 3, 250
    seen = match_histograms(picture, content, alpha)[10:]
    assert (match_histograms(other_picture, other_content, alpha)[10:] == seen).all()
    np.testing.assert_allclose(seen, match_histograms(picture[10:], content[10:]), atol=1e-3)
    assert not np.allclose(seen, match_histograms(other_picture, other_content)[10:], atol=5)
    flat = np.full_like(picture, 128)
    for pair in ((flat, content), (content, flat), (flat, flat)):
        assert np.isfinite(match_histograms(*pair, np.zeros_like(alpha))).all()
    np.testing.assert_allclose(match_histograms(content, flat), 128, atol=0.51)
    assert match_histograms(picture, content).min() >= content.min()
