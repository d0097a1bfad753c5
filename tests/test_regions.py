"""Regions: positions that count by their shares, each backend's gradient against float64, and that against differences."""

from dataclasses import replace

import numpy as np
import pytest
from networks import CASES, by_hand, mixed_objective, needs_bf16, relative_error, targets_of
from pictures import random_pixels
from test_statistics import open_onnx, with_statistic

from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.torch_network import TorchNetwork
from nstx.engine.gradients.backend import GradientBackend
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.regions.positions import share_positions
from nstx.engine.targets.targets import Targets
from nstx.export.gradient_parity import measure_gradient_parity
from nstx.export.graphs.build_gradient import build_gradient_model
from nstx.export.graphs.feature_graph import GraphPrecision
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.nodes.builder import check_model
from nstx.export.parity import check_pictures
from nstx.models.errors import UsageError
from nstx.models.layers import LayerWeight
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.reference.cost import reference_cost
from nstx.models.reference.features import reference_features
from nstx.models.reference.gradient import reference_gradient
from nstx.models.reference.statistics import reference_style
from nstx.models.statistics import STATISTICS, Statistic
from nstx.models.vgg19 import Pooling, PoolRounding, find_layer
from nstx.models.weights.load import Weights


def random_shares(objective: Objective, size: tuple[int, int], seed: int) -> dict[str, np.ndarray]:
    """Return shares of the positions of each style layer, a third of them 0."""
    generator, shares = np.random.default_rng(seed), {}
    for name in objective.style_names:
        values = generator.random(find_layer(name).output_size(*size, objective.pool_rounding))
        values = np.maximum(values - 0.3, 0) + 1e-9
        shares[name] = (values / values.sum()).astype(np.float32)
    return shares


