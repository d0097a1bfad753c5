"""VGG-19 in PyTorch, and the features that come out of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)

from nstx.models.vgg19 import Layer, Pooling, PoolRounding, find_layer, truncate
from nstx.models.weights.load import Weights

from ..devices.convolution import Convolution, Layout, make_convolution
from ..devices.torch_device import TorchDevice
from ..pictures.picture import Batch, Pixels
from .activations import Features


@dataclass(slots=True)
class Activation:
    """A layer's output, (batch, channels, h, w), after the ReLU of a convolution.

    ``indices`` are those of the largest values, of a max pooling.
    """

    layer: Layer
    output: torch.Tensor
    indices: torch.Tensor | None = None


class TorchNetwork:
    """VGG-19 up to the deepest layer of interest, on one device, at one precision.

    ``fused`` is that of `make_convolution`; without it everything is PyTorch's own.
    """

    def __init__(
        self,
        weights: Weights,
        layers: Sequence[str],
        pooling: Pooling,
        pool_rounding: PoolRounding,
        device: TorchDevice,
        *,
        layout: Layout = "contiguous",
        fused: bool = True,
    ) -> None:
        self.device = device
        self.layers = truncate(layers)
        self.averages = pooling == "avg"
        self.rounds_up = pool_rounding == "ceil"
        mean = device.upload(np.asarray(weights.mean), device.accumulate_dtype)
        self._mean = mean.reshape(1, 3, 1, 1)
        self._convolutions: dict[str, Convolution] = {}
        for name in (layer.name for layer in self.layers if layer.kind == "conv"):
            kernel = device.upload(weights.kernels[name], device.dtype)
            bias = device.upload(weights.biases[name], device.dtype)
            self._convolutions[name] = make_convolution(
                device, kernel, bias, layout, relu=True, fused=fused
            )

    def convolution(self, name: str) -> Convolution:
        """Return a layer's convolution, with its ReLU."""
        return self._convolutions[name]

    def upload(self, pixels: Batch) -> torch.Tensor:
        """Move pixels (batch, height, width, 3) to the device as (batch, 3, height, width)."""
        return self.device.upload(pixels.transpose(0, 3, 1, 2), self.device.accumulate_dtype)

    def __call__(self, pixels: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return activations, (batch, channels, h, w), after the ReLU, of some of its layers."""
        features: dict[str, torch.Tensor] = {}
        missing = set(layers)
        x = self.centre(pixels)
        for layer in self.layers:
            x = self.apply(layer, x).output
            if layer.name in missing:
                features[layer.name] = x
                missing.discard(layer.name)
                if not missing:
                    break
        return features

    def centre(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels without the mean colour, in the precision of activations."""
        return (pixels - self._mean).to(self.device.dtype)

    def apply(self, layer: Layer, x: torch.Tensor) -> Activation:
        """Return what a layer gives for the activations (batch, channels, h, w) before it."""
        if layer.kind == "conv":
            return Activation(layer, self._convolutions[layer.name](x))
        if self.averages:
            return Activation(layer, F.avg_pool2d(x, 2, stride=2, ceil_mode=self.rounds_up))
        output, indices = F.max_pool2d(
            x, 2, stride=2, ceil_mode=self.rounds_up, return_indices=True
        )
        return Activation(layer, output, indices)


def gram_matrices(
    features: torch.Tensor, dtype: torch.dtype, shares: torch.Tensor | None = None
) -> torch.Tensor:
    """Return G = F Fᵀ / N, (batch, channels, channels), of activations (batch, channels, h, w).

    With shares s of positions, (batch, h, w), F diag(s) Fᵀ; of several regions of each picture, shares are
    (batch · regions, h, w), and so are the matrices. Accumulated in ``dtype``. Half-precision activations are
    widened first: G itself can exceed what fp16 holds.
    """
    flat = features.flatten(2).to(dtype)
    if shares is not None:
        regions = split_regions(shares.flatten(1), len(flat))
        return join_regions([(flat * part[:, None]) @ flat.transpose(1, 2) for part in regions])
    return (flat @ flat.transpose(1, 2)) / flat.shape[2]


def moment_matrices(
    features: torch.Tensor, dtype: torch.dtype, shares: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the moments, (batch, channels + 1, channels + 1), of activations (batch, channels, h, w).

    As `nstx.models.statistics` has them: G, bordered by μ, with a 1 in the corner.
    """
    return join_moments(
        gram_matrices(features, dtype, shares), channel_means(features, dtype, shares)
    )


def channel_means(
    features: torch.Tensor, dtype: torch.dtype, shares: torch.Tensor | None = None
) -> torch.Tensor:
    """Return μ, (batch, channels), of activations (batch, channels, h, w); with shares, F s, as `gram_matrices`."""
    if shares is None:
        return features.mean((2, 3), dtype=dtype)
    flat = features.flatten(2).to(dtype)
    regions = split_regions(shares.flatten(1), len(flat))
    return join_regions([(flat @ part[:, :, None])[:, :, 0] for part in regions])


def split_regions(values: torch.Tensor, batch: int) -> tuple[torch.Tensor, ...]:
    """Return what there is of each region, (batch, …), of values (batch · regions, …)."""
    return values.reshape(batch, -1, *values.shape[1:]).unbind(1)


def join_regions(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return what there is of each region, (batch, …), as (batch · regions, …)."""
    return values[0] if len(values) == 1 else torch.stack(list(values), 1).flatten(0, 1)


def join_moments(gram: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return Gram matrices (batch, channels, channels), bordered by means (batch, channels) and a 1."""
    top = torch.cat([gram, mean[:, :, None]], 2)
    return torch.cat([top, F.pad(mean[:, None], (0, 1), value=1.0)], 1)


class TorchExtractor:
    """A `FeatureExtractor` on PyTorch, of the layers of a network."""

    def __init__(self, network: TorchNetwork) -> None:
        self._network = network

    def extract(
        self,
        pixels: Pixels,
        activations: Sequence[str],
        grams: Sequence[str],
        moments: Sequence[str] = (),
    ) -> Features:
        """Implement `FeatureExtractor`."""
        activations, grams, moments = (
            [find_layer(name).name for name in names] for names in (activations, grams, moments)
        )
        network, device = self._network, self._network.device
        with device.numerics(), torch.no_grad():
            features = network(network.upload(pixels[None]), [*activations, *grams, *moments])
            dtype = device.accumulate_dtype
            return Features(
                {name: features[name][0].to(dtype).cpu().numpy() for name in activations},
                {name: gram_matrices(features[name], dtype)[0].cpu().numpy() for name in grams},
                {name: moment_matrices(features[name], dtype)[0].cpu().numpy() for name in moments},
            )
