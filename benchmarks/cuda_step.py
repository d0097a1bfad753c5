"""A step on CUDA: gradients by precision, captured in a graph, plain, compiled and by autograd; and Adam.

python benchmarks/cuda_step.py [--device cuda:0] [--sizes 512,1024,2048] [--batches 256x1,…] [--json FILE]

Squares of zeros as targets, the default objective. Milliseconds are medians of the repeats after warm-up,
each repeat ten steps between two waits for the device; the variants take turns. `kernels`: launched by one
plain step, by PyTorch's profiler. `gflops` counts the convolutions, forward and backward; `share_of_peak` is
of a product of 8192 by 8192 matrices in the same precision.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nstx.engine.bench_gradient import make_zero_targets
from nstx.engine.devices import TorchDevice, supported_precisions
from nstx.engine.machine import describe_machine, package_versions
from nstx.engine.torch_adam import run_adam
from nstx.engine.torch_backend import TorchBackend
from nstx.engine.torch_backprop import BackpropBackend, BackpropNetwork
from nstx.engine.torch_gradient import TorchGradient
from nstx.engine.torch_network import TorchNetwork
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import flops_per_pixel, truncate
from nstx.models.weights import load_weights

OBJECTIVE = PRESETS["default"].objective
REPEATS, CALLS, WARM_UPS = 7, 10, 3
ADAM_STEPS = 200


def make_backends(device: TorchDevice, size: int, batch: int) -> dict[str, TorchGradient]:
    """Return the backends that are compared."""
    weights = load_weights()
    problems = [(OBJECTIVE, make_zero_targets(OBJECTIVE, size, size))] * batch
    network = BackpropNetwork(weights, OBJECTIVE, device)
    found: dict[str, TorchGradient] = {"captured": BackpropBackend(network, problems)}
    os.environ["NSTX_CUDA_GRAPHS"] = "0"
    found["plain"] = BackpropBackend(network, problems)
    found["compiled"] = BackpropBackend(network, problems)
    found["compiled"].evaluate = torch.compile(found["compiled"].evaluate)
    eager = TorchNetwork(
        weights, OBJECTIVE.layers, OBJECTIVE.pooling, OBJECTIVE.pool_rounding, device
    )
    found["autograd"] = TorchBackend(eager, device, problems)
    del os.environ["NSTX_CUDA_GRAPHS"]
    return found


def time_calls(call: Callable[[], object], device: TorchDevice, calls: int = CALLS) -> float:
    """Return the milliseconds of a call, of several between two waits for the device."""
    torch.cuda.synchronize(device.name)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    torch.cuda.synchronize(device.name)
    return 1000 * (time.perf_counter() - began) / calls


def count_kernels(call: Callable[[], object]) -> int:
    """Return how many kernels a call launches."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
    return sum(each.count for each in profile.key_averages() if each.self_device_time_total > 0)


def measure(device: TorchDevice, size: int, batch: int, peak: float) -> dict[str, Any]:
    """Return the medians of all variants at a size."""
    torch.cuda.reset_peak_memory_stats(device.name)
    backends = make_backends(device, size, batch)
    x = torch.rand(batch, size, size, 3, device=device.name) * 255
    calls = {name: lambda b=b: b.costs_and_gradients(x) for name, b in backends.items()}
    for call in calls.values():
        for _ in range(WARM_UPS):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(REPEATS):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(time_calls(calls[name], device))
    medians = {name: statistics.median(each) for name, each in times.items()}
    flops = 2 * flops_per_pixel(truncate(OBJECTIVE.layers)) * size**2 * batch
    gflops = flops / medians["captured"] / 1e6
    return {
        "size": size,
        "batch": batch,
        "precision": device.precision,
        "milliseconds": medians,
        "slowest": {name: max(each) for name, each in times.items()},
        "of_autograd": {name: each / medians["autograd"] for name, each in medians.items()},
        "kernels": count_kernels(calls["plain"]),
        "gflops": gflops,
        "share_of_peak": gflops / peak,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device.name),
        "adam_step_milliseconds": time_adam(backends["captured"], device, x),
    }


def time_adam(backend: TorchGradient, device: TorchDevice, x: torch.Tensor) -> float | None:
    """Return the milliseconds of a step of Adam, of 200, the second time; None in fp16, and of batches."""
    if len(x) > 1 or device.precision == "fp16":
        return None

    def run() -> None:
        run_adam(
            backend, x[0], steps=ADAM_STEPS, learning_rate=2.0, clip=True,
            before_evaluation=lambda: None, on_first_cost=lambda _: None,
            on_step=lambda *_: None,
        )  # fmt: skip

    run()
    return time_calls(run, device, 1) / ADAM_STEPS


def measure_peak(device: TorchDevice) -> float:
    """Return the GFLOP/s of large matrix products in a precision."""
    matrix = torch.rand(8192, 8192, device=device.name).to(device.dtype)
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
    rows = []
    for precision in supported_precisions(chosen.device):
        device = TorchDevice(chosen.device, precision)
        peak = measure_peak(device)
        for size, batch in cells:
            row = measure(device, size, batch, peak)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if chosen.json is not None:
        report = {
            "machine": {**describe_machine(), "gpu": torch.cuda.get_device_name(chosen.device)},
            "packages": package_versions(),
            "warm_up": f"{WARM_UPS} steps",
            "repeats": REPEATS,
            "rows": rows,
        }
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
