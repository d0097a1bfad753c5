"""The gradient's graph for CUDA's tensor cores, on the CPU: against float64, in every rounding and precision."""

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from interleaved import with_planar_convolutions
from networks import make_tiny_weights, mixed_objective, relative_error
from pictures import random_pixels
from test_gradient_graph import feeds_of, objective_of, references

from nstx.engine.pictures.picture import Pixels
from nstx.engine.targets.targets import Targets
from nstx.export.graphs.feature_graph import GraphPrecision
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.interleaved.build_interleaved import build_interleaved
from nstx.export.interleaved.interleaved_inputs import interleave_inputs
from nstx.models.cost import Cost
from nstx.models.errors import UsageError
from nstx.models.objective import Objective
from nstx.models.vgg19 import PoolRounding
from nstx.models.weights.load import Weights

SIZES = [((37, 49), False), ((48, 64), False), ((48, 64), True)]
"""Height and width, and whether the graph is told that sides are even."""


def session_of(
    graph: GradientGraph,
    weights: Weights,
    shape: tuple[int, int, int] | None = None,
    optimised: Path | None = None,
) -> onnxruntime.InferenceSession:
    model = with_planar_convolutions(build_interleaved(graph, weights))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for name, size in zip(("batch", "height", "width"), shape or (), strict=False):
        options.add_free_dimension_override_by_name(name, size)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@cache
def exact_of(
    objective: Objective, size: tuple[int, int]
) -> tuple[list[Pixels], list[Targets], list[tuple[Cost, Pixels]]]:
    """Return pictures, their targets, and costs and gradients in float64, once for all precisions."""
    pictures = [random_pixels(*size, seed) for seed in range(2)]
    targets, backends = references(objective, make_tiny_weights(), pictures)
    exact = [
        backend.cost_and_gradient(pixels)
        for pixels, backend in zip(pictures, backends, strict=True)
    ]
    return pictures, targets, exact


def largest_error(
    objective: Objective,
    weights: Weights,
    precision: GraphPrecision,
    size: tuple[int, int],
    *,
    even: bool,
) -> float:
    """Return the largest relative error of a batch's gradients; costs are compared here."""
    pictures, targets, exact = exact_of(objective, size)
    graph = GradientGraph(objective=objective, precision=precision, layout="interleaved", even=even)
    feeds = feeds_of(objective, pictures, targets)
    feeds |= interleave_inputs(graph, feeds, size)
    feeds = {name: np.ascontiguousarray(feeds[name]) for name in graph.inputs}
    values = session_of(graph, weights).run(list(graph.outputs), feeds)
    outputs = dict(zip(graph.outputs, values, strict=True))
    bound = 3e-5 if precision == "fp32" else 2e-2
    errors = []
    for index, (cost, gradient) in enumerate(exact):
        errors.append(relative_error(outputs["gradient"][index], gradient))
        for name in set(graph.outputs) - {"gradient", "layers"}:
            assert outputs[name][index] == pytest.approx(getattr(cost, name), rel=bound), name
        layers = [*cost.content_layers.values(), *cost.style_layers.values()]
        np.testing.assert_allclose(outputs["layers"][index], layers, rtol=bound)
    return max(errors)


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 5e-6), ("fp16", 4e-2)])
@pytest.mark.parametrize("rounding", ["ceil", "floor"])
@pytest.mark.parametrize(("size", "even"), SIZES)
@pytest.mark.parametrize("name", ["default", "gatys", "mixed"])
def test_costs_and_gradient_are_those_of_float64(
    tiny_weights: Weights,
    precision: GraphPrecision,
    bound: float,
    rounding: PoolRounding,
    size: tuple[int, int],
    even: bool,
    name: str,
) -> None:
    # The mixed one has a seed at conv2_2, which is pooled: its gradient is spread before it is cut.
    mixed = name == "mixed"
    objective = mixed_objective("avg", rounding) if mixed else objective_of(name, "avg", rounding)
    assert largest_error(objective, tiny_weights, precision, size, even=even) < bound


@pytest.mark.parametrize("size", [(37, 49), (48, 64)])
def test_sizes_are_constants_where_the_shape_is_known(
    tiny_weights: Weights, size: tuple[int, int], tmp_path: Path
) -> None:
    """So that no node is left that CUDA leaves to the CPU, and a CUDA graph can hold them all."""
    graph = GradientGraph(objective=objective_of("default", "avg", "ceil"), layout="interleaved")
    session_of(graph, tiny_weights, (1, *size), tmp_path / "optimised.onnx")
    nodes = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert nodes["Conv"] == 30
    sizes = {"Shape", "Range", "Mod", "Gather", "Squeeze", "ReduceProd", "Min", "Reciprocal"}
    assert not sizes & set(nodes)


def test_what_does_not_count_takes_no_time(tiny_weights: Weights, tmp_path: Path) -> None:
    """A launch for each of the 30 convolutions, and some six more for each, folded ones included."""
    objective = replace(objective_of("default", "avg", "ceil"), tv_weight=0.0)
    graph = GradientGraph(objective=objective, precision="fp16", layout="interleaved", even=True)
    assert "tv_weight" not in graph.inputs
    assert "total_variation" not in graph.outputs
    # Before it is optimised, as the CPU's casts come with that, and without what is folded or only a name.
    model = build_interleaved(graph, tiny_weights)
    names = {"Shape", "Reshape", "ReduceProd"}
    kinds = Counter(node.op_type for node in model.graph.node if node.op_type not in names)
    assert not {"Pad", "Greater", "Expand", "Slice"} & set(kinds)
    assert kinds["NhwcConv"] == 30
    assert kinds["Where"] == kinds["Relu"] == 13
    assert sum(kinds.values()) < 175
    counted = replace(graph, objective=replace(objective, tv_weight=1.0))
    assert counted.inputs.index("tv_weight") == 1
    assert counted.outputs[0] == "total_variation"


def test_a_planar_graph_is_found_by_its_old_key(tiny_weights: Weights) -> None:
    objective = objective_of("default", "avg", "ceil")
    planar = GradientGraph(objective=objective)
    assert list(planar.key()) == ["objective", "precision", "gradient", "adam"]
    assert "layout" not in planar.metadata(tiny_weights)
    graph = replace(planar, layout="interleaved", even=True)
    assert graph.key() == planar.key() | {"layout": "interleaved", "even": True, "version": 6}
    assert GradientGraph.from_metadata(graph.metadata(tiny_weights), "here") == graph


def test_what_has_no_interleaved_graph_is_refused() -> None:
    objective = objective_of("default", "max", "ceil")
    with pytest.raises(UsageError, match="average pooling"):
        GradientGraph(objective=objective, layout="interleaved")
    with pytest.raises(UsageError, match="average pooling"):
        GradientGraph(objective=replace(objective, pooling="avg"), layout="interleaved", adam=True)
