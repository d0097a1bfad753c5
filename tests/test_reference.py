"""The yardstick against PyTorch in float64, and against the formulas as they are published."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import random_pixels

from nstx.models.layers import LayerWeight
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.reference.cost import reference_cost
from nstx.models.reference.features import reference_features, reference_gram
from nstx.models.vgg19 import Pooling, PoolRounding, truncate
from nstx.models.weights.load import Weights

LAYERS = ["conv1_1", "conv2_2", "conv3_4", "conv4_2", "conv5_4"]


def torch_features(
    weights: Weights, pixels: np.ndarray, pooling: str, ceil: bool
) -> dict[str, np.ndarray]:
    x = torch.from_numpy(pixels.astype(np.float64) - np.asarray(weights.mean))
    x = x.permute(2, 0, 1)[None]
    activations = {}
    for layer in truncate(["conv5_4"]):
        if layer.kind == "pool":
            pool = F.avg_pool2d if pooling == "avg" else F.max_pool2d
            x = pool(x, 2, 2, ceil_mode=ceil)
            continue
        kernel = torch.from_numpy(weights.kernels[layer.name].astype(np.float64))
        bias = torch.from_numpy(weights.biases[layer.name].astype(np.float64))
        x = F.conv2d(x, kernel, bias, padding=1).relu()
        activations[layer.name] = x[0].numpy()
    return activations


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("rounding", ["ceil", "floor"])
@pytest.mark.parametrize("size", [(64, 48), (53, 71), (317, 211)])
def test_features_agree_with_pytorch(
    tiny_weights: Weights, pooling: Pooling, rounding: PoolRounding, size: tuple[int, int]
) -> None:
    pixels = random_pixels(*size, 1)
    ours = reference_features(tiny_weights, pixels, LAYERS, pooling, rounding)
    theirs = torch_features(tiny_weights, pixels, pooling, rounding == "ceil")
    assert list(ours) == LAYERS
    for name in LAYERS:
        assert ours[name].shape == theirs[name].shape
        error = np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name])
        assert error < 1e-12


def test_coursera_cost_is_the_assignments_formula(tiny_weights: Weights) -> None:
    picture, content, style = (random_pixels(45, 61, seed) for seed in (1, 2, 3))
    objective = PRESETS["coursera"].objective
    cost = reference_cost(objective, tiny_weights, picture, content, [(style, 1.0)])
    features = [
        reference_features(tiny_weights, p, objective.layers, "avg", "ceil")
        for p in (picture, content, style)
    ]
    a_g, a_c = features[0]["conv4_2"], features[1]["conv4_2"]
    channels, height, width = a_g.shape
    j_content = np.sum((a_c - a_g) ** 2) / (4 * height * width * channels)
    j_style = 0.0
    for name in ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"):
        channels, height, width = features[0][name].shape
        g_g, g_s = (f[name].reshape(channels, -1) for f in (features[0], features[2]))
        difference = g_s @ g_s.T - g_g @ g_g.T
        j_style += 0.2 * np.sum(difference**2) / (4 * channels**2 * (height * width) ** 2)
    assert cost.content == pytest.approx(j_content, rel=1e-12)
    assert cost.style == pytest.approx(j_style, rel=1e-12)
    assert cost.total == pytest.approx(10 * j_content + 40 * j_style, rel=1e-12)


def test_gatys_cost_is_the_authors_formula(tiny_weights: Weights) -> None:
    picture, content, style = (random_pixels(45, 61, seed) for seed in (1, 2, 3))
    style = style[:40, :50]
    objective = PRESETS["gatys"].objective
    cost = reference_cost(objective, tiny_weights, picture, content, [(style, 1.0)])
    features, of_content, of_style = (
        reference_features(tiny_weights, p, objective.layers, "max", "floor")
        for p in (picture, content, style)
    )
    expected = np.mean((features["conv4_2"] - of_content["conv4_2"]) ** 2)
    channels = {"conv1_1": 64, "conv2_1": 128, "conv3_1": 256, "conv4_1": 512, "conv5_1": 512}
    for name, published in channels.items():
        difference = reference_gram(features[name]) - reference_gram(of_style[name])
        expected += 1e3 / published**2 * np.mean(difference**2)
    assert cost.total == pytest.approx(expected, rel=1e-12)


def test_blended_styles_have_the_gradient_of_the_weighted_sum(tiny_weights: Weights) -> None:
    first, second, content = (random_pixels(40, 40, seed) for seed in (1, 2, 3))
    objective = Objective(
        content_layers=(),
        style_layers=(LayerWeight("conv2_1", 1.0),),
        content_weight=0.0,
        style_weight=1.0,
        pooling="avg",
        pool_rounding="ceil",
        content_factor=1.0,
        style_factor=1.0,
    )

    def cost(picture: np.ndarray, styles: list[tuple[np.ndarray, float]]) -> float:
        return reference_cost(objective, tiny_weights, picture, content, styles).total

    differences = []
    for seed in (4, 5):
        picture = random_pixels(40, 40, seed)
        blended = cost(picture, [(first, 3.0), (second, 1.0)])
        weighted = 0.75 * cost(picture, [(first, 1.0)]) + 0.25 * cost(picture, [(second, 1.0)])
        differences.append(weighted - blended)
    assert differences[0] > 0
    assert differences[0] == pytest.approx(differences[1], rel=1e-9)
