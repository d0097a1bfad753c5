"""The gradient in float64 of NumPy: against PyTorch's autograd, in float64 too."""

from dataclasses import replace

import numpy as np
import pytest
from networks import relative_error
from pictures import random_pixels

from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice
from nstx.engine.features.torch_network import TorchExtractor, TorchNetwork
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.targets.targets import make_targets
from nstx.models.presets import PRESETS
from nstx.models.reference.gradient import pool_gradient, reference_gradient
from nstx.models.vgg19 import Pooling, PoolRounding
from nstx.models.weights.load import Weights

EXACT = TorchDevice(Device("cpu"), "fp64")


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("rounding", ["ceil", "floor"])
@pytest.mark.parametrize("preset", ["default", "gatys"])
def test_it_is_autograds(
    tiny_weights: Weights, pooling: Pooling, rounding: PoolRounding, preset: str
) -> None:
    objective = replace(
        PRESETS[preset].objective, pooling=pooling, pool_rounding=rounding, tv_weight=0.02
    )
    network = TorchNetwork(tiny_weights, objective.layers, pooling, rounding, EXACT)
    extract = TorchExtractor(network).extract
    pixels = random_pixels(37, 43, 1)
    content, style = random_pixels(37, 43, 2), random_pixels(50, 31, 3)
    targets = make_targets(
        (37, 43),
        extract(content, objective.content_names, []).activations,
        [(extract(style, [], objective.style_names).grams, 1.0)],
    )
    backend = AutogradBackend(network, [(objective, targets)])
    autograd, expected = backend.cost_and_gradient(pixels)
    cost, gradient = reference_gradient(
        objective, tiny_weights, pixels, targets.content, targets.style
    )
    assert cost.total == pytest.approx(autograd.total, rel=1e-10)
    assert cost.total_variation == pytest.approx(autograd.total_variation, rel=1e-10)
    assert dict(cost.style_layers) == pytest.approx(dict(autograd.style_layers), rel=1e-10)
    assert dict(cost.content_layers) == pytest.approx(dict(autograd.content_layers), rel=1e-10)
    assert relative_error(gradient, expected) < 1e-6  # the backend hands out float32


def test_ties_go_to_the_first_and_odd_edges_count_what_is_there() -> None:
    flat, gradient = np.ones((1, 3, 3)), np.array([[[1.0, 2.0], [3.0, 4.0]]])
    np.testing.assert_array_equal(
        pool_gradient(flat, gradient, "max")[0], [[1, 0, 2], [0, 0, 0], [3, 0, 4]]
    )
    np.testing.assert_array_equal(
        pool_gradient(flat, gradient, "avg")[0],
        [[0.25, 0.25, 1], [0.25, 0.25, 1], [1.5, 1.5, 4]],
    )
    np.testing.assert_array_equal(
        pool_gradient(flat, gradient[:, :1, :1], "max")[0], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    )
