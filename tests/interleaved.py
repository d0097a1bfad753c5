"""Interleaved graphs on the CPU, where ONNX Runtime has no NhwcConv: with planar convolutions in their place."""

import numpy as np
from onnx import ModelProto, helper, numpy_helper


def with_planar_convolutions(model: ModelProto) -> ModelProto:
    """Return a copy of a model in which each NhwcConv is a Conv between transpositions."""
    copy = ModelProto()
    copy.CopyFrom(model)
    weights = {item.name: item for item in copy.graph.initializer}
    nodes, turned = [], set()
    for node in copy.graph.node:
        if node.op_type != "NhwcConv":
            nodes.append(node)
            continue
        x, kernel, *bias = node.input
        if kernel not in turned:
            turned.add(kernel)
            values = numpy_helper.to_array(weights[kernel]).transpose(0, 3, 1, 2)
            weights[kernel].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), kernel))
        name = node.output[0]
        before, after = f"{name}_planar_input", f"{name}_planar_output"
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        nodes += [
            helper.make_node("Transpose", [x], [before], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", [before, kernel, *bias], [after], **attributes),
            helper.make_node("Transpose", [after], [name], name=name, perm=[0, 2, 3, 1]),
        ]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
