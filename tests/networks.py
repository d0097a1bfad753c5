"""Networks that the tests make on the spot."""

import numpy as np

from nstx.models.vgg19 import CONVOLUTIONS
from nstx.models.weights import Weights

TINY_CHANNELS = {1: 4, 2: 5, 3: 6, 4: 7, 5: 8}


def make_tiny_weights() -> Weights:
    """Return VGG-19's layers with few channels, random, whose activations stay moderate."""
    generator = np.random.default_rng(7)
    kernels, biases, channels = {}, {}, 3
    for layer in CONVOLUTIONS:
        width = TINY_CHANNELS[layer.block]
        scale = np.sqrt(2 / (9 * channels))
        kernels[layer.name] = generator.normal(0, scale, (width, channels, 3, 3)).astype(np.float32)
        biases[layer.name] = generator.normal(0, 1, width).astype(np.float32)
        channels = width
    return Weights(kernels, biases, (123.68, 116.779, 103.939), "tiny", "0" * 64)
