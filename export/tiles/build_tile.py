"""The two passes over a tile of a larger picture as ONNX graphs, of the parts of `build_gradient`."""

from collections.abc import Sequence

from onnx import ModelProto, ValueInfoProto

from nstx.models.vgg19 import find_layer
from nstx.models.weights.load import Weights

from ..graphs.build_gradient import add_backward
from ..graphs.costs import CostBuilder
from ..graphs.feature_graph import INPUT_NAME
from ..graphs.gradient_graph import content_input
from ..graphs.network import NetworkBuilder
from ..nodes.builder import FLOAT, GraphBuilder, activation_info, tensor_info
from .tile_graph import TileGraph, scale_input, tile_name

_DESCRIPTION = "A pass over a tile of a picture, for the cost of neural style transfer on VGG-19."


def build_tile_model(graph: TileGraph, weights: Weights) -> ModelProto:
    """Return the ONNX model of a description, with the weights inside."""
    objective, builder = graph.objective, GraphBuilder()
    is_gradient = graph.part == "gradient"
    network = NetworkBuilder(builder, weights, *objective.poolings, "fp32", backward=is_gradient)
    x = network.add_pixels(INPUT_NAME)
    activations = {INPUT_NAME: x}
    for layer in objective.network:
        x = activations[layer.name] = network.add_layer(layer, x)
    costs = TileCosts(builder, objective, is_gradient)
    places = [(name, at) for name in objective.style_names for at in range(graph.regions)]
    if is_gradient:
        seeds: dict[str, list[str]] = {}
        for name, region in places:
            has_border = name in graph.moment_layers
            seed = costs.add_style_seed(name, region, has_border=has_border)
            seeds.setdefault(name, []).append(seed)
        for name in objective.content_names:
            seeds.setdefault(name, []).append(costs.add_content_seed(name))
        gradient = add_backward(network, objective, activations, seeds)
        builder.add("Identity", [gradient], "gradient")
    else:
        for name, region in places:
            costs.add_sums(name, region, has_mean=name in graph.moment_layers)
    return builder.finish(
        [_describe_end(graph, weights, name) for name in graph.inputs],
        [_describe_end(graph, weights, name) for name in graph.outputs],
        name="style_transfer_tile",
        description=_DESCRIPTION,
        metadata=graph.metadata(weights),
    )


class TileCosts(CostBuilder):
    """Adds what costs of a tile's positions follow from, and what their gradients begin with."""

    def add_sums(self, layer: str, region: int, *, has_mean: bool) -> None:
        """Add a tile's part of a Gram matrix, and of means."""
        add, flat = self.builder.add, self._flat(layer)
        shares = self._flatten(tile_name("shares", region, layer))
        weighed = add("Mul", [flat, shares], f"{shares}_weighed")
        transposed = f"{layer}_transposed"
        if not self.builder.has(transposed):
            add("Transpose", [flat], transposed, perm=[0, 2, 1])
        add("MatMul", [weighed, transposed], tile_name("gram", region, layer))
        if has_mean:
            column = add("Transpose", [shares], f"{shares}_column", perm=[0, 2, 1])
            add("MatMul", [flat, column], tile_name("mean", region, layer))

    def add_style_seed(self, layer: str, region: int, *, has_border: bool) -> str:
        """Add (S F + b 1ᵀ) diag(s), (batch, channels, h, w)."""
        add, name = self.builder.add, f"{layer}_seed_{region}"
        slope = tile_name("slope", region, layer)
        seed = add("MatMul", [slope, self._flat(layer)], f"{name}_product")
        if has_border:
            seed = add("Add", [seed, tile_name("border", region, layer)], f"{name}_bordered")
        shares = self._flatten(tile_name("shares", region, layer))
        seed = add("Mul", [seed, shares], f"{name}_flat")
        shape = add("Shape", [layer], f"{name}_shape")
        return add("Reshape", [seed, shape], name)

    def _flat(self, layer: str) -> str:
        """Add an activation as (batch, channels, positions), once."""
        name = f"{layer}_flat"
        return name if self.builder.has(name) else self._reshape(name, layer, (0, 0, -1))

    def add_content_seed(self, layer: str) -> str:
        """Add q ∘ (F − T), (batch, channels, h, w)."""
        name = f"{layer}_content_seed"
        difference = self.builder.add("Sub", [layer, content_input(layer)], f"{name}_difference")
        return self.builder.add("Mul", [difference, scale_input(layer)], name)


def _describe_end(graph: TileGraph, weights: Weights, name: str) -> ValueInfoProto:
    """Declare an input or output."""
    if name in (INPUT_NAME, "gradient"):
        return tensor_info(name, FLOAT, ["batch", "height", "width", 3])
    kind, layer = name.partition("_")[0], "_".join(name.split("_")[-2:])
    channels = len(weights.kernels[layer])
    sides: Sequence[str | int] = [
        side.dim_param
        for side in activation_info(
            name, channels, find_layer(layer).stride
        ).type.tensor_type.shape.dim
    ][2:]
    shapes: dict[str, list[str | int]] = {
        "shares": ["batch", *sides],
        "scale": ["batch", 1, *sides],
        "gram": ["batch", channels, channels],
        "slope": ["batch", channels, channels],
        "mean": ["batch", channels, 1],
        "border": ["batch", channels, 1],
    }
    return tensor_info(name, FLOAT, shapes.get(kind, ["batch", channels, *sides]))
