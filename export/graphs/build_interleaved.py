"""The cost with its gradient for ONNX Runtime on CUDA, in fp16 and TF32, with interleaved activations.

It computes what `nstx.export.graphs.build_gradient` has, from inputs and to outputs of the same names; a
content's targets are (batch, h, w, channels). Pictures are so already, so that nothing is transposed.
"""

from collections.abc import Mapping, Sequence

from onnx import ModelProto

from nstx.models.vgg19 import Layer
from nstx.models.weights.load import Weights

from ..nodes.builder import GraphBuilder
from .feature_graph import INPUT_NAME
from .gradient_graph import GradientGraph
from .gradient_parts import add_pixel_gradients, finish_gradient
from .interleaved_costs import Difference, InterleavedCosts, Part
from .interleaved_network import InterleavedNetwork


def build_interleaved_model(graph: GradientGraph, weights: Weights) -> ModelProto:
    """Return the ONNX model of a description, with the weights inside."""
    objective, builder = graph.objective, GraphBuilder()
    rounding = objective.pool_rounding
    poolings = sum(layer.kind == "pool" for layer in objective.network)
    network = InterleavedNetwork(builder, weights, rounding, graph.precision, graph.even, poolings)
    activations = {INPUT_NAME: network.add_pixels(INPUT_NAME)}
    x = activations[INPUT_NAME]
    for layer in objective.network:
        x = activations[layer.name] = network.add_layer(layer, x)
    costs = InterleavedCosts(
        builder,
        objective,
        gradient=True,
        precision=graph.precision,
        even=graph.even,
        poolings=poolings,
    )
    parts = _add_parts(graph, costs, weights, activations)
    weighted = [part.weighted for part in parts]
    variation_gradient = None
    if graph.has_variation:
        variation, variation_gradient = costs.add_total_variation()
        weighted.append(builder.add("Mul", [variation, "tv_weight"], "variation_weighted"))
    laplacian_gradient = None
    if graph.has_laplacian:
        laplacian, laplacian_gradient = costs.add_laplacian()
        weighted.append(builder.add("Mul", [laplacian, "laplacian_weight"], "laplacian_weighted"))
    builder.add("Sum", weighted, "total")
    scales, scale = costs.add_scales(parts)
    seeds: dict[str, list[str]] = {}
    for difference, factor in zip(_differences(parts), scales, strict=True):
        seed = costs.add_seed(difference, activations[difference.layer], factor)
        seeds.setdefault(difference.layer, []).append(seed)
    gradient = _add_backward(network, objective.network, activations, seeds)
    others = [name for name in (variation_gradient, laplacian_gradient) if name is not None]
    gradient = network.add_pixel_gradient(
        gradient, scale, "network_gradient" if others else "gradient"
    )
    if others:
        add_pixel_gradients(builder, gradient, others)
    return finish_gradient(builder, graph, weights)


def _add_parts(
    graph: GradientGraph,
    costs: InterleavedCosts,
    weights: Weights,
    activations: Mapping[str, str],
) -> list[Part]:
    """Add the costs of content and style, as far as they count."""
    objective, parts = graph.objective, []
    for kind, items, add in (
        ("content", objective.content_layers, costs.add_content_difference),
        ("style", objective.style_layers, costs.add_style_difference),
    ):
        if not getattr(objective, f"{kind}_names"):
            continue
        differences = [
            add(item, activations[item.layer], len(weights.kernels[item.layer])) for item in items
        ]
        parts.append(costs.add_part(kind, items, differences))
    return parts


def _differences(parts: Sequence[Part]) -> list[Difference]:
    return [difference for part in parts for difference in part.differences]


def _add_backward(
    network: InterleavedNetwork,
    layers: Sequence[Layer],
    activations: Mapping[str, str],
    seeds: Mapping[str, Sequence[str]],
) -> str:
    """Carry the seeds back to what the first convolution takes."""
    sources = [INPUT_NAME, *(layer.name for layer in layers)]
    kinds = ["input", *(layer.kind for layer in layers)]
    gradient, is_cut, is_shared = "", False, False
    for index, layer in reversed(list(enumerate(layers))):
        source = sources[index]
        parts = [*seeds.get(layer.name, ()), *([gradient] if gradient else [])]
        gradient = parts[0]
        if len(parts) > 1:
            gradient = network.builder.add("Sum", parts, f"{layer.name}_gradient")
        if layer.kind == "pool":
            gradient, is_cut = network.add_pooling_backward(
                layer, activations[source], gradient, cut=source not in seeds, shared=is_shared
            )
            continue
        if not is_cut:
            gradient = network.cut_where_zero(activations[layer.name], gradient, layer.name)
        # The next pooling's share of a quarter costs nothing in the kernel of a convolution.
        is_shared = kinds[index] == "pool" and source not in seeds and network.shares_equally
        gradient = network.add_convolution_backward(layer, gradient, 0.25 if is_shared else 1.0)
        is_cut = False
    return gradient
