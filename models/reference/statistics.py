"""Costs of style statistics in float64, with their slopes, from the formulas of `nstx.models.statistics`."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..statistics import DEVIATION_FLOOR, LEAST, RIDGE, Statistic
from .features import Array64, reference_gram

Style = NDArray[np.floating]
"""A Gram matrix (channels, channels), or moments (channels + 1, channels + 1)."""


def reference_style(
    statistic: Statistic,
    features: NDArray[np.floating],
    shares: NDArray[np.floating] | None = None,
) -> Array64:
    """Return a layer's Gram matrix, or its moments for other statistics, of (channels, h, w).

    Positions count by their shares, (h, w), or all alike.
    """
    if statistic == "gram":
        return reference_gram(features, shares)
    return reference_gram(np.concatenate([features, np.ones_like(features[:1])]), shares)


def pair_regions(
    areas: Sequence[float], target: Style, shares: NDArray[np.floating] | None
) -> Iterator[tuple[float, Style, NDArray[np.floating] | None]]:
    """Yield each region's area with its target and shares, of a layer's; of several regions both are stacked."""
    if len(areas) == 1:
        yield areas[0], target, shares
        return
    assert shares is not None
    yield from zip(areas, target, shares, strict=True)


def reference_scale(statistic: Statistic, target: Style) -> float:
    """Return what a style cost is at an activation of 0, or 1 where that is less."""
    wide = np.asarray(target, np.float64)
    if statistic == "gram":
        strength = np.mean(wide**2)
    elif statistic == "covariance":
        strength = np.mean(_covariance(wide) ** 2)
    else:
        strength = np.mean(np.diag(wide)[:-1])
    return max(1.0, float(strength))


def reference_style_cost(
    statistic: Statistic, values: Style, target: Style
) -> tuple[float, Array64]:
    """Return a layer's cost before all factors, and its slope D: symmetric, with dJ = Σ D ∘ d(values)."""
    x, t = np.asarray(values, np.float64), np.asarray(target, np.float64)
    if statistic == "gram":
        return float(np.mean((x - t) ** 2)), 2 * (x - t) / t.size
    channels, mean, shift = len(x) - 1, x[:-1, -1], x[:-1, -1] - t[:-1, -1]
    if statistic == "covariance":
        difference = _covariance(x) - _covariance(t)
        by_covariance = 2 * difference / difference.size
        return float(np.mean(difference**2)), _slope(by_covariance, -by_covariance @ mean)
    if statistic == "mean-std":
        floor = DEVIATION_FLOOR * np.mean(np.diag(t)[:-1]) + LEAST
        ours, theirs = (np.sqrt(np.maximum(np.diag(_covariance(y)), 0) + floor) for y in (x, t))
        share = (ours - theirs) / ours / channels
        cost = np.mean(shift**2) + np.mean((ours - theirs) ** 2)
        return float(cost), _slope(np.diag(share), shift / channels - share * mean)
    cost, by_covariance = _wasserstein(_with_ridge(x), _with_ridge(t))
    ridge = RIDGE / channels * np.trace(by_covariance) * np.eye(channels)
    border = shift / channels - by_covariance @ mean
    return float(np.mean(shift**2)) + cost, _slope(by_covariance + ridge, border)


def _covariance(moments: Array64) -> Array64:
    covariance: Array64 = moments[:-1, :-1] - np.outer(moments[:-1, -1], moments[:-1, -1])
    return covariance


def _with_ridge(moments: Array64) -> Array64:
    channels = len(moments) - 1
    ridge = RIDGE * float(np.trace(moments[:-1, :-1])) / channels + LEAST
    return _covariance(moments) + ridge * np.eye(channels)


def _wasserstein(ours: Array64, theirs: Array64) -> tuple[float, Array64]:
    """Return the part of the cost that is of covariances, and its gradient with respect to ours."""
    values, vectors = np.linalg.eigh(theirs)
    root = (vectors * np.sqrt(values)) @ vectors.T
    values, vectors = np.linalg.eigh(root @ ours @ root)
    cost = np.trace(ours) + np.trace(theirs) - 2 * np.sum(np.sqrt(values))
    transport: Array64 = root @ (vectors / np.sqrt(values)) @ vectors.T @ root
    return float(cost) / len(ours), (np.eye(len(ours)) - transport) / len(ours)


def _slope(by_gram: Array64, border: Array64) -> Array64:
    """Put together the slope of moments; a mean stands in them twice, so its border is half of ∂J/∂μ."""
    return np.block([[by_gram, border[:, None]], [border[None, :], np.zeros((1, 1))]])
