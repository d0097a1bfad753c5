"""ONNX files that are not what 'nstx export features' writes: one line, before anything is opened."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import make_tiny_weights
from onnx import ModelProto, TensorProto, helper

from nstx.engine.features.onnx_extractor import ModelFile, OnnxExtractor
from nstx.engine.sessions.session import load_session, open_graph
from nstx.export.graphs.build_features import build_feature_model
from nstx.export.graphs.feature_graph import FeatureGraph
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.runtime.model_bytes import read_metadata
from nstx.export.runtime.session import SessionChoices
from nstx.models.errors import ModelError
from nstx.models.storage.seals import NO_SEAL, seal

Nstx = Callable[..., tuple[int, str, str]]

GRAPH = FeatureGraph(activations=("conv1_2",), grams=("conv1_1",), input="float32")


def tiny_model() -> ModelProto:
    return build_feature_model(GRAPH, make_tiny_weights())


def set_metadata(model: ModelProto, **values: str) -> None:
    """Change metadata, and let the checksum be computed anew."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, {**metadata, "file_sha256": NO_SEAL, **values})


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(seal(model.SerializeToString()))
    return path


def open_file(path: Path) -> object:
    return ModelFile(path=path, choices=SessionChoices()).open((), ())


def test_the_unchanged_model_opens_and_its_metadata_are_those_of_the_onnx_package(
    tmp_path: Path,
) -> None:
    path = save(tiny_model(), tmp_path / "m.onnx")
    assert open_file(path)
    loaded = onnx.load_model(path)
    assert read_metadata(path.read_bytes()) == {e.key: e.value for e in loaded.metadata_props}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "features-0"),
        ("kind", "\x1b[2J"),
        ("mean", "[1, 2]"),
        ("mean", "[1, 2, NaN]"),
        ("mean", "[1, 2, 1e400]"),
        ("mean", f"[1, 2, {'9' * 400}]"),
        ("mean", "[" * 100_000),
        ("mean", '["1", 2, 3]'),
        ("mean", '{"1": 2}'),
        ("activations", "conv9_9"),
        ("activations", "conv1_1"),
        ("grams", "conv1_1,conv1_2"),
        ("pooling", "min"),
        ("precision", "fp8"),
        ("input", "png"),
        ("file_sha256", "f" * 64),
        ("file_sha256", ""),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path: Path, name: str, value: str) -> None:
    model = tiny_model()
    set_metadata(model, **{name: value})
    with pytest.raises(ModelError) as caught:
        open_file(save(model, tmp_path / "m.onnx"))
    assert "m.onnx" in str(caught.value)
    assert str(caught.value).isprintable()


def test_metadata_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    data = tiny_model().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(data.replace(b"float32", b"float\xff2")))
    with pytest.raises(ModelError, match="utf-8"):
        open_file(path)
    with pytest.raises(ModelError, match="UTF-8"):  # of a graph that was kept
        load_session(path.read_bytes(), FeatureGraph, SessionChoices())


def external(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def bomb(model: ModelProto) -> None:
    shape = onnx.numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["big"]))


def loop(model: ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Relu", ["pixels"], ["x"], body=body))


def constant(model: ModelProto) -> None:
    value = onnx.numpy_helper.from_array(np.zeros(2))
    model.graph.node.append(helper.make_node("Relu", ["pixels"], ["x"], value=value))


def foreign(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["pixels"], ["x"], domain="com.example"))


def function(model: ModelProto) -> None:
    node = helper.make_node("Relu", ["a"], ["b"])
    opset = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("f", "F", ["a"], ["b"], [node], opset))


def sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add()


def many(model: ModelProto) -> None:
    for _ in range(60_000):
        model.graph.node.add(op_type="Relu", name="n", input=["a"], output=["b"])


def renamed(model: ModelProto) -> None:
    model.graph.input[0].name = "images"
    for node in model.graph.node:
        node.input[:] = ["images" if name == "pixels" else name for name in node.input]


def without_graph(model: ModelProto) -> None:
    model.ClearField("graph")


@pytest.mark.parametrize(
    "change",
    [external, bomb, loop, constant, foreign, function, sparse, many, renamed, without_graph],
)
def test_a_graph_that_no_export_makes_is_refused(
    tmp_path: Path, change: Callable[[ModelProto], None]
) -> None:
    model = tiny_model()
    change(model)
    set_metadata(model)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        open_file(save(model, tmp_path / "m.onnx"))


def test_outputs_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    (last,) = (node for node in model.graph.node if node.output[0] == "conv1_2")
    last.output[0] = "before"
    model.graph.node.append(
        helper.make_node("Transpose", ["before"], ["conv1_2"], perm=[0, 2, 3, 1])
    )
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    set_metadata(model)
    path = save(model, tmp_path / "m.onnx")
    extractor = OnnxExtractor(ModelFile(path=path, choices=SessionChoices()))
    with pytest.raises(ModelError, match="conv1_2 of shape"):
        extractor.extract(np.zeros((32, 48, 3), np.float32), ["conv1_2"], ["conv1_1"])


@pytest.mark.parametrize(
    "text",
    ["null", "[]", "{}", '{"pooling": 1}', "[" * 100_000, "9" * 5000],
    ids=lambda text: text[:16],
)
def test_a_gradient_of_an_odd_objective_is_refused(text: str) -> None:
    metadata = {"kind": GradientGraph.kind, "objective": text, "precision": "fp32"}
    with pytest.raises(ModelError, match="got another"):
        GradientGraph.from_metadata(metadata, "m.onnx")


def test_a_graph_that_is_removed_as_soon_as_it_is_kept_serves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_warnings: list[str]
) -> None:
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))

    def keep_and_lose(key: str, model: bytes) -> Path:
        return tmp_path / "cache" / f"{key}-{'0' * 64}.onnx"

    monkeypatch.setattr("nstx.engine.sessions.session.keep_graph", keep_and_lose)
    weights = make_tiny_weights()
    session = open_graph(
        GRAPH,
        lambda: build_feature_model(GRAPH, weights).SerializeToString(),
        SessionChoices(),
        weights_sha256=weights.sha256,
        use_cache=True,
    )
    assert session.graph == GRAPH
    assert logged_warnings == []


def test_the_command_line_says_so_in_one_line(
    nstx: Nstx, tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    content = save_picture("c.png", 32, 32)
    os.mkfifo(tmp_path / "fifo.onnx")
    (tmp_path / "none.onnx").write_bytes(b"\x08" * 1000)
    (tmp_path / "large.onnx").touch()
    os.truncate(tmp_path / "large.onnx", 1 << 40)
    odd = save(tiny_model(), tmp_path / "\x1b[2J.onnx")
    odd.write_bytes(odd.read_bytes()[:-30])
    names = ("fifo.onnx", "none.onnx", "large.onnx", odd.name, "/dev/zero", "/dev/null", ".")
    for name in names:
        model, output = tmp_path / name, tmp_path / "out"
        code, out, err = nstx("features", content, "--model", model, "-o", output)
        assert (code, out, err.count("\n")) == (9, "", 1), err
        assert err.rstrip("\n").isprintable()
