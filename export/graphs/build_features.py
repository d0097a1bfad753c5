"""VGG-19's features as an ONNX graph: activations, Gram matrices, or both.

Every size is free: batch, height and width. All operators are standard, and each has kernels for
the CPU, CUDA, TensorRT, WebAssembly and WebGPU. For WebGPU's sake a pooling that rounds up says
``auto_pad=SAME_UPPER``, which that runtime knows, and not ``ceil_mode=1``, which it does not.
"""

from onnx import ModelProto, ValueInfoProto

from nstx.models.objective import Objective
from nstx.models.weights.load import Weights

from ..nodes.builder import FLOAT, UINT8, GraphBuilder, activation_info, tensor_info
from .feature_graph import INPUT_NAME, FeatureGraph, gram_name
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
        if layer.name in graph.grams:
            gram = _add_gram(builder, layer.name)
            outputs[gram] = tensor_info(gram, FLOAT, ["batch", channels, channels])
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
