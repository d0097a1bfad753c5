"""What benchmarks have in common: rows that come when they are measured, and floors."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import typer
from networks import needs_bf16

from nstx.cli.app import app
from nstx.cli.bench.tables import lay_out_cells, measure
from nstx.cli.console import Console, Pace
from nstx.engine.bench import computations, throughput, worker
from nstx.engine.bench.floor import measure_floor, time_calls
from nstx.engine.bench.tasks import Task
from nstx.engine.bench.throughput import FeatureBench, GradientBench, check_memory, run_bench
from nstx.engine.devices.convolution import Convolution, CudnnConvolution, make_convolution
from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.torch_network import TorchNetwork
from nstx.models.errors import DeviceError
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import truncate
from nstx.models.weights.load import load_weights

CPU = TorchDevice(Device("cpu"), "fp32")


def answer_of(task: Task) -> dict[str, Any]:
    """Return what a process would have measured: a second for torch, less for others."""
    if task.work == "peak":
        return {"gflops": 100.0}
    warm = [1.0 if task.variant == "torch" else 0.25]
    return {
        "warm": warm, "cold": 2.0, "peak_memory_bytes": 1 << 28, "runs_on": "here", "norms": [1.0],
        **({"step": [0.125, 0.25, 0.5], "floor": 0.1} if task.device == "cuda" else {}),
    }  # fmt: skip


def bench_of(*variants: str, **more: Any) -> GradientBench:
    return GradientBench(variants=variants, sizes=(32, 48), **more)


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_row_comes_as_soon_as_it_is_measured(rounds: int) -> None:
    events: list[str] = []

    def run(task: Task) -> dict[str, Any]:
        events.append(f"{task.variant} {task.size}")
        return answer_of(task)

    bench = bench_of("onnx", "torch", "torch-bf16", rounds=rounds)
    rows: list[dict[str, Any]] = []

    def take(row: dict[str, Any]) -> None:
        rows.append(row)
        events.append(f"row {row['variant']} {row['size']}")

    report = run_bench(bench, on_row=take, run_task=run)
    measured = events[len(bench.warm_up) + rounds * len(bench.precisions) :]
    for size in (32, 48):
        of_size = [event for event in measured if event.endswith(f" {size}")]
        before, last = of_size[:-6], of_size[-6:]
        assert last == [
            f"{name} {size}"
            for variant in ("torch", "onnx", "torch-bf16")
            for name in (variant, f"row {variant}")
        ]
        # The rounds before go each way in turn.
        forward = [f"{variant} {size}" for variant in ("torch", "onnx", "torch-bf16")]
        assert before == [*forward, *forward[::-1]][-3 * (rounds - 1) or 6 :]
    assert measured.index("row torch-bf16 32") < measured.index("torch 48")
    assert sorted(map(str, rows)) == sorted(map(str, report["rows"]))
    assert [row["variant"] for row in report["rows"]] == ["onnx", "torch", "torch-bf16"] * 2
    assert [row["of_torch"] for row in rows] == [1.0, 0.25, 0.25] * 2
    assert {row["share_of_peak"] is not None for row in rows} == {True}


def test_a_row_beside_a_torch_that_failed_is_not_compared() -> None:
    def run(task: Task) -> dict[str, Any]:
        return {"error": "no memory"} if task.variant == "torch" else answer_of(task)

    rows: list[dict[str, Any]] = []
    run_bench(bench_of("onnx", "torch"), on_row=rows.append, run_task=run)
    assert [row.get("error") for row in rows] == ["no memory", None] * 2
    assert "of_torch" not in rows[1]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_printed_are_a_heading_and_the_rows(
    capsys: pytest.CaptureFixture[str], device: str, as_json: bool
) -> None:
    bench = replace(bench_of("onnx", "torch"), device=device)
    lines: list[int] = []

    def run(
        bench: GradientBench,
        on_measurement: Callable[[str], None],
        on_row: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        def take(row: dict[str, Any]) -> None:
            on_row(row)
            captured = capsys.readouterr()
            lines.append((captured.err if as_json else captured.out).count("\n"))

        return run_bench(bench, on_measurement, take, run_task=answer_of)

    console = Console(as_json=as_json, quiet=False)
    measure(run, bench, lay_out_cells(bench), "what", console)
    assert lines == [3, 1, 1, 1]
    out, err = capsys.readouterr()
    assert err == ""
    if as_json:
        rows = json.loads(out)["rows"]
        assert {row["of_floor"] for row in rows} == ({2.5} if device == "cuda" else {None})
    else:
        assert out.splitlines()[0].startswith("matrix products fp32 100 GFLOP/s")
        assert out.splitlines()[1].startswith("what; 2 rounds in ")


def test_floors_are_columns_on_cuda_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for device in ("cpu", "cuda"):
        bench = replace(bench_of("torch"), device=device, sizes=(32,))
        layout = lay_out_cells(bench)
        (row,) = run_bench(bench, run_task=answer_of)["rows"]
        line = layout.describe(row)
        assert ("floor" in layout.heading) == ("100.00 ms" in line) == (device == "cuda")
        # The share of torch's time stands at the end, under no heading of a fixed width.
        assert line.index("256 MiB") + len("256 MiB") == layout.heading.index("memory") + 6
    assert row["of_floor"] == 2.5
    assert row["gflops"] == pytest.approx(bench.flops_per_pixel * 32**2 / 0.25 / 1e9)


def test_rows_that_lack_a_round_are_printed_when_it_is_interrupted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[Task] = []

    def run_some(task: Task) -> dict[str, Any]:
        done.append(task)
        if len(done) == len(bench.warm_up) + 2 + 3 + 1:
            raise KeyboardInterrupt
        return answer_of(task)

    bench = bench_of("torch", "onnx", rounds=2)
    console = Console(as_json=False, quiet=False)
    with pytest.raises(typer.Exit) as exit_:
        measure(
            lambda bench, *watch: run_bench(bench, *watch, run_task=run_some),
            bench, lay_out_cells(bench), "what", console,
        )  # fmt: skip
    assert exit_.value.exit_code == 130
    out = capsys.readouterr().out
    names = [line.split()[2] for line in out.splitlines()[2:] if line.startswith("   32")]
    assert names == ["torch", "onnx"]
    assert "interrupted: the rest was not measured" in out


def test_a_bench_without_a_terminal_says_now_and_then_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(as_json=False, quiet=False)
    for seconds, lines in ((0.0, "measured 1/3  one\nmeasured 2/3  two\n"), (60.0, "")):
        monkeypatch.setattr(Pace, "seconds", seconds)
        with console.counting("measured", 3) as advance:
            for name in ("one", "two", "three"):
                advance(name)
        assert capsys.readouterr().err == lines


def test_a_piped_bench_prints_its_rows_before_it_ends(
    nstx: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    before: list[str] = []

    def run(task: Task) -> dict[str, Any]:
        if task.size == 48:
            before.append(os.read(reader, 1 << 16).decode())
        return answer_of(task)

    monkeypatch.setattr(throughput, "run_bench", partial(run_bench, run_task=run))
    with monkeypatch.context() as patch, os.fdopen(writer, "w") as stdout:
        patch.setattr(sys, "stdout", stdout)
        options = ["--batches", "1", "--variants", "onnx", "--rounds", "1", "--device", "cpu"]
        code, _, _ = nstx("bench", "features", "--sizes", "32,48", *options)
        stdout.flush()
        after = os.read(reader, 1 << 16).decode()
    os.close(reader)
    assert code == 0
    assert len(before) == 1
    assert before[0].splitlines()[-1].split()[:3] == ["32", "1", "onnx"]
    assert after.splitlines()[0].split()[:3] == ["48", "1", "onnx"]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize("backward", [True, False])
def test_a_floor_is_of_every_convolution_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, precision: TorchPrecision, backward: bool
) -> None:
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr("nstx.engine.bench.floor.fastest_layout", lambda _: "channels_last")
    real = F.conv2d

    def conv2d(x: torch.Tensor, kernel: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        shapes.append((*x.shape[1:], len(kernel)))
        return real(x, kernel, *rest, **more)

    monkeypatch.setattr(F, "conv2d", conv2d)
    layers = truncate(["conv3_2"])
    device = replace(CPU, precision=precision)
    assert measure_floor(layers, (19, 33), 2, device, rounding="ceil", backward=backward) > 0
    expected = [
        (3, 19, 33, 64), (64, 19, 33, 64), (64, 10, 17, 128), (128, 10, 17, 128),
        (128, 5, 9, 256), (256, 5, 9, 256),
    ]  # fmt: skip
    flipped = [(after, h, w, before) for before, h, w, after in expected]
    both = [shape for pair in zip(expected, flipped, strict=True) for shape in pair]
    assert shapes[: len(both)] == both if backward else shapes[: len(expected)] == expected
    assert len(shapes) % len(both if backward else expected) == 0


def test_calls_are_fewer_where_they_take_long() -> None:
    calls: list[int] = []
    times = time_calls(lambda: calls.append(0), CPU, repeats=3)
    assert (len(times), len(calls)) == (3, 2 + 3 * 10)


@pytest.mark.parametrize("bench", [GradientBench, FeatureBench])
def test_a_process_measures_its_floor_on_cuda_alone(
    monkeypatch: pytest.MonkeyPatch, bench: type[GradientBench] | type[FeatureBench]
) -> None:
    task = replace(bench().task("torch", 24), seconds=0.0, repeats=2)
    assert not {"floor", "step"} & set(worker.measure(task))
    # The processor in the place of a CUDA device.
    monkeypatch.setattr(worker, "_is_on_cuda", lambda _: True)
    monkeypatch.setattr(worker, "_memory_in_use", lambda _: 1 << 28)
    answer = worker.measure(task)
    assert answer["floor"] > 0
    assert len(answer["step"]) >= 2 if task.work == "gradient" else "step" not in answer

    def fail(*_: Any, **_more: Any) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("nstx.engine.bench.floor.measure_floor", fail)
    answer = worker.measure(task)
    assert answer["floor_error"] == "CUDA out of memory"
    assert answer["warm"]

    def refuse(*_: Any, **_more: Any) -> float:
        raise DeviceError("expected CUDA device 0, got no CUDA devices")

    monkeypatch.setattr(computations, "floor_seconds", refuse)
    answer = worker.measure(task)
    assert answer["floor_error"].startswith("expected CUDA device 0")
    assert answer["warm"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch has CUDA here")
@pytest.mark.parametrize("is_installed", [True, False])
def test_memory_on_cuda_is_unknown_without_a_pytorch_that_has_the_device(
    monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    bench = replace(bench_of("torch", "onnx"), device="cuda")
    if not is_installed:
        monkeypatch.setitem(sys.modules, "torch", None)
    assert worker._memory_in_use(bench.task("onnx", 24)) is None
    layout = lay_out_cells(bench)
    for memory, shown in ((None, ""), (1 << 28, "256 MiB")):

        def answer(task: Task, memory: int | None = memory) -> dict[str, Any]:
            return {**answer_of(task), "peak_memory_bytes": memory}

        row = run_bench(bench, run_task=answer)["rows"][-1]
        assert row["peak_memory_bytes"] == memory
        place = layout.heading.index("memory") + 6
        assert layout.describe(row)[place - 8 : place].strip() == shown


def test_a_norm_that_is_not_finite_or_zero_costs_no_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    norms = {
        32: {"torch": [1.0, 0.0], "onnx": [1.5, 0.0], "onnx-fp16": [math.inf, math.nan]},
        48: {"torch": [2.0, 0.0], "onnx": [2.0, 1.0], "onnx-fp16": [2.0, 0.0]},
    }

    def run(bench: GradientBench, *watch: Callable[..., None]) -> dict[str, Any]:
        def answer(task: Task) -> dict[str, Any]:
            return {**answer_of(task), "norms": norms.get(task.size, norms[32]).get(task.variant)}

        return run_bench(bench, *watch, run_task=answer)

    bench = bench_of("torch", "onnx", "onnx-fp16")
    measure(run, bench, lay_out_cells(bench), "what", Console(as_json=True, quiet=False))
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["norm_difference"] for row in rows] == [0.0, 0.5, None, 0.0, None, 0.0]
    assert rows[2]["norms"] == [None, None]


def test_the_hosts_memory_is_no_bound_for_a_cuda_device() -> None:
    for device, is_bound in (("cpu", True), ("cuda:1", False)):
        bench = replace(bench_of("torch"), device=device)
        error = check_memory(bench, bench.task("torch", 1_000_000, batch=64))
        assert (error is not None) == is_bound


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch has CUDA here")
@pytest.mark.parametrize("loads", [True, False])
def test_cuda_is_measured_where_onnx_runtime_alone_has_it(
    monkeypatch: pytest.MonkeyPatch, loads: bool
) -> None:
    devices: list[str] = []

    def run(bench: FeatureBench, *_: Callable[..., None]) -> dict[str, Any]:
        devices.append(bench.device)
        raise DeviceError("nothing is measured here")

    monkeypatch.setattr("nstx.engine.bench.throughput.run_bench", run)
    monkeypatch.setattr("nstx.cli.bench.command.provider_loads", lambda _: loads)
    arguments = ["bench", "features", "--variants", "onnx", "--device", "cuda:1"]
    with pytest.raises(DeviceError, match="nothing is measured" if loads else "CUDA device 1"):
        app(arguments, standalone_mode=False)
    assert devices == (["cuda:1"] if loads else [])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32", "fp32"])
def test_a_floor_on_cuda_is_below_its_step(precision: TorchPrecision) -> None:
    objective = PRESETS["default"].objective
    device = TorchDevice(Device("cuda"), precision)
    layers = truncate(objective.layers)
    # Others may use the device meanwhile.
    of_one, of_four = (
        min(measure_floor(layers, (512, 512), batch, device) for _ in range(3)) for batch in (1, 4)
    )
    assert 1.5 < of_four / of_one < 8
    bench = GradientBench(
        variants=(f"torch-{precision}" if precision != "fp32" else "torch",),
        sizes=(512,), rounds=1, seconds=0.2, device="cuda",
    )  # fmt: skip
    (row,) = run_bench(bench)["rows"]
    assert 1 < row["of_floor"] < 8
    assert row["floor_seconds"] < row["step_seconds"]
    # They are measured one after the other, while others may use the device.
    assert row["step_seconds"] < 3 * row["seconds"]


class CudaOnHost(TorchDevice):
    """A CUDA device, as far as choices go, whose tensors are in the host's memory."""

    @property
    def torch_device(self) -> torch.device:
        """The host."""
        return torch.device("cpu")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_bias_and_relu_are_fused_on_cuda_unless_pytorchs_own_are_asked_for(
    precision: TorchPrecision,
) -> None:
    device, kernel = TorchDevice(Device("cuda"), precision), torch.zeros((16, 8, 3, 3))
    kinds = [
        type(make_convolution(device, kernel, None, "channels_last", relu=relu, fused=fused))
        for relu, fused in ((True, True), (True, False), (False, True))
    ]
    assert kinds == [CudnnConvolution, Convolution, Convolution]
    assert type(make_convolution(device, kernel, None, "contiguous", relu=True)) is CudnnConvolution


