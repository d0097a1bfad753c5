"""Sections of `cuda_report`: steps beside floors, errors and times of checks, and ONNX Runtime.

Milliseconds are medians of five after warm-up, each of up to ten calls between two waits for the device.
"""

import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from cuda_plan import Plan, Row, Section, median_ms, open_step, random_pictures, tried
from numpy.typing import NDArray

from nstx.engine.bench.floor import measure_floor
from nstx.engine.bench.tasks import GRADIENT_VARIANTS
from nstx.engine.bench.throughput import GradientBench
from nstx.engine.bench.turns import run_process
from nstx.engine.devices.cuda_graph import CudaGraph
from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.torch_network import TorchNetwork
from nstx.engine.gradients.backprop import BackpropBackend, BackwardPass
from nstx.engine.gradients.torch_gradient import AutogradBackend, TorchGradient
from nstx.engine.settings import Precision
from nstx.engine.targets.targets import make_zero_targets
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import Pooling, flops_per_pixel, truncate
from nstx.models.weights.load import load_weights

OBJECTIVE = PRESETS["default"].objective
POOLINGS: tuple[Pooling, ...] = ("avg", "max")


def measure_steps(plan: Plan, section: Section) -> Iterator[Row]:
    """Yield a step of each precision and cell beside its floor and the matrix peak.

    ``step_ms`` has the costs on the host, ``replay_ms`` is the captured graph alone.
    """
    for precision in plan.precisions:
        device = TorchDevice(plan.place, precision)
        peak = measure_peak(device, plan.peak_size)
        yield {"precision": precision, "peak_tflops": peak}
        for size, batch in plan.cells:
            if not section.has(3):
                return
            cell = {"precision": precision, "size": size, "batch": batch}
            yield tried(cell, measure_step, device, size, batch, peak)


def measure_step(device: TorchDevice, size: int, batch: int, peak: float) -> Row:
    """Return the milliseconds of a step, of its graph alone and of its floor."""
    row = time_step(device, size, batch)
    step = row["step_ms"]
    floor = 1000 * measure_floor(truncate(OBJECTIVE.layers), (size, size), batch, device)
    flops = 2 * flops_per_pixel(truncate(OBJECTIVE.layers)) * size**2 * batch
    return row | {
        "floor_ms": floor,
        "of_floor": step / floor,
        "share_of_peak": flops / step / 1e9 / peak,
        "floor_share_of_peak": flops / floor / 1e9 / peak,
    }


def time_step(device: TorchDevice, size: int, batch: int) -> Row:
    """Return the milliseconds of a step; what it holds on the device is freed when it returns."""
    backend = open_step(device, size, batch)
    x = random_pictures(device, size, batch)
    step = median_ms(lambda: backend.costs_and_gradients(x), device)
    capture = vars(backend).get("_capture")
    graph = vars(capture).get("_graph") if isinstance(capture, CudaGraph) else None
    replay = None if graph is None else median_ms(graph.replay, device)
    return {"backend": type(backend).__name__, "step_ms": step, "replay_ms": replay}


def measure_peak(device: TorchDevice, size: int) -> float:
    """Return the TFLOP/s of products of large square matrices."""
    matrix = torch.rand(size, size, device=device.torch_device).to(device.dtype)
    with device.numerics(products=True):
        return 2 * size**3 / median_ms(lambda: matrix @ matrix, device) / 1e9


def measure_checks(plan: Plan, section: Section) -> Iterator[Row]:
    """Yield how far gradients are from float64's at an odd size, and what fp32 takes by its two ways."""
    for pooling in POOLINGS:
        reference = by_autograd(TorchDevice(Device("cpu"), "fp64"), plan.odd_size, pooling)
        expected = torch.from_numpy(reference.costs_and_gradients(pictures(plan.odd_size))[1])
        for name in (*plan.precisions, "fp32", "tf32x3"):
            if not section.has(2):
                return
            device = TorchDevice(plan.place, cast(TorchPrecision, name))
            cell = {"precision": name, "pooling": pooling, "size": plan.odd_size}
            yield tried(cell, measure_error, device, plan.odd_size, pooling, expected)
    for name in ("fp32", "tf32x3"):
        device, size = TorchDevice(plan.place, cast(TorchPrecision, name)), plan.cells[0][0]
        yield tried({"precision": name, "size": size}, time_exact, device, size)


