"""Models of ONNX: exported files and kept graphs, sealed again after they were changed."""

import functools
import os
from pathlib import Path
from random import Random

import networks
import numpy as np
import onnx

from nstx.engine.cache import list_cache, verify_cache
from nstx.engine.features.extraction import Extraction, extract_features
from nstx.engine.pictures.picture import Picture
from nstx.engine.sessions.session import open_graph
from nstx.export.graphs.build_features import build_feature_model
from nstx.export.graphs.feature_graph import FeatureGraph
from nstx.export.runtime.session import SessionChoices
from nstx.models.errors import ModelError
from nstx.models.storage.seals import NO_SEAL, digest_bytes, seal

from .damage import STEMS, damage, number
from .inputs import Input
from .plain_data import ODD

_GRAPH = FeatureGraph(activations=("conv1_2",), grams=("conv1_1",), input="float32")
_CHOICES = SessionChoices(threads=1)
_SHA256 = "0" * 64


@functools.cache
def _model() -> bytes:
    model: bytes = build_feature_model(_GRAPH, networks.make_tiny_weights()).SerializeToString()
    return model


@functools.cache
def _kept() -> tuple[str, bytes]:
    """Return the name and the bytes of the kept graph of the model."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        os.environ["NSTX_CACHE_DIR"] = name
        open_graph(_GRAPH, _model, _CHOICES, weights_sha256=_SHA256, use_cache=True)
        (path,) = (Path(name) / "sessions").iterdir()
        return path.name.partition("-")[0], path.read_bytes()


def _change(data: bytes, random: Random) -> tuple[str, bytes]:
    if random.random() < 0.3:
        return damage(data, random)
    model = onnx.load_model_from_string(data)
    change = random.choice(list(_CHANGES))
    _CHANGES[change](model, random)
    return change, model.SerializeToString()


def _metadata(model: onnx.ModelProto, random: Random) -> None:
    entry = random.choice(model.metadata_props)
    texts = [str(value) for value in ODD if not isinstance(value, str) or value.isascii()]
    part = random.choice(("key", "value", "value", "value"))
    setattr(entry, part, random.choice((*texts, "fp16", "uint8", "conv1_1", "max", "[1, 2]")))


def _no_utf8(model: onnx.ModelProto, random: Random) -> None:
    # The classes of protobuf write no such text: the tail of a field is one.
    model.metadata_props.add(key="é" * 40, value="é")
    model.doc_string = "é" * 40


def _twice(model: onnx.ModelProto, random: Random) -> None:
    entry = random.choice(model.metadata_props)
    model.metadata_props.add(key=entry.key, value=random.choice((entry.value, "other")))


def _operator(model: onnx.ModelProto, random: Random) -> None:
    node = random.choice(model.graph.node)
    node.op_type = random.choice(
        ("Relu", "Add", "MatMul", "Loop", "If", "Nothing", "Expand", "Tile", "Resize", "Concat")
    )


def _attribute(model: onnx.ModelProto, random: Random) -> None:
    node = random.choice([node for node in model.graph.node if node.attribute] or model.graph.node)
    for attribute in node.attribute:
        attribute.i = number(random) % 2**63
        if attribute.ints:
            attribute.ints[0] = number(random) % 2**63 - random.choice((0, 2**62))


def _wiring(model: onnx.ModelProto, random: Random) -> None:
    first, second = random.choice(model.graph.node), random.choice(model.graph.node)
    if first.input and second.output:
        first.input[0] = random.choice((second.output[0], first.output[0], "nothing", ""))


def _shape(model: onnx.ModelProto, random: Random) -> None:
    constant = random.choice(model.graph.initializer)
    if constant.dims:
        constant.dims[random.randrange(len(constant.dims))] = number(random) % 2**63
    else:
        constant.dims.append(number(random) % 2**63)


def _external(model: onnx.ModelProto, random: Random) -> None:
    constant = random.choice(model.graph.initializer)
    constant.ClearField("raw_data")
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value=random.choice(("../../etc/passwd", "a.bin")))


def _ports(model: onnx.ModelProto, random: Random) -> None:
    port = random.choice((*model.graph.input, *model.graph.output))
    port.name = random.choice(("", "pixels", "other", "\x1b[2J", port.name))
    port.type.tensor_type.elem_type = random.randrange(20)


def _versions(model: onnx.ModelProto, random: Random) -> None:
    model.ir_version = number(random) % 2**63
    if random.random() < 0.5:
        model.opset_import[0].version = number(random) % 2**63


_CHANGES = {
    "metadata": _metadata,
    "no utf8": _no_utf8,
    "twice": _twice,
    "operator": _operator,
    "attribute": _attribute,
    "wiring": _wiring,
    "shape": _shape,
    "external": _external,
    "ports": _ports,
    "versions": _versions,
}


def make_model(random: Random) -> Input:
    """Return an exported file: damaged, changed, or changed and sealed again."""
    change, data = _change(_model(), random)
    if change == "no utf8":
        data = data.replace("é".encode(), b"\xff\xfe")
    if random.random() < 0.8 and NO_SEAL.encode() in data:
        data = seal(data)
    return Input(change, {f"{random.choice(STEMS)}.onnx": data})


def read_model(path: Path) -> None:
    """Extract features by an exported file, and check them."""
    picture = Picture(np.zeros((16, 16, 3), np.uint8), None, "a.png")
    extracted = extract_features(picture, extraction=Extraction(model=path, threads=1))
    for values in extracted.features.activations.values():
        assert values.dtype == np.float32
        assert values.ndim == 3


def make_graph(random: Random) -> Input:
    """Return a cache folder with a changed graph under the checksum that it has."""
    key, kept = _kept()
    change, data = _change(kept, random)
    checksum = digest_bytes(data if random.random() < 0.9 else kept)
    return Input(change, {f"sessions/{key}-{checksum}.onnx": data})


def read_graph(path: Path) -> None:
    """Open the kept graph, and list and verify the folder."""
    os.environ["NSTX_CACHE_DIR"] = str(path.parent.parent)
    verify_cache(list_cache(), lambda entry: None)
    session = open_graph(_GRAPH, _no_graph, _CHOICES, weights_sha256=_SHA256, use_cache=True)
    assert session.graph == _GRAPH


def _no_graph() -> bytes:
    raise ModelError("expected a kept graph, got none that can be used")
