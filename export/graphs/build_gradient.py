"""The cost of style transfer with its gradient as an ONNX graph, written by hand.

Forward through VGG-19; costs, and their gradients at the activations (`nstx.export.graphs.costs` and
`moment_costs`); these
carried back to the pixels, layer by layer (`nstx.export.graphs.network`). Nothing is traced. All sizes are
free, and operators are standard, with kernels for the CPU and WebAssembly, and in ONNX Runtime since
1.30 all for CUDA; older ones take the padding of the total variation and some means to the CPU.
"""

import itertools
from collections.abc import Mapping, Sequence

from onnx import ModelProto

from nstx.models.objective import Objective
from nstx.models.weights.load import Weights

from ..nodes.builder import FLOAT, GraphBuilder
from .feature_graph import INPUT_NAME
from .gradient_graph import BETA1, BETA2, EPSILON, GradientGraph
from .gradient_parts import add_part, add_pixel_gradients, finish_gradient
from .moment_costs import MomentCosts
from .network import NetworkBuilder


def build_gradient_model(graph: GradientGraph, weights: Weights) -> ModelProto:
    """Return the ONNX model of a description whose layout is planar, with the weights inside."""
    assert graph.layout == "planar", "nstx.export.interleaved builds the others"
    objective, builder = graph.objective, GraphBuilder()
    network = NetworkBuilder(
        builder, weights, *objective.poolings, graph.precision, backward=graph.gradient
    )
    x = network.add_pixels(INPUT_NAME)
    activations = {INPUT_NAME: x}
    for layer in objective.network:
        x = activations[layer.name] = network.add_layer(layer, x)
    costs = MomentCosts(builder, objective, graph.gradient, graph.regions)
    variation, variation_gradient = costs.add_total_variation()
    weighted = [builder.add("Mul", [variation, "tv_weight"], "variation_weighted")]
    laplacian_gradient = None
    if graph.has_laplacian:
        laplacian, laplacian_gradient = costs.add_laplacian()
        weighted.append(builder.add("Mul", [laplacian, "laplacian_weight"], "laplacian_weighted"))
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
            cost, seed = add(item, wide, len(weights.kernels[item.layer]))
            layer_costs.append(cost)
            if seed is not None:
                seeds.setdefault(item.layer, []).append(seed)
        weighted.append(add_part(builder, kind, items, layer_costs))
    builder.add("Sum", weighted, "total")
    if variation_gradient is not None:
        gradient = add_backward(network, objective, activations, seeds)
        gradient = add_pixel_gradients(builder, gradient, [variation_gradient, laplacian_gradient])
        if graph.adam:
            add_adam(builder, gradient)
    return finish_gradient(builder, graph, weights)


def add_backward(
    network: NetworkBuilder,
    objective: Objective,
    activations: Mapping[str, str],
    seeds: Mapping[str, Sequence[str]],
) -> str:
    """Add the gradient at the pixels, (batch, height, width, 3), of those that begin at layers."""
    builder = network.builder
    layers = objective.network
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
        is_cut = layer.kind == "pool" and objective.pooling == "max"
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
    axes = builder.integers("over_picture", [1, 2, 3])
    peaks = []
    for seed in itertools.chain.from_iterable(seeds.values()):
        size = builder.add("Abs", [seed], f"{seed}_size")
        peaks.append(builder.add("ReduceMax", [size, axes], f"{seed}_peak", keepdims=1))
    smallest = builder.number("smallest_scale", 1e-30)
    return builder.add("Max", [*peaks, smallest], "gradient_scale")


def _narrow_seed(network: NetworkBuilder, seed: str, scale: str | None) -> str:
    if scale is None:
        return seed
    return network.narrow(network.builder.add("Div", [seed, scale], f"{seed}_unit"), f"{seed}_fp16")


def add_adam(builder: GraphBuilder, gradient: str) -> None:
    """Add Adam's update of the pixels: `ADAM_INPUTS` and a gradient to `ADAM_OUTPUTS`."""
    number = builder.number
    scaled = builder.add("Mul", [gradient, "gradient_factor"], "gradient_scaled")
    squared = builder.add("Mul", [scaled, scaled], "gradient_squared")
    for name, value, beta in (("first_moment", scaled, BETA1), ("second_moment", squared, BETA2)):
        change = builder.add("Sub", [value, name], f"{name}_difference")
        share = number(f"one_minus_{name}_decay", 1 - beta)
        change = builder.add("Mul", [change, share], f"{name}_change")
        builder.add("Add", [name, change], f"next_{name}")
    one = number("adam_one", 1)
    for name, beta in (("first_moment", BETA1), ("second_moment", BETA2)):
        power = builder.add("Pow", [number(f"{name}_decay", beta), "step"], f"{name}_power")
        builder.add("Sub", [one, power], f"{name}_bias")
    root_bias = builder.add("Sqrt", ["second_moment_bias"], "second_moment_bias_root")
    rate = builder.add("Div", [root_bias, "first_moment_bias"], "rate_correction")
    rate = builder.add("Mul", [rate, "learning_rate"], "rate")
    root = builder.add("Sqrt", ["next_second_moment"], "next_second_moment_root")
    root = builder.add("Add", [root, number("epsilon", EPSILON)], "next_second_moment_root_safe")
    direction = builder.add("Div", ["next_first_moment", root], "direction")
    move = builder.add("Mul", [direction, rate], "move")
    moved = builder.add("Sub", [INPUT_NAME, move], "moved")
    builder.add("Clip", [moved, "low", "high"], "next_pixels")
