"""A step by each style statistic beside one by Gram matrices: processor seconds of the cost and its gradient.

python benchmarks/statistic_step.py CONTENT STYLE [--size 512] [--repeats 7] [--threads N] [--json FILE]

All are measured in turns within one process, after a warm-up, and their order changes from round to round. What is
counted is the processor's time, which other work on the machine moves less than the clock's.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from nstx import choose_settings, prepare_job
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.models.statistics import STATISTICS


def measure_rounds(content: str, style: str, size: int, repeats: int, threads: int | None) -> Any:
    """Return the seconds of each statistic's evaluations, one for each round."""
    evaluations = {}
    for name in STATISTICS:
        settings = choose_settings(
            width=size, height=size, stretch=True, scales=1, backend="onnx", precision="fp32",
            device="cpu", threads=threads, clean=False, style_statistic=name,
        )  # fmt: skip
        job = prepare_job(content, style, settings)
        evaluations[name] = (job.backend(0).cost_and_gradient, job.start(0))
    seconds: dict[str, list[float]] = {name: [] for name in evaluations}
    for number in range(repeats + 1):
        names = list(evaluations)[:: -1 if number % 2 else 1]
        for name in names:
            evaluate, pixels = evaluations[name]
            began = time.process_time()
            evaluate(pixels)
            if number:  # the first is the warm-up
                seconds[name].append(time.process_time() - began)
    return seconds


def main() -> None:
    """Print a line of each statistic."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("content")
    parser.add_argument("style")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    seconds = measure_rounds(
        chosen.content, chosen.style, chosen.size, chosen.repeats, chosen.threads
    )
    gram = seconds["gram"]
    rows = {
        name: {
            "seconds": statistics.median(values),
            "of_gram": statistics.median(a / b for a, b in zip(values, gram, strict=True)),
        }
        for name, values in seconds.items()
    }
    for name, row in rows.items():
        print(f"{name:12} {row['seconds']:.3f} s  {row['of_gram']:.3f} of gram's")
    if chosen.json:
        report = {"machine": describe_machine(), "packages": package_versions(), "rows": rows}
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
