"""Statistics of style layers: each backend's cost and gradient against float64, and that against differences."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import CASES, by_hand, mixed_objective, relative_error, targets_of
from pictures import random_pixels

from nstx import (
    DeviceError,
    FeatureGraph,
    UsageError,
    choose_settings,
    evaluate_picture,
    prepare_job,
    prepare_job_from_targets,
    read_targets,
    run_job,
    write_targets,
)
from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.torch_network import TorchNetwork, moment_matrices
from nstx.engine.gradients.backend import GradientBackend, Problems
from nstx.engine.gradients.backprop import BackpropBackend, BackwardPass
from nstx.engine.gradients.choice import BackendChoice, check_statistics
from nstx.engine.gradients.onnx_backend import OnnxBackend, describe_planar
from nstx.engine.gradients.opening import choose_kernels
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.gradients.torch_problem import Part
from nstx.engine.kernels.support import KernelSupport
from nstx.engine.sessions.session import open_graph
from nstx.engine.settings import BackendName
from nstx.engine.statistics.moments import MomentCost
from nstx.engine.statistics.roots import inverse_root
from nstx.engine.targets.basis import describe_basis
from nstx.engine.transfer.costs import BoundCosts
from nstx.export.graphs.build_features import build_feature_model
from nstx.export.graphs.build_gradient import build_gradient_model
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.nodes.builder import check_model
from nstx.export.parity import check_pictures, measure_parity
from nstx.export.runtime.session import SessionChoices
from nstx.models.objective import Objective, objective_from_json, objective_to_json
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
    weights: Weights, objective: Objective, problems: Problems, *, regions: int = 0
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


@pytest.mark.parametrize("statistic", STATISTICS[1:])
def test_offsets_make_up_for_what_rounding_adds(
    tiny_weights: Weights, statistic: Statistic
) -> None:
    """And leave a picture that is far from where they were measured a cost and a gradient."""
    objective = with_statistic(mixed_objective("avg", "ceil", style_weight=5.0), statistic)
    objective = replace(objective, content_weight=0.0, tv_weight=0.0)
    picture = random_pixels(40, 48, 1)
    targets = targets_of(tiny_weights, objective, picture)
    exact, rounded = (by_hand(tiny_weights, objective, [targets], "fp64") for _ in range(2))
    other = picture + 5 * random_pixels(40, 48, 2) / 255
    # As if a device rounded its activations: those of another picture.
    with exact.problem.noting() as right:
        _, expected = exact.cost_and_gradient(picture)
    with rounded.problem.noting() as wrong:
        rounded.cost_and_gradient(other)
    rounded.problem.offset({part: wrong[part] - right[part] for part in right})
    for part, slope in right.items():
        _, corrected = rounded.problem.compare_moments(part, moments_at(rounded, part, other))
        expected_slope = rounded.problem.factors[part][:, None, None] * slope
        assert torch.allclose(corrected, expected_slope, rtol=1.3e-6, atol=1e-5)
    far, gradient = rounded.cost_and_gradient(255 - picture)
    assert np.isfinite(far.total)
    assert relative_error(gradient, expected) > 0.1


def moments_at(backend: BackpropBackend, part: Part, picture: np.ndarray) -> torch.Tensor:
    """Return the moments of a picture at a layer."""
    network = backend._backward.network
    features = network(network.upload(picture[None]), [part[1]])[part[1]]
    return moment_matrices(features, torch.float64)


@pytest.mark.parametrize("channels", [3, 64])
def test_inverse_roots_of_matrices_are_that(channels: int) -> None:
    """Of the largest condition that the ridge leaves to so many channels."""
    generator = np.random.default_rng(2)
    basis, _ = np.linalg.qr(generator.normal(size=(channels, channels)))
    values = np.geomspace(1, (channels / RIDGE) ** -2, channels) * 300
    matrix = torch.from_numpy((basis * values) @ basis.T)[None]
    expected = (basis / np.sqrt(values)) @ basis.T
    np.testing.assert_allclose(inverse_root(matrix)[0], expected, rtol=1e-5, atol=1e-6)


SMALL: dict[str, Any] = {
    "size": 32, "steps": 1, "content_layers": "conv1_2", "device": "cpu", "precision": "fp32",
    "style_layers": "conv1_1:0.5:mean-std,conv1_2:wasserstein,conv2_1:covariance,conv2_2:gram",
}  # fmt: skip


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_a_run_its_cache_its_targets_file_and_the_yardstick_agree(
    save_picture: Callable[..., Path], tmp_path: Path, backend: BackendName
) -> None:
    content, style = save_picture("c.png", 40, 48, seed=1), save_picture("s.png", 50, 37, seed=2)
    job = prepare_job(content, [(style, 2.0), content], backend=backend, **SMALL)
    again = prepare_job(content, [(style, 2.0), content], backend=backend, **SMALL)
    assert again.loaded.styles == ("hit", "hit")
    result = run_job(job)
    expected = evaluate_picture(result.picture, content, [(style, 2.0), content], job.settings)
    assert job.backend(0).cost(result.pixels).total == pytest.approx(result.cost.total, rel=1e-4)
    assert BoundCosts(job).measure(result.picture.pixels.astype(np.float32)).total == pytest.approx(
        expected.total, rel=1e-4
    )
    path, objective = tmp_path / "t.safetensors", job.settings.objective
    write_targets(path, job.contents, job.targets, objective, job.opened.weights_sha256)
    saved = read_targets(path)
    assert saved.objective == objective
    assert [target.style["conv1_2"].shape for target in saved.targets] == [(65, 65)]
    assert prepare_job_from_targets(saved, job.settings).targets[0].style.keys() == set(
        objective.style_names
    )
    grams = choose_settings(**SMALL | {"style_layers": "conv1_1,conv1_2,conv2_1,conv2_2"})
    with pytest.raises(UsageError, match=r"moments_layers .* instead of none"):
        prepare_job_from_targets(saved, grams)


def test_gram_targets_of_before_have_the_keys_and_files_that_they_had() -> None:
    objective = PRESETS["default"].objective
    assert "statistic" not in str(objective_to_json(objective))
    assert "moments_layers" not in describe_basis(objective, "0" * 64)
    assert "moments" not in FeatureGraph(grams=("conv1_1",)).key()
    others = with_statistic(objective, "wasserstein")
    assert objective_from_json(json.loads(json.dumps(objective_to_json(others)))) == others
    assert GradientGraph(objective=others).key() != GradientGraph(objective=objective).key()


def test_a_statistic_is_for_all_layers_but_those_that_have_their_own() -> None:
    layers = choose_settings(
        style_layers="conv1_1:2,conv2_1:gram,conv3_1:0.5:covariance", style_statistic="mean-std"
    ).objective.style_layers
    assert [(item.weight, item.statistic) for item in layers] == [
        (2.0, "mean-std"), (pytest.approx(1 / 3), "gram"), (0.5, "covariance"),
    ]  # fmt: skip
    usual = choose_settings(style_statistic="wasserstein").objective.style_layers
    assert usual == with_statistic(PRESETS["default"].objective, "wasserstein").style_layers
    for wrong, message in (
        ({"style_layers": "conv1_1:1:histogram"}, "statistic of gram, covariance"),
        ({"content_layers": "conv4_2:1:covariance"}, "content layers without a statistic"),
        ({"style_statistic": "mean"}, "try mean-std"),
    ):
        with pytest.raises(UsageError, match=message):
            choose_settings(**wrong)  # type: ignore[arg-type]


def test_what_knows_gram_matrices_alone_is_not_used_for_other_statistics() -> None:
    settings = choose_settings(style_statistic="wasserstein", precision="fp32")
    cuda = BackendChoice("torch", Device("cuda"), "bf16")
    assert choose_kernels(cuda, settings.objective) == KernelSupport(
        "torch", "style statistic wasserstein has no kernels"
    )
    with pytest.raises(UsageError, match="Gram matrices alone"):
        GradientGraph(objective=settings.objective, layout="interleaved")
    with pytest.raises(DeviceError, match="expected fp32 for style statistics other than gram"):
        check_statistics(replace(settings, precision="tf32"), Device("cuda"))
    check_statistics(settings, Device("cuda"))


def test_extracted_moments_are_the_yardsticks(tiny_weights: Weights) -> None:
    graph = FeatureGraph(grams=("conv1_1",), moments=("conv1_1", "conv3_1"), input="float32")
    model = check_model(build_feature_model(graph, tiny_weights)).SerializeToString()
    report = measure_parity(model, graph, tiny_weights, check_pictures()[:1, :37, :51])
    assert [output.name for output in report.outputs] == list(graph.outputs)
    assert report.passed


def test_rounding_of_a_distance_shrinks_with_it() -> None:
    """Or else a line search would find no lower cost where there is one."""
    generator = np.random.default_rng(3)
    features = 100 * generator.random((32, 400, 1)) ** 4
    target = reference_style("wasserstein", features)
    near = reference_style("wasserstein", features * (1 + 0.01 * generator.random(features.shape)))
    exact, _ = reference_style_cost("wasserstein", near, target)
    ours, _ = MomentCost(
        "wasserstein",
        torch.from_numpy(target)[None].float(),
        torch.from_numpy(covariance_root(target))[None].float(),
    ).compare(torch.from_numpy(near)[None].float())
    assert exact < 1e-4 * np.trace(target)
    assert float(ours) == pytest.approx(exact, rel=1e-3)
