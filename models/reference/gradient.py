"""The gradient in float64, from the formulas, in NumPy alone: what fast gradients are held against.

Shares no code with them, and needs no automatic differentiation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..objective import LayerWeight, Objective
from ..vgg19 import Layer, Pooling, PoolRounding, truncate
from ..weights.load import Weights
from .features import Array64, reference_convolution, reference_features, reference_gram


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceGradient:
    """A cost with its parts and its gradient.

    Attributes:
        total: α·content + β·style + tv_weight·total variation.
        content_layers: each content layer's cost, before its weight.
        style_layers: each style layer's cost, before its weight.
        total_variation: before its weight.
        gradient: of ``total``, float64 (height, width, 3).
    """

    total: float
    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    total_variation: float
    gradient: Array64


def reference_gradient(
    objective: Objective,
    weights: Weights,
    pixels: NDArray[np.floating],
    content: Mapping[str, NDArray[np.floating]],
    style: Mapping[str, NDArray[np.floating]],
) -> ReferenceGradient:
    """Return the cost of a picture and its gradient.

    Args:
        objective: what is evaluated.
        weights: of VGG-19, or of a network of the same layers with other channel counts.
        pixels: (height, width, 3), RGB, 0–255.
        content: target activations (channels, h, w) by content layer.
        style: target Gram matrices (channels, channels) by style layer.
    """
    layers = truncate(objective.layers)
    features = reference_features(
        weights,
        pixels,
        [layer.name for layer in layers],
        objective.pooling,
        objective.pool_rounding,
    )
    seeds: dict[str, Array64] = {}
    content_costs = {
        item.layer: _add_content(objective, item, features, content, seeds)
        for item in (objective.content_layers if objective.uses_content else ())
    }
    style_costs = {
        item.layer: _add_style(objective, item, features, style, seeds)
        for item in (objective.style_layers if objective.uses_style else ())
    }
    planar = np.asarray(pixels, np.float64).transpose(2, 0, 1)
    carried = _carry_back(objective, weights, planar, layers, features, seeds)
    total = objective.content_weight * _weighted(objective.content_layers, content_costs)
    total += objective.style_weight * _weighted(objective.style_layers, style_costs)
    carried = carried.transpose(1, 2, 0)
    without = ReferenceGradient(total, content_costs, style_costs, 0.0, carried)
    return add_total_variation(without, pixels, objective.tv_weight)


def add_total_variation(
    found: ReferenceGradient, pixels: NDArray[np.floating], weight: float
) -> ReferenceGradient:
    """Return a cost and gradient with more total variation in them.

    Args:
        found: of the picture.
        pixels: (height, width, 3), RGB, 0–255.
        weight: of the total variation, beside what ``found`` has of it.
    """
    variation, slope = _total_variation(np.asarray(pixels, np.float64))
    return replace(
        found,
        total=found.total + weight * variation,
        total_variation=variation,
        gradient=found.gradient + weight * slope,
    )


def _weighted(items: tuple[LayerWeight, ...], costs: Mapping[str, float]) -> float:
    return sum(item.weight * costs[item.layer] for item in items if item.layer in costs)


def _factor(objective: Objective, factor: float, target: Array64) -> float:
    return factor / max(1.0, float(np.mean(target**2))) if objective.relative else factor


def _add_content(
    objective: Objective,
    item: LayerWeight,
    features: Mapping[str, Array64],
    targets: Mapping[str, NDArray[np.floating]],
    seeds: dict[str, Array64],
) -> float:
    target = np.asarray(targets[item.layer], np.float64)
    difference = features[item.layer] - target
    factor = _factor(objective, objective.content_factor, target)
    weight = objective.content_weight * item.weight
    seed = 2 * weight * factor / difference.size * difference
    seeds[item.layer] = seeds.get(item.layer, 0) + seed
    return factor * float(np.mean(difference**2))


def _add_style(
    objective: Objective,
    item: LayerWeight,
    features: Mapping[str, Array64],
    targets: Mapping[str, NDArray[np.floating]],
    seeds: dict[str, Array64],
) -> float:
    own, target = features[item.layer], np.asarray(targets[item.layer], np.float64)
    flat = own.reshape(len(own), -1)
    difference = reference_gram(own) - target
    factor = _factor(objective, objective.style_factor, target)
    weight = objective.style_weight * item.weight
    seed = 4 * weight * factor / difference.size / flat.shape[1] * (difference @ flat)
    seeds[item.layer] = seeds.get(item.layer, 0) + seed.reshape(own.shape)
    return factor * float(np.mean(difference**2))


def _carry_back(
    objective: Objective,
    weights: Weights,
    pixels: Array64,
    layers: tuple[Layer, ...],
    features: Mapping[str, Array64],
    seeds: Mapping[str, Array64],
) -> Array64:
    """Return the gradient at the pixels, (3, height, width), of gradients at activations."""
    sources = [pixels, *(features[layer.name] for layer in layers)]
    gradient: Array64 = np.zeros_like(sources[-1])
    for layer, source in reversed(list(zip(layers, sources, strict=False))):
        gradient = gradient + seeds.get(layer.name, 0)
        if layer.kind == "pool":
            gradient = _pool_back(source, gradient, objective.pooling, objective.pool_rounding)
            continue
        active = gradient * (features[layer.name] > 0)
        kernel = weights.kernels[layer.name].transpose(1, 0, 2, 3)[..., ::-1, ::-1]
        gradient = reference_convolution(active, kernel, np.zeros(len(kernel)))
    return gradient


def _pool_back(
    source: Array64, gradient: Array64, pooling: Pooling, rounding: PoolRounding
) -> Array64:
    """Share each window's gradient among its pixels, or give it to the first of the largest."""
    channels, height, width = source.shape
    rows, columns = gradient.shape[1:]
    there = np.zeros((channels, 2 * rows, 2 * columns), bool)
    there[:, :height, :width] = True
    windows = np.full(there.shape, -np.inf)
    windows[:, :height, :width] = source[:, : 2 * rows, : 2 * columns]
    corners = [(slice(None), slice(y, None, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1)]
    out = np.zeros(there.shape)
    if pooling == "avg":
        count = sum(there[corner].astype(np.float64) for corner in corners)
        for corner in corners:
            out[corner] = gradient / count * there[corner]
    else:
        largest = np.maximum.reduce([windows[corner] for corner in corners])
        free = np.ones(gradient.shape, bool)
        for corner in corners:
            chosen = free & (windows[corner] == largest)
            out[corner] = gradient * chosen
            free &= ~chosen
    back = np.zeros(source.shape)
    back[:, : 2 * rows, : 2 * columns] = out[:, :height, :width]
    return back


def _total_variation(pixels: Array64) -> tuple[float, Array64]:
    total, slope = 0.0, np.zeros_like(pixels)
    for axis in (0, 1):
        difference = np.diff(pixels, axis=axis)
        total += float(np.mean(difference**2))
        change = 2 * difference / difference.size
        before = [slice(None)] * 3
        after = [slice(None)] * 3
        before[axis], after[axis] = slice(1, None), slice(None, -1)
        slope[tuple(before)] += change
        slope[tuple(after)] -= change
    return total, slope
