"""The ONNX gradient backend: against autograd, and in a process without PyTorch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import relative_error
from pictures import random_pixels

from nstx.engine.choices import Choices, choose_settings
from nstx.engine.devices.machine import Processor
from nstx.engine.gradients import choice as backends
from nstx.engine.gradients.choice import PrecisionPolicy, choose_backend
from nstx.engine.pictures.picture import Picture
from nstx.engine.sessions.kept_graphs import describe_kept
from nstx.engine.settings import Auto, BackendName, Precision
from nstx.engine.targets.targets import Targets
from nstx.engine.transfer.job import Job, prepare_job
from nstx.engine.transfer.run import run_job
from nstx.export.runtime.providers import Provider, provider_loads
from nstx.models.errors import DeviceError, NumericalError, UsageError
from nstx.models.objective import Objective
from nstx.models.presets import SolverName
from nstx.models.vgg19 import Pooling

CONTENT = Picture(random_pixels(60, 80, 1).astype(np.uint8), None)
STYLES = [
    (Picture(random_pixels(70, 50, 2).astype(np.uint8), None), 2.0),
    (Picture(random_pixels(40, 90, 3).astype(np.uint8), None), 1.0),
]
SHALLOW: Any = {"content_layers": "conv1_2", "style_layers": "conv1_1,conv2_1"}


def job_of(name: BackendName, preset: str = "default", **more: Unpack[Choices]) -> Job:
    usual: Choices = {"size": 67, "scales": 1, "device": "cpu", "backend": name}
    choices: Choices = {**usual, **more}
    return prepare_job(CONTENT, STYLES, choose_settings(preset, **choices))


@pytest.mark.parametrize("preset", ["default", "coursera", "gatys"])
@pytest.mark.parametrize("tv_weight", [0.0, 1e-3])
def test_cost_and_gradient_are_autograds(preset: str, tv_weight: float) -> None:
    ours = job_of("onnx", preset, tv_weight=tv_weight)
    theirs = job_of("torch", preset, tv_weight=tv_weight)
    assert (ours.opened.choice.name, ours.opened.choice.precision) == ("onnx", "fp32")
    pixels = random_pixels(50, 67, 9)
    cost, gradient = ours.backend(0).cost_and_gradient(pixels)
    expected, reference = theirs.backend(0).cost_and_gradient(pixels)
    assert relative_error(gradient, reference) < 5e-4
    for name in ("total", "content", "style", "total_variation"):
        assert getattr(cost, name) == pytest.approx(getattr(expected, name), rel=1e-4), name
    assert cost.style_layers == pytest.approx(dict(expected.style_layers), rel=1e-4)
    assert cost.content_layers == pytest.approx(dict(expected.content_layers), rel=1e-4)
    assert ours.backend(0).cost(pixels).total == pytest.approx(cost.total, rel=1e-5)
    assert gradient.dtype == np.float32
    assert ours.opened.mean == pytest.approx(theirs.opened.mean)
    assert ours.opened.weights_sha256 == theirs.opened.weights_sha256


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_both_backends_reach_the_same_cost(solver: SolverName) -> None:
    by_onnx = run_job(job_of("onnx", steps=10, size=41, solver=solver)).cost.total
    by_torch = run_job(job_of("torch", steps=10, size=41, solver=solver)).cost.total
    assert by_onnx == pytest.approx(by_torch, rel=0.01)


def test_the_same_run_gives_the_same_bytes() -> None:
    runs = [run_job(job_of("onnx", steps=3, size=75, scales=2)) for _ in range(2)]
    assert runs[0].pixels.tobytes() == runs[1].pixels.tobytes()


def test_one_graph_serves_all_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path))
    totals = []
    for weight in (1.0, 5.0):
        backend = job_of("onnx", style_weight=weight, tv_weight=weight / 100, **SHALLOW).backend(0)
        totals.append(backend.cost_and_gradient(random_pixels(50, 67, 9))[0].total)
    assert totals[1] > totals[0]
    kept = (tmp_path / "sessions").iterdir()
    assert len([path for path in kept if "gradient" in describe_kept(path)]) == 1


def test_auto_is_onnx_on_the_cpu_and_torch_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = choose_settings(device="cpu")
    assert choose_backend(settings).name == "onnx"
    policy = PrecisionPolicy(processor=Processor(bf16_units=False, bf16="plain"))
    bf16 = replace(settings, precision="bf16")
    assert choose_backend(bf16, policy=policy).name == "torch"
    present = {"torch": True, "onnxruntime": False}
    monkeypatch.setattr(backends, "is_there", present.__getitem__)
    assert choose_backend(settings).name == "torch"
    present |= {"torch": False, "onnxruntime": True}
    assert choose_backend(settings).name == "onnx"
    monkeypatch.setitem(sys.modules, "nstx.engine.devices.precisions", None)
    with pytest.raises(DeviceError, match="--backend onnx"):
        choose_backend(replace(settings, backend="torch"))


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_precisions_that_it_has_not_are_refused(precision: Precision) -> None:
    with pytest.raises(DeviceError, match=precision):
        choose_backend(choose_settings(backend="onnx", device="cpu", precision=precision))


@pytest.mark.parametrize("precision", ["auto", "fp32", "tf32", "fp16"])
def test_cuda_has_three_precisions(
    precision: Precision | Auto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "choose_provider_on", lambda device: Provider("cuda"))
    choice = choose_backend(choose_settings(backend="onnx", device="cuda", precision=precision))
    assert choice.precision == ("fp32" if precision == "auto" else precision)
    assert (choice.name, choice.checked) == ("onnx", False)
    with pytest.raises(DeviceError, match="bf16"):
        choose_backend(choose_settings(backend="onnx", device="cuda", precision="bf16"))


def test_a_cost_that_is_not_finite_is_an_error() -> None:
    backend = job_of("onnx").backend(0)
    with pytest.raises(NumericalError, match="finite"):
        backend.cost_and_gradient(np.full((50, 67, 3), np.nan, np.float32))
    with pytest.raises(NumericalError, match="finite"):
        backend.cost(np.full((50, 67, 3), 1e30, np.float32))


COMMANDS = """
import os, sys
sys.modules["torch"] = None
from functools import partial
from pathlib import Path
import numpy as np
from PIL import Image
from nstx.cli.app import app
from nstx.cli.errors.exits import run_app
from nstx.engine.bench import computations, throughput, worker
shared_cache = sys.argv[1]
def measure_here(task):
    # Processes of its own could import PyTorch.
    try:
        return worker.measure(task) | {"cold": 1.0}
    except ImportError as error:
        if "torch" not in task.variant:
            raise
        return {"error": str(error)}
