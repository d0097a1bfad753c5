"""The cost of style transfer with its gradient as an ONNX graph, written by hand.

Forward through VGG-19; costs, and their gradients at the activations (`nstx.export.graphs.costs`); these
carried back to the pixels, layer by layer (`nstx.export.graphs.network`). Nothing is traced. All sizes are
free, and operators are standard, with kernels for the CPU and WebAssembly, and in ONNX Runtime since
1.30 all for CUDA; older ones take the padding of the total variation and some means to the CPU.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, ValueInfoProto

from nstx.models.objective import LayerWeight
from nstx.models.vgg19 import find_layer, truncate
from nstx.models.weights.load import Weights

from .adam import add_adam
from .builder import FLOAT, GraphBuilder, activation_info, tensor_info
from .costs import CostBuilder
from .feature_graph import INPUT_NAME
from .gradient_graph import (
    ADAM_INPUTS,
    ADAM_MOMENTS,
    ADAM_OUTPUTS,
    WEIGHT_INPUTS,
    GradientGraph,
    content_input,
    style_input,
)
from .network import NetworkBuilder

_DESCRIPTION = (
    "The cost of neural style transfer (Gatys et al. 2015) on VGG-19 (Simonyan and Zisserman 2014), "
    "and its gradient with respect to the pixels."
)


def build_gradient_model(graph: GradientGraph, weights: Weights) -> ModelProto:
    """Return the ONNX model that computes a description's outputs, weights inside.

    The network may have other channel counts than VGG-19's.
    """
    objective, builder = graph.objective, GraphBuilder()
    network = NetworkBuilder(
        builder,
        weights,
        objective.pooling,
        objective.pool_rounding,
        graph.precision,
        backward=graph.gradient,
    )
    activations = _add_forward(network, graph)
    costs = CostBuilder(builder, objective, graph.gradient)
    variation = costs.add_total_variation()
    weighted = [builder.add("Mul", [variation.cost, "tv_weight"], "variation_weighted")]
    seeds: dict[str, list[str]] = {}
    for kind, items, add in (
        ("content", objective.content_layers, costs.add_content),
        ("style", objective.style_layers, costs.add_style),
    ):
        if not getattr(objective, f"{kind}_names"):
            continue
        layer_costs = []
        for item in items:
            wide = network.widen(activations[item.layer], item.layer)
            names = add(item, wide, _channels(weights, item.layer))
            layer_costs.append(names.cost)
            if names.gradient is not None:
                seeds.setdefault(item.layer, []).append(names.gradient)
        weighted.append(_add_part(builder, kind, items, layer_costs))
    builder.add("Sum", weighted, "total")
    if variation.gradient is not None:
        gradient = _add_backward(network, graph, activations, seeds)
        gradient = builder.add("Add", [gradient, variation.gradient], "gradient")
        if graph.adam:
            add_adam(builder, gradient)
    return builder.finish(
        [_describe(graph, weights, name) for name in graph.inputs],
        [_describe(graph, weights, name) for name in graph.outputs],
        name="style_transfer",
        description=_DESCRIPTION,
        metadata=graph.metadata(weights),
    )


def _add_forward(network: NetworkBuilder, graph: GradientGraph) -> dict[str, str]:
    """Add all layers; return the names of the input and of each layer's output, by layer."""
    x = network.add_pixels(INPUT_NAME)
    activations = {INPUT_NAME: x}
    for layer in truncate(graph.objective.layers):
        x = activations[layer.name] = network.add_layer(layer, x)
    return activations


def _add_part(
    builder: GraphBuilder, kind: str, items: Sequence[LayerWeight], costs: Sequence[str]
) -> str:
    """Add the content or style cost from those of its layers; return its weighted share."""
    last = builder.constant("last_axis", np.array([1], np.int64))
    columns = [builder.add("Unsqueeze", [cost, last], f"{cost}_column") for cost in costs]
    layers = builder.add("Concat", columns, f"{kind}_layers", axis=1)
    weights = np.array([item.weight for item in items], np.float32)
    name = builder.constant(f"{kind}_layer_weights", weights)
    part = builder.add("MatMul", [layers, name], kind)
    return builder.add("Mul", [part, f"{kind}_weight"], f"{kind}_weighted")


