"""The ONNX gradient beside PyTorch's eager autograd, in turns: a step, a start, memory.

python benchmarks/gradient_step.py CONTENT STYLE [--sizes 300x400,384x512] [--rounds 5] [--json FILE]

A step is one cost with its gradient of the default objective, in fp32, after one that is not counted.
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

from nstx.engine.machine import describe_machine, package_versions

BACKENDS = ("onnx", "torch")


WORKER = """
import sys, time
from nstx import choose_settings, prepare_job, read_image
content, style, height, width, pooling, backend = sys.argv[1:]
settings = choose_settings(
    height=int(height), width=int(width), scales=1, backend=backend, device="cpu", pooling=pooling
)
job = prepare_job(read_image(content), [(read_image(style), 1.0)], settings)
evaluate, start = job.backend(0).cost_and_gradient, job.start(0)
for _ in sys.stdin:
    began = time.perf_counter()
    evaluate(start)
    print(time.perf_counter() - began, flush=True)
"""


def measure_steps(content: Path, style: Path, size: str, pooling: str, rounds: int) -> dict:
    """Return the median seconds of a step by each backend, and the median of their ratios."""
    height, width = size.split("x")
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WORKER, content, style, height, width, pooling, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in BACKENDS
    }
    found: dict[str, list[float]] = {name: [] for name in BACKENDS}
    for _ in range(rounds + 1):
        for name, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            found[name].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    counted = {name: seconds[1:] for name, seconds in found.items()}
    ratios = [a / b for a, b in zip(counted["onnx"], counted["torch"], strict=True)]
    return {
        "height": int(height),
        "width": int(width),
        "pooling": pooling,
        "seconds": {name: statistics.median(seconds) for name, seconds in counted.items()},
        "all_seconds": counted,
        "onnx_of_torch": statistics.median(ratios),
    }


def measure_runs(content: Path, style: Path, rounds: int) -> dict[str, Any]:
    """Return each backend's seconds until the first step, and its peak memory, at 512 pixels."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in BACKENDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):
            for name, runs in found.items():
                command = [sys.executable, "-m", "nstx", "optimize", content, style, "--json"]
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
        for name, runs in found.items()
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
        print(
            f"{step['width']}×{step['height']} {step['pooling']}: ONNX Runtime "
            f"{step['seconds']['onnx']:.2f} s, PyTorch {step['seconds']['torch']:.2f} s, "
            f"{step['onnx_of_torch']:.2f} of it"
        )
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
