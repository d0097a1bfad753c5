"""VGG-19's layers for CUDA: activations (batch, h, w, channels), forward and backward by hand.

Tensor cores take such activations as they are; planar ones are transposed around every convolution. A
convolution is ONNX Runtime's own NhwcConv, and so is an average pooling: 2×2, stride 2, a quarter of the
identity for a kernel, which takes 2 % of a step's work and no pass over memory more than a pooling.
Sides that are odd are made even by their last row and column again, whose average is that of what is there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.vgg19 import Layer, PoolRounding
from nstx.models.weights.load import Weights

from .builder import CONTRIBUTED, FLOAT, FLOAT16, GraphBuilder
from .feature_graph import FP16_SCALE, GraphPrecision

_CONVOLUTION: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
_POOLING: dict[str, Any] = {"kernel_shape": [2, 2], "pads": [0, 0, 0, 0], "strides": [2, 2]}

PIXEL_CHANNELS = 8
"""That pictures are padded to: tensor cores take channels by eights."""


@dataclass(frozen=True, slots=True, eq=False)
class InterleavedNetwork:
    """Adds layers with average pooling to a graph.

    In fp16 all activations are scaled by `FP16_SCALE`; gradients are not. With ``even``, all sides that are
    pooled are even.
    """

    builder: GraphBuilder
    weights: Weights
    pool_rounding: PoolRounding
    precision: GraphPrecision
    even: bool

    @property
    def dtype(self) -> type[np.floating]:
        """Of kernels and activations."""
        return np.float16 if self.precision == "fp16" else np.float32

    def add_pixels(self, x: str) -> str:
        """Bring pixels (batch, height, width, 3) to what the first convolution takes, with 8 channels."""
        mean = self.builder.constant("mean", np.asarray(self.weights.mean, np.float32))
        x = self.builder.add("Sub", [x, mean], "pixels_minus_mean")
        if self.precision == "fp16":
            scale = self.builder.number("fp16_scale", FP16_SCALE)
            x = self.builder.add("Mul", [x, scale], "pixels_scaled")
            x = self.builder.add("Cast", [x], "pixels_fp16", to=FLOAT16)
        pads = self.builder.integers("to_eight_channels", [0] * 7 + [PIXEL_CHANNELS - 3])
        return self.builder.add("Pad", [x, pads], "pixels_padded")

    def add_layer(self, layer: Layer, x: str) -> str:
        """Add a convolution with its ReLU, or a pooling."""
        if layer.kind == "pool":
            if self.pool_rounding == "ceil" and not self.even:
                x = self._make_even(layer, x)
            channels = self._channels(layer)
            mean = np.tile(np.eye(channels)[:, None, None, :] / 4, (1, 2, 2, 1))
            return self._convolve([x], f"pool_{channels}.weight", mean, layer.name, **_POOLING)
        kernel = _pad_channels(self.weights.kernels[layer.name], 1).transpose(0, 2, 3, 1)
        bias = self.weights.biases[layer.name]
        if self.precision == "fp16":
            bias = bias * FP16_SCALE
        name = self.builder.constant(f"{layer.name}.bias", bias.astype(self.dtype))
        before, weight = f"{layer.name}_before_relu", f"{layer.name}.weight"
        before = self._convolve([x, name], weight, kernel, before, **_CONVOLUTION)
        return self.builder.add("Relu", [before], layer.name)

    def add_convolution_backward(self, layer: Layer, gradient: str) -> str:
        """Add the gradient at a convolution's input, from that at its output before the ReLU."""
        kernel = _pad_channels(self.weights.kernels[layer.name], 1)
        turned = kernel.transpose(1, 2, 3, 0)[:, ::-1, ::-1]
        weight, name = f"{layer.name}.weight_turned", f"{layer.name}_backward"
        return self._convolve([gradient], weight, turned, name, **_CONVOLUTION)

    def cut_where_zero(self, activation: str, gradient: str, name: str) -> str:
        """Cut a gradient to zero where an activation is: the backward of the ReLU."""
        active = self._add_active(activation)
        return self.builder.add("Where", [active, gradient, self._zero()], f"{name}_cut")

    def add_pooling_backward(
        self, layer: Layer, source: str, gradient: str, *, cut: bool
    ) -> tuple[str, bool]:
        """Spread each value over its window; return the gradient, and whether it was cut on the way.

        ``cut`` allows to cut it where the pooled activation is zero, which is done if sides are even.
        """
        name = f"{layer.name}_backward"
        if self.pool_rounding == "ceil" and not self.even:
            share = self._add_share(layer, source)
        else:
            share = self.builder.constant("quarter", np.array(0.25, self.dtype))
        scaled = self.builder.add("Mul", [gradient, share], f"{name}_scaled")
        inside = self.builder.integers("inside_windows", [2, 4])
        windows = self.builder.add("Unsqueeze", [scaled, inside], f"{name}_windows")
        shape = self._add_window_shape(layer, gradient)
        if self.even and cut:
            active = self._add_active(source)
            active = self.builder.add("Reshape", [active, shape], f"{name}_active_windows")
            spread = self.builder.add("Where", [active, windows, self._zero()], f"{name}_spread")
        else:
            spread = self.builder.add("Expand", [windows, shape], f"{name}_spread")
        size = self.builder.add("Shape", [source], f"{name}_source_size")
        if self.even:
            return self.builder.add("Reshape", [spread, size], name), cut
        return self._fit_to_source(name, spread, shape, size), False

    def _channels(self, pooling: Layer) -> int:
        return len(self.weights.kernels[f"conv{pooling.block}_1"])

    def _convolve(
        self,
        inputs: list[str],
        weight: str,
        kernel: NDArray[np.floating],
        output: str,
        **attributes: Any,
    ) -> str:
        name = self.builder.constant(weight, np.ascontiguousarray(kernel, self.dtype))
        inputs = [inputs[0], name, *inputs[1:]]
        return self.builder.add("NhwcConv", inputs, output, domain=CONTRIBUTED, **attributes)

    def _zero(self) -> str:
        return self.builder.constant("zero", np.zeros((), self.dtype))

    def _add_active(self, activation: str) -> str:
        return self.builder.add("Greater", [activation, self._zero()], f"{activation}_active")

    def _make_even(self, layer: Layer, x: str) -> str:
        name = f"{layer.name}_source"
        size = self.builder.add("Shape", [x], f"{name}_size", start=1, end=3)
        two = self.builder.constant("number_2", np.array(2, np.int64))
        missing = self.builder.add("Mod", [size, two], f"{name}_missing")
        before, after = self.builder.integers("five_zeros", [0] * 5), self._integer(0)
        pads = self.builder.add("Concat", [before, missing, after], f"{name}_pads", axis=0)
        return self.builder.add("Pad", [x, pads], f"{name}_even", mode="edge")

    def _add_share(self, layer: Layer, source: str) -> str:
        """Add 1 / (pixels in each window), (1, h, w, 1)."""
        name = f"{layer.name}_share"
        none, two = (self.builder.constant(f"number_{n}", np.array(n, np.int64)) for n in (0, 2))
        sides = []
        for axis, shape in ((1, [1, -1, 1, 1]), (2, [1, 1, -1, 1])):
            part = f"{name}_{axis}"
            side = self.builder.add("Shape", [source], f"{part}_side", start=axis, end=axis + 1)
            side = self.builder.add("Squeeze", [side], f"{part}_number")
            starts = self.builder.add("Range", [none, side, two], f"{part}_starts")
            rest = self.builder.add("Sub", [side, starts], f"{part}_rest")
            count = self.builder.add("Min", [rest, two], f"{part}_count")
            count = self.builder.add("Cast", [count], f"{part}_float", to=FLOAT)
            along = self.builder.integers(f"along_{axis}", shape)
            sides.append(self.builder.add("Reshape", [count, along], f"{part}_along"))
        pixels = self.builder.add("Mul", sides, f"{name}_pixels")
        share = self.builder.add("Reciprocal", [pixels], f"{name}_float")
        if self.precision == "fp32":
            return share
        return self.builder.add("Cast", [share], name, to=FLOAT16)

    def _integer(self, value: int) -> str:
        return self.builder.integers(f"just_{value}", [value])

    def _add_window_shape(self, layer: Layer, gradient: str) -> str:
        """Add (batch, h, 2, w, 2, channels), of a gradient (batch, h, w, channels)."""
        name = f"{layer.name}_window_shape"
        batch_and_height, width = (
            self.builder.add("Shape", [gradient], f"{name}_{start}", start=start, end=end)
            for start, end in ((0, 2), (2, 3))
        )
        two, channels = self._integer(2), self._integer(self._channels(layer))
        parts = [batch_and_height, two, width, two, channels]
        return self.builder.add("Concat", parts, name, axis=0)

    def _fit_to_source(self, name: str, spread: str, shape: str, size: str) -> str:
        """Bring windows to (batch, height, width, channels), and cut or pad them to the source's size."""
        pairs = self.builder.integers("pairs", [1, 2, 2, 1])
        apart = self.builder.add("Gather", [shape, self.builder.integers("outside_windows", [0, 1, 3, 5])],
                                 f"{name}_sides")  # fmt: skip
        whole = self.builder.add("Mul", [apart, pairs], f"{name}_whole_size")
        whole_gradient = self.builder.add("Reshape", [spread, whole], f"{name}_whole")
        if self.pool_rounding == "ceil":
            starts = self.builder.integers("four_zeros", [0] * 4)
            return self.builder.add("Slice", [whole_gradient, starts, size], name)
        missing = self.builder.add("Sub", [size, whole], f"{name}_missing")
        nothing = self.builder.integers("four_zeros", [0] * 4)
        pads = self.builder.add("Concat", [nothing, missing], f"{name}_pads", axis=0)
        return self.builder.add("Pad", [whole_gradient, pads], name)


def _pad_channels(kernel: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
    """Return a kernel for three channels as one for eight, of which the others are zero."""
    missing = max(0, PIXEL_CHANNELS - kernel.shape[axis]) if kernel.shape[axis] == 3 else 0
    widths = [(0, missing if i == axis else 0) for i in range(kernel.ndim)]
    return np.pad(kernel, widths)
