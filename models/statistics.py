"""Statistics of style layers: what of an activation is compared, as data.

Let F be the activation of a layer, C channels by N positions; G = F Fᵀ / N, μ = F 1 / N, Σ = G − μ μᵀ and
σ² = diag Σ; of the target G*, μ*, Σ*, σ*. The costs, before the objective's factor and weights::

    gram         mean (G − G*)²                                             (over the C² entries)
    covariance   mean (Σ − Σ*)²
    mean-std     mean (μ − μ*)² + mean (σ − σ*)²                            (Li et al. 2017, arXiv 1701.01036)
    wasserstein  mean (μ − μ*)² + tr (Σ + Σ* − 2 (Σ*^½ Σ Σ*^½)^½) / C       (of Gaussians, squared)

Departures: in ``mean-std`` σ = √(max(σ², 0) + ε), so that a channel that is dead has a gradient. In
``wasserstein`` a ridge is added to each covariance, `RIDGE` times its own G's mean diagonal: so that the map has
a value where there are fewer positions than channels, and float32 computes it. It is the cost of the covariances
with their ridges throughout, of which the gradient is exact, and 0 where both pictures agree.

In an objective with relative costs each is divided by what it is at an activation of 0, or by 1 where that is
less: ``gram`` by mean G*², ``covariance`` by mean Σ*², the others by tr G* / C, the mean square of the activation.

Of a region, positions count by shares s ≥ 0 that sum to 1, a mask's values over their sum: G = F diag(s) Fᵀ and
μ = F s. Else each share is 1 / N. Of several regions each has shares, a target and its cost; a layer's is Σ aᵣ Jᵣ, with
aᵣ the region's part of all regions' area, so that a style counts as much at each pixel as if there were one. (Gatys et
al. 2017, arXiv 1611.07865, weigh them alike, whatever their size.)

All but ``gram`` follow from the moments, the Gram matrix of F with a channel of ones: G, bordered by μ, with a 1
in the corner. Moments of pictures and of their parts add up as Gram matrices do; Σ and σ do not.
"""

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Statistic = Literal["gram", "covariance", "mean-std", "wasserstein"]
"""Of a style layer."""

STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

MOST_REGIONS = 64
"""That have targets of their own."""

RIDGE = 0.05
"""Of ``wasserstein``, as a share of tr G / C. With it gradients in float32 are within 1e-4 of float64's, with a
tenth of it within 1e-3. It is of G and not of Σ, as Σ of a flat picture is but the rounding of G."""

DEVIATION_FLOOR = 1e-4
"""ε of ``mean-std``, as a share of tr G* / C."""

LEAST = 1e-3
"""What both have at least: activations of pictures are in the tens and hundreds."""

ROOT_STEPS = 24
"""Steps of Newton–Schulz for the root of a matrix: the largest condition that the ridge leaves to 512 channels is
(512 / RIDGE)² = 1e8, of which 2.25^23 is the reciprocal."""


def style_side(statistic: Statistic, channels: int) -> int:
    """Return how many rows and columns a layer's target has: moments have one more than channels."""
    return channels if statistic == "gram" else channels + 1


def covariance_root(moments: "NDArray[np.floating]") -> "NDArray[np.float64]":
    """Return (Σ + ridge)^½, (C, C), of moments (C + 1, C + 1), in float64."""
    import numpy as np  # a command line is read without it

    wide = np.asarray(moments, np.float64)
    gram, mean = wide[:-1, :-1], wide[:-1, -1]
    ridge = RIDGE * np.trace(gram) / len(gram) + LEAST
    values, vectors = np.linalg.eigh(gram - np.outer(mean, mean) + ridge * np.eye(len(gram)))
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
