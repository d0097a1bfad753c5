"""``nstx export features``, ``nstx features``, ``nstx bench features`` and ``--extractor``."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
from PIL import Image
from processes import PATIENCE, wait_for

from nstx.engine.bench import throughput, worker
from nstx.engine.bench.tasks import Task
from nstx.engine.bench.throughput import (
    FeatureBench,
    GradientBench,
    check_memory,
    run_bench,
    run_timed,
)
from nstx.engine.drawing.feature_sheets import draw_channel, draw_sheet, enlarge_channel
from nstx.engine.features.activations import summarise_layer
from nstx.export import parity
from nstx.models.errors import DeviceError, UsageError

FAST: dict[str, Any] = {"sizes": (32,), "batches": (1, 2), "rounds": 2, "seconds": 0.0}

Nstx = Callable[..., tuple[int, str, str]]
"""Runs the command line and returns its exit code, stdout and stderr."""


def measure_here(task: Task) -> dict[str, Any]:
    """Return what a process measures, measured in this one, which has loaded its libraries long ago."""
    if task.work == "peak":
        return {"gflops": 100.0}
    answer = worker.measure(task)
    return answer | {"cold": 60.0}


@pytest.fixture
def small_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have exports compared on pictures of a hundredth of the usual pixels."""
    monkeypatch.setattr(parity, "CHECK_HEIGHT", 21)
    monkeypatch.setattr(parity, "CHECK_WIDTH", 35)


