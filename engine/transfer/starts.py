"""The picture that a run starts from: noise, the content, or it in the styles' colours."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..pictures.picture import Picture, Pixels, WeightedPicture
from ..pictures.resizing import resize_picture

# The assignment's start: 0.6·U(−20, 20) + 0.4·content, in mean-subtracted pixels.
_NOISE_RANGE, _NOISE_RATIO = 20.0, 0.6

# That of the assignment since it uses TensorFlow 2: content + U(−0.25, 0.25), on the scale 0–1.
_NOISY_RANGE = 0.25 * 255

# Added to variances, so that a flat channel is not stretched to noise; about that of rounding.
_LEAST_VARIANCE = 0.1
# Pixels of a large picture that are enough for its statistics.
_MOST_COLOURS = 1_000_000


def make_start(init: str | Picture, content: Pixels, mean: Sequence[float], seed: int) -> Pixels:
    """Return the start at the content picture's size, float32 (height, width, 3).

    ``content``; ``noise``, the mean colour (RGB) plus U(−20, 20); ``blend``, the mean colour plus
    0.6·U(−20, 20) + 0.4·(content − mean); ``noisy``, the content plus U(−63.75, 63.75), cut to
    0–255; or a picture.
    """
    height, width = content.shape[:2]
    if isinstance(init, Picture):
        return resize_picture(init, height, width)
    if init == "content":
        return content.copy()
    if init == "noisy":
        generator = np.random.default_rng(seed)
        added = generator.uniform(-_NOISY_RANGE, _NOISY_RANGE, content.shape).astype(np.float32)
        noisy: Pixels = (content + added).clip(0, 255)
        return noisy
    colour = np.asarray(mean, np.float32)
    generator = np.random.default_rng(seed)
    noise = generator.uniform(-_NOISE_RANGE, _NOISE_RANGE, content.shape).astype(np.float32)
    if init == "noise":
        return colour + noise
    blended: Pixels = colour + _NOISE_RATIO * noise + (1 - _NOISE_RATIO) * (content - colour)
    return blended.astype(np.float32)


def match_colours(content: Picture, styles: Sequence[WeightedPicture]) -> Picture:
    """Return a picture whose colours have the mean and the covariance of the styles' colours.

    By the linear map that moves the colours least, Σ^-½ (Σ^½ Σₛ Σ^½)^½ Σ^-½ with the covariances
    Σ of the picture and Σₛ of the styles (Pitié and Kokaram 2007, "The linear Monge-Kantorovitch
    linear colour mapping for example-based colour transfer"). Weights average the styles'
    statistics; the pixels are float32, cut to 0–255.
    """
    mean, covariance = _statistics(content)
    shares = np.array([weight for _, weight in styles], np.float64)
    shares /= shares.sum()
    means, covariances = zip(*(_statistics(style) for style, _ in styles), strict=True)
    style_mean = sum(share * term for share, term in zip(shares, means, strict=True))
    style_covariance = sum(share * term for share, term in zip(shares, covariances, strict=True))
    root = _power(covariance, 0.5)
    inverse = _power(covariance, -0.5)
    matrix = inverse @ _power(root @ style_covariance @ root, 0.5) @ inverse
    centred = content.pixels.astype(np.float32) - mean.astype(np.float32)
    pixels = centred @ matrix.T.astype(np.float32)
    moved = (pixels + np.asarray(style_mean, np.float32)).clip(0, 255)
    return Picture(moved.astype(np.float32), content.alpha, content.path)


def _statistics(picture: Picture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean (3,) and the covariance (3, 3) of a picture's colours."""
    colours = picture.pixels.reshape(-1, 3)
    colours = colours[:: max(1, len(colours) // _MOST_COLOURS)]
    mean = colours.mean(0, dtype=np.float64)
    centred = colours - mean
    return mean, centred.T @ centred / len(colours) + _LEAST_VARIANCE * np.eye(3)


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Return a power of a symmetric, positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    powered: NDArray[np.float64] = (vectors * values.clip(1e-12) ** exponent) @ vectors.T
    return powered
