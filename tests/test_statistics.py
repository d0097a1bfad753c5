"""Statistics of style layers: each backend's cost and gradient against float64, and that against differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import CASES, by_hand, mixed_objective, relative_error, targets_of
from pictures import random_pixels

from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.torch_network import TorchNetwork
from nstx.engine.gradients.backend import GradientBackend, Problems
from nstx.engine.gradients.backprop import BackpropBackend, BackwardPass
from nstx.engine.gradients.onnx_backend import OnnxBackend, describe_planar
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.sessions.session import open_graph
from nstx.engine.statistics.roots import matrix_roots
from nstx.export.graphs.build_gradient import build_gradient_model
from nstx.export.nodes.builder import check_model
from nstx.export.parity import check_pictures
from nstx.export.runtime.session import SessionChoices
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.reference.cost import reference_cost
from nstx.models.reference.features import reference_features
from nstx.models.reference.gradient import reference_gradient
from nstx.models.reference.statistics import reference_style, reference_style_cost
from nstx.models.statistics import RIDGE, STATISTICS, Statistic, covariance_root
from nstx.models.vgg19 import Pooling, PoolRounding
from nstx.models.weights.load import Weights


def with_statistic(objective: Objective, *statistics: Statistic) -> Objective:
    """Return an objective whose style layers have these statistics, in turns."""
    layers = [
        replace(item, statistic=statistics[index % len(statistics)])
        for index, item in enumerate(objective.style_layers)
    ]
    return replace(objective, style_layers=tuple(layers))


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(("pooling", "rounding"), CASES[:2])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_float64_gradient_agrees_with_central_differences(
    tiny_weights: Weights,
    statistic: Statistic,
    pooling: Pooling,
    rounding: PoolRounding,
    relative: bool,
) -> None:
    objective = with_statistic(mixed_objective(pooling, rounding, style_weight=5.0), statistic)
    objective = replace(objective, relative=relative, content_weight=0.0, tv_weight=0.0)
    picture, content = random_pixels(37, 33, 2), random_pixels(37, 33, 1)
    styles = [(random_pixels(41, 57, 3), 2.0), (random_pixels(30, 30, 4), 1.0)]
    features = [
        reference_features(tiny_weights, pixels, objective.layers, *objective.poolings)
        for pixels, _ in styles
    ]
    targets = {
        name: (
            2 * reference_style(kind, features[0][name]) + reference_style(kind, features[1][name])
        )
        / 3
        for name, kind in objective.statistics.items()
    }
    cost, gradient = reference_gradient(objective, tiny_weights, picture, {}, targets)
    assert cost.total > 0
    generator = np.random.default_rng(5)
    for step in (1e-4, 3e-5):
        # Along the gradient on a random half of the samples, where the slope is large.
        direction = gradient * generator.integers(0, 2, gradient.shape)
        direction /= np.linalg.norm(direction)
        totals = [
            reference_cost(
                objective, tiny_weights, picture + offset * direction, content, styles
            ).total
            for offset in (step, -step)
        ]
        slope = (totals[0] - totals[1]) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("positions", [2, 30])
def test_a_style_costs_nothing_beside_itself_and_more_elsewhere(
    statistic: Statistic, positions: int
) -> None:
    """With fewer positions than channels, too."""
    generator = np.random.default_rng(1)
    ours, theirs = (
        reference_style(statistic, 100 * generator.random((5, positions, 1))) for _ in range(2)
    )
    cost, slope = reference_style_cost(statistic, ours, ours)
    assert abs(cost) < 1e-10
    assert np.abs(slope).max() < 1e-10
    assert reference_style_cost(statistic, ours, theirs)[0] > 0.1


def test_wasserstein_of_one_channel_is_the_distance_of_means_and_deviations() -> None:
    ours, theirs = np.array([[[1.0, 3.0]]]), np.array([[[10.0, 30.0]]])
    cost, _ = reference_style_cost(
        "wasserstein", reference_style("wasserstein", ours), reference_style("wasserstein", theirs)
    )
    deviations = [
        np.sqrt(variance + 0.05 * square + 1e-3) for variance, square in ((1, 5), (100, 500))
    ]
    assert cost == pytest.approx(18.0**2 + (deviations[1] - deviations[0]) ** 2)


def test_the_root_of_a_covariance_is_its_root() -> None:
    moments = reference_style("wasserstein", np.random.default_rng(1).random((4, 3, 2)))
    root = covariance_root(moments)
    covariance = moments[:4, :4] - np.outer(moments[:4, 4], moments[:4, 4])
    ridge = 0.05 * np.trace(moments[:4, :4]) / 4 + 1e-3
    np.testing.assert_allclose(root @ root, covariance + ridge * np.eye(4), atol=1e-12)


def open_onnx(
    weights: Weights, objective: Objective, problems: Problems, *, regions: bool = False
) -> OnnxBackend:
    """Return ONNX Runtime's backend, of a graph that is not kept."""
    graph = describe_planar(objective, "fp32", regions=regions)

    def build() -> bytes:
        model: bytes = check_model(build_gradient_model(graph, weights)).SerializeToString()
        return model

    choices = SessionChoices(threads=1, in_order=True)
    session = open_graph(graph, build, choices, weights_sha256=weights.sha256, use_cache=False)
    return OnnxBackend(session, problems)