def with_regions(weights: Weights, objective: Objective, targets: Targets, seed: int) -> Targets:
    """Return targets of three regions: of what they had, of another style, and of two pixels of a third."""
    size = targets.height, targets.width
    dot = np.zeros(size, np.uint8)
    dot[size[0] // 2, size[1] // 3 : size[1] // 3 + 2] = 255
    shares = [random_shares(objective, size, seed), random_shares(objective, size, seed + 9)]
    shares.append(share_positions(dot, objective.style_names, objective.pool_rounding))
    styles = [dict[str, np.ndarray](targets.style)]
    for number in (1, 2):
        other = random_pixels(40, 36, seed + 20 * number) * np.float32(0.5 * number)
        features = reference_features(weights, other, objective.style_names, *objective.poolings)
        styles.append(
            {
                name: reference_style(kind, features[name])
                for name, kind in objective.statistics.items()
            }
        )
    return replace(
        targets,
        style={n: np.stack([s[n] for s in styles]).astype(np.float32) for n in targets.style},
        shares={n: np.stack([s[n] for s in shares]) for n in targets.style},
        areas=(0.6, 0.3, 0.1),
    )


def problems_of(
    weights: Weights, objective: Objective, pictures: list[np.ndarray], regions: int = 1
) -> list[Targets]:
    """Return the targets of a batch, of several regions each; or of one, of which the last picture has none."""
    targets = [targets_of(weights, objective, picture[::-1].copy()) for picture in pictures]
    if regions > 1:
        return [
            with_regions(weights, objective, item, seed) for seed, item in enumerate(targets, 1)
        ]
    return [
        replace(item, shares=random_shares(objective, (item.height, item.width), seed))
        for seed, item in enumerate(targets[:-1])
    ] + targets[-1:]


def check_gradients(
    weights: Weights,
    objective: Objective,
    pictures: list[np.ndarray],
    precision: TorchPrecision,
    most: float,
    regions: int = 1,
) -> None:
    targets = problems_of(weights, objective, pictures, regions)
    exact = [
        reference_gradient(
            objective,
            weights,
            picture,
            item.content,
            item.style,
            shares=item.shares,
            areas=item.areas,
        )
        for picture, item in zip(pictures, targets, strict=True)
    ]
    device = TorchDevice(Device("cpu"), precision)
    network = TorchNetwork(weights, objective.layers, *objective.poolings, device)
    backends: list[GradientBackend] = [by_hand(weights, objective, targets, precision)]
    if precision != "bf16":
        backends.append(AutogradBackend(network, [(objective, item) for item in targets]))
    if precision == "fp32":
        problems = [(objective, item) for item in targets]
        backends.append(open_onnx(weights, objective, problems, regions=regions))
    for backend in backends:
        costs, gradients = backend.costs_and_gradients(np.stack(pictures))
        alone = backend.costs(np.stack(pictures))
        for cost, single, ours, (total, gradient) in zip(
            costs, alone, gradients, exact, strict=True
        ):
            assert cost.total == pytest.approx(total.total, rel=most)
            assert single.total == pytest.approx(total.total, rel=most)
            assert relative_error(ours, gradient) < most


@pytest.mark.parametrize(("pooling", "rounding"), CASES)
@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("regions", [1, 2])
def test_gradient_of_a_region_agrees_with_central_differences(
    tiny_weights: Weights,
    statistic: Statistic,
    pooling: Pooling,
    rounding: PoolRounding,
    regions: int,
) -> None:
    objective = with_statistic(mixed_objective(pooling, rounding, style_weight=5.0), statistic)
    objective = replace(objective, content_weight=0.0, tv_weight=0.0)
    picture = random_pixels(37, 33, 2)
    styles = [(random_pixels(41, 57, 3 + index), 1.0) for index in range(regions)]
    features = [
        reference_features(tiny_weights, style, objective.layers, *objective.poolings)
        for style, _ in styles
    ]
    targets, shares, areas = {}, {}, (1.0,) if regions == 1 else (0.3, 0.7)
    counts = [random_shares(objective, (37, 33), 5 + index) for index in range(regions)]
    for name, kind in objective.statistics.items():
        aims = [reference_style(kind, of_style[name]) for of_style in features]
        targets[name] = aims[0] if regions == 1 else np.stack(aims)
        shares[name] = counts[0][name] if regions == 1 else np.stack([c[name] for c in counts])
    cost, gradient = reference_gradient(
        objective, tiny_weights, picture, {}, targets, shares=shares, areas=areas
    )
    first = {name: target if regions == 1 else target[0] for name, target in targets.items()}
    whole, _ = reference_gradient(objective, tiny_weights, picture, {}, first)
    assert cost.total != pytest.approx(whole.total, rel=1e-3)
    step = 3e-5
    direction = gradient * np.random.default_rng(5).integers(0, 2, gradient.shape)
    direction /= np.linalg.norm(direction)
    totals = [
        reference_cost(
            objective,
            tiny_weights,
            picture + offset * direction,
            picture,
            styles,
            shares=shares,
            areas=areas,
            style_regions=range(regions),
        ).total
        for offset in (step, -step)
    ]
    slope = (totals[0] - totals[1]) / (2 * step)
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("pooling", "rounding"), CASES)
@pytest.mark.parametrize("size", [(37, 33), (48, 32)])
@pytest.mark.parametrize("regions", [1, 3])
def test_gradients_of_regions_are_those_of_float64(
    tiny_weights: Weights,
    size: tuple[int, int],
    pooling: Pooling,
    rounding: PoolRounding,
    regions: int,
) -> None:
    objective = with_statistic(mixed_objective(pooling, rounding), *STATISTICS)
    if regions == 3 and size == (37, 33):
        objective = replace(objective, relative=True, style_weight=1e4)
    pictures = [random_pixels(*size, seed) for seed in (1, 2)]
    check_gradients(tiny_weights, objective, pictures, "fp64", 1e-6, regions)
    check_gradients(tiny_weights, objective, pictures, "fp32", 1e-3, regions)


