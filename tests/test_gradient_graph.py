"""The gradient as an ONNX graph: against autograd in float64, for any objective and size."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CASES, make_tiny_weights, relative_error
from pictures import random_pixels

from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice
from nstx.engine.features.torch_network import TorchExtractor, TorchNetwork
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.pictures.picture import Pixels
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.resizing import resize_picture
from nstx.engine.targets.targets import Targets, make_targets
from nstx.export.gradient_parity import GradientParity, measure_gradient_parity
from nstx.export.graphs.build_gradient import build_gradient_model
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.model_files import write_model
from nstx.export.nodes.builder import check_model
from nstx.export.nodes.node_order import order_for_memory
from nstx.models.errors import ModelError, UsageError
from nstx.models.layers import LayerWeight
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.storage.seals import seal_is_right
from nstx.models.vgg19 import CONVOLUTIONS, Pooling, PoolRounding
from nstx.models.weights.load import Weights, load_weights

EXACT = TorchDevice(Device("cpu"), "fp64")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small convolutions wait for their threads only, on a machine with other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def session_of(graph: GradientGraph, weights: Weights) -> onnxruntime.InferenceSession:
    model = check_model(build_gradient_model(graph, weights))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def references(
    objective: Objective, weights: Weights, pictures: list[Pixels]
) -> tuple[list[Targets], list[AutogradBackend]]:
    """Return targets of random contents and styles, and autograd in float64, for each picture."""
    network = TorchNetwork(
        weights, objective.layers, objective.pooling, objective.pool_rounding, EXACT
    )
    extract = TorchExtractor(network).extract
    targets = []
    for seed, pixels in enumerate(pictures):
        height, width = pixels.shape[:2]
        content = random_pixels(height, width, 50 + seed)
        style = random_pixels(height + 7, width - 3, 90 + seed)
        activations = extract(content, objective.content_names, []).activations
        grams = extract(style, [], objective.style_names).grams
        targets.append(make_targets((height, width), activations, [(grams, 1.0)]))
    return targets, [AutogradBackend(network, [(objective, item)]) for item in targets]


def feeds_of(
    objective: Objective, pictures: list[Pixels], targets: list[Targets]
) -> dict[str, np.ndarray]:
    feeds = {"pixels": np.stack(pictures)}
    for name in ("content_weight", "style_weight", "tv_weight"):
        feeds[name] = np.full(len(pictures), getattr(objective, name))
    for name in objective.content_names:
        feeds[f"content_{name}"] = np.stack([item.content[name] for item in targets])
    for name in objective.style_names:
        feeds[f"style_{name}"] = np.stack([item.style[name] for item in targets])
    return {name: np.asarray(value, np.float32) for name, value in feeds.items()}


def run(
    graph: GradientGraph, weights: Weights, feeds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    values = session_of(graph, weights).run(list(graph.outputs), feeds)
    return dict(zip(graph.outputs, values, strict=True))


def compare(objective: Objective, weights: Weights, pictures: list[Pixels]) -> float:
    """Return the largest relative error of a gradient; costs are compared here."""
    return max(gradient_errors(objective, weights, pictures))


def gradient_errors(objective: Objective, weights: Weights, pictures: list[Pixels]) -> list[float]:
    """Return the relative error of each picture's gradient; costs are compared here."""
    targets, exact = references(objective, weights, pictures)
    feeds = feeds_of(objective, pictures, targets)
    outputs = run(GradientGraph(objective=objective), weights, feeds)
    errors = []
    for index, (pixels, backend) in enumerate(zip(pictures, exact, strict=True)):
        cost, gradient = backend.cost_and_gradient(pixels)
        errors.append(relative_error(outputs["gradient"][index], gradient))
        for name in ("total", "content", "style", "total_variation"):
            # Autograd leaves the variation out where its weight is 0.
            if name in outputs and getattr(cost, name) > 0:
                expected = pytest.approx(getattr(cost, name), rel=3e-5)
                assert outputs[name][index] == expected, name
        for kind in ("content_layers", "style_layers"):
            if kind in outputs:
                layers = list(getattr(cost, kind).values())
                np.testing.assert_allclose(outputs[kind][index], layers, rtol=3e-5)
    return errors


