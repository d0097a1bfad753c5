"""What graphs of the gradient have in common, however they are laid out: their ends, and sums of costs."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, ValueInfoProto

from nstx.models.layers import LayerWeight
from nstx.models.statistics import style_side
from nstx.models.vgg19 import find_layer
from nstx.models.weights.load import Weights

from ..nodes.builder import FLOAT, GraphBuilder, activation_info, tensor_info
from .feature_graph import INPUT_NAME
from .gradient_graph import (
    ADAM_INPUTS,
    ADAM_MOMENTS,
    ADAM_OUTPUTS,
    AREAS_INPUT,
    LAPLACIAN_INPUTS,
    LAYER_INPUTS,
    GradientGraph,
    root_input,
    shares_input,
)

_DESCRIPTION = (
    "The cost of neural style transfer (Gatys et al. 2015) on VGG-19 (Simonyan and Zisserman 2014), "
    "and its gradient with respect to the pixels."
)

_NAMES = ("content_names", "style_names")

# What has a column for each of some layers.
_COUNTED = {"layers": _NAMES, "content_layers": _NAMES[:1], "style_layers": _NAMES[1:]}


def add_part(
    builder: GraphBuilder, kind: str, items: Sequence[LayerWeight], costs: Sequence[str]
) -> str:
    """Add the content or style cost from those of its layers; return its weighted share."""
    last = builder.integers("last_axis", [1])
    columns = [builder.add("Unsqueeze", [cost, last], f"{cost}_column") for cost in costs]
    layers = builder.add("Concat", columns, f"{kind}_layers", axis=1)
    weights = np.array([item.weight for item in items], np.float32)
    name = builder.constant(f"{kind}_layer_weights", weights)
    part = builder.add("MatMul", [layers, name], kind)
    return builder.add("Mul", [part, f"{kind}_weight"], f"{kind}_weighted")


def add_pixel_gradients(builder: GraphBuilder, gradient: str, others: Sequence[str | None]) -> str:
    """Add gradients of costs of pixels, as far as they count, to the network's: ``gradient``."""
    names = [gradient, *filter(None, others)]
    return builder.add("Add" if len(names) == 2 else "Sum", names, "gradient")


def finish_gradient(builder: GraphBuilder, graph: GradientGraph, weights: Weights) -> ModelProto:
    """Return the model of a description whose nodes were added."""
    return builder.finish(
        [_describe_end(graph, weights, name) for name in graph.inputs],
        [_describe_end(graph, weights, name) for name in graph.outputs],
        name="style_transfer",
        description=_DESCRIPTION,
        metadata=graph.metadata(weights),
        contributed=graph.layout == "interleaved",
    )


def _describe_end(graph: GradientGraph, weights: Weights, name: str) -> ValueInfoProto:
    """Declare an input or output of a graph."""
    objective = graph.objective
    if name in (INPUT_NAME, "gradient", *ADAM_MOMENTS, *ADAM_OUTPUTS):
        return tensor_info(name, FLOAT, ["batch", "height", "width", 3])
    if name in ADAM_INPUTS:
        return tensor_info(name, FLOAT, [])
    if name in (*_COUNTED, *LAYER_INPUTS):
        count = sum(len(getattr(objective, names)) for names in _COUNTED.get(name, _NAMES))
        return tensor_info(name, FLOAT, ["batch", count])
    if name == LAPLACIAN_INPUTS[1]:
        return tensor_info(name, FLOAT, ["batch", "laplacian_height", "laplacian_width"])
    if name not in graph.targets:
        return tensor_info(name, FLOAT, ["batch"])
    first: list[str | int] = ["batch", graph.regions] if graph.regions > 1 else ["batch"]
    if name == AREAS_INPUT:
        return tensor_info(name, FLOAT, first)
    kind, layer = name.partition("_")[0], find_layer("_".join(name.split("_")[-2:])).name
    channels = len(weights.kernels[layer])
    if kind == "style":
        is_root = name == root_input(layer)
        side = channels if is_root else style_side(objective.statistics[layer], channels)
        return tensor_info(name, FLOAT, [*first, side, side])
    info = activation_info(name, channels, find_layer(layer).stride)
    if name == shares_input(layer):
        _, _, *sides = (d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim)
        return tensor_info(name, FLOAT, [*first, *sides])
    if graph.layout == "planar":
        return info
    batch, _, *sides = (d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim)
    return tensor_info(name, FLOAT, [batch, *sides, channels])
