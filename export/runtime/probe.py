"""The smallest graph with everything that exported graphs rely on, to try providers with.

A convolution with its ReLU, and poolings of an odd side that round up, which some releases of some
providers get wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.reference.features import reference_convolution, reference_pooling
from nstx.models.vgg19 import Pooling

from ..graphs.builder import FLOAT, GraphBuilder, tensor_info

_SIDE = 5
PROBE_INPUT = {"x": np.arange(3 * _SIDE**2, dtype=np.float32).reshape(1, 3, _SIDE, _SIDE)}
"""What the probe is run on."""


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