computations._PEAK_SIZE = 64
throughput.run_bench = partial(throughput.run_bench, run_task=measure_here)
for name, seed in (("photo", 1), ("painting", 2)):
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(f"{name}.png")
pictures = ["--content", "photo.png", "--style", "painting.png"]
layers = ["--style-layers", "conv1_1,conv2_1", "--content-layers", "conv2_2"]
bare = "--no-manifest"
for arguments in (
    ["precompute", *pictures, "--size", "48", *layers],
    ["precompute", *pictures, "--size", "48", *layers, "-o", "t.safetensors"],
    ["optimize", "photo.png", "painting.png", "-o", "out.png", "--size", "48", "--steps", "2", *layers, bare],
    ["optimize", "--targets", "t.safetensors", "-o", "two.png", "--steps", "2", *layers, bare],
    ["evaluate", "out.png", *pictures, *layers],
    ["features", "photo.png", "-o", "sheets", "--layers", "conv1_1", "--size", "48"],
    ["model"],
    ["cache", "verify"],
    ["doctor"],
    ["bench", "gradient", "--sizes", "32", "--rounds", "1", "--repeats", "1", "--seconds", "0"],
):
    if arguments[0] == "bench":
        os.environ["NSTX_CACHE_DIR"] = shared_cache  # which has the graph of all layers
    sys.argv = ["nstx", *arguments, "--quiet"]
    code = run_app(app)
    assert code == 0, (arguments, code)
