"""One measurement: ``python -m nstx.engine.bench.worker TASK``.

TASK has the fields of `nstx.engine.bench.tasks.Task` as JSON; the answer is one JSON object on
stdout. A process of its own gives the time from a process's start to its first result, and a peak
of memory that nothing else has a part in. Only what the task needs is imported.
"""

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from .tasks import Task

if TYPE_CHECKING:
    from .tasks import Compute


def measure(task: Task) -> dict[str, Any]:
    """Return what was measured, as plain data."""
    if task.work == "optimize":
        from .transfer import measure_transfer

        return measure_transfer(task)
    from .computations import measure_peak, open_features, open_gradient

    if task.work == "peak":
        return {"gflops": measure_peak(task)}
    opened = open_gradient(task) if task.work == "gradient" else open_features(task)
    return _measure_throughput(task, *opened)


def _measure_throughput(task: Task, compute: "Compute", runs_on: str) -> dict[str, Any]:
    """Measure a computation that is repeated.

    ``first_result_at`` is in seconds since the epoch, ``warm`` has the seconds of each later
    computation, and ``norms`` those of each output.
    """
    import numpy as np

    # Not numpy.random, which takes as long to load as ONNX Runtime does.
    shape = (task.batch, task.size, task.size, 3)
    pixels = np.resize(np.arange(251, dtype=np.float32), shape)
    outputs = compute(pixels)
    first_result_at = time.time()
    warm: list[float] = []
    while len(warm) < task.repeats or sum(warm) < task.seconds:
        began = time.perf_counter()
        compute(pixels)
        warm.append(time.perf_counter() - began)
    return {
        "first_result_at": first_result_at,
        "warm": warm,
        "peak_memory_bytes": _memory_in_use(task.device),
        "runs_on": runs_on,
        "norms": [float(np.linalg.norm(output.astype(np.float64))) for output in outputs],
    }


def _memory_in_use(device: str) -> int:
    """Return the process's peak, or on CUDA what is in use on the device, contexts included.

    PyTorch's own count would miss what ONNX Runtime allocates.
    """
    from ..devices.device import Device, settle
    from ..devices.memory import peak_memory_bytes

    if not settle(device).is_cuda:
        return peak_memory_bytes(Device("cpu"))
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _main() -> None:
    from nstx.models.errors import NstxError

    fields: dict[str, Any] = json.loads(sys.argv[1])
    for name in ("activations", "grams"):
        fields[name] = tuple(fields[name])
    try:
        answer = measure(Task(**fields))
    except NstxError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main()
