"""The gradient of the cost in float64, derived by hand: no automatic differentiation.

Every exported gradient is held against it, and the tests hold it against PyTorch's autograd.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..cost import Cost
from ..objective import LAPLACIAN_POOL, Objective
from ..statistics import Statistic
from ..vgg19 import Pooling
from ..weights.load import Weights, prepare_weights
from .cost import Arrays, cost_of_features, laplacian_difference, style_scale, target_scale
from .features import Array64, reference_convolution, reference_features
from .statistics import pair_regions, reference_style, reference_style_cost


def reference_gradient(
    objective: Objective,
    weights: Weights,
    pixels: NDArray[np.floating],
    content: Arrays,
    style: Arrays,
    *,
    shares: Arrays | None = None,
    areas: Sequence[float] = (1.0,),
    photograph: NDArray[np.floating] | None = None,
) -> tuple[Cost, Array64]:
    """Return the cost of a picture and its gradient, float64, at the pixels, (height, width, 3).

    Of style layers in ``shares``, positions count by these, (h, w). Of several regions, with their ``areas``, there
    is a target and shares of each, stacked. The content's pixels, ``photograph``, are needed where their detail
    counts.
    """
    weights = prepare_weights(weights, objective.preprocessing)
    names = [layer.name for layer in objective.network]
    features = reference_features(weights, pixels, names, *objective.poolings)
    cost = cost_of_features(objective, pixels, features, content, style, shares, areas, photograph)
    seeds = _gradients_at_layers(objective, features, content, style, shares or {}, areas)
    gradient = _backpropagate(objective, weights, pixels, features, seeds)
    if objective.tv_weight > 0:
        gradient = gradient + objective.tv_weight * total_variation_gradient(pixels)
    if photograph is not None and objective.laplacian_weight > 0:
        gradient = gradient + objective.laplacian_weight * laplacian_gradient(pixels, photograph)
    return cost, gradient


def laplacian_gradient(pixels: NDArray[np.floating], content: NDArray[np.floating]) -> Array64:
    """Return the gradient of the mean square of `nstx.models.reference.cost.laplacian_difference`."""
    side, difference = LAPLACIAN_POOL, laplacian_difference(pixels, content)
    slope = 2 * difference / difference.size
    squares = np.zeros([length + 2 * side for length in slope.shape])
    height, width = slope.shape
    for down, across, factor in ((1, 1, 4), (0, 1, -1), (2, 1, -1), (1, 0, -1), (1, 2, -1)):
        rows = slice(down * side, down * side + height)
        squares[rows, across * side : across * side + width] += factor * slope
    gradient = np.zeros(pixels.shape)
    height, width = squares.shape
    for down, across in np.ndindex(side, side):
        gradient[down : down + height, across : across + width] += squares[..., None] / side**2
    return gradient


def total_variation_gradient(pixels: NDArray[np.floating]) -> Array64:
    """Return the gradient of `nstx.models.reference.cost.reference_total_variation`."""
    x = pixels.astype(np.float64)
    gradient = np.zeros_like(x)
    for axis in (0, 1):
        difference = np.diff(x, axis=axis)
        change = np.moveaxis(2 * difference / difference.size, axis, 0)
        along = np.moveaxis(gradient, axis, 0)  # a view
        along[1:] += change
        along[:-1] -= change
    return gradient


def pool_gradient(source: Array64, gradient: Array64, pooling: Pooling) -> Array64:
    """Return the gradient at a pooling's input: shared by a window, or its first largest's."""
    channels, height, width = source.shape
    rows, columns = gradient.shape[1:]
    # Beyond an odd edge there is -inf, which is never the largest.
    padded = np.full((channels, 2 * rows, 2 * columns), -np.inf)
    padded[:, :height, :width] = source[:, : 2 * rows, : 2 * columns]
    windows = padded.reshape(channels, rows, 2, columns, 2).swapaxes(2, 3)
    flat = windows.reshape(*gradient.shape, 4)
    if pooling == "avg":
        inside = flat > -np.inf
        shares = inside / inside.sum(axis=-1, keepdims=True)
    else:
        shares = np.arange(4) == flat.argmax(axis=-1)[..., None]
    spread = (shares * gradient[..., None]).reshape(windows.shape)
    out = np.zeros(source.shape)
    whole = spread.swapaxes(2, 3).reshape(padded.shape)
    out[:, : 2 * rows, : 2 * columns] = whole[:, :height, :width]
    return out


def _gradients_at_layers(
    objective: Objective,
    features: Mapping[str, Array64],
    content: Arrays,
    style: Arrays,
    shares: Arrays,
    areas: Sequence[float],
) -> dict[str, Array64]:
    """Return the cost's gradient at the activations that it is computed from, by layer."""
    seeds: dict[str, Array64] = {}
    for item in objective.content_layers if objective.uses_content else ():
        target = np.asarray(content[item.layer], np.float64)
        difference = features[item.layer] - target
        factor = objective.content_factor / target_scale(objective, target)
        weight = objective.content_weight * item.weight
        seeds[item.layer] = 2 * weight * factor / difference.size * difference
    for item in objective.style_layers if objective.uses_style else ():
        activation, of_layer = features[item.layer], np.asarray(style[item.layer], np.float64)
        for area, aim, of_region in pair_regions(areas, of_layer, shares.get(item.layer)):
            target = np.asarray(aim, np.float64)
            factor = objective.style_factor / style_scale(objective, item.statistic, target)
            weight = area * objective.style_weight * item.weight * factor
            seed = _style_seed(item.statistic, activation, target, weight, of_region)
            seeds[item.layer] = seeds.get(item.layer, 0) + seed.reshape(activation.shape)
    return seeds


def _style_seed(
    statistic: Statistic,
    activation: Array64,
    target: Array64,
    weight: float,
    shares: NDArray[np.floating] | None,
) -> Array64:
    """Return the gradient of a layer's style cost at its activation, as (channels, positions)."""
    flat = activation.reshape(len(activation), -1)
    values = reference_style(statistic, activation, shares)
    _, slope = reference_style_cost(statistic, values, target)
    # A Gram matrix has no border, of which the sum is 0.
    by_gram: Array64 = slope[: len(flat), : len(flat)]
    border: Array64 = slope[: len(flat), len(flat) :].sum(1, keepdims=True)
    # Values are F̃ diag(s) F̃ᵀ, with F̃ the activation, or it and a channel of ones.
    of_positions = 1 / flat.shape[1] if shares is None else shares.astype(np.float64).reshape(1, -1)
    return 2 * weight * (by_gram @ flat + border) * of_positions


def _backpropagate(
    objective: Objective,
    weights: Weights,
    pixels: NDArray[np.floating],
    features: Mapping[str, Array64],
    seeds: Mapping[str, Array64],
) -> Array64:
    layers = objective.network
    planar = np.asarray(pixels, np.float64).transpose(2, 0, 1)
    sources = [planar, *(features[layer.name] for layer in layers)]
    gradient: Array64 = np.zeros_like(sources[-1])
    for layer, source in reversed(list(zip(layers, sources, strict=False))):
        gradient = gradient + seeds.get(layer.name, 0)
        if layer.kind == "pool":
            gradient = pool_gradient(source, gradient, objective.pooling)
            continue
        active = gradient * (features[layer.name] > 0)
        kernel = weights.kernels[layer.name].transpose(1, 0, 2, 3)[..., ::-1, ::-1]
        gradient = reference_convolution(active, kernel, np.zeros(len(kernel)))
    return gradient.transpose(1, 2, 0)