def objective_of(preset: str, pooling: Pooling, rounding: PoolRounding) -> Objective:
    base = PRESETS[preset].objective
    return replace(base, pooling=pooling, pool_rounding=rounding, tv_weight=0.01)


@pytest.mark.parametrize(("pooling", "rounding"), CASES)
@pytest.mark.parametrize("preset", ["default", "coursera", "gatys"])
@pytest.mark.parametrize("size", [(48, 64), (37, 33)])
def test_costs_and_gradient_are_those_of_autograd_in_float64(
    tiny_weights: Weights,
    preset: str,
    pooling: Pooling,
    rounding: PoolRounding,
    size: tuple[int, int],
) -> None:
    pictures = [random_pixels(*size, seed) for seed in range(3)]
    assert compare(objective_of(preset, pooling, rounding), tiny_weights, pictures) < 5e-6


def test_means_over_many_values_are_exact(tiny_weights: Weights) -> None:
    """Two hundred thousand and more, which ONNX Runtime adds up one by one in float32."""
    layers = (LayerWeight("conv1_2", 1.0),)
    base = objective_of("default", "avg", "ceil")
    objective = replace(base, content_layers=layers, content_weight=5.0)
    assert compare(objective, tiny_weights, [random_pixels(300, 401, 1)]) < 6e-7


@pytest.mark.parametrize("rounding", ["ceil", "floor"])
def test_ties_of_a_maximum_go_to_the_first_as_in_autograd(
    tiny_weights: Weights, rounding: PoolRounding
) -> None:
    flat = np.full((45, 51, 3), 90, np.float32)
    flat[10:20, 10:30] = 200
    assert compare(objective_of("gatys", "max", rounding), tiny_weights, [flat]) < 2e-5


LAYERS = st.lists(
    st.tuples(
        st.sampled_from([layer.name for layer in CONVOLUTIONS[:14]]),
        st.floats(0.01, 10, allow_subnormal=False),
    ),
    max_size=3,
    unique_by=lambda pair: pair[0],
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    content=LAYERS,
    style=LAYERS,
    alpha=st.floats(0.1, 100),
    beta=st.floats(0.1, 100),
    variation=st.sampled_from([0.0, 0.3]),
    case=st.sampled_from(CASES),
    relative=st.booleans(),
    height=st.integers(20, 45),
    width=st.integers(20, 45),
    batch=st.integers(1, 2),
)
def test_any_objective_has_the_gradient_of_autograd(
    content: list[tuple[str, float]],
    style: list[tuple[str, float]],
    alpha: float,
    beta: float,
    variation: float,
    case: tuple[Pooling, PoolRounding],
    relative: bool,
    height: int,
    width: int,
    batch: int,
) -> None:
    if not content and not style:
        return
    objective = Objective(
        content_layers=tuple(LayerWeight(*pair) for pair in content),
        style_layers=tuple(LayerWeight(*pair) for pair in style),
        content_weight=alpha,
        style_weight=beta,
        tv_weight=variation,
        pooling=case[0],
        pool_rounding=case[1],
        content_factor=0.25,
        style_factor=1.0,
        relative=relative,
    )
    pictures = [random_pixels(height, width, seed) for seed in range(batch)]
    # An activation within rounding of a kink moves one receptive field.
    assert compare(objective, make_tiny_weights(), pictures) < 3e-3


def test_weights_of_the_costs_are_inputs_of_each_picture(tiny_weights: Weights) -> None:
    objective = objective_of("default", "avg", "ceil")
    pictures = [random_pixels(30, 40, seed) for seed in range(2)]
    targets, _ = references(objective, tiny_weights, pictures)
    feeds = feeds_of(objective, pictures, targets)
    feeds["content_weight"] = np.array([3, 0.5], np.float32)
    feeds["style_weight"] = np.array([0, 7], np.float32)
    outputs = run(GradientGraph(objective=objective), tiny_weights, feeds)
    for index, (alpha, beta) in enumerate([(3.0, 1e-30), (0.5, 7.0)]):
        changed = replace(objective, content_weight=alpha, style_weight=beta)
        _, exact = references(changed, tiny_weights, pictures)
        _, gradient = exact[index].cost_and_gradient(pictures[index])
        assert relative_error(outputs["gradient"][index], gradient) < 2e-5


