"""Exported graphs: against float64, by the onnx package's own rules, and what their files say."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
import torch
import torch.nn.functional as F
from networks import relative_error
from pictures import random_pixels

from nstx.export.features import export_features
from nstx.export.graphs.build_features import build_feature_model
from nstx.export.graphs.feature_graph import (
    FeatureGraph,
    GraphPrecision,
    InputConvention,
    parity_path,
)
from nstx.export.model_files import write_model
from nstx.export.nodes.builder import check_model
from nstx.export.parity import (
    check_pictures,
    fp16_features,
    measure_parity,
)
from nstx.export.runtime import exactness
from nstx.export.runtime.exactness import computes_in_fp32
from nstx.export.runtime.probe import PRECISION_INPUT, is_fp32, precision_error, precision_model
from nstx.export.runtime.providers import (
    CPU,
    Provider,
    ProviderKind,
    choose_provider,
    provider_loads,
)
from nstx.export.runtime.session import (
    RuntimePrecision,
    SessionChoices,
    open_session,
    physical_cores,
    provider_options,
    run_session,
)
from nstx.models.errors import DeviceError, ModelError, OutputError, UsageError
from nstx.models.presets import PRESETS
from nstx.models.reference.features import reference_features, reference_gram
from nstx.models.storage.seals import seal_is_right
from nstx.models.vgg19 import CONVOLUTIONS, LAYERS, Pooling, PoolRounding
from nstx.models.weights.load import Weights, load_weights

STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
POOLINGS = [("avg", "ceil"), ("avg", "floor"), ("max", "ceil"), ("max", "floor")]


def run_model(graph: FeatureGraph, weights: Weights, pixels: np.ndarray) -> dict[str, np.ndarray]:
    model = build_feature_model(graph, weights).SerializeToString()
    session = open_session(model, SessionChoices())
    values = session.run(None, {"pixels": graph.to_input(pixels, weights.mean)})
    return dict(zip(graph.outputs, values, strict=True))


@pytest.mark.parametrize(("pooling", "rounding"), POOLINGS)
@pytest.mark.parametrize("size", [(211, 317), (64, 96), (17, 16), (33, 95)])
@pytest.mark.parametrize("convention", ["network", "float32", "uint8"])
def test_every_layer_agrees_with_float64(
    tiny_weights: Weights,
    pooling: Pooling,
    rounding: PoolRounding,
    size: tuple[int, int],
    convention: InputConvention,
) -> None:
    everything = tuple(layer.name for layer in LAYERS)
    graph = FeatureGraph(
        # At 16 pixels, rounding down leaves a fifth pooling with 0 or 1 position.
        activations=everything if min(size) > 32 else everything[:-1],
        grams=STYLE,
        pooling=pooling,
        pool_rounding=rounding,
        input=convention,
    )
    pixels = np.stack([random_pixels(*size, seed).round() for seed in (1, 2, 3)])
    outputs = run_model(graph, tiny_weights, pixels)
    for index in range(3):
        expected = reference_features(tiny_weights, pixels[index], graph.layers, pooling, rounding)
        for name in graph.activations:
            assert outputs[name][index].shape == expected[name].shape
            assert relative_error(outputs[name][index], expected[name]) < 1e-5
        for name in graph.grams:
            gram = reference_gram(expected[name])
            assert relative_error(outputs[f"{name}_gram"][index], gram) < 1e-5


@pytest.fixture(scope="module")
def real_weights() -> Weights:
    return load_weights()


@pytest.mark.parametrize(("pooling", "rounding"), [("avg", "ceil"), ("max", "floor")])
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 2e-5), ("fp16", 1e-2)])
def test_real_weights_pass_the_parity_check(
    real_weights: Weights,
    pooling: Pooling,
    rounding: PoolRounding,
    precision: GraphPrecision,
    bound: float,
) -> None:
    graph = FeatureGraph(
        activations=("conv4_2", "conv5_4"),
        grams=STYLE,
        pooling=pooling,
        pool_rounding=rounding,
        precision=precision,
    )
    model = build_feature_model(graph, real_weights).SerializeToString()
    report = measure_parity(model, graph, real_weights, check_pictures()[:1, :75, :101])
    assert [output.name for output in report.outputs] == list(graph.outputs)
    assert 0 < report.worst.relative_error <= bound
    assert report.passed
    assert not report.fp16_arithmetic
    if precision == "fp16":
        assert 0.001 < report.fp16_share < 0.05
        assert all(1e-5 < output.fp16_storage_error < 3e-3 for output in report.outputs)
    else:
        assert report.fp16_share == 0
        assert all(output.fp16_storage_error == 0 for output in report.outputs)


@pytest.mark.realdata
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 2e-5), ("fp16", 1e-2)])
def test_every_layer_passes_on_real_pictures(
    real_weights: Weights, data_folder: Path, precision: GraphPrecision, bound: float
) -> None:
    from nstx.engine.pictures.reading import read_image
    from nstx.engine.pictures.resizing import resize_picture

    names = ("content/tubingen.jpg", "style/starry_night_google.jpg", "content/astronaut.png")
    pictures = [resize_picture(read_image(data_folder / name), 45, 67) for name in names]
    layers = tuple(layer.name for layer in CONVOLUTIONS)
    graph = FeatureGraph(activations=layers, grams=layers, precision=precision, input="uint8")
    model = build_feature_model(graph, real_weights).SerializeToString()
    report = measure_parity(model, graph, real_weights, np.stack(pictures).astype(np.uint8))
    assert (report.batch, report.height, report.width) == (3, 45, 67)
    assert len(report.outputs) == 32
    assert report.worst.relative_error <= bound
    assert all(output.fp16_storage_error <= bound for output in report.outputs)


def test_storage_in_fp16_is_imitated_as_it_is(real_weights: Weights) -> None:
    """The CPU provider rounds only weights to fp16. The parity report's imitation of a GPU, in
    NumPy and float64, is held against the same in PyTorch from the graph's own constants.
    """
    graph = FeatureGraph(activations=("conv1_1", "conv3_1", "conv4_2", "conv5_1"), precision="fp16")
    model = build_feature_model(graph, real_weights)
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    assert constants["conv1_1.weight"].dtype == np.float16
    scale = float(constants["fp16_scale"])
    pixels = check_pictures()[:1, :95, :127]

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return x.half().float()

    x = rounded(torch.from_numpy(graph.to_input(pixels, real_weights.mean) * scale))
    exact = reference_features(
        real_weights, pixels[0].astype(np.float64), graph.layers, "avg", "ceil"
    )
    imitated = fp16_features(graph, real_weights, pixels[0])
    for layer in graph.network:
        if layer.kind == "pool":
            x = rounded(F.avg_pool2d(x, 2, 2, ceil_mode=True))
            continue
        kernel, bias = (
            torch.from_numpy(constants[f"{layer.name}.{part}"].astype(np.float32))
            for part in ("weight", "bias")
        )
        x = rounded(F.conv2d(x, kernel, bias, padding=1)).relu()
        if layer.name in graph.activations:
            ours = x[0].numpy() / scale
            error = relative_error(ours, exact[layer.name])
            assert 1e-4 < error < 2e-3
            assert relative_error(imitated[layer.name], exact[layer.name]) == pytest.approx(
                error, rel=0.1
            )
            # Not the same, as a value may lie on the border of two roundings.
            assert relative_error(imitated[layer.name], ours) < 0.7 * error


def test_fp16_keeps_a_reserve_before_it_overflows(real_weights: Weights) -> None:
    """Blocks of saturated colours excite VGG-19 most of all pictures that were tried: 39 000 with
    max pooling, where fp16 ends at 65 504.
    """
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 2, (28, 28, 3)) * 255
    pixels = np.kron(blocks, np.ones((4, 4, 1), int)).astype(np.uint8)[None]
    graph = FeatureGraph(
        activations=tuple(layer.name for layer in LAYERS), pooling="max", pool_rounding="floor"
    )
    outputs = run_model(graph, real_weights, pixels)
    largest = max(float(values.max()) for values in outputs.values())
    model = build_feature_model(replace(graph, precision="fp16"), real_weights)
    (scale,) = (
        float(onnx.numpy_helper.to_array(item))
        for item in model.graph.initializer
        if item.name == "fp16_scale"
    )
    assert 20_000 < largest < 0.1 * float(np.finfo(np.float16).max) / scale


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_models_pass_the_full_check_with_standard_operators(
    tiny_weights: Weights, precision: GraphPrecision
) -> None:
    graph = FeatureGraph(activations=("conv4_2",), grams=STYLE, precision=precision, input="uint8")
    model = check_model(build_feature_model(graph, tiny_weights))
    assert [item.domain for item in model.opset_import] == [""]
    assert all(node.domain == "" for node in model.graph.node)
    # Neither WebGPU runtime rounds a pooling up by this attribute.
    assert not any(item.name == "ceil_mode" for node in model.graph.node for item in node.attribute)
    inferred = {item.name for item in model.graph.value_info}
    suffix = "_fp16" if precision == "fp16" else ""
    assert {f"conv1_2{suffix}", f"pool4{suffix}", "conv5_1_scaled"} <= inferred
    grams = [node for node in model.graph.node if node.op_type == "MatMul"]
    kinds = {item.name: item.type.tensor_type.elem_type for item in model.graph.value_info}
    assert all(kinds[name] == onnx.TensorProto.FLOAT for node in grams for name in node.input)
    shapes = {
        item.name: [size.dim_param or size.dim_value for size in item.type.tensor_type.shape.dim]
        for item in (*model.graph.input, *model.graph.output)
    }
    assert shapes["pixels"] == ["batch", "height", "width", 3]
    assert shapes["conv4_2"] == ["batch", 7, "height_8", "width_8"]
    assert shapes["conv5_1_gram"] == ["batch", 8, 8]


def test_the_graph_stops_at_the_deepest_layer_that_is_needed(tiny_weights: Weights) -> None:
    graph = FeatureGraph(activations=("relu3_2", "conv1_2", "conv3_2"), grams=("pool1",))
    assert graph.outputs == ("conv1_2", "conv3_2", "pool1_gram")
    model = build_feature_model(graph, tiny_weights)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert convolutions[-1].output == ["conv3_2_before_relu"]
    assert "conv3_3.weight" not in {item.name for item in model.graph.initializer}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activations": ("fc6",)}, "fc6"),
        ({"activations": ()}, "at least one layer"),
        ({"pooling": "l2"}, "l2"),
        ({"precision": "bf16"}, "bf16"),
        ({"input": "bgr"}, "bgr"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FeatureGraph(**{"activations": ("conv1_1",), **changes})


def test_a_file_says_what_it_is_and_its_report_stands_beside_it(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "vgg.onnx"
    objective = PRESETS["coursera"].objective
    graph = FeatureGraph(activations=("conv4_2",), grams=STYLE)
    report = export_features(path, graph, tiny_weights, objective=objective)
    model = onnx.load(path)
    metadata = {item.key: item.value for item in model.metadata_props}
    assert metadata["weights_sha256"] == tiny_weights.sha256
    assert metadata["layers"].split(",")[-1] == "conv5_1"
    assert (metadata["pooling"], metadata["input"]) == ("avg", "network")
    assert json.loads(metadata["objective"])["style_weight"] == 40.0
    assert model.producer_version == metadata["nstx_version"]
    assert FeatureGraph.from_metadata(metadata, "vgg.onnx") == graph
    data = path.read_bytes()
    assert seal_is_right(data, metadata["file_sha256"])
    assert not seal_is_right(data[:-1] + b"x", metadata["file_sha256"])
    assert not seal_is_right(data, "")
    written = json.loads(parity_path(path).read_text())
    assert parity_path(path).name == "vgg.parity.json"
    assert written["passed"] is True
    assert written["outputs"][0]["relative_error"] == report.outputs[0].relative_error
    assert (written["batch"], written["height"], written["width"]) == (3, 211, 317)


def test_a_graph_that_computes_something_else_leaves_no_file(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    """The model is built from other weights than it is compared with."""
    kernels = dict(tiny_weights.kernels)
    kernels["conv3_1"] = kernels["conv3_1"] * np.float32(1.0001)
    wrong = replace(tiny_weights, kernels=kernels)
    graph = FeatureGraph(activations=("conv3_1", "conv2_2"))
    model = build_feature_model(graph, wrong).SerializeToString()
    report = measure_parity(model, graph, tiny_weights)
    with pytest.raises(ModelError, match="conv3_1"):
        write_model(tmp_path / "vgg.onnx", model, graph, tiny_weights.sha256, report)
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_takes_the_model_with_it(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    graph, path = FeatureGraph(activations=("conv1_1",)), tmp_path / "vgg.onnx"
    model = build_feature_model(graph, tiny_weights).SerializeToString()
    report = measure_parity(model, graph, tiny_weights)
    parity_path(path).mkdir()
    with pytest.raises(OutputError, match=r"parity\.json"):
        write_model(path, model, graph, tiny_weights.sha256, report)
    assert not path.exists()
    # What can be known from the start is raised before any work, and what stood there still stands.
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"parity\.json"):
        export_features(path, graph, tiny_weights)
    assert path.read_bytes() == b"old"


def test_weights_that_would_overflow_fp16_are_refused(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    kernels = {**tiny_weights.kernels, "conv1_1": tiny_weights.kernels["conv1_1"] * 2000}
    graph = FeatureGraph(activations=("conv1_2",), precision="fp16")
    with pytest.raises(ModelError, match="that fp16 holds"):
        export_features(tmp_path / "vgg.onnx", graph, replace(tiny_weights, kernels=kernels))
    assert list(tmp_path.iterdir()) == []


def test_an_objective_in_a_file_has_the_graphs_pooling(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    graph = FeatureGraph(activations=("conv1_1",), pooling="max", pool_rounding="floor")
    objective = PRESETS["default"].objective
    export_features(tmp_path / "vgg.onnx", graph, tiny_weights, objective=objective)
    model = onnx.load(tmp_path / "vgg.onnx")
    objective_json = json.loads(
        {item.key: item.value for item in model.metadata_props}["objective"]
    )
    assert (objective_json["pooling"], objective_json["pool_rounding"]) == ("max", "floor")


def test_an_exported_file_runs_where_torch_and_onnx_cannot_be_imported(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "vgg.onnx"
    export_features(path, FeatureGraph(activations=("conv2_1",), input="uint8"), tiny_weights)
    code = (
        "import sys\n"
        "sys.modules.update(torch=None, onnx=None, nstx=None)\n"
        "import numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "pixels = numpy.full((2, 31, 47, 3), 128, numpy.uint8)\n"
        "(features,) = session.run(None, {'pixels': pixels})\n"
        "assert features.shape == (2, 5, 16, 24), features.shape\n"
        "assert features.max() > 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_provider_that_does_not_load_is_an_error(tiny_weights: Weights) -> None:
    if provider_loads(Provider("cuda")):
        pytest.skip("CUDA loads on this machine")
    model = build_feature_model(FeatureGraph(activations=("conv1_1",)), tiny_weights)
    for kind in ("cuda", "tensorrt"):
        with pytest.raises(DeviceError, match="ExecutionProvider"):
            open_session(model.SerializeToString(), SessionChoices(provider=Provider(kind)))
    with pytest.raises(DeviceError, match="CUDAExecutionProvider"):
        choose_provider("cuda", 0)
    with pytest.raises(DeviceError, match="mps"):
        choose_provider("mps", 0)
    assert choose_provider("auto", 0) == Provider("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gpu_providers_pass_the_parity_check(
    real_weights: Weights, kind: ProviderKind, precision: GraphPrecision
) -> None:
    provider = Provider(kind)
    if not provider_loads(provider):
        pytest.skip(f"ONNX Runtime's {provider.name} does not load here")
    graph = FeatureGraph(activations=("conv4_2",), grams=STYLE, precision=precision)
    model = build_feature_model(graph, real_weights).SerializeToString()
    report = measure_parity(model, graph, real_weights, provider=provider)
    # TensorRT computes float32 graphs in TF32, and has no option against it.
    bound = 1e-2 if kind == "tensorrt" else report.tolerance
    assert report.worst.relative_error <= bound


def test_a_probe_tells_fp32_from_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 keeps 10 bits after the point, and tensor cores leave the rest away."""
    session = open_session(precision_model(), SessionChoices())
    exact = session.run(None, PRECISION_INPUT)
    assert precision_error(exact) < 1e-6
    assert is_fp32(exact)
    bits = PRECISION_INPUT["x"].view(np.uint32) & np.uint32(0xFFFFE000)
    rounded = session.run(None, {"x": bits.view(np.float32)})
    # The product alone, or one convolution alone.
    for index, name in enumerate(output.name for output in session.get_outputs()):
        answer = [*exact[:index], rounded[index], *exact[index + 1 :]]
        assert precision_error(answer) > 3e-4, name
        assert not is_fp32(answer), name
    assert computes_in_fp32(Provider("cpu"))
    monkeypatch.setattr(exactness, "computes_in_fp32", lambda provider: False)
    exactness.check_fp32(Provider("tensorrt"))
    with pytest.raises(DeviceError, match="--precision tf32"):
        exactness.check_fp32(Provider("cuda"))


