"""The cost with its gradient for ONNX Runtime on CUDA, in fp16 and TF32, with interleaved activations.

It computes what `nstx.export.graphs.build_gradient` has, from inputs and to outputs of the same names; a
content's targets are (batch, h, w, channels). Pictures are so already, so that nothing is transposed.
"""

from collections.abc import Mapping, Sequence

from onnx import ModelProto

from nstx.models.vgg19 import Layer
from nstx.models.weights.load import Weights

from .builder import FLOAT, GraphBuilder
from .feature_graph import INPUT_NAME
from .gradient_graph import GradientGraph
from .gradient_parts import DESCRIPTION, add_part, describe_end
from .interleaved_costs import InterleavedCosts, Seed
from .interleaved_network import InterleavedNetwork


def build_interleaved_model(graph: GradientGraph, weights: Weights) -> ModelProto:
    """Return the ONNX model of a description, with the weights inside."""
    objective, builder = graph.objective, GraphBuilder()
    rounding = objective.pool_rounding
    network = InterleavedNetwork(builder, weights, rounding, graph.precision, graph.even)
    activations = {INPUT_NAME: network.add_pixels(INPUT_NAME)}
    x = activations[INPUT_NAME]
    for layer in objective.network:
        x = activations[layer.name] = network.add_layer(layer, x)
    costs = InterleavedCosts(
        builder, objective, gradient=True, precision=graph.precision, even=graph.even,
        poolings=sum(layer.kind == "pool" for layer in objective.network),
    )  # fmt: skip
    variation, variation_gradient = costs.add_total_variation()
    weighted = [builder.add("Mul", [variation, "tv_weight"], "variation_weighted")]
    seeds = _add_seeds(graph, costs, weights, activations, weighted)
    builder.add("Sum", weighted, "total")
    scale = costs.add_gradient_scale(seeds)
    finished: dict[str, list[str]] = {}
    for seed in seeds:
        name = costs.finish_seed(seed, activations[seed.layer], scale)
        finished.setdefault(seed.layer, []).append(name)
    gradient = _add_backward(network, objective.network, activations, finished)
    gradient = _add_pixel_gradient(builder, gradient, scale)
    assert variation_gradient is not None
    builder.add("Add", [gradient, variation_gradient], "gradient")
    return builder.finish(
        [describe_end(graph, weights, name) for name in graph.inputs],
        [describe_end(graph, weights, name) for name in graph.outputs],
        name="style_transfer",
        description=DESCRIPTION,
        metadata=graph.metadata(weights),
        contributed=True,
    )


def _add_seeds(
    graph: GradientGraph,
    costs: InterleavedCosts,
    weights: Weights,
    activations: Mapping[str, str],
    weighted: list[str],
) -> list[Seed]:
    """Add all layers' costs, and to ``weighted`` the names of their shares of the total."""
    objective, seeds = graph.objective, []
    for kind, items, add in (
        ("content", objective.content_layers, costs.add_content_seed),
        ("style", objective.style_layers, costs.add_style_seed),
    ):
        if not getattr(objective, f"{kind}_names"):
            continue
        layer_costs = []
        for item in items:
            cost, seed = add(item, activations[item.layer], len(weights.kernels[item.layer]))
            layer_costs.append(cost)
            seeds.append(seed)
        weighted.append(add_part(costs.builder, kind, items, layer_costs))
    return seeds


def _add_backward(
    network: InterleavedNetwork,
    layers: Sequence[Layer],
    activations: Mapping[str, str],
    seeds: Mapping[str, Sequence[str]],
) -> str:
    """Carry the seeds back to the padded pixels."""
    sources = [INPUT_NAME, *(layer.name for layer in layers)]
    gradient, is_cut = "", False
    for layer, source in reversed(list(zip(layers, sources, strict=False))):
        parts = [*seeds.get(layer.name, ()), *([gradient] if gradient else [])]
        gradient = parts[0]
        if len(parts) > 1:
            gradient = network.builder.add("Sum", parts, f"{layer.name}_gradient")
        if layer.kind == "pool":
            gradient, is_cut = network.add_pooling_backward(
                layer, activations[source], gradient, cut=source not in seeds
            )
            continue
        if not is_cut:
            gradient = network.cut_where_zero(activations[layer.name], gradient, layer.name)
        gradient, is_cut = network.add_convolution_backward(layer, gradient), False
    return gradient


def _add_pixel_gradient(builder: GraphBuilder, gradient: str, scale: str | None) -> str:
    """Bring a gradient at the padded pixels to float32 (batch, height, width, 3)."""
    bounds = [builder.integers(name, [value]) for name, value in
              (("first_channel", 0), ("three_channels", 3), ("channel_axis", 3))]  # fmt: skip
    gradient = builder.add("Slice", [gradient, *bounds], "pixel_gradient")
    if scale is None:
        return gradient
    gradient = builder.add("Cast", [gradient], "pixel_gradient_float", to=FLOAT)
    shape = builder.integers("shape_-1_1_1_1", [-1, 1, 1, 1])
    spread = builder.add("Reshape", [scale, shape], "pixel_gradient_scale")
    return builder.add("Mul", [gradient, spread], "pixel_gradient_scaled")