def test_costs_alone_are_the_same(tiny_weights: Weights) -> None:
    objective = objective_of("coursera", "avg", "ceil")
    pictures = [random_pixels(30, 41, seed) for seed in range(2)]
    targets, _ = references(objective, tiny_weights, pictures)
    feeds = feeds_of(objective, pictures, targets)
    whole = run(GradientGraph(objective=objective), tiny_weights, feeds)
    alone = run(GradientGraph(objective=objective, gradient=False), tiny_weights, feeds)
    assert set(whole) - set(alone) == {"gradient"}
    for name, values in alone.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-6)


def test_adam_in_the_graph_is_the_solvers(tiny_weights: Weights) -> None:
    from nstx.engine.solvers.adam import adam_steps
    from nstx.engine.solvers.solver import run_solver

    objective = objective_of("default", "avg", "ceil")
    start = random_pixels(30, 41, 3)
    targets, exact = references(objective, tiny_weights, [start])
    expected: list[np.ndarray] = []
    solver = adam_steps(
        start, steps=5, learning_rate=2.0, clip=True,
        on_step=lambda pixels, _: expected.append(np.asarray(pixels)),
    )  # fmt: skip
    run_solver(solver, exact[0].cost_and_gradient)
    _, gradient = exact[0].cost_and_gradient(start)
    graph = GradientGraph(objective=objective, adam=True)
    session = session_of(graph, tiny_weights)
    feeds = feeds_of(objective, [start], targets)
    zeros = np.zeros((1, *start.shape), np.float32)
    numbers = {
        "learning_rate": 2.0, "gradient_factor": 1 / np.abs(gradient).max(), "low": 0, "high": 255,
    }  # fmt: skip
    feeds |= {name: np.array(value, np.float32) for name, value in numbers.items()}
    feeds |= {"first_moment": zeros, "second_moment": zeros}
    for step, pixels in enumerate(expected, 1):
        feeds["step"] = np.array(step, np.float32)
        outputs = dict(zip(graph.outputs, session.run(list(graph.outputs), feeds), strict=True))
        for name in ("pixels", "first_moment", "second_moment"):
            feeds[name] = outputs[f"next_{name}"]
        np.testing.assert_allclose(outputs["next_pixels"][0], pixels, atol=0.02)


@pytest.mark.parametrize(("pooling", "rounding"), CASES)
def test_fp16_is_near(tiny_weights: Weights, pooling: Pooling, rounding: PoolRounding) -> None:
    objective = objective_of("default", pooling, rounding)
    pictures = [random_pixels(45, 39, 1)]
    targets, exact = references(objective, tiny_weights, pictures)
    graph = GradientGraph(objective=objective, precision="fp16")
    outputs = run(graph, tiny_weights, feeds_of(objective, pictures, targets))
    cost, gradient = exact[0].cost_and_gradient(pictures[0])
    assert outputs["total"][0] == pytest.approx(cost.total, rel=5e-3)
    assert relative_error(outputs["gradient"][0], gradient) < 0.06


def test_the_graph_says_what_it_is_and_has_standard_operators_only(tiny_weights: Weights) -> None:
    objective = objective_of("gatys", "max", "floor")
    graph = GradientGraph(objective=objective, precision="fp16")
    model = build_gradient_model(graph, tiny_weights)
    assert {node.domain for node in model.graph.node} == {""}
    assert not {"MaxUnpool", "ConvTranspose"} & {node.op_type for node in model.graph.node}
    assert [item.name for item in model.graph.input] == list(graph.inputs)
    assert [item.name for item in model.graph.output] == list(graph.outputs)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert GradientGraph.from_metadata(metadata, "f.onnx") == graph
    for name, value in (("kind", "features-1"), ("objective", "{}"), ("precision", "fp8")):
        with pytest.raises(ModelError, match="export gradient"):
            GradientGraph.from_metadata({**metadata, name: value}, "f.onnx")
    assert json.loads(metadata["mean"])[0] == 123.68
    onnx.checker.check_model(model)


