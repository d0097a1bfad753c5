"""VGG-19 in PyTorch, and the features that come out of it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)

from nstx.models.vgg19 import Pooling, PoolRounding, canonical_name, truncate
from nstx.models.weights.load import Weights

from ..devices.torch_device import TorchDevice
from ..pictures.pixels import Batch, Pixels
from .extractor import Features


class TorchNetwork:
    """VGG-19 up to the deepest layer of interest, on one device, at one precision.

    Args:
        weights: of all 16 convolutions.
        layers: the layers whose activations will be asked for; nothing deeper is built.
        pooling: ``max`` or ``avg``.
        pool_rounding: of odd sizes.
        device: where it runs and at what precision.
    """

    def __init__(
        self,
        weights: Weights,
        layers: Sequence[str],
        pooling: Pooling,
        pool_rounding: PoolRounding,
        device: TorchDevice,
    ) -> None:
        self._layers = truncate(layers)
        self._ceil = pool_rounding == "ceil"
        self._pool = F.avg_pool2d if pooling == "avg" else F.max_pool2d
        self._device = device
        names = [layer.name for layer in self._layers if layer.kind == "conv"]
        self._parameters = {
            name: (
                device.upload(weights.kernels[name], device.dtype),
                device.upload(weights.biases[name], device.dtype),
            )
            for name in names
        }
        mean = device.upload(np.asarray(weights.mean), device.accumulate_dtype)
        self._mean = mean.reshape(1, 3, 1, 1)

    def to_channels_last(self) -> None:
        """Lay the kernels out with the channels innermost, as some processors like them."""
        self._parameters = {
            name: (kernel.contiguous(memory_format=torch.channels_last), bias)
            for name, (kernel, bias) in self._parameters.items()
        }

    def upload(self, pixels: Batch) -> torch.Tensor:
        """Move pixels (batch, height, width, 3) to the device as (batch, 3, height, width)."""
        return self._device.upload(pixels.transpose(0, 3, 1, 2), self._device.accumulate_dtype)

    def __call__(self, pixels: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the activations, (1, channels, h, w), of some layers: after the ReLU, or pooled.

        Args:
            pixels: (1, 3, height, width), RGB, 0–255.
            layers: among those that the network was built for.
        """
        features: dict[str, torch.Tensor] = {}
        missing = set(layers)
        x = (pixels - self._mean).to(self._device.dtype)
        for layer in self._layers:
            if layer.kind == "pool":
                x = self._pool(x, 2, stride=2, ceil_mode=self._ceil)
            else:
                kernel, bias = self._parameters[layer.name]
                x = F.conv2d(x, kernel, bias, padding=1).relu_()
            if layer.name in missing:
                features[layer.name] = x
                missing.discard(layer.name)
                if not missing:
                    break
        return features


def gram_matrices(features: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return G = F Fᵀ / N, (batch, channels, channels), of activations (batch, channels, h, w).

    Accumulated in ``dtype``. Half-precision activations are widened first: G itself can exceed what
    fp16 holds.
    """
    flat = features.flatten(2).to(dtype)
    return (flat @ flat.transpose(1, 2)) / flat.shape[2]


class TorchExtractor:
    """A `FeatureExtractor` on PyTorch."""

    def __init__(self, network: TorchNetwork, device: TorchDevice) -> None:
        self._network = network
        self._device = device

    def extract(self, pixels: Pixels, activations: Sequence[str], grams: Sequence[str]) -> Features:
        """See `FeatureExtractor`."""
        activations = [canonical_name(name) for name in activations]
        grams = [canonical_name(name) for name in grams]
        context: AbstractContextManager[object] = self._device.numerics()
        with context, torch.no_grad():
            features = self._network(self._network.upload(pixels[None]), [*activations, *grams])
            dtype = self._device.accumulate_dtype
            return Features(
                {name: features[name][0].to(dtype).cpu().numpy() for name in activations},
                {name: gram_matrices(features[name], dtype)[0].cpu().numpy() for name in grams},
            )
