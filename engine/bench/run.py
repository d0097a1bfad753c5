"""How fast features or gradients are: this package beside PyTorch, in one run on one machine."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import psutil

from nstx.models.weights.load import weights_digest

from .plan import ThroughputBench
from .report import first_error, make_report, pair_with_eager
from .tasks import Task
from .turns import run_process, take_turns

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_timed(task: Task) -> dict[str, Any]:
    """Measure a task in a process of its own, with ``cold``: seconds to its first result.

    Everything that PyTorch compiles is compiled again.
    """
    threads = {} if task.threads is None else dict.fromkeys(_THREAD_VARIABLES, str(task.threads))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, **threads, "TORCHINDUCTOR_CACHE_DIR": folder}
        started = time.time()
        answer = run_process(task, environment)
    if "first_result_at" in answer:
        answer["cold"] = answer.pop("first_result_at") - started
    return answer


def run_bench(
    bench: ThroughputBench,
    on_measurement: Callable[[str], None] | None = None,
    *,
    run_task: Callable[[Task], dict[str, Any]] = run_timed,
) -> dict[str, Any]:
    """Measure everything, and return it as plain data.

    Args:
        bench: what is measured.
        on_measurement: called after each process with what it measured, in a few words.
        run_task: returns what was measured, or ``error``.

    Returns:
        ``machine``, ``packages``, ``settings``, ``flops_per_pixel``, ``matrix_peak_gflops`` by
        precision, ``interrupted`` (whether Ctrl-C ended it early), and ``rows``: one for each size,
        batch and variant, with ``runs_on``, ``cold_seconds`` (process start to first result),
        ``seconds`` (median of the later runs), ``per_picture``, ``fastest``, ``slowest``, ``runs``,
        ``gflops``, ``share_of_peak``, ``peak_memory_bytes``, ``norms`` (of the outputs); and beside
        PyTorch eager ``of_torch`` and ``cold_of_torch``, the shares of its times, and
        ``norm_difference``, the largest relative difference of an output's norm. A row that could
        not be measured has ``error`` instead.

    Raises:
        WeightsError: the weights cannot be loaded.
        DeviceError: nothing could be measured.
    """
    weights_digest(bench.weights)
    answers, interrupted = take_turns(
        bench, lambda task: check_memory(bench, task) or run_task(task), on_measurement
    )
    peaks = {name: _find_peak(answers.get(bench.peak_task(name), ())) for name in bench.precisions}
    tasks = [bench.cell_task(name, *cell) for cell in bench.cells for name in bench.variants]
    rows = [_row(bench, peaks, task, answers[task]) for task in tasks if task in answers]
    for row, eager in pair_with_eager(rows, "size", "batch"):
        row["of_torch"] = row["seconds"] / eager["seconds"]
        row["cold_of_torch"] = row["cold_seconds"] / eager["cold_seconds"]
        norms = zip(row["norms"], eager["norms"], strict=True)
        row["norm_difference"] = max(abs(ours / theirs - 1) for ours, theirs in norms)
    return make_report(
        asdict(bench),
        rows,
        interrupted=interrupted,
        flops_per_pixel=bench.flops_per_pixel,
        matrix_peak_gflops=peaks,
    )


def check_memory(bench: ThroughputBench, task: Task) -> dict[str, Any] | None:
    """Return an ``error`` for a task that would drive the machine into swapping."""
    needed = bench.bytes_per_pixel * task.size**2 * task.batch
    if needed < psutil.virtual_memory().available:
        return None
    return {"error": f"needs about {needed / 2**30:.0f} GiB of memory"}


def _find_peak(answers: Sequence[Mapping[str, Any]]) -> float:
    return statistics.median([float(answer.get("gflops", 0.0)) for answer in answers] or [0.0])


def _row(
    bench: ThroughputBench,
    peaks: Mapping[str, float],
    task: Task,
    answers: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    row: dict[str, Any] = {"size": task.size, "batch": task.batch, "variant": task.variant}
    failure = first_error(answers)
    if failure is not None:
        return row | failure
    warm = sorted(second for answer in answers for second in answer["warm"])
    seconds = statistics.median(warm)
    gflops = bench.flops_per_pixel * task.size**2 * task.batch / seconds / 1e9
    peak = peaks[bench.precision(task.variant)]
    return row | {
        "runs_on": answers[0]["runs_on"],
        "cold_seconds": statistics.median(answer["cold"] for answer in answers),
        "seconds": seconds,
        "per_picture": seconds / task.batch,
        "fastest": warm[0],
        "slowest": warm[-1],
        "runs": len(warm),
        "gflops": gflops,
        "share_of_peak": gflops / peak if peak else None,
        "peak_memory_bytes": max(answer["peak_memory_bytes"] for answer in answers),
        "norms": answers[0]["norms"],
    }
