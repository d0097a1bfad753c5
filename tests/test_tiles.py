"""Tiles: gradients and costs by tiles are those of whole pictures, whatever the tiles, backends and objectives."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from cuda_like import CudaLike, cuda_like_host
from devices import DEVICES, on_cuda
from networks import CASES, extract_style, mixed_objective, needs_bf16, relative_error
from numpy.typing import NDArray
from pictures import random_pixels

import nstx
from nstx.engine.checkpoints.manifest import Manifest
from nstx.engine.devices.device import Device, DeviceKind
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.onnx_extractor import OnnxExtractor
from nstx.engine.features.torch_network import TorchExtractor, TorchNetwork
from nstx.engine.gradients.backend import GradientBackend, PrecisionPlan
from nstx.engine.gradients.backprop import BackpropBackend, BackwardPass
from nstx.engine.gradients.checked import CheckedBackend
from nstx.engine.gradients.choice import BackendChoice
from nstx.engine.gradients.onnx_backend import OnnxBackend
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.regions.positions import share_positions
from nstx.engine.sessions.session import load_session
from nstx.engine.targets.detail import with_details
from nstx.engine.targets.targets import Targets, make_targets
from nstx.engine.tiled.backend import TiledBackend
from nstx.engine.tiled.onnx_passes import OnnxPasses
from nstx.engine.tiled.opening import open_by_tiles
from nstx.engine.tiled.passes import TilePasses
from nstx.engine.tiled.problem import TiledProblem
from nstx.engine.tiled.shrinking import ShrinkingBackend, TileSide
from nstx.engine.tiled.torch_passes import AutogradPasses, WrittenPasses
from nstx.engine.tiles.layout import TileLayout, lay_tiles
from nstx.export.nodes.builder import check_model
from nstx.export.runtime.session import SessionChoices
from nstx.export.tiles.build_tile import build_tile_model
from nstx.export.tiles.tile_graph import TileGraph, TilePart
from nstx.models.errors import DeviceError, UsageError
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.statistics import STATISTICS
from nstx.models.vgg19 import LAYERS, Pooling, PoolRounding, find_layer
from nstx.models.weights.load import Weights

SIZES = [(160, 192), (150, 211), (97, 65), (83, 300)]
"""Of pictures: even, odd, ending after a pixel, and long."""

RELATIVE = {"mean-std", "gram"}
"""Statistics whose costs are tried in relation to their targets."""


def layout_of(objective: Objective, size: Sequence[int], side: int) -> TileLayout:
    layout = lay_tiles(size, objective.layers, objective.pool_rounding, side)
    assert layout is not None
    return layout


@pytest.mark.parametrize("rounding", ["ceil", "floor"])
@pytest.mark.parametrize("size", [*SIZES, (64, 65), (400, 17)])
@pytest.mark.parametrize("side", [16, 112])
def test_each_position_of_each_layer_is_in_one_tile(
    size: tuple[int, int], side: int, rounding: PoolRounding
) -> None:
    names = [layer.name for layer in LAYERS if layer.kind == "conv"]
    layout = TileLayout(*size, tuple(names), rounding, side)
    tiles = layout.tiles
    for name in names:
        counts = np.zeros(find_layer(name).output_size(*size, rounding), int)
        for tile in tiles:
            counts[layout.positions(tile, name)] += 1
            (top, _), (left, _) = tile.outer
            assert top % 16 == left % 16 == 0
            inner, outer = layout.positions(tile, name), layout.within(tile, name)
            stride, own = (
                find_layer(name).stride,
                find_layer(name).output_size(*tile.size, rounding),
            )
            for part, place, first, end in zip(inner, outer, (top, left), own, strict=True):
                assert part.start * stride == place.start * stride + first
                assert part.stop - part.start == place.stop - place.start
                assert place.stop <= end
        assert (counts == 1).all()
    assert max(end - first for tile in tiles for first, end in tile.inner) <= side
    assert [layout.tile(index) for index in range(len(tiles))] == list(tiles)
    assert layout.evaluated_pixels == sum(tile.size[0] * tile.size[1] for tile in tiles)


@pytest.mark.parametrize(
    ("layers", "halo"), [(("conv1_1",), 1), (("conv2_1", "conv1_2"), 4), (("conv4_2",), 40), (("conv5_1",), 80)]
)  # fmt: skip
def test_a_halo_is_as_wide_as_what_the_deepest_layer_sees(
    layers: tuple[str, ...], halo: int
) -> None:
    assert TileLayout(500, 500, layers, "ceil", 64).halo == halo
    deepest = max((find_layer(name) for name in layers), key=lambda layer: layer.receptive_field)
    assert 2 * halo >= deepest.receptive_field - deepest.stride


def test_what_fits_in_a_tile_has_none() -> None:
    assert lay_tiles((64, 50), ("conv1_1",), "ceil", 64) is None
    assert lay_tiles((64, 65), ("conv1_1",), "ceil", 64) is not None


def make_problems(
    weights: Weights,
    objective: Objective,
    size: tuple[int, int],
    *,
    batch: int = 1,
    regions: int = 0,
) -> list[tuple[Objective, Targets]]:
    """Return pictures that differ in targets, weights and masks; of several the last has no mask, if it may."""
    network = TorchNetwork(
        weights, objective.layers, *objective.poolings, TorchDevice(Device("cpu"), "fp64")
    )
    extract = TorchExtractor(network).extract
    problems = []
    for index in range(batch):
        content = random_pixels(*size, 10 + index)
        targets = make_targets(
            size,
            extract(content, objective.content_names, []).activations,
            [(extract_style(extract, objective, random_pixels(41, 57, 20 + index)), 1.0)],
        )
        masks = [
            share_positions(mask, objective.style_names, objective.pool_rounding)
            for mask in _draw_masks(size, regions, index)
        ]
        if regions > 1:
            other = extract_style(extract, objective, random_pixels(40, 50, 70))
            style = {name: np.stack([own, other[name]]) for name, own in targets.style.items()}
            shares = {name: np.stack([mask[name] for mask in masks]) for name in masks[0]}
            targets = replace(targets, style=style, shares=shares, areas=(0.3, 0.7))
        elif regions == 1 and (index < batch - 1 or batch == 1):
            targets = replace(targets, shares=masks[0])
        (targets,) = with_details([targets], [content], objective)
        problems.append((replace(objective, style_weight=0.02 * (index + 1)), targets))
    return problems


def _draw_masks(size: tuple[int, int], regions: int, seed: int) -> list[np.ndarray]:
    """Return masks that leave whole tiles out."""
    masks = []
    for region in range(regions):
        counts = random_pixels(*size, 30 + seed + region)[..., 0].astype(np.uint8)
        half = np.s_[: size[0] // 2, : size[1] // 2] if region == 0 else np.s_[size[0] // 2 :]
        counts[half] = 0
        masks.append(counts)
    return masks


def torch_pair(
    weights: Weights,
    objective: Objective,
    problems: Sequence[tuple[Objective, Targets]],
    side: int,
    name: str,
    precision: TorchPrecision,
    place: DeviceKind = "cpu",
) -> tuple[GradientBackend, GradientBackend]:
    """Return a backend of whole pictures, and one of their tiles, of the same network."""
    device = TorchDevice(Device(place), precision)
    passes: TilePasses
    whole: GradientBackend
    if name == "autograd":
        network = TorchNetwork(weights, objective.layers, *objective.poolings, device)
        whole, passes = AutogradBackend(network, problems), AutogradPasses(network, objective)
    else:
        backward = BackwardPass(weights, objective, device)
        whole, passes = BackpropBackend(backward, problems), WrittenPasses(backward, objective)
    sides = problems[0][1]
    layout = layout_of(objective, (sides.height, sides.width), side)
    return whole, TiledBackend(passes, TiledProblem(layout, problems))


def agree(
    whole: GradientBackend, tiled: GradientBackend, pixels: np.ndarray, most: float, cost: float
) -> None:
    expected, gradients = whole.costs_and_gradients(pixels)
    costs, tiled_gradients = tiled.costs_and_gradients(pixels)
    for ours, theirs in zip(costs, expected, strict=True):
        assert ours.total == pytest.approx(theirs.total, rel=cost)
        assert ours.style_layers == pytest.approx(theirs.style_layers, rel=10 * cost)
        assert ours.content_layers == pytest.approx(theirs.content_layers, rel=cost)
        assert ours.total_variation == pytest.approx(theirs.total_variation, rel=cost)
        assert ours.laplacian == pytest.approx(theirs.laplacian, rel=cost)
    for gradient, reference in zip(tiled_gradients, gradients, strict=True):
        assert relative_error(gradient, reference) < most
    alone = tiled.costs(pixels)
    assert [value.total for value in alone] == [value.total for value in costs]


def objective_of(pooling: Pooling, rounding: PoolRounding, statistic: Any) -> Objective:
    objective = mixed_objective(pooling, rounding)
    layers = tuple(replace(item, statistic=statistic) for item in objective.style_layers)
    return replace(objective, style_layers=layers, relative=statistic in RELATIVE)


@pytest.mark.parametrize("name", ["autograd", "written"])
@pytest.mark.parametrize("index", range(8))
def test_tiles_have_the_whole_gradient_in_float64(
    tiny_weights: Weights, index: int, name: str
) -> None:
    """Every statistic, with and without masks, at every size, with every pooling and rounding."""
    statistic, size, case = STATISTICS[index % 4], SIZES[(index + index // 4) % 4], CASES[index % 4]
    objective, batch = objective_of(*case, statistic), 1 + index % 2
    problems = make_problems(
        tiny_weights, objective, size, batch=batch, regions=(2, 1, 1, 2, 0)[min(index, 4)]
    )
    pair = torch_pair(tiny_weights, objective, problems, (64, 80)[index // 4], name, "fp64")
    pixels = np.stack([random_pixels(*size, 40 + i) for i in range(batch)])
    agree(*pair, pixels.astype(np.float64), 2e-6, 1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("regions", [0, 1, 2])
@pytest.mark.parametrize("name", ["autograd", "written"])
def test_tiles_have_the_whole_gradient_in_float32(
    tiny_weights: Weights, name: str, regions: int, device: DeviceKind
) -> None:
    objective, size = mixed_objective("avg", "ceil"), (83, 175)
    objective = replace(objective, laplacian_weight=0.1 * regions)
    problems = make_problems(tiny_weights, objective, size, batch=2, regions=regions)
    pixels = np.stack([random_pixels(*size, 40 + i) for i in range(2)])
    for side in (64, 160):
        pair = torch_pair(tiny_weights, objective, problems, side, name, "fp32", device)
        agree(*pair, pixels, 1e-4, 1e-5 if device == "cpu" else 1e-4)


HALF: Any = pytest.param("cpu", "fp16", 0.1)
ON_CUDA_TOO: Any = [
    on_cuda("cuda", *values, name=f"cuda-{values[0]}")
    for values in (("tf32", 0.03), ("tf32x3", 2e-3), ("bf16", 0.25), ("fp16", 0.1))
]


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(("device", "precision", "most"), [HALF, *ON_CUDA_TOO])
def test_tiles_of_low_precision_are_as_near_as_whole_pictures(
    tiny_weights: Weights, index: int, device: DeviceKind, precision: TorchPrecision, most: float
) -> None:
    """Of every statistic and pooling, of two pictures of odd sides, with masks and regions."""
    objective, size = objective_of(*CASES[index], STATISTICS[index]), (97, 65)
    problems = make_problems(tiny_weights, objective, size, batch=2, regions=index % 3)
    pixels = np.stack([random_pixels(*size, 40 + i) for i in range(2)])
    exact, _ = torch_pair(tiny_weights, objective, problems, 64, "autograd", "fp64")
    _, gradients = exact.costs_and_gradients(pixels.astype(np.float64))
    pair = torch_pair(tiny_weights, objective, problems, 64, "written", precision, device)
    whole, tiled = (
        max(map(relative_error, backend.costs_and_gradients(pixels)[1], gradients))
        for backend in pair
    )
    assert tiled < most
    assert tiled < 2 * whole + 0.01


def test_seeds_shrink_and_grow_by_tiles_as_they_do_whole(tiny_weights: Weights) -> None:
    objective, size = mixed_objective("avg", "ceil"), (97, 65)
    problems = make_problems(tiny_weights, objective, size)
    pixels = random_pixels(*size, 40)
    for factor, direction in ((1e6, -1), (1e-9, 1)):
        scaled = [
            (
                replace(
                    own,
                    style_weight=factor * own.style_weight,
                    content_weight=factor * own.content_weight,
                    tv_weight=0.0,
                ),
                targets,
            )
            for own, targets in problems
        ]
        whole, tiled = torch_pair(tiny_weights, objective, scaled, 64, "written", "fp16")
        assert isinstance(tiled, TiledBackend)
        gradients = [backend.cost_and_gradient(pixels)[1] for backend in (whole, tiled)]
        assert relative_error(*gradients[::-1]) < 0.02
        assert np.sign(np.log2(tiled.seed) - 24) == direction
        again = torch_pair(tiny_weights, objective, scaled, 64, "written", "fp16")[1]
        again.resume(tiled.export(), [])
        assert np.array_equal(
            again.cost_and_gradient(pixels)[1], tiled.cost_and_gradient(pixels)[1]
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "tf32x3"])
@pytest.mark.parametrize("index", range(3))
def test_what_is_on_a_device_meets_nothing_of_the_host(
    tiny_weights: Weights, index: int, precision: TorchPrecision
) -> None:
    objective, size = objective_of(*CASES[index], STATISTICS[index]), (97, 65)
    problems = make_problems(tiny_weights, objective, size, batch=2, regions=index)
    pixels = np.stack([random_pixels(*size, 40 + i) for i in range(2)])
    with CudaLike() as mode:
        _, tiled = torch_pair(tiny_weights, objective, problems, 64, "written", precision, "cuda")
        _, gradients = tiled.costs_and_gradients(pixels)
        assert mode.uploaded > 4 * pixels.size
    _, expected = torch_pair(tiny_weights, objective, problems, 64, "autograd", "fp32")
    for gradient, reference in zip(gradients, expected.costs_and_gradients(pixels)[1], strict=True):
        assert relative_error(gradient, reference) < (0.2 if precision != "fp32" else 1e-5)


def test_tensors_come_back_as_tensors(tiny_weights: Weights) -> None:
    from nstx.engine.devices.torch_arrays import TorchArrays

    objective, size = mixed_objective("max", "floor"), (97, 65)
    problems = make_problems(tiny_weights, objective, size)
    _, tiled = torch_pair(tiny_weights, objective, problems, 64, "written", "fp32")
    assert isinstance(tiled, TiledBackend)
    tiled = TiledBackend(tiled._passes, tiled.problem, arrays=TorchArrays(torch.device("cpu")))
    pixels = random_pixels(*size, 3)
    cost, gradient = tiled.cost_and_gradient(torch.from_numpy(pixels))
    assert isinstance(gradient, torch.Tensor)
    again, expected = tiled.cost_and_gradient(pixels)
    assert cost == again
    assert np.array_equal(gradient.numpy(), expected)


def onnx_passes(objective: Objective, weights: Weights, regions: int) -> OnnxPasses:
    """Return the passes of small graphs that are built on the spot."""
    sessions = []
    for part in get_args(TilePart):
        graph = TileGraph(
            objective=objective.with_unit_weights(), part=part, regions=max(1, regions)
        )
        model = check_model(build_tile_model(graph, weights)).SerializeToString()
        sessions.append(load_session(model, TileGraph, SessionChoices(threads=1)))
    return OnnxPasses(*sessions)


@pytest.mark.parametrize(
    ("statistic", "case", "size", "regions"),
    list(zip(STATISTICS, CASES, SIZES, (0, 2, 1, 2), strict=True)),
)
def test_onnx_runtime_has_the_whole_gradient(
    tiny_weights: Weights,
    statistic: Any,
    case: tuple[Pooling, PoolRounding],
    size: tuple[int, int],
    regions: int,
) -> None:
    objective = objective_of(*case, statistic)
    problems = make_problems(tiny_weights, objective, size, batch=2, regions=regions)
    whole, tiled = torch_pair(tiny_weights, objective, problems, 64, "autograd", "fp64")
    assert isinstance(tiled, TiledBackend)
    tiled = TiledBackend(onnx_passes(objective, tiny_weights, regions), tiled.problem)
    pixels = np.stack([random_pixels(*size, 40 + i) for i in range(2)])
    agree(whole, tiled, pixels, 1e-4, 1e-5)


# A cost of the network's first layers alone.
LIGHT: Any = {
    "content_layers": "conv2_2", "style_layers": "conv1_1,conv2_1", "device": "cpu",
    "precision": "fp32", "threads": 1, "tv_weight": 1e-3, "size": 150, "steps": 2, "scales": 2,
}  # fmt: skip
CONTENT = random_pixels(67, 150, 0).round().astype(np.uint8)
STYLE = random_pixels(90, 70, 1).round().astype(np.uint8)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize(
    "choices", [{}, {"style_statistic": "covariance", "mask": "left"}], ids=str
)
def test_a_run_by_tiles_makes_the_same_picture(backend: Any, choices: dict[str, Any]) -> None:
    if "mask" in choices:
        mask = np.repeat(np.arange(150)[None] < 80, 67, 0) * np.uint8(255)
        choices = {**choices, "mask": mask}
    whole, tiled = (
        nstx.stylize(CONTENT, STYLE, backend=backend, tile=tile, **{**LIGHT, **choices})
        for tile in (None, 64)
    )
    np.testing.assert_allclose(tiled.pixels, whole.pixels, atol=0.05)
    assert tiled.cost.total == pytest.approx(whole.cost.total, rel=1e-5)
    assert tiled.steps == whole.steps


DEVICE_RUNS: Any = [
    {"precision": "fp32", "mask": "left"}, {"solver": "adam", "precision": "tf32"},
    {"precision": "auto", "style_statistic": "covariance"}, {"precision": "auto", "history": "disk"},
    {"precision": "fp16"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "choices"),
    [
        *[("like", DEVICE_RUNS[index]) for index in (0, 3)],
        *[on_cuda("cuda", run, name=f"cuda-{run}") for run in DEVICE_RUNS],
    ],
    ids=str,
)
def test_a_run_by_tiles_on_cuda_makes_the_same_picture(
    device: str, choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "mask" in choices:
        choices = {**choices, "mask": np.repeat(np.arange(150)[None] < 80, 67, 0) * np.uint8(255)}
    run: Any = partial(nstx.stylize, CONTENT, STYLE, backend="torch", use_cache=False)
    exact = {name: value for name, value in choices.items() if name != "history"}
    whole = run(**{**LIGHT, **exact, "precision": "fp32"})
    with cuda_like_host(monkeypatch) if device == "like" else nullcontext():
        tiled = run(tile=64, extractor="torch", **{**LIGHT, **choices, "device": "cuda"})
    assert tiled.steps == whole.steps
    assert bool(tiled.checks) is (choices["precision"] == "auto")
    assert tiled.cost.total == pytest.approx(whole.cost.total, rel=1e-2)
    assert np.abs(tiled.pixels - whole.pixels).mean() < 1


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_backends_without_tiles_on_a_device_refuse_them(kind: DeviceKind) -> None:
    name: Any = "onnx" if kind == "cuda" else "torch"
    with pytest.raises(DeviceError, match=r"expected .*for tiles"):
        open_by_tiles(nstx.choose_settings(tile=64), BackendChoice(name, Device(kind), "fp32"))


def test_what_fits_in_a_tile_is_made_as_ever() -> None:
    plain, tiled = (
        nstx.stylize(CONTENT, STYLE, tile=tile, **{**LIGHT, "steps": 1}) for tile in (None, 160)
    )
    assert np.array_equal(plain.pixels, tiled.pixels)
    assert plain.cost == tiled.cost


def test_contents_by_tiles_are_not_in_memory_and_coarse_ones_are() -> None:
    job = nstx.prepare_job(CONTENT, STYLE, backend="onnx", tile=80, **LIGHT)
    coarse, fine = job.targets
    assert list(coarse.content) == ["conv2_2"]
    assert not coarse.kept
    assert not fine.content
    whole = nstx.prepare_job(CONTENT, STYLE, backend="onnx", **LIGHT).targets[-1]
    kept = fine.kept["conv2_2"]
    for tile in kept.layout.tiles:
        place = kept.layout.positions(tile, "conv2_2")
        expected = whole.content["conv2_2"][:, *place]
        np.testing.assert_allclose(kept.read(*place), expected, rtol=1e-4, atol=1e-3)
    assert kept.mean_square == pytest.approx(float(np.mean(whole.content["conv2_2"] ** 2)))
    for name, gram in whole.style.items():
        assert relative_error(fine.style[name], gram) < 1e-6


@cache
def uninterrupted(backend: Any) -> NDArray[np.float32]:
    """Return the picture of a run by tiles."""
    return nstx.stylize(CONTENT, STYLE, tile=64, **{**LIGHT, "backend": backend, "steps": 4}).pixels


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("tile", [64, 96, None])
def test_a_run_by_tiles_goes_on_from_its_checkpoint(
    backend: Any, tile: int | None, tmp_path: Path, logged_warnings: list[str]
) -> None:
    choices = {**LIGHT, "backend": backend, "steps": 4}
    whole = uninterrupted(backend)
    steps, calls = list[nstx.Step](), iter(range(100))
    # Between two tiles of the evaluation after the third step.
    for should_stop in (lambda: len(steps) == 3 and next(calls) == 9, None):
        result = nstx.stylize(
            CONTENT, STYLE, tile=64 if should_stop else tile, checkpoint=tmp_path / "kept",
            should_stop=should_stop, on_step=steps.append, **choices,
        )  # fmt: skip
        if should_stop:
            assert (result.steps, result.stopped) == (3, "interrupted")
            assert result.evaluations == steps[-1].evaluations + 1
            assert np.array_equal(result.pixels, steps[-1].pixels)
    if tile == 64:
        assert np.array_equal(result.pixels, whole)
        assert not logged_warnings
    else:
        np.testing.assert_allclose(result.pixels, whole, atol=0.05)
        assert f"tile {tile} instead of 64" in logged_warnings[0]


@needs_bf16
@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
def test_low_precision_is_checked_and_corrected(tiny_weights: Weights, statistic: Any) -> None:
    """As it is of whole pictures, to which a checked backend by tiles is compared."""
    objective, size = objective_of("avg", "ceil", statistic), (97, 130)
    problems = make_problems(tiny_weights, objective, size)
    layout = layout_of(objective, size, 64)
    networks = {
        precision: BackwardPass(tiny_weights, objective, TorchDevice(Device("cpu"), precision))
        for precision in ("bf16", "fp32")
    }

    def by_tiles(precision: Any) -> Any:
        def make(problems: Any, *, capture: Any = None) -> TiledBackend:
            shared = (
                problems if isinstance(problems, TiledProblem) else TiledProblem(layout, problems)
            )
            return TiledBackend(WrittenPasses(networks[precision], objective), shared.share())

        return make

    def whole(precision: Any) -> Any:
        return partial(BackpropBackend, networks[precision])

    plan, pixels = PrecisionPlan(("bf16", "fp32")), random_pixels(*size, 5)
    checked = [CheckedBackend(plan, backends, problems) for backends in (by_tiles, whole)]
    errors = []
    for backend in checked:
        backend.cost_and_gradient(pixels)
        exact = backend.cost(pixels)
        cost, gradient = backend.cost_and_gradient(pixels)  # corrected by the check
        assert cost.total == pytest.approx(exact.total, rel=1e-2)
        errors.append(relative_error(gradient, backends_gradient(whole("fp32")(problems), pixels)))
    assert [check.precision for check in checked[0].checks] == ["bf16"]
    assert checked[0].checks[0].error == pytest.approx(checked[1].checks[0].error, rel=0.5)
    assert errors[0] < 2 * errors[1] + 0.01
    # What is exported is all that the next evaluation depends on.
    again = CheckedBackend(plan, by_tiles, problems)
    again.resume(checked[0].export(), checked[0].checks)
    moved = pixels + 1
    ours, theirs = again.cost_and_gradient(moved), checked[0].cost_and_gradient(moved)
    assert ours[0] == theirs[0]
    assert np.array_equal(ours[1], theirs[1])


def backends_gradient(backend: GradientBackend, pixels: np.ndarray) -> np.ndarray:
    gradient: np.ndarray = backend.cost_and_gradient(pixels)[1]
    return gradient


@pytest.mark.parametrize("tile", [63, 72, 32, 65_600, 64.5, "all"])
def test_tiles_of_other_sides_are_refused(tile: Any) -> None:
    with pytest.raises(UsageError, match="tile"):
        nstx.choose_settings(tile=tile)


def test_kept_contents_are_read_by_other_tiles_too() -> None:
    job = nstx.prepare_job(CONTENT, STYLE, backend="onnx", tile=80, **LIGHT)
    objective, kept = job.settings.objective, job.targets[-1].kept["conv2_2"]
    whole = nstx.prepare_job(CONTENT, STYLE, backend="onnx", **LIGHT).targets[-1]
    layout = layout_of(objective, (67, 150), 48)
    for tile in layout.tiles:
        place = layout.positions(tile, "conv2_2")
        expected = whole.content["conv2_2"][:, *place]
        np.testing.assert_allclose(kept.read(*place), expected, rtol=1e-4, atol=1e-3)


def test_tiles_shrink_on_a_device_whose_cache_is_given_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = list[str]()
    really = WrittenPasses.gradient

    def gradient(self: Any, task: Any, slopes: Any) -> Any:
        if max(task.pixels.shape[1:3]) > 80:
            calls.append("exhausted")
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return really(self, task, slopes)

    monkeypatch.setattr(WrittenPasses, "gradient", gradient)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))
    with cuda_like_host(monkeypatch):
        nstx.stylize(
            CONTENT, STYLE, backend="torch", tile=128, extractor="torch", use_cache=False,
            **{**LIGHT, "device": "cuda", "steps": 1, "scales": 1},
        )  # fmt: skip
    assert calls == ["exhausted", "emptied"]
    assert "the run goes on by tiles of 64" in caplog.text


EXHAUSTED = {
    "onnx": MemoryError("Failed to allocate memory for requested buffer of size 1"),
    "torch": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
}  # fmt: skip


def limit_memory(monkeypatch: pytest.MonkeyPatch, backend: str, side: int) -> None:
    """Let evaluations of more than so many rows or columns report that there is no memory."""

    def limited(evaluate: Any, pixels_of: Any) -> Any:
        def call(self: Any, given: Any, *others: Any) -> Any:
            if max(pixels_of(given).shape[1:3]) > side:
                raise EXHAUSTED[backend]
            return evaluate(self, given, *others)

        return call

    passes, whole = {
        "onnx": (OnnxPasses, OnnxBackend), "torch": (AutogradPasses, AutogradBackend)
    }[backend]  # fmt: skip
    for owner, name, pixels_of in (
        (passes, "sums", lambda task: task.pixels),
        (passes, "gradient", lambda task: task.pixels),
        (whole, "costs_and_gradients", lambda pixels: pixels),
        (whole, "costs", lambda pixels: pixels),
    ):
        monkeypatch.setattr(owner, name, limited(getattr(owner, name), pixels_of))


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("tile", [None, 128])
def test_a_run_goes_on_by_smaller_tiles_where_memory_fails(
    backend: Any,
    tile: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = nstx.stylize(CONTENT, STYLE, backend=backend, **LIGHT)
    limit_memory(monkeypatch, backend, 80)
    shrunk = nstx.stylize(CONTENT, STYLE, backend=backend, tile=tile, **LIGHT)
    np.testing.assert_allclose(shrunk.pixels, whole.pixels, atol=0.05)
    assert shrunk.cost.total == pytest.approx(whole.cost.total, rel=1e-5)
    assert (shrunk.steps, shrunk.evaluations) == (whole.steps, whole.evaluations)
    (line,) = [record.getMessage() for record in caplog.records if "memory" in record.getMessage()]
    assert line.endswith("the run goes on by tiles of 64, to the same picture")


def test_a_backend_that_cannot_even_be_made_gives_way_to_smaller_tiles() -> None:
    sides, side = list[int | None](), TileSide(None)
    problem: Any = (PRESETS["default"].objective, SimpleNamespace(height=300, width=600))

    def make(problems: Any) -> Any:
        assert problems[0] is problem
        sides.append(side.value)
        if side.value is None or side.value > 128:
            raise MemoryError
        return SimpleNamespace(
            approximate=False, checks=(), lead=lambda follower: None, costs=lambda pixels: ["cost"]
        )

    backend = ShrinkingBackend(make, side, [problem])
    assert (sides, side.value) == ([None, 512, 384, 256, 128], 128)
    costs: Any = backend.costs(np.zeros((1, 300, 600, 3), np.float32))
    assert costs == ["cost"]
    assert sides[4:] == [128]
    side.value = 2000
    make_none: Any = lambda problems: np.ones(2**50)
    with pytest.raises(MemoryError):
        ShrinkingBackend(make_none, side, [problem])
    assert side.value == 64


@pytest.mark.parametrize("extractor", ["onnx", "torch"])
def test_targets_are_made_by_tiles_where_memory_fails(
    extractor: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> Any:
        return nstx.prepare_job(
            CONTENT,
            STYLE,
            backend="onnx",
            extractor=extractor,
            use_cache=False,
            **{**LIGHT, "scales": 1},
        ).targets[-1]

    owner: Any
    whole, owner = load(), {"onnx": OnnxExtractor, "torch": TorchExtractor}[extractor]
    really = owner.extract

    def extract(self: Any, pixels: Any, *layers: Any) -> Any:
        if pixels.size > 3 * 67 * 149:
            raise EXHAUSTED[extractor]
        return really(self, pixels, *layers)

    monkeypatch.setattr(owner, "extract", extract)
    tiled = load()
    for name, expected in whole.content.items():
        np.testing.assert_allclose(tiled.content[name], expected, rtol=1e-4, atol=1e-3)
    for name, expected in whole.style.items():
        assert relative_error(tiled.style[name], expected) < 1e-5
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.endswith("made by tiles of 128")]
    monkeypatch.setattr(owner, "extract", lambda *_: np.ones(2**50))
    with pytest.raises(DeviceError, match="expected enough memory"):
        load()


def test_what_no_tile_fits_fails_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, "onnx", 20)
    with pytest.raises(DeviceError, match="expected enough memory for 150×67 pixels"):
        nstx.stylize(CONTENT, STYLE, backend="onnx", **LIGHT)


def test_the_command_takes_a_tile(nstx: Any, save_picture: Any, tmp_path: Path) -> None:
    photo, painting = save_picture("c.png", 70, 100), save_picture("s.png", 60, 50)
    arguments = [
        "optimize", photo, painting, "--size", 100, "--steps", 1, "--scales", 1, "--device", "cpu",
        "--content-layers", "conv2_1", "--style-layers", "conv1_1", "--threads", 1,
    ]  # fmt: skip
    pictures = []
    for index, tile in enumerate([[], ["--tile", 64]]):
        output = tmp_path / f"{index}.npy"
        code, _, errors = nstx(*arguments, "-o", output, *tile)
        assert code == 0, errors
        pictures.append(np.load(output))
    np.testing.assert_allclose(pictures[0], pictures[1], atol=0.02)
    assert nstx(*arguments, "-o", tmp_path / "x.png", "--tile", 100)[0] == 2


def test_a_run_on_a_device_goes_on_by_other_tiles_but_not_whole() -> None:
    """There pictures and solver are on the host by tiles alone."""

    def manifest(tile: int | None, device: str) -> Manifest:
        return Manifest(
            settings=nstx.choose_settings(tile=tile), inputs=(), pictures={}, weights_sha256="0" * 64,
            sizes=((67, 150),), backend={"device": device, "checked": False}, machine={},
        )  # fmt: skip

    def differ(tile: int | None, other: int | None, device: str) -> list[str]:
        return list(manifest(tile, device).differences(manifest(other, device)))

    assert not differ(64, 96, "cuda:0")
    assert not differ(64, None, "cpu")
    (difference,) = differ(64, None, "cuda:0")
    assert "tile" in difference
