"""The cost in float64, from the formulas of `nstx.models.objective`.

`nstx evaluate` prints it, and the tests hold every backend against it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..cost import Cost
from ..objective import LayerWeight, Objective
from ..weights.load import Weights
from .features import Array64, reference_features, reference_gram

Arrays = Mapping[str, NDArray[np.floating]]
"""Activations (channels, h, w) or Gram matrices (channels, channels), by layer."""


def reference_cost(
    objective: Objective,
    weights: Weights,
    pixels: NDArray[np.floating],
    content: NDArray[np.floating],
    styles: Sequence[tuple[NDArray[np.floating], float]],
) -> Cost:
    """Return the cost of a picture, (height, width, 3), RGB, 0–255.

    ``content`` has that shape, too; styles have sizes of their own, and weights above 0. The
    network may have other channel counts than VGG-19's.
    """

    def features(picture: NDArray[np.floating], layers: Sequence[str]) -> dict[str, Array64]:
        rounding = objective.pool_rounding
        return reference_features(weights, picture, layers, objective.pooling, rounding)

    targets = features(content, objective.content_names) if objective.uses_content else {}
    grams: dict[str, Array64] = {}
    whole = sum(weight for _, weight in styles)
    for picture, weight in styles if objective.uses_style else ():
        for name, activation in features(picture, objective.style_names).items():
            share = reference_gram(activation) * (weight / whole)
            grams[name] = grams[name] + share if name in grams else share
    return cost_of_features(objective, pixels, features(pixels, objective.layers), targets, grams)


def cost_of_features(
    objective: Objective,
    pixels: NDArray[np.floating],
    features: Arrays,
    content: Arrays,
    style: Arrays,
) -> Cost:
    """Return a picture's cost from its activations and target activations and Gram matrices."""

    def error(factor: float, values: NDArray[np.floating], target: NDArray[np.floating]) -> float:
        return factor * float(np.mean((values - target) ** 2)) / target_scale(objective, target)

    content_layers = {
        name: error(objective.content_factor, features[name], content[name])
        for name in objective.content_names
    }
    style_layers = {
        name: error(objective.style_factor, reference_gram(features[name]), style[name])
        for name in objective.style_names
    }
    parts = (
        _weighted_sum(objective.content_layers, content_layers),
        _weighted_sum(objective.style_layers, style_layers),
        reference_total_variation(pixels) if objective.tv_weight > 0 else 0.0,
    )
    weights = (objective.content_weight, objective.style_weight, objective.tv_weight)
    return Cost(
        total=sum(weight * part for weight, part in zip(weights, parts, strict=True)),
        content=parts[0],
        style=parts[1],
        total_variation=parts[2],
        style_layers=style_layers,
        content_layers=content_layers,
    )


def target_scale(objective: Objective, target: NDArray[np.floating]) -> float:
    """Return what a layer's mean squared error is divided by: 1, unless costs are relative."""
    if not objective.relative:
        return 1.0
    return max(1.0, float(np.mean(target.astype(np.float64) ** 2)))


def reference_total_variation(pixels: NDArray[np.floating]) -> float:
    """Return the mean squared difference of horizontal plus that of vertical neighbours."""
    x = pixels.astype(np.float64)
    return float(np.mean(np.diff(x, axis=1) ** 2) + np.mean(np.diff(x, axis=0) ** 2))


def _weighted_sum(layers: Sequence[LayerWeight], costs: Mapping[str, float]) -> float:
    return sum(item.weight * costs[item.layer] for item in layers if item.layer in costs)