def gradients_of(
    weights: Weights, objective: Objective, pictures: list[np.ndarray], precision: TorchPrecision
) -> dict[str, np.ndarray]:
    """Return each backend's gradients of a batch; costs are compared with float64 here."""
    targets = [targets_of(weights, objective, picture[::-1].copy()) for picture in pictures]
    problems = [(objective, item) for item in targets]
    device = TorchDevice(Device("cpu"), precision)
    network = TorchNetwork(weights, objective.layers, *objective.poolings, device)
    backends: dict[str, GradientBackend] = {
        "autograd": AutogradBackend(network, problems),
        "written out": BackpropBackend(BackwardPass(weights, objective, device), problems),
    }
    if precision == "fp32":
        backends["onnx"] = open_onnx(weights, objective, problems)
    exact = [
        reference_gradient(objective, weights, picture, item.content, item.style)
        for picture, item in zip(pictures, targets, strict=True)
    ]
    results = {"float64": np.stack([gradient for _, gradient in exact])}
    for name, backend in backends.items():
        costs, results[name] = backend.costs_and_gradients(np.stack(pictures))
        assert [cost.total for cost in costs] == pytest.approx(
            [cost.total for cost, _ in exact], rel=1e-4
        ), name
        if weights.source == "tiny":
            alone = backend.costs(np.stack(pictures))
            assert [cost.total for cost in alone] == pytest.approx([cost.total for cost in costs])
    return results


@pytest.mark.parametrize(("pooling", "rounding"), CASES[:2])
@pytest.mark.parametrize("statistic", STATISTICS[1:])
def test_gradients_of_all_backends_are_those_of_float64(
    tiny_weights: Weights, statistic: Statistic, pooling: Pooling, rounding: PoolRounding
) -> None:
    objective = with_statistic(mixed_objective(pooling, rounding), statistic, "gram")
    objective = replace(objective, relative=pooling == "avg")
    pictures = [random_pixels(37, 33, seed) for seed in (1, 2)]
    results = gradients_of(tiny_weights, objective, pictures, "fp64")
    for name in ("autograd", "written out"):
        assert relative_error(results[name], results["float64"]) < 1e-6
    results = gradients_of(tiny_weights, objective, pictures, "fp32")
    for name in ("autograd", "written out", "onnx"):
        assert relative_error(results[name], results["float64"]) < 1e-3, name


@pytest.mark.parametrize("statistic", STATISTICS[1:])
def test_float32_gradients_agree_with_float64_on_real_weights(
    real_weights: Weights, statistic: Statistic
) -> None:
    """As of Gram matrices, in `test_gradient`; at an odd size, with fewer positions than channels at depth."""
    objective = PRESETS["default"].objective
    objective = replace(objective, style_layers=objective.style_layers[:3], content_weight=0.0)
    objective = with_statistic(objective, statistic)
    pictures = list(check_pictures()[:2, :51, :67].astype(np.float32))
    results = gradients_of(real_weights, objective, pictures, "fp32")
    for name in ("autograd", "written out", "onnx"):
        errors = [
            relative_error(ours, exact)
            for ours, exact in zip(results[name], results["float64"], strict=True)
        ]
        assert min(errors) < 1e-4
        assert max(errors) < 1e-2


def test_offsets_make_up_for_what_rounding_adds_to_moments(tiny_weights: Weights) -> None:
    objective = with_statistic(mixed_objective("avg", "ceil"), *STATISTICS)
    picture = random_pixels(40, 48, 1)
    backend = by_hand(
        tiny_weights, objective, [targets_of(tiny_weights, objective, picture)], "fp64"
    )
    with backend.problem.noting() as noted:
        cost, gradient = backend.cost_and_gradient(picture)
    shifted = {part: 0.01 * features for part, features in noted.items()}
    backend.problem.offset({part: noted[part] * 0 for part in noted})
    assert backend.cost_and_gradient(picture)[0] == cost
    backend.problem.offset(shifted)
    moved, other = backend.cost_and_gradient(picture)
    assert moved.total != pytest.approx(cost.total)
    assert relative_error(other, gradient) > 1e-3


@pytest.mark.parametrize("channels", [3, 64])
def test_roots_of_matrices_are_their_roots(channels: int) -> None:
    """Of the largest condition that the ridge leaves to so many channels."""
    generator = np.random.default_rng(2)
    basis, _ = np.linalg.qr(generator.normal(size=(channels, channels)))
    values = np.geomspace(1, (channels / RIDGE) ** -2, channels) * 300
    matrix = torch.from_numpy((basis * values) @ basis.T)[None]
    size, half, inverse = matrix_roots(matrix)
    np.testing.assert_allclose((size * half)[0], (basis * np.sqrt(values)) @ basis.T, atol=1e-6)
    inverse_root = (basis / np.sqrt(values)) @ basis.T
    np.testing.assert_allclose((inverse / size)[0], inverse_root, rtol=1e-5, atol=1e-6)
