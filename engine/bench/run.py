"""How fast features or gradients are: this package beside PyTorch, in one run on one machine.

Machines are noisy, so variants take turns: each round measures every variant of a cell once, each
in a process of its own, one after the other.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nstx.models.weights.load import weights_digest

from .plan import Bench
from .report import error_of, first_error, make_report
from .worker import PEAK, Task

_PRIMING_SIZE = 64
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_bench(bench: Bench, on_measurement: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Measure everything, and return it as plain data.

    Args:
        bench: what is measured.
        on_measurement: is told after each process, in a few words, what it measured.

    Returns:
        ``machine``, ``packages``, ``settings``, ``flops_per_pixel``, ``matrix_peak_gflops`` by
        precision, and ``rows``: one for each size, batch and variant, with ``cold_seconds``
        (process start to first result), ``seconds`` (median of the later runs), ``per_picture``,
        ``fastest``, ``slowest``, ``runs``, ``gflops``, ``share_of_peak``, ``peak_memory_bytes``,
        and ``of_torch``, ``cold_of_torch``: the shares of PyTorch eager's time, and
        ``norm_difference``: by how much the outputs' norms differ from PyTorch's. A row that could
        not be measured has ``error`` instead. ``interrupted``: whether Ctrl-C ended it early; the
        rows are those that were measured by then.

    Raises:
        WeightsError: the weights cannot be loaded.
        DeviceError: nothing could be measured.
    """
    weights_digest(bench.weights)

    def measure(variant: str, size: int, batch: int) -> dict[str, Any]:
        answer = _run_worker(bench.task(variant, size, batch))
        if on_measurement is not None:
            on_measurement(f"{variant} {size} px × {batch}")
        return answer

    peaks: dict[str, list[float]] = {name: [] for name in bench.precisions}
    answers: dict[tuple[int, int, str], list[dict[str, Any]]] = {}

    def take_turns() -> None:
        for variant in bench.primed:
            measure(variant, _PRIMING_SIZE, 1)
        for turn in range(bench.rounds):
            # Each way round in turn, as a processor that gets hot or a neighbour favours a place.
            order = bench.variants if turn % 2 == 0 else bench.variants[::-1]
            for name, found in peaks.items():
                found.append(float(measure(PEAK + name, _PRIMING_SIZE, 1).get("gflops", 0.0)))
            for size, batch in bench.cells:
                for variant in order:
                    told = _too_large(bench, size, batch) or measure(variant, size, batch)
                    answers.setdefault((size, batch, variant), []).append(told)

    interrupted = False
    try:
        take_turns()
    except KeyboardInterrupt:
        # What was measured so far took its time; it is worth telling.
        interrupted = True
    return _report(bench, peaks, answers, interrupted)


def _report(
    bench: Bench,
    peaks: Mapping[str, Sequence[float]],
    answers: Mapping[tuple[int, int, str], Sequence[dict[str, Any]]],
    interrupted: bool,
) -> dict[str, Any]:
    matrix_peak = {name: statistics.median(values or [0.0]) for name, values in peaks.items()}
    places = [(*cell, name) for cell in bench.cells for name in bench.variants]
    measured = [key for key in places if key in answers]
    rows = [_row(bench, matrix_peak, *key, answers[key]) for key in measured]
    _add_ratios(rows)
    return make_report(
        asdict(bench),
        rows,
        interrupted=interrupted,
        flops_per_pixel=bench.flops_per_pixel,
        matrix_peak_gflops=matrix_peak,
    )


def _too_large(bench: Bench, size: int, batch: int) -> dict[str, Any] | None:
    """Return an error instead of a measurement that would drive the machine into swapping."""
    import psutil

    needed = bench.bytes_per_pixel * size**2 * batch
    present = psutil.virtual_memory().available
    if needed < present:
        return None
    return {"error": f"needs about {needed / 2**30:.0f} GiB of memory"}


def _run_worker(task: Task) -> dict[str, Any]:
    command = [sys.executable, "-m", "nstx.engine.bench.worker", json.dumps(asdict(task))]
    threads = {} if task.threads is None else dict.fromkeys(_THREAD_VARIABLES, str(task.threads))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A folder of its own, so that what was compiled before is compiled again.
        environment = {**os.environ, **threads, "TORCHINDUCTOR_CACHE_DIR": folder}
        started = time.time()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        return error_of(done)
    answer: dict[str, Any] = json.loads(lines[-1])
    if "first_result_at" in answer:
        answer["cold"] = answer.pop("first_result_at") - started
    return answer


def _row(
    bench: Bench,
    matrix_peak: dict[str, float],
    size: int,
    batch: int,
    variant: str,
    answers: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    row: dict[str, Any] = {"size": size, "batch": batch, "variant": variant}
    failure = first_error(answers)
    if failure is not None:
        return row | failure
    warm = sorted(second for answer in answers for second in answer["warm"])
    seconds = statistics.median(warm)
    gflops = bench.flops_per_pixel * size**2 * batch / seconds / 1e9
    peak = matrix_peak[bench.precision(variant)]
    return row | {
        "runs_on": answers[0]["runs_on"],
        "cold_seconds": statistics.median(answer["cold"] for answer in answers),
        "seconds": seconds,
        "per_picture": seconds / batch,
        "fastest": warm[0],
        "slowest": warm[-1],
        "runs": len(warm),
        "gflops": gflops,
        "share_of_peak": gflops / peak if peak else None,
        "peak_memory_bytes": max(answer["peak_memory_bytes"] for answer in answers),
        "norms": answers[0]["norms"],
    }


def _add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    eager = {
        (r["size"], r["batch"]): r for r in rows if r["variant"] == "torch" and "error" not in r
    }
    for row in rows:
        base = eager.get((row["size"], row["batch"]))
        if base is not None and "error" not in row:
            row["of_torch"] = row["seconds"] / base["seconds"]
            row["cold_of_torch"] = row["cold_seconds"] / base["cold_seconds"]
            row["norm_difference"] = max(
                abs(ours / theirs - 1)
                for ours, theirs in zip(row["norms"], base["norms"], strict=True)
            )
