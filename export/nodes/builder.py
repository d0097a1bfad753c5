"""How a graph is written, with the onnx package alone and standard operators, and checked.

No exporter is in between, and nothing is traced.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10
"""Of 2023: ONNX Runtime 1.17, TensorRT 10 and the WebGPU runtimes load them."""

CONTRIBUTED = "com.microsoft"
"""The domain of operators that only ONNX Runtime has: its ContribOperators.md."""

FLOAT, FLOAT16, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
BOOL = TensorProto.BOOL


class GraphBuilder:
    """Collects nodes and constants; each call returns the name of the tensor that it makes."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        *,
        more: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """Add a node named as its first output; ``more`` names further outputs."""
        outputs = [output, *more]
        node = helper.make_node(operator, list(inputs), outputs, name=output, **attributes)
        self._nodes.append(node)
        return output

    def has(self, name: str) -> bool:
        """Whether there is a node of this name."""
        return any(node.name == name for node in self._nodes)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant, once however often it is asked for, and return its name."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(values, name)
        return name

    def number(self, name: str, value: float) -> str:
        """Add a float32 constant without axes."""
        return self.constant(name, np.array(value, np.float32))

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add a list of int64: sizes, axes or bounds."""
        return self.constant(name, np.array(values, np.int64))

    def finish(
        self,
        inputs: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
        *,
        name: str,
        description: str,
        metadata: Mapping[str, str],
        contributed: bool = False,
    ) -> ModelProto:
        """Return the model, once; `check_model` is still to be run.

        ``contributed`` lets it have ONNX Runtime's own operators (`CONTRIBUTED`).
        """
        graph = helper.make_graph(self._nodes, name, inputs, outputs)
        model = helper.make_model(
            graph,
            opset_imports=[
                helper.make_opsetid("", OPSET),
                *([helper.make_opsetid(CONTRIBUTED, 1)] if contributed else []),
            ],
            ir_version=IR_VERSION,
            producer_name="nstx",
            producer_version=metadata.get("nstx_version", ""),
            doc_string=description,
        )
        helper.set_model_props(model, dict(metadata))
        # One after another, as each is copied: all of them are a hundred megabytes.
        for key in list(self._constants):
            model.graph.initializer.append(self._constants.pop(key))
        return model


def tensor_info(name: str, element: int, shape: Sequence[str | int]) -> ValueInfoProto:
    """Declare an input or output; a string in its shape is a free size."""
    return helper.make_tensor_value_info(name, element, shape)


def activation_info(name: str, channels: int, stride: int) -> ValueInfoProto:
    """Declare an activation; its sizes are named after its stride: ``height_8``."""
    suffix = "" if stride == 1 else f"_{stride}"
    return tensor_info(name, FLOAT, ["batch", channels, f"height{suffix}", f"width{suffix}"])


def check_model(model: ModelProto) -> ModelProto:
    """Run the onnx package's full check, and return the model with all shapes inferred."""
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
