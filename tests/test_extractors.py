"""Extraction by ONNX Runtime: against float64 and PyTorch, and the sessions that are kept."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from networks import relative_error
from pictures import random_pixels
from processes import PATIENCE

from nstx.engine.choices import choose_settings
from nstx.engine.devices.device import Device
from nstx.engine.devices.memory import memory_errors
from nstx.engine.devices.torch_device import TorchDevice
from nstx.engine.features.activations import summarise_layer
from nstx.engine.features.extraction import (
    Extraction,
    built_graphs,
    extract_features,
    find_provider,
    open_extractor,
)
from nstx.engine.features.onnx_extractor import (
    BuiltGraphs,
    FixedExtractor,
    ModelFile,
    OnnxExtractor,
)
from nstx.engine.features.torch_network import TorchExtractor, TorchNetwork, gram_matrices
from nstx.engine.pictures.picture import Picture
from nstx.engine.sessions import kept_graphs
from nstx.engine.sessions.kept_graphs import keep_graph, part_folder
from nstx.engine.sessions.session import Session
from nstx.engine.transfer.job import prepare_job
from nstx.export.features import export_features
from nstx.export.graphs.build_features import build_feature_model
from nstx.export.graphs.feature_graph import FeatureGraph, InputConvention
from nstx.export.runtime.probe import probe_model
from nstx.export.runtime.providers import CPU, Provider
from nstx.export.runtime.session import SessionChoices
from nstx.models.errors import DeviceError, ModelError, NumericalError, UsageError
from nstx.models.reference.features import reference_features, reference_gram
from nstx.models.storage.leftovers import remove_leftovers
from nstx.models.storage.seals import seal
from nstx.models.vgg19 import Pooling, PoolRounding
from nstx.models.weights.load import Weights, load_weights

ACTIVATIONS, GRAMS = ("conv2_2", "conv4_2"), ("conv1_1", "conv5_1")


@pytest.fixture
def sessions_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sessions"


def graphs_of(weights: Weights, **changes: Any) -> BuiltGraphs:
    return replace(built_graphs(Extraction(), CPU, weights), **changes)


def never() -> Weights:
    raise AssertionError("the weights were loaded")


@pytest.mark.parametrize(
    ("pooling", "rounding"), [("avg", "ceil"), ("max", "floor"), ("max", "ceil")]
)
@pytest.mark.parametrize("size", [(317, 211), (64, 48)])
def test_extraction_agrees_with_float64_and_with_torch(
    tiny_weights: Weights,
    sessions_folder: Path,
    pooling: Pooling,
    rounding: PoolRounding,
    size: tuple[int, int],
) -> None:
    choices = Extraction(extractor="onnx", device="cpu", pooling=pooling, pool_rounding=rounding)
    opened = open_extractor(choices, [*ACTIVATIONS, *GRAMS], tiny_weights)
    assert (opened.name, opened.runs_on) == ("onnx", "CPUExecutionProvider")
    # Values outside 0-255, as a start of one's own may have them.
    pixels = random_pixels(*size, seed=1) * np.float32(1.5) - 40
    features = opened.extractor.extract(pixels, ACTIVATIONS, GRAMS)
    layers = [*ACTIVATIONS, *GRAMS]
    expected = reference_features(tiny_weights, pixels, layers, pooling, rounding)
    by_torch = open_extractor(replace(choices, extractor="torch"), layers, tiny_weights)
    assert (by_torch.name, by_torch.runs_on) == ("torch", "cpu fp32")
    other = by_torch.extractor.extract(pixels, ACTIVATIONS, GRAMS)
    for name in ACTIVATIONS:
        assert relative_error(features.activations[name], expected[name]) < 1e-5
        assert relative_error(features.activations[name], other.activations[name]) < 1e-5
    for name in GRAMS:
        assert relative_error(features.grams[name], reference_gram(expected[name])) < 1e-5
        assert relative_error(features.grams[name], other.grams[name]) < 1e-5


def test_a_batch_is_its_pictures_one_by_one(tiny_weights: Weights, sessions_folder: Path) -> None:
    extractor = OnnxExtractor(graphs_of(tiny_weights))
    pixels = np.stack([random_pixels(37, 53, seed) for seed in (1, 2, 3)])
    batch = extractor.extract_batch(pixels, ACTIVATIONS, GRAMS)
    for index in range(3):
        single = extractor.extract(pixels[index], ACTIVATIONS, GRAMS)
        for name in ACTIVATIONS:
            np.testing.assert_allclose(
                batch.activations[name][index], single.activations[name], rtol=1e-4, atol=1e-3
            )


def test_a_content_picture_is_evaluated_no_deeper_than_its_layer(
    tiny_weights: Weights, sessions_folder: Path
) -> None:
    opened = graphs_of(tiny_weights).open(("conv2_1",), ())
    assert opened.graph.network[-1].name == "conv2_1"
    assert [output.name for output in opened.runner.get_outputs()] == ["conv2_1"]


def test_a_fixed_extractor_gives_the_same_and_overwrites_nothing(
    tiny_weights: Weights, sessions_folder: Path
) -> None:
    fixed = FixedExtractor(graphs_of(tiny_weights), (2, 37, 53), ("relu4_2",), GRAMS)
    pixels = np.stack([random_pixels(37, 53, seed) for seed in (1, 2)])
    first = fixed.extract_batch(pixels)
    expected = OnnxExtractor(graphs_of(tiny_weights)).extract_batch(pixels, ["conv4_2"], GRAMS)
    again = fixed.extract_batch(pixels[::-1])
    np.testing.assert_allclose(
        first.activations["conv4_2"], expected.activations["conv4_2"], rtol=1e-5
    )
    np.testing.assert_allclose(first.grams["conv1_1"], expected.grams["conv1_1"], rtol=1e-5)
    np.testing.assert_array_equal(again.activations["conv4_2"], first.activations["conv4_2"][::-1])
    with pytest.raises(UsageError, match="expected pictures of shape"):
        fixed.extract_batch(pixels[:1])


def test_a_kept_session_needs_no_weights_and_gives_the_same(
    tiny_weights: Weights, sessions_folder: Path
) -> None:
    pixels = random_pixels(37, 53, seed=1)
    first = OnnxExtractor(graphs_of(tiny_weights)).extract(pixels, ACTIVATIONS, GRAMS)
    (kept,) = sessions_folder.iterdir()
    again = OnnxExtractor(graphs_of(tiny_weights, load=never)).extract(pixels, ACTIVATIONS, GRAMS)
    for name in ACTIVATIONS:
        np.testing.assert_array_equal(first.activations[name], again.activations[name])
    assert list(sessions_folder.iterdir()) == [kept]


def test_what_a_session_computes_is_in_its_key(
    tiny_weights: Weights, sessions_folder: Path
) -> None:
    source = graphs_of(tiny_weights)
    variants = [
        source,
        replace(source, template=replace(source.template, pooling="max")),
        replace(source, template=replace(source.template, pool_rounding="floor")),
        replace(source, template=replace(source.template, precision="fp16")),
        graphs_of(replace(tiny_weights, sha256="1" * 64)),
    ]
    for variant in variants:
        variant.open(("conv1_1",), ())
    source.open(("conv1_1",), ("conv1_1",))
    assert len(list(sessions_folder.iterdir())) == len(variants) + 1


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_a_damaged_session_is_told_and_built_again(
    tiny_weights: Weights, sessions_folder: Path, logged_warnings: list[str], place: float
) -> None:
    pixels = random_pixels(37, 53, seed=1)
    expected = OnnxExtractor(graphs_of(tiny_weights)).extract(pixels, ACTIVATIONS, [])
    (kept,) = sessions_folder.iterdir()
    data = bytearray(kept.read_bytes())
    data[int(place * len(data)) if place >= 0 else -1] ^= 0x10
    kept.write_bytes(data)
    features = OnnxExtractor(graphs_of(tiny_weights)).extract(pixels, ACTIVATIONS, [])
    np.testing.assert_array_equal(features.activations["conv4_2"], expected.activations["conv4_2"])
    assert len(logged_warnings) == 1
    assert "damaged" in logged_warnings[0]
    OnnxExtractor(graphs_of(tiny_weights, load=never)).extract(pixels, ACTIVATIONS, [])


def test_a_session_of_other_weights_under_this_name_is_told_and_built_again(
    tiny_weights: Weights, sessions_folder: Path, logged_warnings: list[str]
) -> None:
    other = replace(tiny_weights, sha256="1" * 64)
    graphs_of(other).open(("conv1_1",), ())
    (foreign,) = sessions_folder.iterdir()
    graphs_of(tiny_weights).open(("conv1_1",), ())
    (own,) = set(sessions_folder.iterdir()) - {foreign}
    own.unlink()
    foreign.rename(own.with_name(f"{own.stem[:32]}-{foreign.stem[33:]}.onnx"))
    opened = graphs_of(tiny_weights).open(("conv1_1",), ())
    assert "weights" in logged_warnings[0]
    assert opened.metadata["weights_sha256"] == tiny_weights.sha256


def test_files_of_the_same_graph_are_merged_once_nobody_opens_them(
    tiny_weights: Weights, sessions_folder: Path
) -> None:
    """Two processes that built it at once leave two, as ONNX Runtime's bytes differ each time."""
    graphs_of(tiny_weights).open(("conv1_1",), ())
    (kept,) = sessions_folder.iterdir()
    model = onnx.load(kept)
    model.doc_string = "a twin"
    data = model.SerializeToString()
    twin = kept.with_name(f"{kept.stem[:32]}-{hashlib.sha256(data).hexdigest()}.onnx")
    twin.write_bytes(data)
    graphs_of(tiny_weights).open(("conv1_1",), ())
    assert len(list(sessions_folder.iterdir())) == 2
    for path in (kept, twin):
        os.utime(path, (1000, 1000))
    graphs_of(tiny_weights).open(("conv1_1",), ())
    assert len(list(sessions_folder.iterdir())) == 1


