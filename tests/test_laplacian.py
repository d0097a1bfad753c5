"""The content's detail: each backend's gradient against float64, that against differences, and runs that compare it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import ACCELERATED, PLACES, most_error
from networks import CASES, by_hand, mixed_objective, needs_bf16, relative_error, targets_of
from pictures import random_pixels
from test_statistics import open_onnx

from nstx import (
    Job,
    choose_settings,
    evaluate_picture,
    prepare_job,
    prepare_job_from_targets,
    read_targets,
    run_batch,
    run_job,
    write_targets,
)
from nstx.engine.checkpoints.reached import cost_columns
from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice
from nstx.engine.features.torch_network import TorchNetwork
from nstx.engine.gradients.backend import GradientBackend
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.targets.detail import laplacian, with_details
from nstx.engine.targets.targets import Targets
from nstx.export.gradient_parity import measure_gradient_parity
from nstx.export.graphs.build_gradient import build_gradient_model
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.models.objective import Objective, objective_from_json, objective_to_json
from nstx.models.reference.cost import laplacian_difference
from nstx.models.reference.gradient import laplacian_gradient, reference_gradient
from nstx.models.vgg19 import Pooling, PoolRounding
from nstx.models.weights.load import Weights

Nstx = Callable[..., tuple[int, str, str]]
SIZES = [(48, 64), (37, 33), (16, 19)]


def detailed(pooling: Pooling, rounding: PoolRounding, weight: float = 0.3) -> Objective:
    return replace(mixed_objective(pooling, rounding), laplacian_weight=weight)


def problem_of(weights: Weights, objective: Objective, content: np.ndarray) -> Targets:
    (targets,) = with_details([targets_of(weights, objective, content)], [content], objective)
    return targets


@pytest.mark.parametrize("size", SIZES)
def test_the_target_is_the_kernel_on_means_of_squares(size: tuple[int, int]) -> None:
    picture = random_pixels(*size, seed=1)
    values = laplacian(picture)
    assert values.shape == (size[0] - 11, size[1] - 11)
    grey = picture.astype(np.float64).sum(2)

    def mean(row: int, column: int) -> float:
        return float(grey[row : row + 4, column : column + 4].mean())

    last = size[1] - 8
    around = mean(1, last) + mean(9, last) + mean(5, last - 4) + mean(5, last + 4)
    assert values[1, -1] == pytest.approx(4 * mean(5, last) - around, rel=1e-12)
    np.testing.assert_allclose(
        values, laplacian_difference(picture, np.zeros_like(picture)), atol=1e-9
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_references_gradient_agrees_with_central_differences(size: tuple[int, int]) -> None:
    content, picture = (random_pixels(*size, seed=seed).astype(np.float64) for seed in (1, 2))
    gradient = laplacian_gradient(picture, content)
    direction = np.random.default_rng(3).normal(size=picture.shape)
    costs = [
        np.mean(laplacian_difference(picture + offset * direction, content) ** 2)
        for offset in (-1, 1)
    ]
    # Quadratic, so that the step does not matter.
    assert np.sum(gradient * direction) == pytest.approx((costs[1] - costs[0]) / 2, rel=1e-6)


@pytest.mark.parametrize(("pooling", "rounding"), CASES)
@pytest.mark.parametrize("size", SIZES)
def test_every_backend_agrees_with_float64(
    tiny_weights: Weights, pooling: Pooling, rounding: PoolRounding, size: tuple[int, int]
) -> None:
    objective = detailed(pooling, rounding)
    pictures = [random_pixels(*size, seed=seed) for seed in (1, 2)]
    contents = [random_pixels(*size, seed=seed) for seed in (3, 4)]
    targets = [problem_of(tiny_weights, objective, content) for content in contents]
    # Each picture has its own weight.
    problems = [
        (replace(objective, laplacian_weight=weight), target)
        for weight, target in zip((0.3, 2.0), targets, strict=True)
    ]
    exact = [
        reference_gradient(of, tiny_weights, picture, t.content, t.style, photograph=content)
        for (of, t), picture, content in zip(problems, pictures, contents, strict=True)
    ]
    device = TorchDevice(Device("cpu"), "fp32")
    network = TorchNetwork(tiny_weights, objective.layers, pooling, rounding, device)
    written_out = by_hand(tiny_weights, objective, targets, "fp32")
    backends: list[GradientBackend] = [
        type(written_out)(written_out._backward, problems),
        AutogradBackend(network, problems),
        open_onnx(tiny_weights, objective, problems),
    ]
    for backend in backends:
        costs, gradients = backend.costs_and_gradients(np.stack(pictures))
        for cost, ours, (expected, gradient) in zip(costs, gradients, exact, strict=True):
            assert cost.laplacian == pytest.approx(expected.laplacian, rel=1e-5)
            assert cost.total == pytest.approx(expected.total, rel=1e-5)
            assert relative_error(ours, gradient) < 1e-4
        assert backend.costs(np.stack(pictures))[1].laplacian == pytest.approx(
            exact[1][0].laplacian, rel=1e-5
        )


@needs_bf16
def test_low_precision_leaves_it_exact(tiny_weights: Weights) -> None:
    objective = replace(
        detailed("avg", "ceil", 1e6), content_weight=1e-6, style_weight=1e-6, tv_weight=0.0
    )
    content, picture = random_pixels(37, 33, 1), random_pixels(37, 33, 2)
    targets = problem_of(tiny_weights, objective, content)
    _, gradient = by_hand(tiny_weights, objective, [targets], "bf16").cost_and_gradient(picture)
    assert relative_error(gradient, 1e6 * laplacian_gradient(picture, content)) < 1e-5


def test_an_exported_graph_is_held_against_float64(tiny_weights: Weights) -> None:
    graph = GradientGraph(objective=detailed("avg", "ceil", 1.0))
    assert graph.inputs[4] == "laplacian_weight"
    assert graph.inputs[-1] == "laplacian_target"
    assert "laplacian" in graph.outputs
    model = build_gradient_model(graph, tiny_weights)
    assert measure_gradient_parity(model.SerializeToString(), graph, tiny_weights).passed
    (node,) = (n for n in model.graph.node if n.name == "laplacian_at_squares_from_left")
    node.input[:] = node.input[::-1]  # the other way round
    assert not measure_gradient_parity(model.SerializeToString(), graph, tiny_weights).passed


def test_without_a_weight_nothing_is_there(tiny_weights: Weights) -> None:
    objective = mixed_objective("avg", "ceil")
    assert "laplacian_weight" not in objective_to_json(objective)
    assert ("laplacian", "") not in cost_columns(objective)
    assert not any("laplacian" in name for name in GradientGraph(objective=objective).inputs)
    content = random_pixels(37, 33, 1)
    assert problem_of(tiny_weights, objective, content).laplacian is None
    counted = replace(objective, laplacian_weight=2.0)
    assert objective_from_json(json.loads(json.dumps(objective_to_json(counted)))) == counted
    assert ("laplacian", "") in cost_columns(counted)


CONTENT, STYLE = (random_pixels(53, 71, seed).astype(np.uint8) for seed in (5, 6))


def job_of(weight: float | None, mask: np.ndarray | None = None, **choices: Any) -> Job:
    few: Any = {"content_layers": "conv2_2", "style_layers": "conv1_1,conv2_1"}
    settings = choose_settings(
        size=40, steps=2, clean=False, laplacian_weight=weight, **few, **choices
    )
    return prepare_job(CONTENT, STYLE, settings, mask=mask)


@pytest.mark.parametrize("place", PLACES)
def test_a_run_keeps_detail(place: Any) -> None:
    gentle, strong = (run_job(job_of(weight, **place, init="noise")) for weight in (1e-6, 1.0))
    assert 0 < strong.cost.laplacian < 0.5 * gentle.cost.laplacian


@pytest.mark.parametrize("place", [{}, ACCELERATED[0]])
def test_targets_files_batches_and_the_yardstick_agree_with_a_run(
    tmp_path: Path, place: Any
) -> None:
    job = job_of(0.01, **place)
    result = run_job(job)
    path = tmp_path / "t.safetensors"
    # Computed without it: it follows from the pixels that a file holds.
    plain = job_of(None, **place)
    objective, digest = plain.settings.objective, plain.opened.weights_sha256
    write_targets(path, plain.contents, plain.targets, objective, digest)
    again = run_job(prepare_job_from_targets(read_targets(path), job.settings))
    assert np.array_equal(again.pixels, result.pixels)
    both = run_batch([job, job])
    assert both[1].cost.laplacian == pytest.approx(result.cost.laplacian, rel=1e-2)
    cost = evaluate_picture(result.pixels, CONTENT, STYLE, job.settings)
    # Of differences of a third of a level, between values of hundreds in float32.
    assert cost.laplacian == pytest.approx(result.cost.laplacian, rel=2e-3)
    assert cost.total == pytest.approx(result.cost.total, rel=most_error(place))


@pytest.mark.parametrize("place", [{}, *ACCELERATED])
def test_outside_a_mask_nothing_changes(place: Any) -> None:
    mask = np.zeros(CONTENT.shape, np.uint8)
    mask[:, :30] = 255
    job = job_of(0.01, mask, **place)
    result = run_job(job)
    assert np.array_equal(result.pixels[:, 40:], job.contents[-1][:, 40:])
    assert result.cost.laplacian > 0


def test_it_is_refused_below_0(nstx: Nstx) -> None:
    code, _, err = nstx("optimize", "a", "b", "-o", "c.png", "--laplacian-weight", "-1")
    assert code == 2
    assert "laplacian weight of 0" in err
