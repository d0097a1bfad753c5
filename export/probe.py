"""The smallest graph of the kind that nstx exports: one 3×3 convolution with its ReLU.

Loading it is how one finds out which ONNX Runtime providers really work on a machine.
"""

import numpy as np

from .graph import FLOAT, GraphBuilder, tensor_info


def probe_model() -> bytes:
    """Return an ONNX model: float32 ``x`` (1, 3, 8, 8) to float32 ``y`` (1, 2, 8, 8).

    Every kernel value is 1, so that y is the sum over a pixel's neighbourhood.
    """
    builder = GraphBuilder()
    kernel = builder.constant("kernel", np.ones((2, 3, 3, 3), np.float32))
    convolved = builder.add("Conv", ["x", kernel], "convolved", pads=[1, 1, 1, 1])
    builder.add("Relu", [convolved], "y")
    model = builder.finish(
        [tensor_info("x", FLOAT, [1, 3, 8, 8])],
        [tensor_info("y", FLOAT, [1, 2, 8, 8])],
        name="probe",
        description="A convolution with its ReLU, to try providers with.",
        metadata={},
    )
    return bytes(model.SerializeToString())
