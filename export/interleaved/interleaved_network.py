"""VGG-19's layers for CUDA: activations (batch, h, w, channels), forward and backward by hand.

Tensor cores take such activations as they are; planar ones are transposed around every convolution. A
convolution is ONNX Runtime's own NhwcConv, and so is an average pooling: 2×2, stride 2, a quarter of the
identity for a kernel, which takes 2 % of a step's work and no pass over memory more than a pooling.
Sides that are odd are made even by their last row and column again, whose average is that of what is there.

Tensor cores take channels by eights, but pictures have three. Where sides are even, eight pixels of a row are
one position of 24 channels, which is the same memory: the first convolution is one to eight times its channels,
and its backward one of eight pixels at a time, both with kernels that are zero where nothing is convolved. Other
pictures are padded to eight channels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.vgg19 import Layer, PoolRounding
from nstx.models.weights.load import Weights

from ..graphs.feature_graph import FP16_SCALE, GraphPrecision
from ..graphs.network import add_window_share
from ..nodes.builder import BOOL, CONTRIBUTED, FLOAT, FLOAT16, GraphBuilder

_CONVOLUTION: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
_FOLDED_BACKWARD: dict[str, Any] = {
    "kernel_shape": [3, 10],
    "pads": [1, 1, 1, 1],
    "strides": [1, 8],
}
_POOLING: dict[str, Any] = {"kernel_shape": [2, 2], "pads": [0, 0, 0, 0], "strides": [2, 2]}

PIXEL_CHANNELS = 8
"""That pictures are padded to, where they are not folded."""

FOLDED_PIXELS = 8
"""Of a row, that are one position where pictures are folded; graphs with even sides have multiples of 16."""


@dataclass(frozen=True, slots=True, eq=False)
class InterleavedNetwork:
    """Adds layers with average pooling to a graph.

    In fp16 all activations are scaled by `FP16_SCALE`; pixels and gradients are not. With ``even``, all sides
    that are pooled are even: multiples of 2 to the power of ``poolings``.
    """

    builder: GraphBuilder
    weights: Weights
    pool_rounding: PoolRounding
    precision: GraphPrecision
    even: bool
    poolings: int

    @property
    def dtype(self) -> type[np.floating]:
        """Of kernels and activations."""
        return np.float16 if self.precision == "fp16" else np.float32

    @property
    def folds(self) -> bool:
        """Whether eight pixels of a row are one position of the first convolution."""
        return self.even and 2**self.poolings % FOLDED_PIXELS == 0

    @property
    def shares_equally(self) -> bool:
        """Whether every pooled value is the mean of four."""
        return self.even or self.pool_rounding == "floor"

    def add_pixels(self, x: str) -> str:
        """Bring pixels (batch, height, width, 3) to what the first convolution takes."""
        mean = self.builder.constant("mean", np.asarray(self.weights.mean, np.float32))
        x = self.builder.add("Sub", [x, mean], "pixels_minus_mean")
        if self.precision == "fp16":
            x = self.builder.add("Cast", [x], "pixels_fp16", to=FLOAT16)
        if self.folds:
            return self._reshape(x, "pixels_folded", [0, 0, -1, 3 * FOLDED_PIXELS])
        pads = self.builder.integers("to_eight_channels", [0] * 7 + [PIXEL_CHANNELS - 3])
        return self.builder.add("Pad", [x, pads], "pixels_padded")

    def add_pixel_gradient(self, gradient: str, scale: str | None, name: str) -> str:
        """Bring a gradient at the first convolution's input to float32 (batch, height, width, 3).

        ``scale`` is what gradients were divided by, (batch, 1); None in fp32.
        """
        last = name if scale is None else "pixel_gradient"
        if self.folds:
            gradient = self._reshape(gradient, last, [0, 0, -1, 3])
        else:
            bounds = [self.builder.integers(bound, [value]) for bound, value in
                      (("first_channel", 0), ("three_channels", 3), ("channel_axis", 3))]  # fmt: skip
            gradient = self.builder.add("Slice", [gradient, *bounds], last)
        if scale is None:
            return gradient
        gradient = self.builder.add("Cast", [gradient], "pixel_gradient_float", to=FLOAT)
        spread = self._reshape(scale, "pixel_gradient_scale", [-1, 1, 1, 1])
        return self.builder.add("Mul", [gradient, spread], name)

    def add_layer(self, layer: Layer, x: str) -> str:
        """Add a convolution with its ReLU, or a pooling."""
        if layer.kind == "pool":
            if self.pool_rounding == "ceil" and not self.even:
                x = self._make_even(layer, x)
            channels = self._channels(layer)
            mean = np.tile(np.eye(channels)[:, None, None, :] / 4, (1, 2, 2, 1))
            return self._convolve([x], f"pool_{channels}.weight", mean, layer.name, **_POOLING)
        kernel, bias = self.weights.kernels[layer.name], self.weights.biases[layer.name]
        is_first = kernel.shape[1] == 3
        if self.precision == "fp16":
            bias = bias * FP16_SCALE
            kernel = kernel * FP16_SCALE if is_first else kernel
        is_folded = is_first and self.folds
        if is_folded:
            bias, kernel = np.tile(bias, FOLDED_PIXELS), fold_kernel(kernel)
        else:
            kernel = _pad_channels(kernel).transpose(0, 2, 3, 1)
        name = self.builder.constant(f"{layer.name}.bias", bias.astype(self.dtype))
        before, weight = f"{layer.name}_before_relu", f"{layer.name}.weight"
        before = self._convolve([x, name], weight, kernel, before, **_CONVOLUTION)
        if not is_folded:
            return self.builder.add("Relu", [before], layer.name)
        folded = self.builder.add("Relu", [before], f"{layer.name}_folded")
        return self._reshape(folded, layer.name, [0, 0, -1, len(bias) // FOLDED_PIXELS])

    def add_convolution_backward(self, layer: Layer, gradient: str, share: float) -> str:
        """Add a share of the gradient at a convolution's input, from that at its output before the ReLU."""
        kernel = self.weights.kernels[layer.name] * np.float32(share)
        weight, name = f"{layer.name}.weight_turned", f"{layer.name}_backward"
        if kernel.shape[1] == 3 and self.folds:
            turned, how = fold_turned_kernel(kernel), _FOLDED_BACKWARD
        else:
            turned, how = _turn_kernel(_pad_channels(kernel)), _CONVOLUTION
        return self._convolve([gradient], weight, turned, name, **how)

    def cut_where_zero(self, activation: str, gradient: str, name: str) -> str:
        """Cut a gradient to zero where an activation is: the backward of the ReLU."""
        return self._keep_active(self._add_active(activation), gradient, f"{name}_cut")

    def add_pooling_backward(
        self, layer: Layer, source: str, gradient: str, *, cut: bool, shared: bool
    ) -> tuple[str, bool]:
        """Spread each value over its window; return the gradient, and whether it was cut on the way.

        ``cut`` allows to cut it where the pooled activation is zero, which is done if sides are even.
        ``shared`` says that it was divided by the pixels of a window before.
        """
        name = f"{layer.name}_backward"
        if not shared:
            quarter = self.builder.constant("quarter", np.array(0.25, self.dtype))
            share = quarter if self.shares_equally else self._add_share(layer, source)
            gradient = self.builder.add("Mul", [gradient, share], f"{name}_scaled")
        size = self.builder.add("Shape", [source], f"{name}_source_size")
        if self.even and cut:
            spread = self._spread_and_cut(layer, source, gradient)
            return self.builder.add("Reshape", [spread, size], name), True
        inside = self.builder.integers("inside_windows", [2, 4])
        windows = self.builder.add("Unsqueeze", [gradient, inside], f"{name}_windows")
        shape = self._add_window_shape(layer, gradient)
        spread = self.builder.add("Expand", [windows, shape], f"{name}_spread")
        if self.even:
            return self.builder.add("Reshape", [spread, size], name), False
        return self._fit_to_source(name, spread, shape, size), False

    def _spread_and_cut(self, layer: Layer, source: str, gradient: str) -> str:
        """Add a gradient spread over windows and cut, (rows of it, 2, all of a row of the source).

        Along rows first, where twice the channels are two pixels: what broadcasts takes the longer, the
        more axes there are. By Tile, which on CUDA copies four values of fp16 at once, where Concat takes one.
        """
        name = f"{layer.name}_backward"
        pixels = self._reshape(gradient, f"{name}_pixels", [-1, self._channels(layer)])
        twice = self.builder.integers("twice_the_channels", [1, 2])
        wide = self.builder.add("Tile", [pixels, twice], f"{name}_wide")
        sides = self.builder.add("Shape", [source], f"{name}_row_sides", start=2, end=4)
        row = self.builder.add("ReduceProd", [sides], f"{name}_row", keepdims=1)
        rest = self._integer(-1)
        rows = []
        for kind, x, count in (("active", self._add_active(source), 2), ("wide", wide, 1)):
            parts = [rest, self._integer(count), row]
            shape = self.builder.add("Concat", parts, f"{name}_{kind}_shape", axis=0)
            rows.append(self.builder.add("Reshape", [x, shape], f"{name}_{kind}_rows"))
        active, spread = rows
        return self._keep_active(active, spread, f"{name}_spread")

    def _reshape(self, x: str, name: str, shape: list[int]) -> str:
        sizes = self.builder.integers("shape_" + "_".join(map(str, shape)), shape)
        return self.builder.add("Reshape", [x, sizes], name)

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

    def _keep_active(self, active: str, gradient: str, name: str) -> str:
        """Add a gradient where `_add_active` has it, and 0 elsewhere."""
        zero = self.builder.constant("zero", np.zeros((), self.dtype))
        return self.builder.add("Where", [active, gradient, zero], name)

    def _add_active(self, activation: str) -> str:
        # Not by Greater, which takes twice as long as a cast: an activation is not below zero. A sign and a product in
        # the place of both take the same time.
        return self.builder.add("Cast", [activation], f"{activation}_active", to=BOOL)

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
        share = add_window_share(self.builder, name, source, axes=(1, 2))
        half = self.precision == "fp16"
        return self.builder.add("Cast", [share], name, to=FLOAT16) if half else share

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
        nothing = self.builder.integers("four_zeros", [0] * 4)
        if self.pool_rounding == "ceil":
            return self.builder.add("Slice", [whole_gradient, nothing, size], name)
        missing = self.builder.add("Sub", [size, whole], f"{name}_missing")
        pads = self.builder.add("Concat", [nothing, missing], f"{name}_pads", axis=0)
        return self.builder.add("Pad", [whole_gradient, pads], name)


