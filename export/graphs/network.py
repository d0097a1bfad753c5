"""VGG-19's layers as ONNX nodes: forward, and backward by hand.

The backward of a 3×3 convolution of stride 1 and padding 1 is a convolution with the kernel turned by
180° and its channels swapped. That of max pooling does without MaxUnpool, which has no CUDA kernel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from nstx.models.vgg19 import Layer, Pooling, PoolRounding
from nstx.models.weights.load import Weights

from ..nodes.builder import FLOAT, FLOAT16, GraphBuilder
from .feature_graph import FP16_SCALE, GraphPrecision

_CONVOLUTION: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
_POOLING: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}


@dataclass(frozen=True, slots=True, eq=False)
class NetworkBuilder:
    """Adds layers to a graph.

    In fp16 all activations are scaled by `FP16_SCALE`; gradients are not. With ``backward``, layers
    will be carried back, for which max pooling keeps its positions.
    """

    builder: GraphBuilder
    weights: Weights
    pooling: Pooling
    pool_rounding: PoolRounding
    precision: GraphPrecision
    backward: bool = False

    @property
    def dtype(self) -> type[np.floating]:
        """Of kernels and activations."""
        return np.float16 if self.precision == "fp16" else np.float32

    def add_pixels(self, x: str) -> str:
        """Bring pixels (batch, height, width, 3) to what the first convolution takes."""
        # Not folded into the first bias: a padded zero must stay the mean colour.
        mean = self.builder.constant("mean", np.asarray(self.weights.mean, np.float32))
        x = self.builder.add("Sub", [x, mean], "pixels_minus_mean")
        return self.scale_pixels(
            self.builder.add("Transpose", [x], "pixels_planar", perm=[0, 3, 1, 2])
        )

    def scale_pixels(self, x: str) -> str:
        """Bring planar pixels minus the mean to the network's precision and scale."""
        if self.precision == "fp32":
            return x
        scale = self.builder.number("fp16_scale", FP16_SCALE)
        x = self.builder.add("Mul", [x, scale], "pixels_scaled")
        return self.builder.add("Cast", [x], "pixels_fp16", to=FLOAT16)

    def add_layer(self, layer: Layer, x: str) -> str:
        """Add a convolution with its ReLU, or a pooling."""
        output = f"{layer.name}_fp16" if self.precision == "fp16" else layer.name
        if layer.kind == "pool":
            operator = "AveragePool" if self.pooling == "avg" else "MaxPool"
            # For WebGPU's sake, which knows this and not ceil_mode=1.
            padding = {"auto_pad": "SAME_UPPER"} if self.pool_rounding == "ceil" else {}
            is_scattered = self.backward and self.pooling == "max"
            kept = [f"{layer.name}_positions"] if is_scattered else []
            return self.builder.add(operator, [x], output, more=kept, **_POOLING, **padding)
        kernel: NDArray[np.floating] = self.weights.kernels[layer.name]
        bias: NDArray[np.floating] = self.weights.biases[layer.name]
        if self.precision == "fp16":
            bias = bias * FP16_SCALE
        kernel_name = self.builder.constant(f"{layer.name}.weight", kernel.astype(self.dtype))
        bias_name = self.builder.constant(f"{layer.name}.bias", bias.astype(self.dtype))
        before = f"{layer.name}_before_relu"
        before = self.builder.add("Conv", [x, kernel_name, bias_name], before, **_CONVOLUTION)
        return self.builder.add("Relu", [before], output)

    def widen(self, x: str, output: str) -> str:
        """Bring an activation to float32 and to its own scale."""
        if self.precision == "fp32":
            return x
        if self.builder.has(output):  # as of a layer whose content and style both count
            return output
        scale = self.builder.number("fp16_scale", FP16_SCALE)
        x = self.builder.add("Cast", [x], f"{output}_float", to=FLOAT)
        return self.builder.add("Div", [x, scale], output)

    def narrow(self, x: str, output: str) -> str:
        """Bring a float32 tensor to the precision of the network."""
        if self.precision == "fp32":
            return x
        return self.builder.add("Cast", [x], output, to=FLOAT16)

    def add_backward(self, layer: Layer, source: str, output: str, gradient: str) -> str:
        """Add the gradient at a layer's input, from that at its output, a convolution's cut."""
        if layer.kind == "pool" and self.pooling == "avg":
            return self._add_average_backward(layer, source, gradient)
        if layer.kind == "pool":
            return self._add_maximum_backward(layer, source, output, gradient)
        kernel = self.weights.kernels[layer.name].transpose(1, 0, 2, 3)[..., ::-1, ::-1]
        turned = np.ascontiguousarray(kernel, self.dtype)
        kernel_name = self.builder.constant(f"{layer.name}.weight_turned", turned)
        name = f"{layer.name}_backward"
        return self.builder.add("Conv", [gradient, kernel_name], name, **_CONVOLUTION)

    def cut_where_zero(self, activation: str, gradient: str, name: str) -> str:
        """Cut a gradient to zero where an activation is: the backward of the ReLU."""
        zero = self.builder.constant("zero", np.zeros((), self.dtype))
        active = self.builder.add("Greater", [activation, zero], f"{name}_active")
        # Not Where, which takes three passes over memory in ONNX Runtime, and 7 % of a step.
        kind = FLOAT16 if self.precision == "fp16" else FLOAT
        mask = self.builder.add("Cast", [active], f"{name}_mask", to=kind)
        return self.builder.add("Mul", [gradient, mask], f"{name}_cut")

    def _add_average_backward(self, layer: Layer, source: str, gradient: str) -> str:
        """Spread each value over its window; a window at an odd edge has two pixels, or one."""
        name = f"{layer.name}_backward"
        if self.pool_rounding == "ceil":
            share_name = f"{layer.name}_share"
            share = add_window_share(self.builder, share_name, source, axes=(2, 3))
            share = self.narrow(share, share_name)
        else:
            share = self.builder.constant("quarter", np.array(0.25, self.dtype))
        scaled = self.builder.add("Mul", [gradient, share], f"{name}_scaled")
        scales = self.builder.constant("doubled", np.array([1, 1, 2, 2], np.float32))
        spread = self.builder.add(
            "Resize",
            [scaled, "", scales],
            f"{name}_spread",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return self._fit_to_source(name, spread, source)

    def _add_maximum_backward(self, layer: Layer, source: str, output: str, gradient: str) -> str:
        """Put each value where the pooling found its window's largest: at the first, row by row.

        So does PyTorch, and ties are common: flat areas of a picture make them. What comes out is
        cut already where the ReLU before the pooling was: there the largest is 0, too.
        """
        name = f"{layer.name}_backward"
        cut = self.cut_where_zero(output, gradient, layer.name)
        flat = self.builder.integers("flat", [-1])
        values = self.builder.add("Reshape", [cut, flat], f"{name}_values")
        positions = f"{layer.name}_positions"  # kept by the pooling
        places = self.builder.add("Reshape", [positions, flat], f"{name}_places")
        shape = self.builder.add("Shape", [source], f"{name}_shape")
        count = self.builder.add("ReduceProd", [shape], f"{name}_count", keepdims=1)
        value = numpy_helper.from_array(np.zeros(1, self.dtype))
        zeros = self.builder.add("ConstantOfShape", [count], f"{name}_zeros", value=value)
        spread = self.builder.add(
            "ScatterElements", [zeros, places, values], f"{name}_spread", axis=0
        )
        return self.builder.add("Reshape", [spread, shape], name)

    def _fit_to_source(self, name: str, x: str, source: str) -> str:
        size = self.builder.add("Shape", [source], f"{name}_source_size", start=2, end=4)
        if self.pool_rounding == "ceil":
            starts = self.builder.integers("no_rows_no_columns", [0, 0])
            axes = self.builder.integers("height_and_width", [2, 3])
            return self.builder.add("Slice", [x, starts, size, axes], name)
        spread_size = self.builder.add("Shape", [x], f"{name}_given_size", start=2, end=4)
        missing = self.builder.add("Sub", [size, spread_size], f"{name}_missing")
        nothing = self.builder.integers("six_zeros", [0] * 6)
        pads = self.builder.add("Concat", [nothing, missing], f"{name}_pads", axis=0)
        return self.builder.add("Pad", [x, pads], name)


def add_window_share(
    builder: GraphBuilder, name: str, source: str, *, axes: tuple[int, int]
) -> str:
    """Add 1 / (pixels in each window) of a pooling of what may have odd sides, float32.

    ``axes`` are those of height and width among the source's four; along the others the share has 1.
    """
    none, two = (builder.constant(f"number_{n}", np.array(n, np.int64)) for n in (0, 2))
    sides = []
    for axis in axes:
        part, shape = f"{name}_{axis}", [1, 1, 1, 1]
        shape[axis] = -1
        side = builder.add("Shape", [source], f"{part}_side", start=axis, end=axis + 1)
        side = builder.add("Squeeze", [side], f"{part}_number")
        # Pixels from a window's first on, of which it holds two at most.
        starts = builder.add("Range", [none, side, two], f"{part}_starts")
        rest = builder.add("Sub", [side, starts], f"{part}_rest")
        count = builder.add("Min", [rest, two], f"{part}_count")
        count = builder.add("Cast", [count], f"{part}_float", to=FLOAT)
        along = builder.integers(f"along_{axis}", shape)
        sides.append(builder.add("Reshape", [count, along], f"{part}_along"))
    pixels = builder.add("Mul", sides, f"{name}_pixels")
    return builder.add("Reciprocal", [pixels], f"{name}_float")
