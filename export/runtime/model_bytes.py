"""What a model file says of itself, read from its bytes before ONNX Runtime sees them.

An ONNX file is a protobuf message. The few fields that are needed are read here, without the onnx
package, whose classes would copy all weights; every length is checked against the bytes that are
there. Numbers of fields are those of onnx.proto.
"""

from collections.abc import Iterator

MOST_BYTES = 1 << 29
"""Of a model: VGG-19 takes 80 MB in float32, and an optimised graph of its gradient 110 MB."""

FEATURE_OPERATORS = frozenset(
    (
        *("Add", "AveragePool", "Cast", "Concat", "Conv", "Div", "MatMul", "MaxPool", "Mul"),
        *("Reshape", "ReduceProd", "Relu", "Shape", "Slice", "Sqrt", "Sub", "Transpose"),
    )
)
"""Operators of features. None makes more of less, has a graph within it, or reads a file."""

_MOST_FIELDS = 200_000  # of which a graph of ours has a tenth at most

_MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 14, 25
_KEY, _VALUE = 1, 2
_GRAPH_NODE, _GRAPH_CONSTANT, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_PARTS = (5, 6, 10, 11, 22, 23)  # tensors and graphs
_TENSOR_EXTERNAL, _TENSOR_PLACE = 13, 14

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # how a field is written


def read_metadata(model: bytes) -> dict[str, str]:
    """Return the metadata of a model; `ValueError` if it is none, or they are no UTF-8."""
    metadata: dict[str, str] = {}
    for number, value in _Fields().of(memoryview(model)):
        if number == _MODEL_METADATA:
            entry = dict(_Fields().of(value))
            key, text = (bytes(entry.get(part, b"")).decode("utf-8") for part in (_KEY, _VALUE))
            if key in metadata:
                raise ValueError(f"its metadata have {key!r} twice")
            metadata[key] = text
    return metadata


def check_features(model: bytes) -> None:
    """Check that a model holds its weights itself, and nothing but `FEATURE_OPERATORS`.

    `ValueError` if not, so that ONNX Runtime opens no other file for it, and computes nothing that
    is larger than its picture.
    """
    fields = _Fields()
    for number, part in fields.of(memoryview(model)):
        if number == _MODEL_FUNCTIONS:
            raise ValueError("it has functions of its own")
        for kind, value in fields.of(part) if number == _MODEL_GRAPH else ():
            if kind == _GRAPH_NODE:
                _check_node(fields, value)
            elif kind == _GRAPH_CONSTANT:
                if any(name in (_TENSOR_EXTERNAL, _TENSOR_PLACE) for name, _ in fields.of(value)):
                    raise ValueError("it keeps its weights in another file")
            elif kind == _GRAPH_SPARSE:
                raise ValueError("it has sparse weights")


def _check_node(fields: "_Fields", node: memoryview) -> None:
    operator = domain = b""
    for number, value in fields.of(node):
        if number == _NODE_OPERATOR:
            operator = bytes(value)
        elif number == _NODE_DOMAIN:
            domain = bytes(value)
        elif number == _NODE_ATTRIBUTE and any(
            part in _ATTRIBUTE_PARTS for part, _ in fields.of(value)
        ):
            raise ValueError("a node has a tensor or a graph of its own")
    name = operator.decode("utf-8", "replace")
    if domain or name not in FEATURE_OPERATORS:
        raise ValueError(f"it has the operator {name[:40]!r}, which features do not need")


class _Fields:
    """Reads the fields of messages, no more than `_MOST_FIELDS` in all."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def of(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield the number and the bytes of each field; none of those that are numbers."""
        place, end = 0, len(message)
        while place < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("it has more parts than any of ours")
            tag, place = _read_varint(message, place)
            start, kind = place, tag & 7
            if kind == _VARINT:
                place = start = _read_varint(message, place)[1]
            elif kind == _BYTES:
                count, start = _read_varint(message, place)
                place = start + count
            elif kind in (_EIGHT, _FOUR):
                place = start = place + (8 if kind == _EIGHT else 4)
            else:
                raise ValueError("it is damaged, or another kind of file")
            if place > end:
                raise ValueError("it ends too early")
            yield tag >> 3, message[start:place]


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the whole number that begins at a place, and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(message):
            raise ValueError("it ends too early")
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("it is damaged, or another kind of file")
