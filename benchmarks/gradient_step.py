"""The gradients of nstx beside PyTorch's eager autograd in fp32, in turns: a step, a start, memory.

python benchmarks/gradient_step.py CONTENT STYLE [--sizes 300x400,384x512] [--rounds 5] [--json FILE]

A step is one cost with its gradient of the default objective, after one that is not counted: by
autograd in fp32 (`torch`), by ONNX Runtime in fp32 (`onnx`), and where the processor has units for it in
bf16 by the backward pass that is written out (`bf16`), with the share of convolutions in its time.
A start is from a process's start to the first step of `nstx optimize` with its targets in the cache.
Each backend has a process, as each run of nstx has; they take turns step by step, so that their ratio
does not depend on how busy the machine is.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nstx.engine.devices.machine import describe_machine, has_bf16_units, package_versions

BACKENDS = ("onnx", "torch")
KINDS = {"onnx": ("onnx", "fp32"), "torch": ("torch", "fp32")}
if has_bf16_units():
    KINDS["bf16"] = ("torch", "bf16")


WORKER = """
import sys, time
from nstx import choose_settings, prepare_job, read_image
content, style, height, width, pooling, backend, precision = sys.argv[1:]
settings = choose_settings(
    height=int(height), width=int(width), scales=1, backend=backend, precision=precision, device="cpu",
    pooling=pooling,
)
job = prepare_job(read_image(content), [(read_image(style), 1.0)], settings)
evaluate, start = job.backend(0).cost_and_gradient, job.start(0)
for line in sys.stdin:
    began = time.perf_counter()
    if line.strip() == "profile":
        import torch
        for _ in range(2):  # the first also starts the profiler
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                began = time.perf_counter()
                for _ in range(3):
                    evaluate(start)
                took = time.perf_counter() - began
        microseconds = sum(
            operator.self_cpu_time_total for operator in profile.key_averages()
            if operator.key in ("aten::mkldnn_convolution", "mkldnn::_convolution_pointwise")
        )
        print(microseconds / 1e6 / took, flush=True)
        continue
    evaluate(start)
    print(time.perf_counter() - began, flush=True)
"""


def measure_steps(
    content: Path, style: Path, size: str, pooling: str, rounds: int
) -> dict[str, Any]:
    """Return the median seconds of a step by each backend, and the median of their ratios."""
    height, width = size.split("x")
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WORKER, content, style, height, width, pooling, *kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name, kind in KINDS.items()
    }

    def ask(worker: subprocess.Popen[str], what: str) -> float:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(what + "\n")
        worker.stdin.flush()
        return float(worker.stdout.readline())

    times: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(rounds + 1):
        for name, worker in workers.items():
            times[name].append(ask(worker, "step"))
    share = None
    if "bf16" in workers:
        share = statistics.median(ask(workers["bf16"], "profile") for _ in range(3))
    for worker in workers.values():
        worker.communicate()
    counted = {name: seconds[1:] for name, seconds in times.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds, counted["torch"], strict=True))
        for name, seconds in counted.items()
    }
    return {
        "height": int(height),
        "width": int(width),
        "pooling": pooling,
        "seconds": {name: statistics.median(seconds) for name, seconds in counted.items()},
        "all_seconds": counted,
        "of_torch": ratios,
        "convolutions_of_bf16": share,
    }


def measure_runs(content: Path, style: Path, rounds: int) -> dict[str, Any]:
    """Return each backend's seconds until the first step, and its peak memory, at 512 pixels."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in BACKENDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):
            for name, runs in results.items():
                command = [sys.executable, "-m", "nstx", "optimize", str(content), str(style)]
                command += ["--json"]
                command += ["-o", f"{folder}/o.png", "--steps", "3", "--backend", name]
                done = subprocess.run(command, check=True, capture_output=True)
                runs.append(json.loads(done.stdout))
    return {
        name: {
            "until_first_step": statistics.median(
                run["seconds"]["until_first_step"] for run in runs[1:]
            ),
            "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs[1:]),
        }
        for name, runs in results.items()
    }


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("content", type=Path)
    parser.add_argument("style", type=Path)
    parser.add_argument("--sizes", default="300x400,384x512")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps-only", action="store_true")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    runs = {}
    if not chosen.steps_only:
        runs = measure_runs(chosen.content, chosen.style, 3)
    steps = [
        measure_steps(chosen.content, chosen.style, size, pooling, chosen.rounds)
        for size in chosen.sizes.split(",")
        for pooling in ("avg", "max")
    ]
    for step in steps:
        shown = ", ".join(
            f"{name} {seconds:.3f} s ({step['of_torch'][name]:.2f})"
            for name, seconds in step["seconds"].items()
        )
        share = step["convolutions_of_bf16"]
        more = "" if share is None else f"; convolutions are {share:.0%} of the bf16 step"
        print(f"{step['width']}×{step['height']} {step['pooling']}: {shown}{more}", flush=True)
    for name, run in runs.items():
        print(
            f"{name}: first step after {run['until_first_step']:.2f} s, "
            f"peak memory {run['peak_memory_bytes'] / 2**20:.0f} MiB"
        )
    if chosen.json is not None:
        data = {
            "machine": describe_machine(),
            "packages": package_versions(),
            "rounds": chosen.rounds,
            "warm_up": 1,
            "steps": steps,
            "runs": runs,
        }
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
