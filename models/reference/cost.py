"""The cost in float64, from the formulas of `nstx.models.objective`.

`nstx evaluate` prints it, and the tests hold every backend against it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..cost import Cost
from ..layers import LayerWeight
from ..objective import LAPLACIAN_POOL, Objective
from ..statistics import Statistic
from ..weights.load import Weights, prepare_weights
from .features import Array64, reference_features
from .statistics import pair_regions, reference_scale, reference_style, reference_style_cost

Arrays = Mapping[str, NDArray[np.floating]]
"""By layer: activations (channels, h, w), Gram matrices or moments, or shares (`nstx.models.statistics`)."""


def reference_cost(
    objective: Objective,
    weights: Weights,
    pixels: NDArray[np.floating],
    content: NDArray[np.floating],
    styles: Sequence[tuple[NDArray[np.floating], float]],
    *,
    shares: Arrays | None = None,
    style_shares: Sequence[Arrays] = (),
    areas: Sequence[float] = (1.0,),
    style_regions: Sequence[int] = (),
    style_layers: Sequence[Sequence[str]] = (),
) -> Cost:
    """Return the cost of a picture, (height, width, 3), RGB, 0–255; ``content`` has its shape.

    Of style layers in ``shares``, the picture's positions count by these, (h, w), and in ``style_shares`` those of
    each style. Of several regions, with their ``areas``, shares are (regions, h, w), and ``style_regions`` has the
    region of each style. ``style_layers`` are those that each style counts in; empty, as without it, for all.
    """
    weights = prepare_weights(weights, objective.preprocessing)

    def features(picture: NDArray[np.floating], layers: Sequence[str]) -> dict[str, Array64]:
        return reference_features(weights, picture, layers, *objective.poolings)

    targets = features(content, objective.content_names) if objective.uses_content else {}
    statistics = objective.statistics
    styles = styles if objective.uses_style else ()
    counts, places = style_shares or [{}] * len(styles), style_regions or [0] * len(styles)
    blends: list[dict[str, Array64]] = [{} for _ in areas]
    names = objective.style_names
    served = [of or names for of in style_layers or [()] * len(styles)]
    for (picture, weight), of, place, layers in zip(styles, counts, places, served, strict=False):
        style = blends[place]
        for name, activation in features(picture, layers).items():
            alike = zip(styles, places, served, strict=True)
            whole = sum(w for (_, w), at, own in alike if at == place and name in own)
            own = reference_style(statistics[name], activation, of.get(name))
            share = own * (weight / whole)
            style[name] = style[name] + share if name in style else share
    stacked = {name: np.stack([of[name] for of in blends]) for name in blends[0]}
    aims = blends[0] if len(areas) == 1 else stacked
    values = features(pixels, objective.layers)
    return cost_of_features(objective, pixels, values, targets, aims, shares, areas, content)


def cost_of_features(
    objective: Objective,
    pixels: NDArray[np.floating],
    features: Arrays,
    content: Arrays,
    style: Arrays,
    shares: Arrays | None = None,
    areas: Sequence[float] = (1.0,),
    photograph: NDArray[np.floating] | None = None,
) -> Cost:
    """Return a picture's cost from its activations, target activations and targets of styles.

    Of style layers in ``shares``, positions count by these, (h, w). Of several regions, with their ``areas``, there
    is a target and shares of each, stacked. The content's pixels, ``photograph``, are needed where their detail
    counts.
    """
    shares = shares or {}

    def error(factor: float, values: NDArray[np.floating], target: NDArray[np.floating]) -> float:
        return factor * float(np.mean((values - target) ** 2)) / target_scale(objective, target)

    content_layers = {
        name: error(objective.content_factor, features[name], content[name])
        for name in objective.content_names
    }
    style_layers = {
        name: sum(
            area * _style_cost(objective, statistic, features[name], target, counts)
            for area, target, counts in pair_regions(areas, style[name], shares.get(name))
        )
        for name, statistic in objective.statistics.items()
    }
    content_cost = _weighted_sum(objective.content_layers, content_layers)
    style_cost = _weighted_sum(objective.style_layers, style_layers)
    variation = reference_total_variation(pixels) if objective.tv_weight > 0 else 0.0
    laplacian = 0.0
    if objective.laplacian_weight > 0:
        assert photograph is not None
        laplacian = float(np.mean(laplacian_difference(pixels, photograph) ** 2))
    total = objective.content_weight * content_cost + objective.style_weight * style_cost
    total += objective.tv_weight * variation
    return Cost(
        total=total + objective.laplacian_weight * laplacian,
        content=content_cost,
        style=style_cost,
        total_variation=variation,
        style_layers=style_layers,
        content_layers=content_layers,
        laplacian=laplacian,
    )


def _style_cost(
    objective: Objective,
    statistic: Statistic,
    features: NDArray[np.floating],
    target: NDArray[np.floating],
    shares: NDArray[np.floating] | None,
) -> float:
    cost, _ = reference_style_cost(statistic, reference_style(statistic, features, shares), target)
    return objective.style_factor * cost / style_scale(objective, statistic, target)


def style_scale(objective: Objective, statistic: Statistic, target: NDArray[np.floating]) -> float:
    """Return what a style layer's cost is divided by: 1, unless costs are relative."""
    return reference_scale(statistic, target) if objective.relative else 1.0


def target_scale(objective: Objective, target: NDArray[np.floating]) -> float:
    """Return what a content layer's cost is divided by: 1, unless costs are relative."""
    if not objective.relative:
        return 1.0
    return max(1.0, float(np.mean(target.astype(np.float64) ** 2)))


def reference_total_variation(pixels: NDArray[np.floating]) -> float:
    """Return the mean squared difference of horizontal plus that of vertical neighbours."""
    x = pixels.astype(np.float64)
    return float(np.mean(np.diff(x, axis=1) ** 2) + np.mean(np.diff(x, axis=0) ** 2))


def laplacian_difference(pixels: NDArray[np.floating], content: NDArray[np.floating]) -> Array64:
    """Return Δ P x − Δ P c of a picture and its content, (height − 11, width − 11)."""
    side = LAPLACIAN_POOL
    change = (pixels.astype(np.float64) - content.astype(np.float64)).sum(2)
    x = np.lib.stride_tricks.sliding_window_view(change, (side, side)).mean((2, 3))
    columns, rows = x[side:-side], x[:, side:-side]
    across = columns[:, : -2 * side] + columns[:, 2 * side :]
    down = rows[: -2 * side] + rows[2 * side :]
    return np.asarray(4 * columns[:, side:-side] - across - down)


def _weighted_sum(layers: Sequence[LayerWeight], costs: Mapping[str, float]) -> float:
    return sum(item.weight * costs[item.layer] for item in layers if item.layer in costs)