@pytest.mark.parametrize("variant", ["torch", "torch-compile", "torch-bf16"])
def test_features_are_compared_with_pytorchs_own_operators(
    monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    networks: list[TorchNetwork] = []

    class Noted(TorchNetwork):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            networks.append(self)

    def on_host(_: Task, precision: TorchPrecision) -> TorchDevice:
        return CudaOnHost(Device("cuda"), precision)

    monkeypatch.setattr(computations, "_torch_device", on_host)
    monkeypatch.setattr("nstx.engine.features.torch_network.TorchNetwork", Noted)
    monkeypatch.setattr(torch, "compile", lambda function, mode: function)
    computations.open_features(FeatureBench().task(variant, 24))
    (network,) = networks
    assert network.device.precision == ("bf16" if variant == "torch-bf16" else "fp32")
    names = [layer.name for layer in network.layers if layer.kind == "conv"]
    assert {type(network.convolution(name)) for name in names} == {Convolution}
    usual = TorchNetwork(load_weights(), names, "avg", "ceil", network.device)
    fuses = variant == "torch-bf16"
    assert (type(usual.convolution(names[-1])) is CudnnConvolution) == fuses


_HELD = """
import time
from pathlib import Path
from nstx.engine.bench.worker import _end_by_signals
from nstx.models.storage.leftovers import removed_at_exit
_end_by_signals()
with removed_at_exit(Path("half.part")):
    Path("half.part").touch()
    print("there", flush=True)
    time.sleep(60)  # as a library that does not return to Python: no handler would be called
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_measurement_that_is_ended_leaves_nothing_half_written(
    number: signal.Signals, tmp_path: Path
) -> None:
    command, pipe = [sys.executable, "-c", _HELD], subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(number)
        output = process.communicate(timeout=30)
    assert (process.returncode, output) == (128 + number, ("", ""))
    assert list(tmp_path.iterdir()) == []
