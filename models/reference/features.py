"""VGG-19 in float64, from its definition, in NumPy alone: what every fast path is held against.

Shares no code with them: its convolution is nine matrix products, its Gram matrix the definition.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..vgg19 import Pooling, PoolRounding, truncate
from ..weights.load import Weights

Array64 = NDArray[np.float64]

# Output values computed at a time, which bounds the memory of the nine products (32 MiB each).
_BLOCK = 1 << 22


def reference_features(
    weights: Weights,
    pixels: NDArray[np.floating],
    layers: Sequence[str],
    pooling: Pooling,
    rounding: PoolRounding,
    *,
    fp16_scale: float | None = None,
) -> dict[str, Array64]:
    """Return the activations, float64 (channels, h, w), of some layers: after the ReLU, or pooled.

    Args:
        weights: of VGG-19, or of a network of the same layers with other channel counts.
        pixels: (height, width, 3), RGB, 0–255.
        layers: names from the table.
        pooling: ``max`` or ``avg``.
        rounding: of odd sizes by the pooling.
        fp16_scale: imitates a device that keeps weights and activations in fp16 and sums them with
            more bits: kernels, and at this scale the input, biases and every layer's output, are
            rounded to fp16. None rounds nothing.
    """

    def stored(values: NDArray[np.floating], scale: float) -> NDArray[np.floating]:
        if fp16_scale is None:
            return values
        with np.errstate(over="ignore"):
            return (values * scale).astype(np.float16).astype(np.float64) / scale

    scale = fp16_scale or 1.0
    features: dict[str, Array64] = {}
    centred = (pixels.astype(np.float64) - np.asarray(weights.mean)).transpose(2, 0, 1)
    x = np.asarray(stored(centred, scale), np.float64)
    for layer in truncate(layers):
        if layer.kind == "pool":
            x = _pool(x, pooling, rounding)
        else:
            kernel, bias = weights.kernels[layer.name], weights.biases[layer.name]
            x = reference_convolution(x, stored(kernel, 1.0), stored(bias, scale))
            np.maximum(x, 0, out=x)
        x = np.asarray(stored(x, scale), np.float64)
        if layer.name in layers:
            features[layer.name] = x
    return features


def reference_gram(features: Array64) -> Array64:
    """Return G = F Fᵀ / N of an activation (channels, h, w)."""
    flat = features.reshape(features.shape[0], -1)
    return (flat @ flat.T) / flat.shape[1]


def reference_convolution(
    x: Array64, kernel: NDArray[np.floating], bias: NDArray[np.floating]
) -> Array64:
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
