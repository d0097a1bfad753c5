"""One measurement: ``python -m nstx.engine.bench.worker TASK``.

TASK has the fields of `nstx.engine.bench.tasks.Task` as JSON; the answer is one JSON object on
stdout. A process of its own gives the time from a process's start to its first result, and a peak
of memory that nothing else has a part in. Only what the task needs is imported.
"""

import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from nstx.models.storage.leftovers import remove_leftovers

from .tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tasks import Compute, Place


def measure(task: Task) -> dict[str, Any]:
    """Return what was measured, as plain data."""
    if task.work == "optimize":
        from .transfer import measure_transfer

        return measure_transfer(task)
    from .computations import measure_peak, open_features, open_gradient

    if task.work == "peak":
        return {"gflops": measure_peak(task)}
    opened = open_gradient(task) if task.work == "gradient" else (*open_features(task), None)
    answer = _measure_throughput(task, *opened)
    # What the computation holds on the device is freed before its floor is measured.
    del opened
    return answer | _measure_floor(task)


def _measure_throughput(
    task: Task, compute: "Compute", runs_on: str, place: "Place | None"
) -> dict[str, Any]:
    """Measure a computation that is repeated.

    ``first_result_at`` is in seconds since the epoch, ``warm`` has the seconds of each later
    computation, ``norms`` those of each output, and ``step`` the seconds of steps whose pictures and
    gradients stay on a CUDA device.
    """
    import numpy as np

    # Not numpy.random, which takes as long to load as ONNX Runtime does.
    shape = (task.batch, task.size, task.size, 3)
    pixels = np.resize(np.arange(251, dtype=np.float32), shape)
    outputs = compute(pixels)
    first_result_at = time.time()
    warm = _repeat(task, lambda: compute(pixels))
    answer = {
        "first_result_at": first_result_at,
        "warm": warm,
        "peak_memory_bytes": _memory_in_use(task),
        "runs_on": runs_on,
        "norms": [float(np.linalg.norm(output.astype(np.float64))) for output in outputs],
    }
    if place is not None and _is_on_cuda(task):
        answer["step"] = _repeat(task, place(pixels))
    return answer


def _repeat(task: Task, call: "Callable[[], object]") -> list[float]:
    seconds: list[float] = []
    while len(seconds) < task.repeats or sum(seconds) < task.seconds:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds


def _measure_floor(task: Task) -> dict[str, Any]:
    """Return ``floor``, the seconds of the convolutions alone; on CUDA with PyTorch, else nothing.

    It must not cost what was measured before it: what went wrong is ``floor_error``.
    """
    from nstx.models.errors import NstxError

    from ..devices.machine import is_there

    if not _is_on_cuda(task) or not is_there("torch"):
        return {}
    from .computations import floor_seconds

    try:
        return {"floor": floor_seconds(task)}
    except (RuntimeError, NstxError) as error:
        return {"floor_error": f"{error}"[:300]}


def _memory_in_use(task: Task) -> int | None:
    """Return the process's peak, or on CUDA what is in use on the device, contexts included.

    PyTorch's own count would miss what ONNX Runtime allocates. Where PyTorch does not have the device it
    is None, as only PyTorch is asked.
    """
    from ..devices.device import Device, settle, torch_has
    from ..devices.memory import peak_memory_bytes

    if not _is_on_cuda(task):
        return peak_memory_bytes(Device("cpu"))
    device = settle(task.device)
    if not torch_has(device):
        return None
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(str(device)))
    return total - free


def _is_on_cuda(task: Task) -> bool:
    from ..devices.device import settle

    return settle(task.device).is_cuda


def _end_by_signals() -> None:
    """Have a thread end this process at once when a signal asks it to, without what it was writing.

    The main thread would only do so once a library returns to Python, by which time whoever asked has killed it. Not on
    Windows, which has no such threads.
    """
    if sys.platform == "win32":
        return
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # nohup, or a shell that starts something in the background, has a signal ignored: so do we.
    numbers = {number for number in asked if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # in this thread, and those that it starts

    def wait() -> None:
        number = signal.sigwait(numbers)
        remove_leftovers()
        os._exit(128 + number)

    if numbers:
        threading.Thread(target=wait, name="nstx-signals", daemon=True).start()


def _main() -> None:
    from nstx.models.errors import NstxError

    _end_by_signals()
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
