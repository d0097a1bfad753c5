"""The yardstick: costs in float64, from the formulas, in NumPy alone.

Shares no code with the fast paths. `nstx evaluate` prints what it says, and the tests hold every
backend against it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..cost import Cost, combine_costs
from ..objective import Objective
from ..weights.load import Weights
from .features import Array64, reference_features, reference_gram


def reference_cost(
    objective: Objective,
    weights: Weights,
    pixels: NDArray[np.floating],
    content: NDArray[np.floating],
    styles: Sequence[tuple[NDArray[np.floating], float]],
) -> Cost:
    """Return the cost of a picture, given the content picture at its size and the styles.

    Args:
        objective: what is evaluated.
        weights: of VGG-19.
        pixels: (height, width, 3), RGB, 0–255.
        content: the content picture, of the same shape.
        styles: style pictures at their own sizes, each with a weight above 0.
    """

    def features(picture: NDArray[np.floating], layers: Sequence[str]) -> dict[str, Array64]:
        rounding = objective.pool_rounding
        return reference_features(weights, picture, layers, objective.pooling, rounding)

    def error(factor: float, own: Array64, target: Array64) -> float:
        scale = max(1.0, float(np.mean(target**2))) if objective.relative else 1.0
        return factor * float(np.mean((own - target) ** 2)) / scale

    own = features(pixels, objective.layers)
    content_costs, style_costs = {}, {}
    if objective.uses_content:
        for name, target in features(content, objective.content_names).items():
            content_costs[name] = error(objective.content_factor, own[name], target)
    if objective.uses_style:
        names = objective.style_names
        share = sum(weight for _, weight in styles)
        targets: dict[str, Array64] = {name: np.zeros(1) for name in names}
        for picture, weight in styles:
            for name, activation in features(picture, names).items():
                targets[name] = targets[name] + reference_gram(activation) * (weight / share)
        for name in names:
            gram = reference_gram(own[name])
            style_costs[name] = error(objective.style_factor, gram, targets[name])
    variation = reference_total_variation(pixels) if objective.tv_weight > 0 else 0.0
    return combine_costs(objective, content_costs, style_costs, variation)


def reference_total_variation(pixels: NDArray[np.floating]) -> float:
    """Return the mean squared difference of horizontal plus that of vertical neighbours."""
    x = pixels.astype(np.float64)
    return float(np.mean(np.diff(x, axis=1) ** 2) + np.mean(np.diff(x, axis=0) ** 2))
