"""A step on CUDA: gradients by precision, captured in a graph, plain, compiled and by autograd; and Adam.

python benchmarks/cuda_step.py [--device cuda:0] [--sizes 512,1024,2048] [--batches 256x1,…] [--json FILE]

Squares of zeros as targets, the default objective. Milliseconds are medians of the repeats after warm-up,
each repeat ten steps between two waits for the device; the variants take turns. `kernels`: run by one
step, by PyTorch's profiler. `gflops` counts the convolutions, forward and backward; `share_of_peak` is
of a product of 8192 by 8192 matrices in the same precision.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nstx import choose_settings
from nstx.engine.devices.cuda_graph import Function
from nstx.engine.devices.device import settle
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.engine.devices.precisions import supported_precisions
from nstx.engine.devices.torch_arrays import TorchArrays
from nstx.engine.devices.torch_device import TorchDevice
from nstx.engine.features.torch_network import TorchNetwork
from nstx.engine.gradients.backprop import BackpropBackend, BackwardPass
from nstx.engine.gradients.torch_gradient import AutogradBackend, TorchGradient
from nstx.engine.solvers.torch_adam import run_adam
from nstx.engine.targets.targets import make_zero_targets
from nstx.engine.transfer.progress import Progress
from nstx.models.errors import NstxError
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import flops_per_pixel, truncate
from nstx.models.weights.load import load_weights

OBJECTIVE = PRESETS["default"].objective
REPEATS, CALLS, WARM_UPS = 7, 10, 3
VARIANTS = ("captured", "plain", "compiled", "autograd")


class Compiled:
    """Compiles an evaluation where others capture it."""

    def __init__(self) -> None:
        torch.compiler.reset()
        self._function: Function | None = None

    def __call__(self, function: Function, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See `nstx.engine.devices.cuda_graph.Capture`."""
        if self._function is None:
            self._function = torch.compile(function, dynamic=False)
        return self._function(*inputs)


def make_backend(variant: str, device: TorchDevice, size: int, batch: int) -> TorchGradient:
    """Return a backend that is compared."""
    weights = load_weights()
    problems = [(OBJECTIVE, make_zero_targets(OBJECTIVE, size, size))] * batch
    if variant == "autograd":
        eager = TorchNetwork(
            weights, OBJECTIVE.layers, OBJECTIVE.pooling, OBJECTIVE.pool_rounding, device
        )
        backend: TorchGradient = AutogradBackend(eager, problems, capture=False)
    else:
        capture = Compiled() if variant == "compiled" else variant == "captured"
        backend = BackpropBackend(
            BackwardPass(weights, OBJECTIVE, device), problems, capture=capture
        )
    return backend


def time_calls(call: Callable[[], object], device: TorchDevice, calls: int = CALLS) -> float:
    """Return the milliseconds of a call, of several between two waits for the device."""
    torch.cuda.synchronize(device.torch_device)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    torch.cuda.synchronize(device.torch_device)
    return 1000 * (time.perf_counter() - began) / calls