def test_export_writes_a_model_that_runs_and_its_report(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    path, picture = tmp_path / "vgg.onnx", save_picture("photo.png")
    options = ["--layers", "relu2_1", "--grams", "conv1_1", "--input", "uint8"]
    code, out, err = nstx("export", "features", "-o", path, *options, "--check-with", picture)
    assert (code, err) == (0, "")
    assert "saved" in out
    assert "relative error" in out
    report = json.loads((tmp_path / "vgg.parity.json").read_text())
    assert [item["name"] for item in report["outputs"]] == ["conv2_1", "conv1_1_gram"]
    assert all(item["relative_error"] <= 2e-5 for item in report["outputs"])
    assert (report["batch"], report["width"], report["height"]) == (1, 317, 211)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = np.zeros((2, 20, 30, 3), np.uint8)
    features, gram = session.run(None, {"pixels": pixels})
    assert features.shape == (2, 128, 10, 15)
    assert gram.shape == (2, 64, 64)


@pytest.mark.usefixtures("small_check")
def test_export_takes_the_presets_layers_and_tells_its_objective(
    nstx: Nstx, tmp_path: Path
) -> None:
    path = tmp_path / "vgg.onnx"
    code, out, _ = nstx("export", "features", "-o", path, "--preset", "gatys", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["outputs"][0] == "conv4_2"
    assert len(data["outputs"]) == 6
    assert (data["truncated_at"], data["pooling"]) == ("conv5_1", "max")
    assert data["parity"]["passed"] is True
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["objective"])["pooling"] == "max"
    assert metadata["weights_sha256"] == data["weights"]["sha256"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "vgg.txt"], 7, "vgg.onnx"),
        (["-o", "no/vgg.onnx"], 7, "existing folder"),
        (["-o", "vgg.onnx", "--layers", "fc6"], 2, "fc6"),
        (["-o", "vgg.onnx", "--layers", ","], 2, "layers"),
        (["-o", "vgg.onnx", "--precision", "int8"], 2, "int8"),
        (["-o", "vgg.onnx", "--input", "bgr"], 2, "bgr"),
        (["-o", "vgg.onnx", "--rounding", "up"], 2, "up"),
        (["-o", "vgg.onnx", "--pooling", "l2"], 2, "l2"),
        (["-o", "vgg.onnx", "--weights", "none.pth"], 6, "none.pth"),
        (["-o", "vgg.onnx", "--check-with", "none.png"], 3, "none.png"),
        (["-o", "vgg.onnx", "--device", "cuda:97"], 4, "CUDA"),
        (["-o", "vgg.onnx", "--device", "mps"], 4, "mps"),
        ([], 2, "--output"),
    ],
)
def test_export_refuses_in_one_line_and_leaves_nothing(
    nstx: Nstx,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    got, out, err = nstx("export", "features", *arguments)
    assert (got, out) == (code, "")
    assert err.startswith("nstx: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_features_draws_a_sheet_per_layer_and_channels_on_request(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    picture, folder = save_picture("photo.png", 60, 80), tmp_path / "new" / "sheets"
    arguments = ["--layers", "conv1_1,relu3_1,pool2", "--size", 64, "--strongest", 5]
    code, out, err = nstx("features", picture, "-o", folder, *arguments, "--channels", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["extractor"] == {"name": "onnx", "runs_on": "CPUExecutionProvider"}
    assert [layer["name"] for layer in data["layers"]] == ["conv1_1", "conv3_1", "pool2"]
    assert data["layers"][1]["shape"] == [1, 12, 16, 256]
    assert all(len(layer["strongest"]) == 5 for layer in data["layers"])
    assert data["layers"][0]["smallest"] == 0.0 < data["layers"][0]["largest"]
    for layer in data["layers"]:
        with Image.open(layer["sheet"]) as image:
            # Four tiles of 200×150 a row, two rows.
            assert image.size == (4 * 208 + 8, 56 + 2 * (150 + 30) + 8)
        assert len(layer["channels"]) == layer["shape"][3]
    with Image.open(folder / "conv3_1" / "channel_017.png") as image:
        assert image.size == (16 * 16, 12 * 16)
    code, out, _ = nstx("features", picture, "-o", folder, *arguments)
    assert "(1, 12, 16, 256)" in out
    sheet = folder / "conv1_1.png"
    before = sheet.read_bytes()
    code, _, err = nstx("features", sheet, "-o", folder, *arguments)
    assert code == 7
    assert "conv1_1.png" in err
    assert sheet.read_bytes() == before


@pytest.mark.usefixtures("small_check")
def test_features_of_a_model_file_are_those_that_it_has(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    """The two commands of docs/onnx.md, word for word but for the paths."""
    picture, model = save_picture("photo.jpg"), tmp_path / "vgg19.onnx"
    assert nstx("export", "features", "-o", model, "--input", "uint8")[0] == 0
    code, out, _ = nstx("features", picture, "-o", tmp_path / "sheets", "--model", model, "--json")
    assert code == 0
    assert [layer["name"] for layer in json.loads(out)["layers"]] == ["conv4_2"]


@pytest.mark.usefixtures("small_check")
def test_features_of_a_model_file_and_of_torch_are_the_same(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    picture, model = save_picture("photo.png"), tmp_path / "vgg.onnx"
    assert nstx("export", "features", "-o", model, "--layers", "conv2_2")[0] == 0
    means = []
    for more in (["--model", model], ["--extractor", "torch"], ["--no-cache"]):
        arguments = ["--layers", "conv2_2", "--size", 64, "--device", "cpu", "--json"]
        code, out, _ = nstx("features", picture, "-o", tmp_path / "s", *arguments, *more)
        assert code == 0
        means.append(json.loads(out)["layers"][0]["mean"])
    assert means[1] == pytest.approx(means[0], rel=1e-5)
    assert means[2] == pytest.approx(means[0], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--layers", "conv6_1"], 2, "conv6_1"),
        (["--strongest", "0"], 2, "--strongest"),
        (["--size", "5"], 2, "16"),
        (["--size", "0"], 2, "16"),
        (["--extractor", "numpy"], 2, "numpy"),
        (["--extractor", "tensorrt", "--device", "cuda:97"], 4, "TensorrtExecutionProvider"),
        (["--extractor", "onnx", "--device", "cuda:97"], 4, "CUDA"),
        (["--device", "tpu"], 2, "tpu"),
        (["--model", "none.onnx"], 9, "none.onnx"),
        (["--model", "photo.png"], 9, "photo.png"),
        (["--model", "none.onnx", "--pooling", "max"], 2, "--pooling"),
        (["--model", "none.onnx", "--extractor", "torch"], 2, "model file"),
        (["--model", "none.onnx", "--weights", "none.pth", "--layers", "conv1_1"], 6, "none.pth"),
        (["-o", "photo.png"], 7, "photo.png"),
        (["--threads", "0"], 2, "threads"),
    ],
)
def test_features_refuses_in_one_line(
    nstx: Nstx,
    save_picture: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    save_picture("photo.png")
    monkeypatch.chdir(tmp_path)
    output = [] if "-o" in arguments else ["-o", "sheets"]
    got, out, err = nstx("features", "photo.png", *output, *arguments)
    assert (got, out) == (code, "")
    assert err.startswith("nstx: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_channel_goes_from_dark_to_yellow() -> None:
    values = np.linspace(0, 10, 6, dtype=np.float32).reshape(2, 3)
    image = draw_channel(values)
    assert image.size == (3, 2)
    assert image.getpixel((0, 0)) == (68, 1, 84)
    assert image.getpixel((2, 1)) == (253, 231, 37)
    assert draw_channel(np.zeros((2, 3), np.float32)).getpixel((1, 1)) == (68, 1, 84)
    assert draw_channel(values, largest=20.0).getpixel((2, 1)) == draw_channel(
        np.array([[5, 10]], np.float32)
    ).getpixel((0, 0))
    assert enlarge_channel(image).size == (258, 172)


def test_a_sheet_shows_what_there_is() -> None:
    activation = np.zeros((3, 4, 400), np.float32)
    activation[2] = 1.0
    sheet = draw_sheet(activation, summarise_layer("conv1_1", activation, 16))
    # So thin a picture gets a row of its own, 800 pixels long.
    assert sheet.width == 800 + 16
    # The first tile is the strongest channel, which is yellow throughout.
    assert sheet.getpixel((9, 57)) == (253, 231, 37)
    assert sheet.getpixel((9, 57 + 8 + 30)) == (68, 1, 84)


def test_labels_of_tall_pictures_do_not_overlap() -> None:
    activation = np.ones((16, 400, 8), np.float32)
    sheet = draw_sheet(activation, summarise_layer("conv1_1", activation, 16))
    # Four columns, all as wide as a label: 16 × 800 pixels of a tile are less.
    assert sheet.width == 4 * (180 + 8) + 8
    assert sheet.height == 56 + 4 * (800 + 30) + 8


def test_optimize_tells_the_extractor_and_both_lead_to_the_same(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    pictures = save_picture("content.png", 60, 80, 1), save_picture("style.jpg", 70, 50, 2)
    costs = []
    for name in ("onnx", "torch"):
        output = tmp_path / f"{name}.npy"
        arguments = ["--size", 48, "--steps", 3, "--extractor", name, "--json", "--no-cache"]
        arguments += ["--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1"]
        code, out, _ = nstx("optimize", *pictures, "-o", output, *arguments)
        assert code == 0
        data = json.loads(out)
        assert data["extractor"]["name"] == name
        costs.append(data["cost"]["total"])
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)
    code, _, err = nstx("optimize", *pictures, "-o", tmp_path / "o.png", "--extractor", "onnxx")
    assert code == 2
    assert "onnxx" in err


def test_bench_measures_every_cell(nstx: Nstx, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells of two pictures in processes of their own, as all are."""

    def run(task: Task) -> dict[str, Any]:
        return run_timed(task) if task.batch == 2 else measure_here(task)

    monkeypatch.setattr(throughput, "run_bench", partial(run_bench, run_task=run))
    code, out, err = nstx(
        "bench", "features", "--sizes", 32, "--batches", "1,2", "--variants", "onnx,torch",
        "--rounds", 1, "--seconds", 0, "--repeats", 4, "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0
    # The rows as they came; eager PyTorch's first, with which the others are compared.
    lines = [line.split() for line in err.splitlines()]
    assert [line[1:3] for line in lines if line[0] == "32"] == [
        ["1", "torch"], ["1", "onnx"], ["2", "torch"], ["2", "onnx"],
    ]  # fmt: skip
    data = json.loads(out)
    assert data["matrix_peak_gflops"]["fp32"] > 1
    assert data["machine"]["cores"] >= 1
    assert data["packages"]["torch"]
    assert [(row["batch"], row["variant"]) for row in data["rows"]] == [
        (1, "onnx"), (1, "torch"), (2, "onnx"), (2, "torch"),
    ]  # fmt: skip
    for row in data["rows"]:
        assert row["runs"] == 4
        assert row["fastest"] <= row["seconds"] <= row["slowest"]
        assert row["cold_seconds"] > row["seconds"]
        assert row["per_picture"] == pytest.approx(row["seconds"] / row["batch"])
        work = data["flops_per_pixel"] * 32 * 32 * row["batch"]
        assert row["gflops"] == pytest.approx(work / row["seconds"] / 1e9)
        assert row["peak_memory_bytes"] > 50 << 20
        assert row["norm_difference"] < 1e-5
        assert row["step_seconds"] is row["floor_seconds"] is row["of_floor"] is None
    assert data["rows"][1]["of_torch"] == 1.0
    # Without PyTorch in the process; this holds however busy the machine is.
    assert data["rows"][2]["cold_of_torch"] < 0.8
    assert data["rows"][2]["peak_memory_bytes"] < data["rows"][3]["peak_memory_bytes"]


def test_bench_counts_the_operations_of_what_comes_out() -> None:
    bench = FeatureBench(activations=("conv1_1",), grams=(), **FAST)
    assert bench.flops_per_pixel == 2 * 9 * 3 * 64
    bench = FeatureBench(activations=(), grams=("conv1_1", "conv2_1"), **FAST)
    convolutions = 2 * 9 * (3 * 64 + 64 * 64 + 64 * 128 / 4)
    assert bench.flops_per_pixel == convolutions + 2 * 64**2 + 2 * 128**2 / 4


def test_bench_measures_gradients(nstx: Nstx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "run_bench", partial(run_bench, run_task=measure_here))
    code, out, err = nstx(
        "bench", "gradient", "--sizes", 33, "--batches", "2", "--variants", "onnx,torch",
        "--rounds", 1, "--seconds", 0, "--repeats", 1, "--device", "cpu", "--pooling", "max", "--json",
    )  # fmt: skip
    assert (code, err.count("\n   33")) == (0, 2)
    data = json.loads(out)
    assert [(row["batch"], row["variant"]) for row in data["rows"]] == [
        (2, "onnx"), (2, "torch"),
    ]  # fmt: skip
    assert all(row["norm_difference"] < 1e-3 for row in data["rows"])
    assert data["settings"]["pooling"] == "max"
    assert data["rows"][0]["runs_on"] == "onnx cpu"


def test_a_step_takes_every_operation_twice() -> None:
    forward = FeatureBench(activations=("conv4_2",), **FAST).flops_per_pixel
    assert GradientBench(preset="coursera", **FAST).flops_per_pixel == 2 * forward


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--preset", "best", "preset"), ("--pooling", "sum", "pooling"), ("--variants", "x", "torch")],
)
def test_bench_gradient_refuses_what_cannot_be(
    nstx: Nstx, option: str, value: str, message: str
) -> None:
    code, _, err = nstx("bench", "gradient", "--device", "cpu", option, value)
    assert (code, err.count("error")) == (2, 1)
    assert message in err


def test_bench_tells_what_cannot_be_measured() -> None:
    once = {**FAST, "batches": (1,), "rounds": 1}
    bench = FeatureBench(variants=("onnx", "torch"), **once)

    def run_but_torch(task: Task) -> dict[str, Any]:
        return {"error": "no compiler"} if task.variant == "torch" else measure_here(task)

    rows = run_bench(bench, run_task=run_but_torch)["rows"]
    assert [row.get("error") for row in rows] == [None, "no compiler"]
    with pytest.raises(DeviceError, match="nothing works"):
        run_bench(bench, run_task=lambda _: {"error": "nothing works"})
    assert check_memory(bench, bench.task("onnx", 32)) is None
    error = check_memory(bench, bench.task("onnx", 1_000_000, batch=64))
    assert error is not None
    assert "memory" in error["error"]


def test_bench_tells_what_it_has_when_it_is_interrupted() -> None:
    answer = {"warm": [0.2, 0.1], "cold": 1.0, "peak_memory_bytes": 1 << 28, "runs_on": "here"}
    answer["norms"] = [1.0]

    def run_until_48(task: Task) -> dict[str, Any]:
        if task.size == 48:
            raise KeyboardInterrupt
        return {"gflops": 100.0} if task.work == "peak" else answer

    bench = FeatureBench(sizes=(32, 48), batches=(1,), variants=("onnx", "torch"))
    measured: list[str] = []
    rows: list[dict[str, Any]] = []
    report = run_bench(bench, measured.append, rows.append, run_task=run_until_48)
    assert rows == report["rows"][::-1]
    assert report["interrupted"] is True
    assert [(row["size"], row["variant"]) for row in report["rows"]] == [
        (32, "onnx"),
        (32, "torch"),
    ]
    assert report["rows"][0]["seconds"] == pytest.approx(0.15)
    assert report["matrix_peak_gflops"] == {"fp32": 100.0}
    assert measured == [
        "onnx 64 px × 1", "torch 64 px × 1", *["matrix products in fp32"] * 2,
        "onnx 32 px × 1", "torch 32 px × 1", "torch 32 px × 1", "onnx 32 px × 1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ("jax",)}, "jax"),
        ({"variants": ()}, "variants"),
        ({"sizes": (3,)}, "sizes"),
        ({"device": "mps"}, "mps"),
        ({"batches": ()}, "batches"),
        ({"rounds": 0}, "rounds"),
        ({"activations": ("fc6",)}, "fc6"),
        ({"activations": (), "grams": ()}, "at least one layer"),
    ],
)
def test_bench_refuses_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FeatureBench(**{**FAST, **changes})


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--sizes", "small"], 2, "small"),
        (["--variants", "jax"], 2, "jax"),
        (["--threads", "0"], 2, "threads"),
        (["--weights", "none.pth", "--variants", "onnx"], 6, "none.pth"),
    ],
)
def test_bench_refuses_in_one_line(
    nstx: Nstx, arguments: list[str], code: int, message: str
) -> None:
    got, out, err = nstx("bench", "features", *arguments, "--quiet")
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


def test_every_variant_of_the_cpu_computes_the_same() -> None:
    bench = FeatureBench(
        **{**FAST, "sizes": (17,), "batches": (2,), "rounds": 1},
        variants=("torch", "onnx", "onnx-fixed", "onnx-fp16"),
        activations=("conv1_2",),
        grams=("conv1_1",),
    )
    rows = {row["variant"]: row for row in run_bench(bench, run_task=measure_here)["rows"]}
    for name in ("onnx", "onnx-fixed"):
        assert rows[name]["norm_difference"] < 1e-5
    assert 1e-7 < rows["onnx-fp16"]["norm_difference"] < 1e-2


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of PyTorch's own, when its compiler is imported
@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="there is no C++ compiler"
)
def test_what_pytorch_compiles_computes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one layer: the compiler takes seconds for the mean, and for what follows each convolution."""
    from torch._inductor import config

    # Most of what compiling takes: which vector units there are, headers for what comes later, processes.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config.cpp, "vec_isa_ok", False)
    monkeypatch.setattr(config, "cpp_cache_precompile_headers", False)
    monkeypatch.setattr(config, "compile_threads", 1)
    bench = FeatureBench(
        **{**FAST, "sizes": (17,), "batches": (2,), "rounds": 1},
        variants=("torch", "torch-compile"),
        activations=("conv1_1",),
        grams=(),
    )

    def run(task: Task) -> dict[str, Any]:
        # What only warms caches is left out.
        return measure_here(task) if task in bench.cells[1] else {}

    rows = {row["variant"]: row for row in run_bench(bench, run_task=run)["rows"]}
    assert rows["torch-compile"]["norm_difference"] < 1e-4
    assert list(tmp_path.rglob("*.main.cpp"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_terminated_bench_takes_its_process_with_it() -> None:
    command = ["bench", "features", "--sizes", "64", "--batches", "1", "--variants", "onnx"]
    command += ["--rounds", "50", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "nstx", *command], stdout=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)

    def workers() -> list[psutil.Process]:
        return [c for c in parent.children() if "nstx.engine.bench.worker" in " ".join(c.cmdline())]

    wait_for(lambda: bool(workers()), every=0.1)  # all processes are looked at
    children = workers()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 143
    assert children
    assert not any(child.is_running() for child in children)


@pytest.mark.usefixtures("small_check")
def test_groups_take_their_defaults_from_a_configuration(
    nstx: Nstx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nstx.toml").write_text(
        "json = true\n[export.features]\nlayers = 'conv1_2'\ninput = 'uint8'\n"
    )
    code, out, _ = nstx("export", "features", "-o", "vgg.onnx")
    assert code == 0
    data = json.loads(out)
    assert (data["outputs"], data["input"]["convention"]) == (["conv1_2"], "uint8")
    Path("nstx.toml").write_text("[export.features]\ncolour = 1\n")
    code, _, err = nstx("model")
    assert code == 2
    assert "export.features.colour" in err