def pictures(size: int) -> NDArray[np.float32]:
    """Return a batch of one picture."""
    return random_pictures(TorchDevice(Device("cpu"), "fp32"), size).numpy()


def measure_error(device: TorchDevice, size: int, pooling: Pooling, expected: torch.Tensor) -> Row:
    """Return the relative error of a gradient."""
    exact = device.precision == "tf32x3"
    backend = by_hand(device, size, pooling) if exact else open_step(device, size, 1, pooling)
    gradient = torch.from_numpy(backend.costs_and_gradients(pictures(size))[1]).double()
    error = float((gradient - expected).norm() / expected.norm())
    return {"backend": type(backend).__name__, "gradient_error": error}


def time_exact(device: TorchDevice, size: int) -> Row:
    """Return the milliseconds of a gradient that is not captured, as in checks."""
    backend, x = by_hand(device, size, "avg"), random_pictures(device, size)
    return {"plain_ms": median_ms(lambda: backend.costs_and_gradients(x), device)}


def by_hand(device: TorchDevice, size: int, pooling: Pooling) -> TorchGradient:
    """Return a backend of PyTorch's operators that is not captured."""
    objective = replace(OBJECTIVE, pooling=pooling)
    problems = [(objective, make_zero_targets(objective, size, size))]
    return BackpropBackend(BackwardPass(load_weights(), objective, device), problems, capture=False)


def by_autograd(device: TorchDevice, size: int, pooling: Pooling) -> TorchGradient:
    """Return a backend of PyTorch's autograd."""
    objective = replace(OBJECTIVE, pooling=pooling)
    network = TorchNetwork(load_weights(), objective.layers, *objective.poolings, device)
    problems = [(objective, make_zero_targets(objective, size, size))]
    return AutogradBackend(network, problems, capture=False)


def measure_onnx(plan: Plan, section: Section) -> Iterator[Row]:
    """Yield steps of ONNX Runtime, each in a process of its own, beside those of PyTorch."""
    for size in plan.onnx_sizes:
        for name in ("autograd", *plan.precisions[1:2]):
            yield tried({"variant": f"torch {name}", "size": size}, time_torch, plan, name, size)
    bench = GradientBench(device=plan.device, seconds=0.5 if plan.device != "cpu" else 0, repeats=3)
    for size in plan.onnx_sizes:
        for variant in (name for name in GRADIENT_VARIANTS if name.startswith("onnx")):
            if not section.has(8):
                return
            answer = run_process(bench.task(variant, size), timeout=section.left)
            row: Row = {"variant": variant, "size": size}
            if "error" in answer:
                yield row | {"error": answer["error"]}
                continue
            steps = answer.get("step") or answer["warm"]
            floor = answer.get("floor")
            yield row | {
                "runs_on": answer["runs_on"],
                "step_ms": 1000 * statistics.median(steps),
                "from_host_ms": 1000 * statistics.median(answer["warm"]),
                "floor_ms": None if floor is None else 1000 * floor,
            }


def time_torch(plan: Plan, name: str, size: int) -> Row:
    """Return the milliseconds of a step of autograd in fp32, or of nstx's in a precision."""
    if name != "autograd":
        return time_step(TorchDevice(plan.place, cast(Precision, name)), size, 1)
    device = TorchDevice(plan.place, "fp32")
    backend, x = by_autograd(device, size, OBJECTIVE.pooling), random_pictures(device, size)
    return {"step_ms": median_ms(lambda: backend.costs_and_gradients(x), device)}
