"""The speed of large matrix products, which convolutions are compared with."""

import contextlib
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .tasks import Task

_SIZE, _REPEATS, _SECONDS = 2048, 8, 5.0


def measure_peak(task: Task) -> float:
    """Return the GFLOP/s of square matrix products, the best of PyTorch's and NumPy's medians.

    Args:
        task: whose variant is the precision.

    Returns:
        0 if neither library has the device and precision.
    """
    matrix = np.random.default_rng(0).standard_normal((_SIZE, _SIZE)).astype(np.float32)
    products: list[Callable[[], object]] = []
    if task.device == "cpu" and task.variant == "fp32":
        products.append(lambda: matrix @ matrix)
    with contextlib.suppress(ImportError):
        products.append(_torch_product(task, matrix))
    medians = [_time_median(product) for product in products]
    return float(2 * _SIZE**3 / min(medians) / 1e9) if medians else 0.0


def _time_median(product: Callable[[], object]) -> float:
    times: list[float] = []
    # A precision that the processor only emulates may take seconds for a single product.
    while len(times) < _REPEATS and sum(times) < _SECONDS:
        began = time.perf_counter()
        product()
        times.append(time.perf_counter() - began)
    # The first one also warms up.
    return statistics.median(times[1:] or times)


def _torch_product(task: Task, array: NDArray[np.float32]) -> Callable[[], object]:
    import torch

    from ..devices.device import settle
    from ..devices.torch_device import TorchDevice

    if task.threads is not None:
        torch.set_num_threads(task.threads)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(task.variant, torch.float32)
    place = settle(task.device, by_torch=True)
    device = TorchDevice(place, "tf32" if task.variant == "tf32" else "fp32")
    matrix = device.upload(array, dtype)

    def multiply() -> None:
        with device.numerics(products=True):
            matrix @ matrix
            if place.is_cuda:
                torch.cuda.synchronize(device.torch_device)

    return multiply