def _add_backward(
    network: NetworkBuilder,
    graph: GradientGraph,
    activations: Mapping[str, str],
    seeds: Mapping[str, Sequence[str]],
) -> str:
    """Carry the gradients at activations back to the pixels."""
    builder = network.builder
    layers = truncate(graph.objective.layers)
    sources = [INPUT_NAME, *(layer.name for layer in layers)]
    scale = _add_gradient_scale(network, seeds)
    gradient, is_cut = "", True
    for layer, source in reversed(list(zip(layers, sources, strict=False))):
        parts = [_narrow_seed(network, seed, scale) for seed in seeds.get(layer.name, ())]
        is_cut = is_cut and not parts
        parts += [gradient] if gradient else []
        gradient = parts[0]
        if len(parts) > 1:
            gradient = builder.add("Sum", parts, f"{layer.name}_gradient")
        if layer.kind == "conv" and not is_cut:
            gradient = network.cut_where_zero(activations[layer.name], gradient, layer.name)
        gradient = network.add_backward(
            layer, activations[source], activations[layer.name], gradient
        )
        is_cut = layer.kind == "pool" and graph.objective.pooling == "max"
    if scale is not None:
        gradient = builder.add("Cast", [gradient], "planar_gradient_float", to=FLOAT)
        gradient = builder.add("Mul", [gradient, scale], "planar_gradient")
    return builder.add("Transpose", [gradient], "network_gradient", perm=[0, 2, 3, 1])


def _add_gradient_scale(network: NetworkBuilder, seeds: Mapping[str, Sequence[str]]) -> str | None:
    """Add what fp16 gradients are divided by, (batch, 1, 1, 1); None in fp32.

    The largest of the costs' gradients at their layers becomes 1. From there to the pixels gradients
    change by a factor of 0.1 to some hundreds, while fp16 reaches from 6e-8 to 65 504.
    """
    if network.precision == "fp32":
        return None
    builder = network.builder
    axes = builder.constant("over_picture", np.array([1, 2, 3], np.int64))
    peaks = []
    for seed in itertools.chain.from_iterable(seeds.values()):
        size = builder.add("Abs", [seed], f"{seed}_size")
        peaks.append(builder.add("ReduceMax", [size, axes], f"{seed}_peak", keepdims=1))
    smallest = builder.constant("smallest_scale", np.array(1e-30, np.float32))
    return builder.add("Max", [*peaks, smallest], "gradient_scale")


def _narrow_seed(network: NetworkBuilder, seed: str, scale: str | None) -> str:
    if scale is None:
        return seed
    return network.narrow(network.builder.add("Div", [seed, scale], f"{seed}_unit"), f"{seed}_fp16")


def _channels(weights: Weights, layer: str) -> int:
    return int(weights.kernels[layer].shape[0])


def _describe(graph: GradientGraph, weights: Weights, name: str) -> ValueInfoProto:
    objective = graph.objective
    if name in (INPUT_NAME, "gradient", *ADAM_MOMENTS, *ADAM_OUTPUTS):
        return tensor_info(name, FLOAT, ["batch", "height", "width", 3])
    if name in ADAM_INPUTS:
        return tensor_info(name, FLOAT, [])
    for layer in objective.content_names:
        if name == content_input(layer):
            return activation_info(name, _channels(weights, layer), find_layer(layer).stride)
    for layer in objective.style_names:
        if name == style_input(layer):
            channels = _channels(weights, layer)
            return tensor_info(name, FLOAT, ["batch", channels, channels])
    if name in ("content_layers", "style_layers"):
        return tensor_info(name, FLOAT, ["batch", len(getattr(objective, name))])
    assert name in (*WEIGHT_INPUTS, "total", "content", "style", "total_variation"), name
    return tensor_info(name, FLOAT, ["batch"])
