"""The smallest graph of the kind that nstx exports: one 3×3 convolution with its ReLU.

Loading it is how one finds out which ONNX Runtime providers really work on a machine.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 20
_IR_VERSION = 10


def probe_model() -> bytes:
    """Return an ONNX model: float32 ``x`` (1, 3, 8, 8) to float32 ``y`` (1, 2, 8, 8).

    Every kernel value is 1, so that y is the sum over a pixel's neighbourhood.
    """
    kernel = numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), "kernel")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 8, 8])],
        [kernel],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