def test_tf32_is_off_in_fp32_alone() -> None:
    """With it off, fp16 would be without tensor cores; a fused bias would bring it back in fp32."""

    def option(name: str, precision: RuntimePrecision, *, interleaved: bool = True) -> str:
        choices = SessionChoices(
            provider=Provider("cuda"), precision=precision, interleaved=interleaved, stream=4096
        )
        options = provider_options(choices)["CUDAExecutionProvider"]
        assert options["user_compute_stream"] == "4096"
        return options[name]

    assert [option("use_tf32", name) for name in ("fp32", "tf32", "fp16")] == ["0", "1", "1"]
    assert [option("fuse_conv_bias", name) for name in ("fp32", "tf32", "fp16")] == ["0", "1", "1"]
    assert option("fuse_conv_bias", "fp16", interleaved=False) == "0"


def test_providers_get_their_options_as_they_spell_them(tmp_path: Path) -> None:
    """ONNX Runtime's binding takes 0 and 1 for CUDA's flags, but True and False for TensorRT's."""
    cpu, cuda, tensorrt = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
    assert provider_options(SessionChoices()) == {cpu: {}}
    options = provider_options(SessionChoices(provider=Provider("cuda", 1)))
    assert list(options) == [cuda, cpu]
    assert (options[cuda]["device_id"], options[cuda]["use_tf32"]) == ("1", "0")
    assert options[cuda]["enable_cuda_graph"] == "0"
    assert "user_compute_stream" not in options[cuda]
    choices = SessionChoices(provider=Provider("tensorrt", 2), engine_folder=tmp_path)
    options = provider_options(choices)
    assert list(options) == [tensorrt, cuda, cpu]
    flags = {key: value for key, value in options[tensorrt].items() if key.endswith("_enable")}
    assert flags == {
        "trt_cuda_graph_enable": "False",
        "trt_engine_cache_enable": "True",
        "trt_timing_cache_enable": "True",
    }
    assert options[tensorrt]["device_id"] == options[cuda]["device_id"] == "2"
    assert options[tensorrt]["trt_profile_min_shapes"] == "pixels:1x16x16x3"
    planar = provider_options(replace(choices, planar=True))[tensorrt]
    assert planar["trt_profile_max_shapes"] == "pixels:4x3x2048x2048"
    fixed = SessionChoices(provider=Provider("cuda"), fixed_shape=(1, 64, 64))
    assert provider_options(fixed)[cuda]["enable_cuda_graph"] == "1"
    fixed = replace(choices, fixed_shape=(1, 64, 64))
    assert provider_options(fixed)[tensorrt]["trt_cuda_graph_enable"] == "True"
    assert "trt_profile_min_shapes" not in provider_options(fixed)[tensorrt]


