"""Precision `auto` beside fp32 at equal steps, over pairs of pictures: final costs, times, checks.

python benchmarks/precision_schedule.py --pairs CONTENT:STYLE… [--size 400] [--steps 100] [--json FILE]

Each pair is run by `nstx optimize` with `--precision fp32` (on the backend that nstx chooses), by
`--precision auto`, and by `--precision bf16`, which is neither checked nor corrected; in turns, in
processes of their own, with targets in the cache. Costs are of the saved pictures; those of the runs in
bf16 alone are measured again in fp32.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nstx import choose_settings, prepare_job, read_image
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.engine.transfer.costs import BoundCosts

PRECISIONS = ("fp32", "auto", "bf16")


def run(pair: tuple[Path, Path], options: list[str], output: Path) -> dict[str, Any]:
    """Run `nstx optimize` in a process of its own, and return its JSON."""
    command = [sys.executable, "-m", "nstx", "optimize", *map(str, pair), "-o", str(output)]
    done = subprocess.run([*command, "--json", "-q", *options], check=True, capture_output=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compare(pair: tuple[Path, Path], options: list[str], folder: Path) -> dict[str, Any]:
    """Return what the precisions came to for a pair of pictures."""
    output = folder / "out.png"
    runs, costs = {}, {}
    for name in PRECISIONS:
        runs[name] = run(pair, [*options, "--precision", name], output)
        costs[name] = runs[name]["cost"]["total"]
        if name == "bf16":
            costs[name] = measure(pair, runs[name], output)
    seconds = {name: result["seconds"]["optimize"] for name, result in runs.items()}
    schedule = runs["auto"]["precision_schedule"]
    return {
        "content": pair[0].name,
        "style": pair[1].name,
        "width": runs["fp32"]["width"],
        "height": runs["fp32"]["height"],
        "costs": costs,
        "cost_of_fp32": {name: cost / costs["fp32"] for name, cost in costs.items()},
        "optimize_seconds": seconds,
        "time_of_fp32": {name: time / seconds["fp32"] for name, time in seconds.items()},
        "evaluations": {name: result["evaluations"] for name, result in runs.items()},
        "backends": {name: result["backend"] for name, result in runs.items()},
        "ended_in": runs["auto"]["precision"],
        "checks": None if schedule is None else schedule["checks"],
    }


def measure(pair: tuple[Path, Path], done: dict[str, Any], output: Path) -> float:
    """Return the cost of a saved picture in fp32."""
    settings = choose_settings(
        done["preset"], width=done["width"], height=done["height"], precision="fp32", scales=1
    )
    job = prepare_job(read_image(pair[0]), [(read_image(pair[1]), 1.0)], settings)
    return BoundCosts(job).measure(read_image(output).pixels.astype("float32")).total


def main() -> None:
    """Compare all pairs, print them, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--options", nargs="*", default=[], help="more of them, without their --")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    more = [f"--{name}" if index % 2 == 0 else name for index, name in enumerate(chosen.options)]
    options = ["--size", str(chosen.size), "--steps", str(chosen.steps), *more]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for text in chosen.pairs:
            content, _, style = text.partition(":")
            pair = (Path(content), Path(style))
            run(pair, [*options, "--steps", "1"], Path(folder) / "out.png")
            row = compare(pair, options, Path(folder))
            rows.append(row)
            cost, time = row["cost_of_fp32"], row["time_of_fp32"]
            errors = ", ".join(
                "none" if check["error"] is None else f"{check['error']:.2g}"
                for check in row["checks"] or []
            )
            print(
                f"{row['content']} × {row['style']}: auto's cost {cost['auto']:.4f} of fp32's in "
                f"{time['auto']:.2f} of its time, ended in {row['ended_in']}; unchecked bf16's "
                f"{cost['bf16']:.4f} in {time['bf16']:.2f}; errors at the checks {errors}",
                flush=True,
            )
    for name in ("auto", "bf16"):
        costs = statistics.median(row["cost_of_fp32"][name] for row in rows)
        times = statistics.median(row["time_of_fp32"][name] for row in rows)
        print(f"median of {name}: cost {costs:.4f}, time {times:.3f}")
    if chosen.json is not None:
        data = {
            "machine": describe_machine(),
            "packages": package_versions(),
            "options": options,
            "warm_up": "one run of one step for each pair",
            "rows": rows,
        }
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