def test_what_cannot_be_described_is_refused() -> None:
    objective = objective_of("default", "avg", "ceil")
    with pytest.raises(UsageError, match="fp8"):
        GradientGraph(objective=objective, precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Adam"):
        GradientGraph(objective=objective, gradient=False, adam=True)


def test_a_part_without_weight_is_left_out(tiny_weights: Weights) -> None:
    objective = replace(objective_of("default", "avg", "ceil"), style_weight=0.0)
    graph = GradientGraph(objective=objective)
    assert graph.targets == ("content_conv4_2",)
    assert "style" not in graph.outputs
    names = {node.name for node in build_gradient_model(graph, tiny_weights).graph.node}
    assert not any(name.startswith("conv4_3") for name in names)


def test_nodes_in_the_order_for_memory_compute_the_same(tiny_weights: Weights) -> None:
    graph = GradientGraph(objective=objective_of("default", "max", "floor"))
    model = build_gradient_model(graph, tiny_weights)
    ordered = onnx.ModelProto.FromString(order_for_memory(model.SerializeToString()))
    onnx.checker.check_model(ordered)  # which also wants nodes after what they need
    before, after = ([node.name for node in item.graph.node] for item in (model, ordered))
    assert sorted(before) == sorted(after)
    # The gradient of a style layer is made when the backward pass has arrived at it.
    assert after.index("conv1_1_style_flat_gradient") > after.index("conv1_2_backward")
    assert before.index("conv1_1_style_flat_gradient") < before.index("conv1_2_backward")
    # A layer's cost does not wait for the gradient.
    assert after.index("total") < after.index("conv5_1_backward")


def test_a_model_is_ordered_to_the_bytes_that_protobuf_writes(tiny_weights: Weights) -> None:
    """Where its nodes stand together, as ONNX Runtime writes them, where they do not, and where one is left out."""
    graph = GradientGraph(objective=objective_of("default", "avg", "ceil"))
    model = build_gradient_model(graph, tiny_weights)
    together, ordered = model.SerializeToString(), order_for_memory(model.SerializeToString())
    late = onnx.ModelProto.FromString(ordered).graph.node
    idle = onnx.helper.make_node("Neg", ["pixels"], ["idle"])
    parts = model.graph.node[-1:], [idle]
    last, more = (
        onnx.ModelProto(graph=onnx.GraphProto(node=nodes)).SerializeToString() for nodes in parts
    )
    model.graph.node.append(idle)
    assert order_for_memory(model.SerializeToString()) == ordered
    del model.graph.node[-2:]
    # Two are read as one.
    assert order_for_memory(model.SerializeToString() + last) == ordered
    assert order_for_memory(model.SerializeToString() + last + more) == ordered
    del model.graph.node[:]
    model.graph.node.extend(late)
    assert ordered == model.SerializeToString() != together


def test_the_export_writes_a_checked_file_and_its_report(
    nstx: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "g.onnx"
    layers = ["--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1"]
    code, out, err = nstx("export", "gradient", "-o", path, *layers, "--pooling", "max", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["parity"]["passed"]
    assert len(data["parity"]["gradient_errors"]) == 3
    assert min(data["parity"]["gradient_errors"]) <= 1e-5
    assert data["parity"]["step_error"] is None
    assert data["inputs"] == [
        "pixels", "content_weight", "style_weight", "tv_weight",
        "content_conv2_2", "style_conv1_1", "style_conv2_1",
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert seal_is_right(path.read_bytes(), metadata["file_sha256"])
    assert GradientGraph.from_metadata(metadata, "f").objective.pooling == "max"
    report = json.loads((tmp_path / "g.parity.json").read_text())
    assert report["model_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    code, out, _ = nstx("export", "gradient", "-o", path, *layers, "--costs-only")
    assert code == 0
    assert "gradients" not in out
    more = ["--adam", "--precision", "fp16", "--json"]
    code, out, _ = nstx("export", "gradient", "-o", path, *layers, *more)
    assert code == 0
    assert 0 < json.loads(out)["parity"]["step_error"] < 1e-3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "g.png"], 7, ".onnx"),
        (["-o", "g.onnx", "--precision", "fp8"], 2, "fp8"),
        (["-o", "g.onnx", "--adam", "--costs-only"], 2, "Adam"),
        (["-o", "g.onnx", "--style-layers", "conv9_9"], 2, "conv9_9"),
        (["-o", "g.onnx", "--rounding", "up"], 2, "up"),
    ],
)
def test_what_cannot_be_exported_is_reported(
    nstx: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    exit_code, _, err = nstx("export", "gradient", *arguments)
    assert (exit_code, err.count("\n")) == (code, 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def write_checked(
    path: Path, model: onnx.ModelProto, graph: GradientGraph, weights: Weights
) -> GradientParity:
    """Write a model as the export does, though it may not be what its description says."""
    data = model.SerializeToString()
    report = measure_gradient_parity(data, graph, weights)
    write_model(path, data, graph, weights.sha256, report)
    return report


@pytest.mark.parametrize(
    "changes",
    [
        {"first_moment_decay": 0.5, "one_minus_first_moment_decay": 0.5},
        {"second_moment_decay": 0.99, "one_minus_second_moment_decay": 0.01},
        {"epsilon": 0.1},
        {},
    ],
)
def test_a_wrong_step_of_adam_is_not_written(
    tiny_weights: Weights, tmp_path: Path, changes: dict[str, float]
) -> None:
    graph = GradientGraph(objective=objective_of("default", "avg", "ceil"), adam=True)
    model = build_gradient_model(graph, tiny_weights)
    constants = {constant.name: constant for constant in model.graph.initializer}
    for name, value in changes.items():
        constants[name].CopyFrom(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    if not changes:
        assert write_checked(tmp_path / "g.onnx", model, graph, tiny_weights).passed
        return
    with pytest.raises(ModelError, match="nothing was written"):
        write_checked(tmp_path / "g.onnx", model, graph, tiny_weights)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("axis", ["down", "across"])
def test_a_wrong_total_variation_is_not_written(
    tiny_weights: Weights, tmp_path: Path, axis: str
) -> None:
    graph = GradientGraph(objective=PRESETS["default"].objective)
    model = build_gradient_model(graph, tiny_weights)
    (node,) = (n for n in model.graph.node if n.name == f"variation_{axis}_gradient")
    first, second = node.input
    node.input[:] = [second, first]
    with pytest.raises(ModelError, match="report this"):
        write_checked(tmp_path / "g.onnx", model, graph, tiny_weights)
    assert not list(tmp_path.iterdir())


def test_a_wrong_gradient_is_not_written(tiny_weights: Weights, tmp_path: Path) -> None:
    graph = GradientGraph(objective=objective_of("default", "avg", "ceil"))
    factor = graph.objective.style_factor * 1.1
    other = replace(graph, objective=replace(graph.objective, style_factor=factor))
    with pytest.raises(ModelError, match="nothing was written"):
        write_checked(
            tmp_path / "g.onnx", build_gradient_model(other, tiny_weights), graph, tiny_weights
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.realdata
@pytest.mark.parametrize(("pooling", "size"), [("avg", (48, 71)), ("max", (53, 79))])
def test_the_gradient_of_real_pictures_is_that_of_float64(
    data_folder: Path, pooling: Pooling, size: tuple[int, int]
) -> None:
    weights = load_weights()
    base = PRESETS["default"].objective
    objective = replace(base, pooling=pooling)
    photo = read_image(data_folder / "content" / "tubingen.jpg")
    pixels = resize_picture(photo, *size)
    starts = [
        (pixels + np.random.default_rng(seed).normal(0, 10, pixels.shape)).clip(0, 255)
        for seed in (1, 2, 3)
    ]
    errors = gradient_errors(objective, weights, [start.astype(np.float32) for start in starts])
    # Which pictures have a kink within rounding depends on the processor; see docs/gradient.md.
    assert min(errors) <= 5e-4
    assert all(error <= 1e-2 for error in errors)
