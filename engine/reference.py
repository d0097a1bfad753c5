"""The yardstick: costs in float64, from the formulas, in NumPy alone.

Shares no code with the fast paths: its convolution is nine matrix products, its Gram matrix the
definition. `nstx evaluate` prints what it says, and the tests hold every backend against it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..models.objective import Objective
from ..models.vgg19 import Pooling, PoolRounding, truncate
from ..models.weights import Weights
from .cost import Cost, combine_costs

Array64 = NDArray[np.float64]

# Output values computed at a time, which bounds the memory of the nine products (32 MiB each).
_BLOCK = 1 << 22


def reference_features(
    weights: Weights,
    pixels: NDArray[np.floating],
    layers: Sequence[str],
    pooling: Pooling,
    rounding: PoolRounding,
) -> dict[str, Array64]:
    """Return activations after the ReLU, float64 (channels, h, w), of some layers.

    Args:
        weights: of VGG-19, or of a network of the same layers with other channel counts.
        pixels: (height, width, 3), RGB, 0–255.
        layers: names from the table.
        pooling: ``max`` or ``avg``.
        rounding: of odd sizes by the pooling.
    """
    features: dict[str, Array64] = {}
    x = (pixels.astype(np.float64) - np.asarray(weights.mean)).transpose(2, 0, 1)
    for layer in truncate(layers):
        if layer.kind == "pool":
            x = _pool(x, pooling, rounding)
            continue
        x = _convolve(x, weights.kernels[layer.name], weights.biases[layer.name])
        np.maximum(x, 0, out=x)
        if layer.name in layers:
            features[layer.name] = x
    return features


def reference_gram(features: Array64) -> Array64:
    """Return G = F Fᵀ / N of an activation (channels, h, w)."""
    flat = features.reshape(features.shape[0], -1)
    return (flat @ flat.T) / flat.shape[1]


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
        names = [item.layer for item in objective.content_layers]
        for name, target in features(content, names).items():
            content_costs[name] = error(objective.content_factor, own[name], target)
    if objective.uses_style:
        names = [item.layer for item in objective.style_layers]
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


def _convolve(x: Array64, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Array64:
    """Convolve (in, h, w) with (out, in, 3, 3): the sum of nine matrix products of shifts."""
    _, height, width = x.shape
    kernel64 = kernel.astype(np.float64)
    out = np.empty((kernel.shape[0], height, width))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    rows = max(1, _BLOCK // (max(kernel.shape[:2]) * width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        block = np.broadcast_to(
            bias.astype(np.float64)[:, None], (kernel.shape[0], (bottom - top) * width)
        ).copy()
        for dy in range(3):
            for dx in range(3):
                shifted = padded[:, top + dy : bottom + dy, dx : dx + width]
                block += kernel64[:, :, dy, dx] @ shifted.reshape(x.shape[0], -1)
        out[:, top:bottom] = block.reshape(kernel.shape[0], bottom - top, width)
    return out


def _pool(x: Array64, pooling: Pooling, rounding: PoolRounding) -> Array64:
    """Pool 2×2. An odd last row or column is dropped (floor) or pooled alone (ceil)."""
    _, height, width = x.shape
    if rounding == "floor":
        x = x[:, : height // 2 * 2, : width // 2 * 2]
    else:
        # Repeating the edge changes neither a maximum nor the average of what is really there.
        x = np.pad(x, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    corners = (x[:, 0::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 0::2], x[:, 1::2, 1::2])
    if pooling == "max":
        return np.asarray(np.maximum.reduce(corners))
    return (corners[0] + corners[1] + corners[2] + corners[3]) / 4