def test_sessions_are_opened_without_the_runtimes_own_fallback(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Python wrapper would print, and go on with another provider."""
    options_of_sessions: list[dict[str, object]] = []

    class Session:
        def __init__(self, *_: object, **options: object) -> None:
            options_of_sessions.append(options)

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    with pytest.raises(DeviceError, match="got CPUExecutionProvider"):
        open_session(b"model", SessionChoices(provider=Provider("cuda")))
    assert options_of_sessions[0]["enable_fallback"] == 0


def test_what_a_session_raises_says_what_to_do() -> None:
    def run(message: str) -> None:
        raise RuntimeError(message)

    with pytest.raises(MemoryError):
        run_session(run, CPU, "Failed to allocate memory for requested buffer of size 4096000000")
    with pytest.raises(DeviceError, match=r"device 1 .* CUDA failure 700"):
        run_session(run, Provider("cuda", 1), "CUDA failure 700: an illegal memory access")
    with pytest.raises(ModelError, match="Invalid output name"):
        run_session(run, CPU, "Invalid output name: conv9")


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x0a" * 500])
def test_bytes_that_are_no_model_are_an_error(data: bytes) -> None:
    with pytest.raises(ModelError, match="cannot use"):
        open_session(data, SessionChoices())


def test_threads_are_at_most_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 1 <= physical_cores() <= (psutil.cpu_count(logical=True) or 1)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        assert physical_cores(tmp_path) == 8
        for number in range(8):  # two logical processors a core
            topology = tmp_path / "devices" / "system" / "cpu" / f"cpu{number}" / "topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(f"{number // 2},{number // 2 + 4}\n")
        quota = tmp_path / "fs" / "cgroup" / "cpu.max"
        quota.parent.mkdir(parents=True)
        for text, cores in (("max 100000\n", 4), ("300000 100000\n", 3), ("1 100000\n", 1)):
            quota.write_text(text)
            assert physical_cores(tmp_path) == cores
