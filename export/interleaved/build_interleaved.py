"""The cost with its gradient for ONNX Runtime on CUDA, in fp16 and TF32, with interleaved activations.

It computes what `nstx.export.graphs.build_gradient` has, of inputs that `interleaved_inputs` describes; a
content's targets are (batch, h, w, channels). Pictures are so already, so that nothing is transposed.
"""

from collections.abc import Mapping, Sequence

from onnx import ModelProto

from nstx.models.vgg19 import Layer
from nstx.models.weights.load import Weights

from ..graphs.feature_graph import INPUT_NAME
from ..graphs.gradient_graph import GradientGraph
from ..graphs.gradient_parts import add_pixel_gradients, finish_gradient
from ..nodes.builder import GraphBuilder
from .interleaved_costs import InterleavedCosts
from .interleaved_network import InterleavedNetwork


def build_interleaved(graph: GradientGraph, weights: Weights) -> ModelProto:
    """Return the ONNX model of a description, with the weights inside."""
    objective, builder = graph.objective, GraphBuilder()
    rounding = objective.pool_rounding
    poolings = sum(layer.kind == "pool" for layer in objective.network)
    network = InterleavedNetwork(builder, weights, rounding, graph.precision, graph.even, poolings)
    activations = {INPUT_NAME: network.add_pixels(INPUT_NAME)}
    x = activations[INPUT_NAME]
    for layer in objective.network:
        x = activations[layer.name] = network.add_layer(layer, x)
    costs = InterleavedCosts(builder, objective, gradient=True, graph=graph)
    differences = [
        costs.add_content_difference(name, activations[name]) for name in objective.content_names
    ]
    for name in objective.style_names:
        channels = len(weights.kernels[name])
        differences.append(costs.add_style_difference(name, activations[name], channels))
    variation_gradient = None
    if graph.has_variation:
        _, variation_gradient = costs.add_total_variation()
    laplacian_gradient = None
    if graph.has_laplacian:
        _, laplacian_gradient = costs.add_laplacian()
    scales, scale = costs.add_layers(differences)
    seeds: dict[str, list[str]] = {}
    for difference, factor in zip(differences, scales, strict=True):
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
