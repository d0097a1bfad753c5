"""The number that is minimised, with its parts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .errors import NumericalError
from .layers import LayerWeight
from .objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one picture under an objective.

    Attributes:
        total: α·content + β·style + tv_weight·total_variation + laplacian_weight·laplacian.
        content, style, total_variation, laplacian: J_content, J_style, J_tv and J_laplacian, before their
            weights; a part of weight 0 is not computed, and 0.
        style_layers, content_layers: the cost of each layer, before its weight.
    """

    total: float
    content: float
    style: float
    total_variation: float
    style_layers: Mapping[str, float] = field(default_factory=dict)
    content_layers: Mapping[str, float] = field(default_factory=dict)
    laplacian: float = 0.0


def combine_costs(
    objective: Objective,
    content_layers: Mapping[str, float],
    style_layers: Mapping[str, float],
    total_variation: float,
    laplacian: float,
) -> Cost:
    """Weigh layers' costs into one `Cost`, in float64; a part of weight 0 has none and costs 0."""
    content = _weighted_sum(objective.content_layers, content_layers)
    style = _weighted_sum(objective.style_layers, style_layers)
    total = (
        objective.content_weight * content
        + objective.style_weight * style
        + objective.tv_weight * total_variation
        + objective.laplacian_weight * laplacian
    )
    return Cost(
        total=total,
        content=content,
        style=style,
        total_variation=total_variation,
        style_layers=dict(style_layers),
        content_layers=dict(content_layers),
        laplacian=laplacian,
    )


def _weighted_sum(layers: Sequence[LayerWeight], costs: Mapping[str, float]) -> float:
    return sum(item.weight * costs[item.layer] for item in layers if item.layer in costs)


def check_cost(cost: Cost) -> Cost:
    """Return a backend's cost; `NumericalError` if it is not finite."""
    if not math.isfinite(cost.total):
        raise NumericalError(
            "expected a finite cost, got NaN or infinity; "
            "try a smaller --learning-rate or smaller weights"
        )
    return cost
