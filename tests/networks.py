"""Networks and objectives that the tests make on the spot, and how they compare gradients."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pytest
from pictures import random_pixels

from nstx.engine.devices.convolution import Layout, try_bf16
from nstx.engine.devices.cuda_graph import Capture
from nstx.engine.devices.device import Device, DeviceKind
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.activations import Features
from nstx.engine.features.torch_network import TorchExtractor, TorchNetwork
from nstx.engine.gradients.backprop import BackpropBackend, BackwardPass
from nstx.engine.targets.targets import Targets, make_targets
from nstx.models.layers import LayerWeight
from nstx.models.objective import Objective
from nstx.models.vgg19 import CONVOLUTIONS, Pooling, PoolRounding
from nstx.models.weights.load import Weights

needs_bf16 = pytest.mark.skipif(
    try_bf16() == "none", reason="PyTorch does not convolve in bf16 on this processor"
)

CASES: list[tuple[Pooling, PoolRounding]] = [
    ("avg", "ceil"),
    ("max", "floor"),
    ("max", "ceil"),
    ("avg", "floor"),
]
"""Every pooling with every rounding of odd sizes."""

TINY_CHANNELS = {1: 4, 2: 5, 3: 6, 4: 7, 5: 8}
EVEN_CHANNELS = {1: 8, 2: 16, 3: 16, 4: 24, 5: 24}
"""Few as well, in eights, as matrix units and cuDNN's convolutions with a ReLU have them."""


def make_tiny_weights(widths: Mapping[int, int] = MappingProxyType(TINY_CHANNELS)) -> Weights:
    """Return VGG-19's layers with few channels by block, random, whose activations stay moderate."""
    generator = np.random.default_rng(7)
    kernels, biases, channels = {}, {}, 3
    for layer in CONVOLUTIONS:
        width = widths[layer.block]
        scale = np.sqrt(2 / (9 * channels))
        kernels[layer.name] = generator.normal(0, scale, (width, channels, 3, 3)).astype(np.float32)
        biases[layer.name] = generator.normal(0, 1, width).astype(np.float32)
        channels = width
    return Weights(kernels, biases, (123.68, 116.779, 103.939), "tiny", "0" * 64)


def mixed_objective(
    pooling: Pooling,
    rounding: PoolRounding,
    *,
    content_weight: float = 3.0,
    style_weight: float = 0.02,
    tv_weight: float = 0.7,
) -> Objective:
    """Return an objective of several layers with weights that differ, and total variation."""
    return Objective(
        content_layers=(LayerWeight("conv4_2", 1.0), LayerWeight("conv2_2", 0.3)),
        style_layers=(
            LayerWeight("conv1_1", 0.4),
            LayerWeight("conv3_1", 0.1),
            LayerWeight("conv5_1", 0.5),
        ),
        pooling=pooling,
        pool_rounding=rounding,
        content_factor=0.25,
        style_factor=1.0,
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
    )


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """Return ‖ours − reference‖ / ‖reference‖."""
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def targets_of(weights: Weights, objective: Objective, content: np.ndarray) -> Targets:
    """Return the targets of a content picture and a style that is drawn, in float64."""
    network = TorchNetwork(
        weights,
        objective.layers,
        objective.pooling,
        objective.pool_rounding,
        TorchDevice(Device("cpu"), "fp64"),
    )
    extract = TorchExtractor(network).extract
    style = random_pixels(41, 57, seed=9)
    return make_targets(
        content.shape[:2],
        extract(content, objective.content_names, []).activations,
        [(extract_style(extract, objective, style), 1.0)],
    )


def extract_style(
    extract: Callable[..., Features], objective: Objective, pixels: np.ndarray
) -> dict[str, np.ndarray]:
    """Return Gram matrices or moments, as an objective's layers have them, of a style picture."""
    kinds = objective.statistics
    grams = [name for name, statistic in kinds.items() if statistic == "gram"]
    features = extract(pixels, [], grams, [name for name in kinds if name not in grams])
    return {**features.grams, **features.moments}


def by_hand(
    weights: Weights,
    objective: Objective,
    targets: Sequence[Targets],
    precision: TorchPrecision,
    device: DeviceKind = "cpu",
    layout: Layout | None = None,
    capture: Capture | bool | None = None,
) -> BackpropBackend:
    """Return a backend whose backward pass is written out, for a batch of one objective."""
    place = TorchDevice(Device(device), precision)
    backward = BackwardPass(weights, objective, place, layout=layout)
    problems = [(objective, of_picture) for of_picture in targets]
    return BackpropBackend(backward, problems, capture=capture)