@needs_bf16
@pytest.mark.parametrize("statistics", [("gram",), ("mean-std",)])
@pytest.mark.parametrize("regions", [1, 3])
def test_regions_in_bf16_are_as_good_as_bf16(
    tiny_weights: Weights, statistics: tuple[Statistic, ...], regions: int
) -> None:
    objective = with_statistic(mixed_objective("avg", "ceil", style_weight=5.0), *statistics)
    pictures = [random_pixels(37, 33, seed) for seed in (1, 2)]
    check_gradients(tiny_weights, objective, pictures, "bf16", 0.1, regions)


@pytest.mark.parametrize(
    ("regions", "statistics"),
    [(1, ("gram",)), (3, ("gram",)), (1, ("wasserstein", "mean-std"))],
)
def test_float32_gradients_of_regions_agree_with_float64_on_real_weights(
    real_weights: Weights, regions: int, statistics: tuple[Statistic, ...]
) -> None:
    objective = PRESETS["default"].objective
    objective = replace(objective, style_layers=objective.style_layers[:3], content_weight=0.0)
    objective = with_statistic(objective, *statistics)
    pictures = list(check_pictures()[:2, :51, :67].astype(np.float32))
    check_gradients(real_weights, objective, pictures, "fp32", 1e-2, regions)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_of_regions_add_up_to_that_of_the_whole(statistic: Statistic) -> None:
    """As parts of a picture do, each with its shares of the same total."""
    generator = np.random.default_rng(1)
    features, weights = generator.random((5, 6, 7)), generator.random((6, 7))
    shares = weights / weights.sum()
    parts = [
        reference_style(statistic, features[:, rows], shares[rows])
        for rows in (slice(0, 2), slice(2, 6))
    ]
    np.testing.assert_allclose(sum(parts), reference_style(statistic, features, shares), rtol=1e-12)
    alike = np.full((6, 7), 1 / 42)
    whole = reference_style(statistic, features)
    np.testing.assert_allclose(reference_style(statistic, features, alike), whole, rtol=1e-12)


def test_onnx_refuses_regions_of_which_its_graph_knows_nothing(tiny_weights: Weights) -> None:
    objective = mixed_objective("avg", "ceil")
    targets = targets_of(tiny_weights, objective, random_pixels(32, 32, 1))
    masked = replace(targets, shares=random_shares(objective, (32, 32), 1))
    with pytest.raises(UsageError, match="--backend torch"):
        open_onnx(tiny_weights, objective, [(objective, masked)])


@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_exported_graphs_with_regions_are_compared_with_float64(
    tiny_weights: Weights, regions: int, precision: GraphPrecision
) -> None:
    objective = with_statistic(mixed_objective("avg", "ceil"), *STATISTICS)
    content = (LayerWeight("conv3_1", 1.0),)  # a style layer, too
    objective = replace(objective, content_layers=content, relative=True)
    graph = GradientGraph(objective=objective, regions=regions, precision=precision)
    model = check_model(build_gradient_model(graph, tiny_weights)).SerializeToString()
    report = measure_gradient_parity(model, graph, tiny_weights)
    assert report.passed
    assert len(report.gradient_errors) == 3
    assert ("areas" in graph.inputs) == (regions > 1)


def test_graphs_with_regions_are_looked_up_by_another_key(tiny_weights: Weights) -> None:
    plain = GradientGraph(objective=mixed_objective("avg", "ceil"))
    graph = replace(plain, regions=1)
    assert graph.key()["regions"] is True  # as before there were several
    several = replace(plain, regions=3)
    assert GradientGraph.from_metadata(several.metadata(tiny_weights), "here") == several
    with pytest.raises(UsageError, match="regions"):
        replace(plain, regions=65)
    assert plain.key() == {key: graph.key()[key] for key in graph.key() if key != "regions"}
    assert GradientGraph.from_metadata(graph.metadata(tiny_weights), "here") == graph
    assert "regions" not in plain.metadata(tiny_weights)
    with pytest.raises(UsageError, match="regions"):
        replace(graph, layout="interleaved")