def test_only_the_latest_graphs_are_kept(
    sessions_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_graphs, "MOST_KEPT_BYTES", 3 * 32 + 31)
    keys = [digit * 32 for digit in "12345"]
    for age, key in enumerate(keys):
        path = keep_graph(key, key.encode())
        assert path is not None
        os.utime(path, (1000 + age, 1000 + age))
    assert {path.stem.partition("-")[0] for path in sessions_folder.iterdir()} == {*keys[2:]}


def test_without_the_cache_nothing_is_written(tiny_weights: Weights, sessions_folder: Path) -> None:
    graphs_of(tiny_weights, use_cache=False).open(("conv1_1",), ())
    assert not sessions_folder.exists()


def test_a_cache_that_cannot_be_written_is_told_and_does_not_stop_the_work(
    tiny_weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged_warnings: list[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "file"))
    opened = graphs_of(tiny_weights).open(("conv1_1",), ())
    assert opened.graph.activations == ("conv1_1",)
    assert "cannot be written" in logged_warnings[0]


def test_a_process_that_ends_at_once_leaves_no_unfinished_graph(sessions_folder: Path) -> None:
    with part_folder() as folder:
        (folder / "optimised.onnx").touch()
        remove_leftovers()
        assert not list(sessions_folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_names_that_are_no_utf8_stop_nothing(
    tiny_weights: Weights,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged_warnings: list[str],
) -> None:
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "\udcff"))
    opened = graphs_of(tiny_weights).open(("conv1_1",), ())
    assert opened.graph.activations == ("conv1_1",)
    assert ["cannot be written" in text for text in logged_warnings] == [True]
    renamed = model_file.rename(tmp_path / "\udcff.onnx")
    pixels = random_pixels(16, 16, seed=1)
    extractor = open_extractor(Extraction(device="cpu", model=renamed), ["conv2_1"]).extractor
    assert extractor.extract(pixels, ["conv2_1"], []).activations["conv2_1"].shape == (5, 8, 8)


