"""Linear maps of colours: one picture's colours with the mean and the covariance of others'.

x ↦ A (x − μ) + μₛ with A Σ Aᵀ = Σₛ. Of the maps that do this, A is the symmetric one, which moves the colours least:
A = Σ^-½ (Σ^½ Σₛ Σ^½)^½ Σ^-½ (Pitié and Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping for
example-based colour transfer"). Gatys et al. 2016 ("Preserving color in neural artistic style transfer") take
Cholesky's L_s L^-1 or the image analogies' Σₛ^½ Σ^-½. On six pairs of pictures all three looked much alike, but
Cholesky's depends on the order of the channels and gave black ink on white a colour of its own, and both make noise
up to three times stronger (4.7 and 2.9 times, against 1.6, for The Starry Night in a photograph's colours).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstx.models.storage.seals import digest_json

from ..pictures.picture import Picture, Pixels, WeightedPicture

# Added to variances, so that a flat channel is not stretched to noise; about that of rounding.
_LEAST_VARIANCE = 0.1
# Pixels of a large picture that are enough for its statistics.
_MOST_COLOURS = 1_000_000

_Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LinearMap:
    """A map of colours, RGB, 0–255, which cuts off what it moves beyond.

    Attributes:
        before: the mean that the colours have, (3,).
        matrix: what differences from it are multiplied with, (3, 3).
        after: the mean that they get, (3,).
    """

    before: _Numbers
    matrix: _Numbers
    after: _Numbers

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return colours (…, 3) as the map has them, float32."""
        before, after = (mean.astype(np.float32) for mean in (self.before, self.after))
        centred = pixels.astype(np.float32, copy=False) - before
        moved: Pixels = (centred @ self.matrix.T.astype(np.float32) + after).clip(0, 255)
        return moved.astype(np.float32, copy=False)

    @property
    def key(self) -> str:
        """What the mapped colours depend on besides themselves: the numbers, as they are used."""
        numbers = (self.before, self.matrix, self.after)
        return digest_json(["linear", *(part.astype(np.float32).tolist() for part in numbers)])


def match_colours(content: Picture, styles: Sequence[WeightedPicture]) -> Picture:
    """Return a picture whose colours have the mean and the covariance of the styles' colours.

    Weights average the styles' statistics; the pixels are float32, cut to 0–255.
    """
    return Picture(
        fit_map(content, styles)(content.pixels.astype(np.float32)), content.alpha, content.path
    )


def fit_map(picture: Picture, others: Sequence[WeightedPicture]) -> LinearMap:
    """Return the map by which a picture's colours get the mean and the covariance of others' colours.

    What is not seen of a picture does not count, and what is half seen counts by half.
    """
    mean, covariance = _statistics(picture)
    shares = np.array([weight for _, weight in others], np.float64)
    shares /= shares.sum()
    means, covariances = zip(*(_statistics(other) for other, _ in others), strict=True)
    after = sum(share * term for share, term in zip(shares, means, strict=True))
    other_covariance = sum(share * term for share, term in zip(shares, covariances, strict=True))
    root = _power(covariance, 0.5)
    inverse = _power(covariance, -0.5)
    matrix = inverse @ _power(root @ other_covariance @ root, 0.5) @ inverse
    return LinearMap(mean, matrix, np.asarray(after, np.float64))


def _statistics(picture: Picture) -> tuple[_Numbers, _Numbers]:
    """Return the mean (3,) and the covariance (3, 3) of a picture's colours, as they are used."""
    colours = picture.pixels.reshape(-1, 3)
    step = max(1, len(colours) // _MOST_COLOURS)
    colours = colours[::step]
    if picture.recolouring is not None:
        colours = picture.recolouring(colours.astype(np.float32))
    alpha = None if picture.alpha is None else picture.alpha.reshape(-1)[::step]
    if alpha is None or alpha.min() == alpha.max():
        mean = colours.mean(0, dtype=np.float64)
        centred = colours - mean
        covariance = centred.T @ centred / len(colours)
    else:
        weights = alpha / alpha.sum(dtype=np.float64)
        mean = weights @ colours
        centred = colours - mean
        covariance = centred.T @ (centred * weights[:, None])
    return mean, covariance + _LEAST_VARIANCE * np.eye(3)


def _power(matrix: _Numbers, exponent: float) -> _Numbers:
    """Return a power of a symmetric, positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    powered: _Numbers = (vectors * values.clip(1e-12) ** exponent) @ vectors.T
    return powered
