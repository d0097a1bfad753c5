"""The two passes over a tile of a larger picture as ONNX graphs, of the parts of `build_gradient`."""

from collections.abc import Sequence

from onnx import ModelProto, ValueInfoProto

from nstx.models.vgg19 import find_layer
from nstx.models.weights.load import Weights

from ..nodes.builder import FLOAT, GraphBuilder, activation_info, tensor_info
from .build_gradient import add_backward
from .costs import CostBuilder
from .feature_graph import INPUT_NAME
from .gradient_graph import content_input
from .network import NetworkBuilder
from .tile_graph import TileGraph, tile_name

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
    costs = TileCosts(builder, objective, is_gradient, regions=True)
    if is_gradient:
        seeds: dict[str, list[str]] = {}
        for name in objective.style_names:
            has_border = name in graph.moment_layers
            seeds.setdefault(name, []).append(costs.add_style_seed(name, has_border=has_border))
        for name in objective.content_names:
            seeds.setdefault(name, []).append(costs.add_content_seed(name))
        gradient = add_backward(network, objective, activations, seeds)
        builder.add("Identity", [gradient], "gradient")
    else:
        for name in objective.style_names:
            costs.add_sums(name, has_mean=name in graph.moment_layers)
    return builder.finish(
        [_describe_end(graph, weights, name) for name in graph.inputs],
        [_describe_end(graph, weights, name) for name in graph.outputs],
        name="style_transfer_tile",
        description=_DESCRIPTION,
        metadata=graph.metadata(weights),
    )


class TileCosts(CostBuilder):
    """Adds what costs of a tile's positions follow from, and what their gradients begin with."""

    def add_sums(self, layer: str, *, has_mean: bool) -> None:
        """Add a tile's part of a Gram matrix, and of means."""
        flat = self._reshape(f"{layer}_flat", layer, (0, 0, -1))
        transposed = self.builder.add("Transpose", [flat], f"{layer}_transposed", perm=[0, 2, 1])
        product = [self._weigh(layer, flat), transposed]
        self.builder.add("MatMul", product, tile_name("gram", layer))
        if has_mean:
            shares = self._shares(layer)
            column = self.builder.add("Transpose", [shares], f"{shares}_column", perm=[0, 2, 1])
            self.builder.add("MatMul", [flat, column], tile_name("mean", layer))

    def add_style_seed(self, layer: str, *, has_border: bool) -> str:
        """Add (S F + b 1ᵀ) diag(s), (batch, channels, h, w)."""
        add, name = self.builder.add, f"{layer}_seed"
        flat = self._reshape(f"{layer}_flat", layer, (0, 0, -1))
        seed = add("MatMul", [tile_name("slope", layer), flat], f"{name}_product")
        if has_border:
            seed = add("Add", [seed, tile_name("border", layer)], f"{name}_bordered")
        seed = add("Mul", [seed, self._shares(layer)], f"{name}_flat")
        shape = add("Shape", [layer], f"{name}_shape")
        return add("Reshape", [seed, shape], name)

    def add_content_seed(self, layer: str) -> str:
        """Add q ∘ (F − T), (batch, channels, h, w)."""
        name = f"{layer}_content_seed"
        difference = self.builder.add("Sub", [layer, content_input(layer)], f"{name}_difference")
        return self.builder.add("Mul", [difference, tile_name("scale", layer)], name)


def _describe_end(graph: TileGraph, weights: Weights, name: str) -> ValueInfoProto:
    """Declare an input or output."""
    if name in (INPUT_NAME, "gradient"):
        return tensor_info(name, FLOAT, ["batch", "height", "width", 3])
    kind, _, layer = name.partition("_")
    if kind not in ("shares", "gram", "mean", "slope", "border", "content", "scale"):
        layer = name
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
