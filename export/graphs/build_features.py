"""VGG-19's features as an ONNX graph: activations, Gram matrices, or both.

Every size is free: batch, height and width. All operators are standard, and each has kernels for
the CPU, CUDA, TensorRT, WebAssembly and WebGPU. For WebGPU's sake a pooling that rounds up says
``auto_pad=SAME_UPPER``, which that runtime knows, and not ``ceil_mode=1``, which it does not.
"""

from onnx import ModelProto, ValueInfoProto

from nstx.models.objective import Objective
from nstx.models.weights.load import Weights

from ..nodes.builder import FLOAT, UINT8, GraphBuilder, activation_info, tensor_info
from .feature_graph import INPUT_NAME, FeatureGraph, gram_name, moments_name
from .network import NetworkBuilder

_DESCRIPTION = (
    "Features of VGG-19 (Simonyan and Zisserman 2014, its convolutional half), for neural style "
    "transfer (Gatys et al. 2015). Activations are those after the ReLU; a Gram matrix is "
    "F F^T / (height * width) of an activation F seen as channels by positions."
)


def build_feature_model(
    graph: FeatureGraph, weights: Weights, objective: Objective | None = None
) -> ModelProto:
    """Return the ONNX model of a description, with the weights, and the objective as metadata."""
    builder = GraphBuilder()
    network = NetworkBuilder(builder, weights, graph.pooling, graph.pool_rounding, graph.precision)
    pixels, x = _add_input(network, graph)
    outputs: dict[str, ValueInfoProto] = {}
    for layer in graph.network:
        x = network.add_layer(layer, x)
        if layer.name not in graph.layers:
            continue
        network.widen(x, layer.name)
        channels = weights.kernels[f"conv{layer.block}_1"].shape[0]
        if layer.name in graph.activations:
            outputs[layer.name] = activation_info(layer.name, channels, layer.stride)
        if layer.name in (*graph.grams, *graph.moments):
            gram = _add_gram(builder, layer.name)
            outputs[gram] = tensor_info(gram, FLOAT, ["batch", channels, channels])
        if layer.name in graph.moments:
            moments = _add_moments(builder, layer.name)
            outputs[moments] = tensor_info(moments, FLOAT, ["batch", channels + 1, channels + 1])
    return builder.finish(
        [pixels],
        [outputs[name] for name in graph.outputs],
        name="vgg19_features",
        description=_DESCRIPTION,
        metadata=graph.metadata(weights, objective),
    )


def _add_input(network: NetworkBuilder, graph: FeatureGraph) -> tuple[ValueInfoProto, str]:
    if graph.input == "network":
        info = tensor_info(INPUT_NAME, FLOAT, ["batch", 3, "height", "width"])
        return info, network.scale_pixels(INPUT_NAME)
    element, x = FLOAT, INPUT_NAME
    if graph.input == "uint8":
        element, x = UINT8, network.builder.add("Cast", [x], "pixels_float", to=FLOAT)
    info = tensor_info(INPUT_NAME, element, ["batch", "height", "width", 3])
    return info, network.add_pixels(x)


def _add_gram(builder: GraphBuilder, layer: str) -> str:
    """Add the Gram matrix of a float32 activation.

    F is divided by √N before the product, so that no sum exceeds the matrix itself; the product is
    float32 in every graph, because entries reach 10⁷ where fp16 ends at 65 504.
    """
    flat_shape = builder.integers("channels_by_positions", [0, 0, -1])
    sizes = builder.add("Shape", [layer], f"{layer}_sizes", start=2, end=4)
    count = builder.add("ReduceProd", [sizes], f"{layer}_positions", keepdims=0)
    count = builder.add("Cast", [count], f"{layer}_positions_float", to=FLOAT)
    root = builder.add("Sqrt", [count], f"{layer}_positions_root")
    flat = builder.add("Reshape", [layer, flat_shape], f"{layer}_flat")
    scaled = builder.add("Div", [flat, root], f"{layer}_scaled")
    transposed = builder.add("Transpose", [scaled], f"{layer}_transposed", perm=[0, 2, 1])
    return builder.add("MatMul", [scaled, transposed], gram_name(layer))


def _add_moments(builder: GraphBuilder, layer: str) -> str:
    """Add a layer's moments: its Gram matrix, bordered by the means of its channels and a 1."""
    mean = layer
    # Axis by axis, as sums of a million values one after the other are not exact in float32.
    for axis in (3, 2):
        over = builder.integers(f"over_{axis}", [axis])
        mean = builder.add("ReduceMean", [mean, over], f"{layer}_mean_{axis}", keepdims=0)
    column, row = (
        builder.add(
            "Unsqueeze", [mean, builder.integers(f"axis_{axis}", [axis])], f"{layer}_{name}"
        )
        for axis, name in ((2, "column"), (1, "row"))
    )
    one, end = builder.number("one", 1), builder.integers("one_at_the_end", [0, 0, 0, 0, 0, 1])
    last = builder.add("Pad", [row, end, one], f"{layer}_last_row")
    top = builder.add("Concat", [gram_name(layer), column], f"{layer}_first_rows", axis=2)
    return builder.add("Concat", [top, last], moments_name(layer), axis=1)
