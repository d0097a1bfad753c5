"""Small graphs to try providers with: whether they are right, and whether fp32 is fp32.

The first has what exported graphs rely on: a convolution with its ReLU, and poolings of an odd side that
round up, which some releases of some providers get wrong. The second has convolutions of the channels of
VGG-19's first block and a matrix product, of numbers that TF32 rounds: the CUDA provider goes back to TF32
without a word where cuDNN has no kernel without it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.reference.features import reference_convolution, reference_pooling
from nstx.models.vgg19 import Pooling

from ..nodes.builder import FLOAT, GraphBuilder, tensor_info

_SIDE = 5
PROBE_INPUT = {"x": np.arange(3 * _SIDE**2, dtype=np.float32).reshape(1, 3, _SIDE, _SIDE)}
"""What the probe is run on."""

# Channels and side of the pictures; 1 + 3/8192 is 1 in TF32, which has 10 bits after the point.
_CHANNELS, _PIXELS, _FINE = 64, 16, 1 + 3 / 8192
_POWERS = 2.0 ** np.random.default_rng(0).integers(-1, 2, (1, _CHANNELS, _PIXELS, _PIXELS))
PRECISION_INPUT = {"x": (_POWERS * _FINE).astype(np.float32)}
"""What the probe of the precision is run on: float32 (1, 64, 16, 16)."""

# TF32 is off by 3.7e-4 or more; float32, by any algorithm, by some 1e-6.
_LARGEST_ERROR = 3e-5
_KERNELS = {"deep": (64, 64), "first": (64, 3), "last": (3, 64)}


def probe_model() -> bytes:
    """Return a model of float32 ``x`` (1, 3, 5, 5): ``average`` and ``largest`` (1, 2, 3, 3)."""
    builder = GraphBuilder()
    kernel = builder.constant("kernel", np.ones((2, 3, 3, 3), np.float32))
    x = builder.add("Conv", ["x", kernel], "convolved", pads=[1, 1, 1, 1])
    x = builder.add("Relu", [x], "y")
    pooling: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}
    builder.add("AveragePool", [x], "average", **pooling)
    builder.add("MaxPool", [x], "largest", **pooling)
    model = builder.finish(
        [tensor_info("x", FLOAT, [1, 3, _SIDE, _SIDE])],
        [tensor_info(name, FLOAT, [1, 2, 3, 3]) for name in ("average", "largest")],
        name="probe",
        description="A convolution with its ReLU and poolings that round up, to try providers with.",
        metadata={},
    )
    return bytes(model.SerializeToString())


def probe_answer_is_right(answer: Sequence[NDArray[np.float32]]) -> bool:
    """Whether what a provider made of `PROBE_INPUT` is what it should be, within 0.1 %."""
    pixels = PROBE_INPUT["x"][0].astype(np.float64)
    convolved = reference_convolution(pixels, np.ones((2, 3, 3, 3)), np.zeros(2))
    poolings: tuple[Pooling, ...] = ("avg", "max")
    return all(
        ours.shape == (1, 2, 3, 3)
        and np.allclose(ours[0], reference_pooling(convolved, pooling, "ceil"), rtol=1e-3)
        for ours, pooling in zip(answer, poolings, strict=True)
    )


def precision_model() -> bytes:
    """Return a model of ``x`` (1, 64, 16, 16): three convolutions, and ``product``, x xᵀ (1, 64, 64)."""
    builder = GraphBuilder()
    ends = (
        builder.integers(name, [value]) for name, value in (("from", 0), ("to", 3), ("axis", 1))
    )
    builder.add("Slice", ["x", *ends], "three")
    for name, (channels, inputs) in _KERNELS.items():
        kernel = builder.constant(f"{name}_kernel", np.ones((channels, inputs, 3, 3), np.float32))
        source = "x" if inputs == _CHANNELS else "three"
        builder.add("Conv", [source, kernel], name, pads=[1, 1, 1, 1])
    flat = builder.add("Reshape", ["x", builder.integers("flat_shape", [0, 0, -1])], "flat")
    transposed = builder.add("Transpose", [flat], "transposed", perm=[0, 2, 1])
    builder.add("MatMul", [flat, transposed], "product")
    shapes: dict[str, list[str | int]] = {
        name: [1, channels, _PIXELS, _PIXELS] for name, (channels, _) in _KERNELS.items()
    }
    model = builder.finish(
        [tensor_info("x", FLOAT, [1, _CHANNELS, _PIXELS, _PIXELS])],
        [
            *(tensor_info(name, FLOAT, shape) for name, shape in shapes.items()),
            tensor_info("product", FLOAT, [1, _CHANNELS, _CHANNELS]),
        ],
        name="precision_probe",
        description="Convolutions and a matrix product of numbers that TF32 rounds.",
        metadata={},
    )
    return bytes(model.SerializeToString())


def precision_error(answer: Sequence[NDArray[np.float32]]) -> float:
    """Return the largest relative error of an answer to `PRECISION_INPUT`, against float64."""
    pixels = PRECISION_INPUT["x"][0].astype(np.float64)
    flat = pixels.reshape(_CHANNELS, -1)
    expected = [
        reference_convolution(
            pixels[:inputs], np.ones((channels, inputs, 3, 3)), np.zeros(channels)
        )
        for channels, inputs in _KERNELS.values()
    ]
    return max(
        float(np.abs(ours[0] / exact - 1).max())
        for ours, exact in zip(answer, [*expected, flat @ flat.T], strict=True)
    )


def is_fp32(answer: Sequence[NDArray[np.float32]]) -> bool:
    """Whether an answer to `PRECISION_INPUT` was computed in fp32, not in TF32 or fp16."""
    return precision_error(answer) < _LARGEST_ERROR