def count_kernels(call: Callable[[], object]) -> int:
    """Return how many kernels a call launches."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
    kernels = profile.key_averages()
    return sum(kernel.count for kernel in kernels if kernel.self_device_time_total > 0)


def measure(device: TorchDevice, size: int, batch: int, peak: float) -> list[dict[str, Any]]:
    """Return a row for each variant at a size; one that fails has ``error``."""
    x = torch.rand(batch, size, size, 3, device=device.torch_device) * 255
    cell = {"size": size, "batch": batch, "precision": device.precision}
    rows: list[dict[str, Any]] = []
    calls: dict[str, Callable[[], object]] = {}
    times: dict[str, list[float]] = {}
    for variant in VARIANTS:
        row: dict[str, Any] = {**cell, "variant": variant}
        rows.append(row)
        try:
            row |= prepare(variant, device, x, calls)
            times[variant] = []
        except (RuntimeError, NstxError, AssertionError) as error:
            row["error"] = f"{type(error).__name__}: {error}"[:300]
    for turn in range(REPEATS):
        for variant in list(times)[:: 1 if turn % 2 == 0 else -1]:
            times[variant].append(time_calls(calls[variant], device))
    flops = 2 * flops_per_pixel(truncate(OBJECTIVE.layers)) * size**2 * batch
    for row in rows:
        if "error" not in row:
            row["milliseconds"] = statistics.median(times[row["variant"]])
            row["slowest"] = max(times[row["variant"]])
            row["gflops"] = flops / row["milliseconds"] / 1e6
            row["share_of_peak"] = row["gflops"] / peak
            if "autograd" in times:
                row["of_autograd"] = row["milliseconds"] / statistics.median(times["autograd"])
    return rows


def prepare(
    variant: str, device: TorchDevice, x: torch.Tensor, calls: dict[str, Callable[[], object]]
) -> dict[str, Any]:
    """Warm a variant up and put its call among the others; return what is measured of it alone."""
    before = torch.cuda.memory_allocated(device.torch_device)
    torch.cuda.reset_peak_memory_stats(device.torch_device)
    backend = make_backend(variant, device, x.shape[1], len(x))

    def call() -> object:
        return backend.costs_and_gradients(x)

    for _ in range(WARM_UPS):
        call()
    calls[variant] = call
    return {
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device.torch_device) - before,
        "kernels": count_kernels(call),
        "adam_step_milliseconds": time_adam(backend, device, x) if variant == "captured" else None,
    }


def time_adam(backend: TorchGradient, device: TorchDevice, x: torch.Tensor) -> float | None:
    """Return the milliseconds of a step of Adam; None in fp16, and of batches.

    From runs of 100 and of 300 steps, so that the beginning of a run, such as its graph, is left out.
    """
    if len(x) > 1 or device.precision == "fp16":
        return None

    def run(steps: int) -> None:
        settings = choose_settings(steps=steps, early_stop=False)
        progress = Progress(settings=settings, scales=1, arrays=TorchArrays(x.device))
        run_adam(backend, x[0], steps=steps, learning_rate=2.0, clip=True, watcher=progress)

    run(100)
    short, long = (
        min(time_calls(partial(run, steps), device, 1) for _ in range(3)) for steps in (100, 300)
    )
    return (long - short) / 200


def measure_peak(device: TorchDevice) -> float:
    """Return the GFLOP/s of large matrix products in a precision."""
    matrix = torch.rand(8192, 8192, device=device.torch_device).to(device.dtype)
    with device.numerics(products=True):
        time_calls(lambda: matrix @ matrix, device)
        milliseconds = min(time_calls(lambda: matrix @ matrix, device) for _ in range(REPEATS))
    return 2 * 8192**3 / milliseconds / 1e6


def main() -> None:
    """Measure all sizes in all precisions, print them, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--sizes", default="512,1024,2048")
    parser.add_argument("--batches", default="256x1,256x8,256x32,512x8,512x32,1024x8")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    cells = [(int(size), 1) for size in chosen.sizes.split(",") if size]
    for cell in filter(None, chosen.batches.split(",")):
        size, _, batch = cell.partition("x")
        cells.append((int(size), int(batch)))
    report: dict[str, Any] = {
        "machine": {**describe_machine(), "gpu": torch.cuda.get_device_name(chosen.device)},
        "packages": package_versions(),
        "warm_up": f"{WARM_UPS} steps",
        "repeats": REPEATS,
        "rows": [],
    }
    place = settle(chosen.device, by_torch=True)
    for precision in supported_precisions(place):
        device = TorchDevice(place, precision)
        peak = measure_peak(device)
        for size, batch in cells:
            for row in measure(device, size, batch, peak):
                report["rows"].append(row)
                print(json.dumps(row), flush=True)
            if chosen.json is not None:  # after each size, as the next may take all memory
                chosen.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