def test_several_processes_may_build_one_session(sessions_folder: Path) -> None:
    code = (
        "from nstx.engine.features.extraction import Extraction, open_extractor\n"
        "import numpy as np\n"
        "opened = open_extractor(Extraction(device='cpu'), ['conv1_1'])\n"
        "features = opened.extractor.extract(np.full((32, 32, 3), 99, np.float32), ['conv1_1'], [])\n"
        "print(features.activations['conv1_1'].sum())\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = {process.communicate(timeout=PATIENCE)[0] for process in processes}
    assert len(answers) == 1
    assert all(process.returncode == 0 for process in processes)
    assert all(path.suffix == ".onnx" for path in sessions_folder.iterdir())


def test_extraction_from_the_cache_imports_neither_torch_nor_onnx(sessions_folder: Path) -> None:
    code = (
        "import sys\n"
        "if sys.argv[1] == 'blocked':\n"
        "    sys.modules.update(torch=None, onnx=None)\n"
        "import numpy as np\n"
        "from nstx import Picture, extract_features\n"
        "picture = Picture(np.full((40, 50, 3), 99, np.uint8), None)\n"
        "extracted = extract_features(picture, ['conv3_1'], ['conv1_1'])\n"
        "print(extracted.features.activations['conv3_1'].sum())\n"
    )
    for mode in ("free", "blocked"):
        command = [sys.executable, "-c", code, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def model_file(tiny_weights: Weights, tmp_path: Path) -> Path:
    path = tmp_path / "vgg.onnx"
    graph = FeatureGraph(activations=("conv2_1",), grams=("conv1_1",), input="network")
    export_features(path, graph, tiny_weights)
    return path


@pytest.mark.parametrize("convention", ["network", "float32", "uint8"])
def test_an_exported_file_extracts_whatever_its_input(
    tiny_weights: Weights, tmp_path: Path, convention: InputConvention
) -> None:
    path = tmp_path / "vgg.onnx"
    graph = FeatureGraph(activations=("conv2_1",), input=convention)
    export_features(path, graph, tiny_weights)
    pixels = random_pixels(33, 47, seed=1).round()
    opened = open_extractor(Extraction(device="cpu", model=path), ["relu2_1"])
    features = opened.extractor.extract(pixels, ["relu2_1"], [])
    expected = reference_features(tiny_weights, pixels, ["conv2_1"], "avg", "ceil")
    assert relative_error(features.activations["conv2_1"], expected["conv2_1"]) < 1e-5


def test_a_model_file_that_cannot_serve_is_an_error(model_file: Path, tmp_path: Path) -> None:
    def open_file(path: Path, sha256: str | None = None) -> Callable[..., object]:
        return ModelFile(path=path, choices=SessionChoices(), weights_sha256=sha256).open

    assert open_file(model_file, "0" * 64)(("conv2_1",), ("conv1_1",))
    with pytest.raises(ModelError, match=r"weights 111111111111… .* got one of 000000000000"):
        open_file(model_file, "1" * 64)(("conv2_1",), ())
    with pytest.raises(ModelError, match="outputs conv4_2, conv5_1_gram"):
        open_file(model_file)(("conv2_1", "conv4_2"), ("conv5_1",))
    with pytest.raises(ModelError, match="No such file"):
        open_file(tmp_path / "none.onnx")(("conv2_1",), ())
    with pytest.raises(ModelError, match="got a folder"):
        open_file(tmp_path)(("conv2_1",), ())
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(model_file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"damaged\.onnx"):
        open_file(damaged)(("conv2_1",), ())
    # A byte of the weights is another: only the checksum in the file can tell.
    flipped = bytearray(model_file.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    model_file.write_bytes(flipped)
    with pytest.raises(ModelError, match="changed or damaged"):
        open_file(model_file)(("conv2_1",), ())
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(probe_model())
    with pytest.raises(ModelError, match="of kind 'unknown'"):
        open_file(foreign)(("conv2_1",), ())
    with pytest.raises(UsageError, match="torch"):
        Extraction(extractor="torch", model=model_file)


def test_a_model_file_brings_its_own_weights_and_pooling(
    model_file: Path, tiny_weights: Weights
) -> None:
    with pytest.raises(UsageError, match="pooling"):
        Extraction(model=model_file, pooling="max")
    with pytest.raises(UsageError, match="got both"):
        open_extractor(Extraction(model=model_file), ["conv2_1"], tiny_weights)
    with pytest.raises(ModelError, match="of the weights c34748d2a8b1"):
        open_extractor(Extraction(model=model_file, weights="embedded"), []).extractor.extract(
            random_pixels(32, 32, 1), ["conv2_1"], []
        )
    picture = Picture(random_pixels(32, 32, 1).astype(np.uint8), None)
    extracted = extract_features(picture, extraction=Extraction(model=model_file))
    assert list(extracted.features.activations) == ["conv2_1"]


def test_metadata_without_a_mean_is_an_error(tiny_weights: Weights, tmp_path: Path) -> None:
    for mean in ("3.0", "[1, 2]", '["a", 2, 3]', None):
        model = build_feature_model(FeatureGraph(activations=("conv1_1",)), tiny_weights)
        for item in list(model.metadata_props):
            if item.key == "mean":
                if mean is None:
                    model.metadata_props.remove(item)
                else:
                    item.value = mean
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="mean colour"):
            ModelFile(path=tmp_path / "m.onnx", choices=SessionChoices()).open(("conv1_1",), ())


def test_a_model_of_strangers_is_refused_before_tensorrt_is_asked(tmp_path: Path) -> None:
    """Whatever its input; TensorRT itself is not needed to see that the model is none of ours."""
    shape = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y")]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "foreign", [shape[0]], [shape[1]])
    opset = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    source = ModelFile(path=path, choices=SessionChoices(provider=Provider("tensorrt", 0)))
    with pytest.raises(ModelError, match=r"foreign\.onnx"):
        source.open(("conv1_1",), ())


def test_a_picture_that_leaves_a_layer_nothing_is_refused() -> None:
    picture = Picture(random_pixels(20, 40, 1).astype(np.uint8), None)
    with pytest.raises(UsageError, match="pool5 a position"):
        extract_features(picture, ["pool5"], extraction=Extraction(pool_rounding="floor"))
    assert extract_features(picture, ["pool5"]).features.activations["pool5"].shape[1:] == (1, 2)
    with pytest.raises(UsageError, match="16"):
        extract_features(picture, ["conv1_1"], size=0)


def test_a_kept_session_of_real_weights_agrees_with_float64(sessions_folder: Path) -> None:
    """With VGG-19's channels, so that ONNX Runtime's blocked layout is in what is kept."""
    weights = load_weights()
    pixels = random_pixels(73, 107, seed=1)
    graphs_of(weights).open(ACTIVATIONS, GRAMS)
    kept = OnnxExtractor(graphs_of(weights, load=never))
    features = kept.extract(pixels, ACTIVATIONS, GRAMS)
    expected = reference_features(weights, pixels, [*ACTIVATIONS, *GRAMS], "avg", "ceil")
    for name in ACTIVATIONS:
        assert relative_error(features.activations[name], expected[name]) < 2e-5
    for name in GRAMS:
        assert relative_error(features.grams[name], reference_gram(expected[name])) < 2e-5


def test_a_read_only_cache_is_still_read(
    tiny_weights: Weights, sessions_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs_of(tiny_weights).open(("conv1_1",), ())
    refused = []

    def refuse(path: Path) -> None:
        refused.append(path)
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "utime", refuse)
    graphs_of(tiny_weights, load=never).open(("conv1_1",), ())
    assert refused == [*sessions_folder.iterdir()]


def test_an_unknown_layer_or_extractor_is_refused(
    tiny_weights: Weights, sessions_folder: Path
) -> None:
    with pytest.raises(UsageError, match="conv9_9"):
        open_extractor(Extraction(device="cpu"), ["conv9_9"], tiny_weights)
    with pytest.raises(UsageError, match="conv9_9"):
        OnnxExtractor(graphs_of(tiny_weights)).extract(random_pixels(32, 32, 1), ["conv9_9"], [])
    with pytest.raises(UsageError, match="numpy"):
        Extraction(extractor=cast(Any, "numpy"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_a_device_that_is_not_there_is_an_error_or_told(logged_warnings: list[str]) -> None:
    for name in ("onnx", "tensorrt"):
        with pytest.raises(DeviceError, match="ExecutionProvider"):
            find_provider(Extraction(extractor=name, device="cuda"))
    with pytest.raises(DeviceError, match="TensorRT"):
        find_provider(Extraction(extractor="tensorrt", device="cpu"))
    # PyTorch has no such device either, so nothing was computed by it and nothing is logged.
    with pytest.raises(DeviceError, match="CUDA device 0"):
        open_extractor(Extraction(device="cuda:0"), ["conv1_1"])
    assert find_provider(Extraction(device="mps")) is None
    assert find_provider(Extraction()) == CPU
    assert logged_warnings == []


def test_a_second_choice_is_told(
    monkeypatch: pytest.MonkeyPatch, logged_warnings: list[str], tiny_weights: Weights
) -> None:
    def refuse(*_: object) -> Provider:
        raise DeviceError("no provider")

    monkeypatch.setattr("nstx.engine.features.extraction.choose_provider_on", refuse)
    opened = open_extractor(Extraction(device="cpu"), ["conv1_1"], tiny_weights)
    assert (opened.name, opened.runs_on) == ("torch", "cpu fp32")
    assert logged_warnings == ["features are computed by PyTorch: no provider"]
    with pytest.raises(DeviceError, match="no provider"):
        open_extractor(Extraction(device="cpu", extractor="onnx"), ["conv1_1"], tiny_weights)


def test_a_driver_without_a_provider_is_told(
    monkeypatch: pytest.MonkeyPatch, logged_warnings: list[str]
) -> None:
    for module in ("nstx.engine.features.extraction", "nstx.export.runtime.providers"):
        monkeypatch.setattr(f"{module}.has_driver", lambda: True)
    monkeypatch.setattr("nstx.export.runtime.providers.provider_loads", lambda _: False)
    assert find_provider(Extraction()) == CPU
    assert "CUDA provider" in logged_warnings[0]
    monkeypatch.setattr("nstx.export.runtime.providers.provider_loads", lambda _: True)
    assert find_provider(Extraction()) == Provider("cuda", 0)
    assert find_provider(Extraction(device="cuda:1")) == Provider("cuda", 1)


@pytest.mark.parametrize("preset", ["default", "gatys"])
def test_targets_by_onnx_and_by_torch_agree(preset: str) -> None:
    content = Picture(random_pixels(60, 80, 1).astype(np.uint8), None)
    style = Picture(random_pixels(70, 50, 2).astype(np.uint8), None)
    settings = choose_settings(preset, size=67, device="cpu", use_cache=False)
    jobs = [
        prepare_job(content, [(style, 1.0)], replace(settings, extractor=name))
        for name in ("auto", "torch")
    ]
    assert jobs[0].extractor == ("onnx", "CPUExecutionProvider")
    assert jobs[1].extractor == ("torch", "cpu fp32")
    for ours, theirs in zip(jobs[0].targets, jobs[1].targets, strict=True):
        assert ours.content.keys() == theirs.content.keys()
        for part in ("content", "style"):
            for name, array in getattr(ours, part).items():
                assert relative_error(array, getattr(theirs, part)[name]) < 1e-5


def test_extracted_features_of_a_picture() -> None:
    picture = Picture(random_pixels(60, 80, 1).astype(np.uint8), None)
    extracted = extract_features(picture, ["relu1_2", "pool2"], ["conv2_1"], size=40)
    assert (extracted.height, extracted.width) == (30, 40)
    assert extracted.features.activations["conv1_2"].shape == (64, 30, 40)
    assert extracted.features.activations["pool2"].shape == (128, 8, 10)
    assert extracted.features.grams["conv2_1"].shape == (128, 128)
    with pytest.raises(UsageError, match="16"):
        extract_features(picture, size=10)


def test_layers_may_be_written_in_one_string() -> None:
    picture = Picture(random_pixels(20, 24, 1).astype(np.uint8), None)
    extracted = extract_features(picture, "conv1_1, relu1_2", "conv1_1")
    assert list(extracted.features.activations) == ["conv1_1", "conv1_2"]
    assert list(extracted.features.grams) == ["conv1_1"]
    assert FeatureGraph(activations=cast(Any, "conv1_1,relu1_2")).activations == (
        "conv1_1",
        "conv1_2",
    )


def test_features_that_are_not_finite_are_an_error(tiny_weights: Weights, tmp_path: Path) -> None:
    kernel = tiny_weights.kernels["conv1_1"].copy()
    kernel[0] = np.inf
    broken = replace(tiny_weights, kernels={**tiny_weights.kernels, "conv1_1": kernel})
    model = build_feature_model(FeatureGraph(activations=("conv1_1",)), broken)
    path = tmp_path / "broken.onnx"
    path.write_bytes(seal(model.SerializeToString()))
    picture = Picture(random_pixels(20, 24, 1).astype(np.uint8), None)
    with pytest.raises(NumericalError, match="infinity in conv1_1"):
        extract_features(picture, extraction=Extraction(model=path))


def test_a_summary_names_the_strongest_channels() -> None:
    activation = np.zeros((5, 2, 3), np.float32)
    activation[3] = 2.0
    activation[1, 0, 0] = 30.0
    summary = summarise_layer("conv1_1", activation, 3)
    assert summary.shape == (1, 2, 3, 5)
    assert [item.channel for item in summary.strongest] == [1, 3, 0]
    assert summary.strongest[0].mean == pytest.approx(5.0)
    assert (summary.smallest, summary.largest) == (0.0, 30.0)
    assert summary.zero_share == pytest.approx(23 / 30)


def test_gram_matrices_of_a_batch_are_those_of_its_pictures() -> None:
    features = torch.rand(3, 7, 5, 6)
    batch = gram_matrices(features, torch.float32)
    for index in range(3):
        flat = features[index].reshape(7, -1)
        np.testing.assert_allclose(batch[index], flat @ flat.T / 30, rtol=1e-5)


@dataclass
class OneSession:
    """A `SessionSource` that has one session."""

    session: Session[FeatureGraph]

    def open(
        self, activations: tuple[str, ...], grams: tuple[str, ...], moments: tuple[str, ...] = ()
    ) -> Session[FeatureGraph]:
        return self.session


def test_exhausted_memory_of_onnx_runtime_is_an_error_that_says_what_to_do(
    tiny_weights: Weights, sessions_folder: Path
) -> None:
    class OtherMemoryError(RuntimeError):
        pass

    class Exhausted:
        def run(self, *_: object) -> None:
            raise OtherMemoryError(
                "Failed to allocate memory for requested buffer of size 4096000000"
            )

    session = graphs_of(tiny_weights).open(("conv1_1",), ())
    extractor = OnnxExtractor(OneSession(replace(session, runner=Exhausted())))
    with pytest.raises(DeviceError, match="48×32"):
        extractor.extract(random_pixels(32, 48, 1), ["conv1_1"], [])
    with pytest.raises(DeviceError, match="48×32"), memory_errors((32, 48)):
        raise RuntimeError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shape"), memory_errors((32, 48)):
        raise RuntimeError("shape mismatch")


def test_channels_last_changes_no_feature(tiny_weights: Weights) -> None:
    device = TorchDevice(Device("cpu"), "fp32")
    pixels = random_pixels(40, 48, 1)
    outputs = []
    for tuned in (False, True):
        network = TorchNetwork(
            tiny_weights, ["conv4_2"], "avg", "ceil", device,
            layout="channels_last" if tuned else "contiguous",
        )  # fmt: skip
        features = TorchExtractor(network).extract(pixels, ["conv4_2"], [])
        outputs.append(features.activations["conv4_2"])
    assert relative_error(outputs[1], outputs[0]) < 1e-5