assert Path("out.png").read_bytes() == Path("two.png").read_bytes()
"""


def test_every_command_works_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, os.environ["NSTX_CACHE_DIR"]],
        cwd=tmp_path,
        env={**os.environ, "NSTX_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 5e-4), ("fp16", 0.1)])
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_on_cuda_it_computes_what_the_cpu_does(
    precision: Precision, bound: float, pooling: Pooling
) -> None:
    if not provider_loads(Provider("cuda")):
        pytest.skip("ONNX Runtime's CUDAExecutionProvider does not load here")
    ours = job_of(
        "onnx", device="cuda", precision=precision, pooling=pooling, tv_weight=1e-3
    ).backend(0)
    on_cpu = job_of("onnx", pooling=pooling, tv_weight=1e-3).backend(0)
    pixels = random_pixels(50, 67, 9)
    cost, gradient = ours.cost_and_gradient(pixels)
    expected, reference = on_cpu.cost_and_gradient(pixels)
    assert cost.total == pytest.approx(expected.total, rel=bound)
    assert relative_error(gradient, reference) < bound


def test_the_torch_backend_without_torch_says_what_to_do(
    tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from nstx.cli.app import app\n"
        "from nstx.cli.errors.exits import run_app\n"
        "sys.argv[0] = 'nstx'\n"
        "sys.exit(run_app(app))\n"
    )
    picture = str(save_picture("a.png"))
    command = ["optimize", picture, picture, "-o", str(tmp_path / "o.png"), "--backend", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "--backend onnx" in done.stderr


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_a_batch_computes_what_its_pictures_do_alone(backend: BackendName) -> None:
    """Every picture has its own targets and weights."""
    jobs = [
        prepare_job(content, STYLES[index : index + 1], choose_settings(
            size=67, scales=1, device="cpu", backend=backend,
            content_weight=0.1 + index, style_weight=2.0 - index, tv_weight=1e-3 * (1 + index),
        ))
        for index, content in enumerate([CONTENT, Picture(CONTENT.pixels[::-1], None)])
    ]  # fmt: skip
    problems = [(job.settings.objective, job.targets[0]) for job in jobs]
    batch = jobs[0].opened.make(problems)
    pixels = np.stack([random_pixels(50, 67, 9), random_pixels(50, 67, 10)])
    costs, gradients = batch.costs_and_gradients(pixels)
    for index, job in enumerate(jobs):
        cost, gradient = job.backend(0).cost_and_gradient(pixels[index])
        assert costs[index].total == pytest.approx(cost.total, rel=1e-5)
        assert costs[index].style_layers == pytest.approx(dict(cost.style_layers), rel=1e-5)
        assert relative_error(gradients[index], gradient) < 1e-5
        assert batch.costs(pixels)[index].total == pytest.approx(cost.total, rel=1e-5)


def test_pictures_that_are_no_batch_are_refused() -> None:
    job, other = job_of("onnx"), job_of("onnx", size=48)
    objective, targets = job.settings.objective, job.targets[0]
    no_batches: list[list[tuple[Objective, Targets]]] = [
        [],
        [(objective, targets), (objective, other.targets[0])],
        [(objective, targets), (replace(objective, pooling="max"), targets)],
        [(objective, targets), (replace(objective, tv_weight=1.0), targets)],
    ]
    for problems in no_batches:
        with pytest.raises(UsageError, match="one size"):
            job.opened.make(problems)


def test_a_kept_graph_runs_in_its_own_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but nodes that ask for a shape, which ONNX Runtime takes first."""
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    job_of("onnx", **SHALLOW)
    sessions = tmp_path / "cache" / "sessions"
    (kept,) = (path for path in sessions.iterdir() if "gradient" in describe_kept(path))
    monkeypatch.chdir(tmp_path)  # where profiles are written
    loaded: list[Any] = []
    real = onnxruntime.InferenceSession

    def profiled(model: object, options: Any, **more: Any) -> Any:
        options.enable_profiling = True
        loaded.append(real(model, options, **more))
        return loaded[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", profiled)
    backend = job_of("onnx", **SHALLOW).backend(0)
    backend.cost_and_gradient(random_pixels(50, 67, 9))
    events = json.loads(Path(loaded[-1].end_profiling()).read_text())
    ran = [event["name"].removesuffix("_kernel_time") for event in events]
    expected = [node.name for node in onnx.load(kept).graph.node if node.op_type != "Shape"]
    assert [name for name in ran if name in set(expected)] == expected
    assert expected.index("conv1_1_style_flat_gradient") > expected.index("conv2_1_style_gram")