def fold_kernel(kernel: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a kernel (channels, 3, 3, 3) as one of positions of eight pixels, (8 · channels, 3, 3, 8 · 3)."""
    channels = len(kernel)
    folded = np.zeros((FOLDED_PIXELS, channels, 3, 3, FOLDED_PIXELS, 3), kernel.dtype)
    for pixel in range(FOLDED_PIXELS):
        for column in range(3):
            position, inside = divmod(pixel + column - 1 + FOLDED_PIXELS, FOLDED_PIXELS)
            folded[pixel, :, :, position, inside] = kernel[..., column].transpose(0, 2, 1)
    return folded.reshape(FOLDED_PIXELS * channels, 3, 3, FOLDED_PIXELS * 3)


def fold_turned_kernel(kernel: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the backward of a kernel (channels, 3, 3, 3) for eight pixels at a time, (8 · 3, 3, 10, channels).

    Its columns are those from the one before these pixels to the one behind.
    """
    turned, channels = _turn_kernel(kernel), len(kernel)
    folded = np.zeros((FOLDED_PIXELS, 3, 3, FOLDED_PIXELS + 2, channels), kernel.dtype)
    for pixel in range(FOLDED_PIXELS):
        folded[pixel, :, :, pixel : pixel + 3] = turned
    return folded.reshape(FOLDED_PIXELS * 3, 3, FOLDED_PIXELS + 2, channels)


def _turn_kernel(kernel: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a kernel (outputs, inputs, 3, 3) as its backward's, (inputs, 3, 3, outputs)."""
    return kernel.transpose(1, 2, 3, 0)[:, ::-1, ::-1]


def _pad_channels(kernel: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a kernel for three channels as one for eight, of which the others are zero."""
    missing = PIXEL_CHANNELS - 3 if kernel.shape[1] == 3 else 0
    return np.pad(kernel, [(0, 0), (0, missing), (0, 0), (0, 0)])
