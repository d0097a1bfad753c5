"""VGG-19 in float64, from its definition: its convolution is nine matrix products of shifts."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..vgg19 import Pooling, PoolRounding, truncate
from ..weights.load import Weights

Array64 = NDArray[np.float64]
Storing = Callable[[Array64], Array64]

# Output values computed at a time, which bounds the memory of the nine products (32 MiB each).
_BLOCK = 1 << 22


def reference_features(
    weights: Weights,
    pixels: NDArray[np.floating],
    layers: Sequence[str],
    pooling: Pooling,
    rounding: PoolRounding,
    *,
    store: Storing | None = None,
) -> dict[str, Array64]:
    """Return the activations, float64 (channels, h, w), of some layers: after the ReLU, or pooled.

    Pixels are (height, width, 3), RGB, 0–255. ``store`` is applied to the input and to every
    layer's output, as by a device that keeps them in fewer bits.
    """
    store = store or (lambda values: values)
    features: dict[str, Array64] = {}
    x = store((pixels.astype(np.float64) - np.asarray(weights.mean)).transpose(2, 0, 1))
    for layer in truncate(layers):
        if layer.kind == "pool":
            x = reference_pooling(x, pooling, rounding)
        else:
            x = reference_convolution(x, weights.kernels[layer.name], weights.biases[layer.name])
            np.maximum(x, 0, out=x)
        x = store(x)
        if layer.name in layers:
            features[layer.name] = x
    return features


def reference_gram(
    features: NDArray[np.floating], shares: NDArray[np.floating] | None = None
) -> Array64:
    """Return G = F Fᵀ / N, (channels, channels), of an activation F, (channels, h, w).

    With shares s of positions, (h, w), F diag(s) Fᵀ.
    """
    flat = features.reshape(features.shape[0], -1)
    if shares is not None:
        return np.asarray((flat * shares.astype(np.float64).ravel()) @ flat.T)
    return np.asarray((flat @ flat.T) / flat.shape[1], np.float64)


def reference_convolution(
    x: Array64, kernel: NDArray[np.floating], bias: NDArray[np.floating]
) -> Array64:
    """Convolve (in, h, w) with (out, in, 3, 3), zero padding 1: (out, h, w)."""
    _, height, width = x.shape
    kernel64 = kernel.astype(np.float64)
    out = np.empty((kernel.shape[0], height, width))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    rows = max(1, _BLOCK // (max(kernel.shape[:2]) * width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        block = np.repeat(bias.astype(np.float64)[:, None], (bottom - top) * width, axis=1)
        for dy in range(3):
            for dx in range(3):
                shifted = padded[:, top + dy : bottom + dy, dx : dx + width]
                block += kernel64[:, :, dy, dx] @ shifted.reshape(x.shape[0], -1)
        out[:, top:bottom] = block.reshape(kernel.shape[0], bottom - top, width)
    return out


def reference_pooling(x: Array64, pooling: Pooling, rounding: PoolRounding) -> Array64:
    """Pool (channels, h, w) by 2×2. An odd last row or column is dropped, or pooled alone."""
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
