"""The time to the cost that the assignment's recipe reaches, by that recipe and by nstx, in turns.

python benchmarks/time_to_quality.py --pairs CONTENT:STYLE… [--size 400] [--json FILE]

The recipe is `--preset coursera` in PyTorch, eager and fp32: 200 steps of Adam at 2.0 from the blend of
content and noise. nstx minimises the same cost from the content picture by its default solver, in
precision and backend as it chooses them, and is timed until the first step at the final size whose
cost is no higher. Times are of whole processes, from the start to the saved picture; what comes after
that step is subtracted. The recipe runs first, so that nstx may find its content's targets in the cache;
`seconds` of its JSON says what that saved (some tenths of a second).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nstx.engine.devices.machine import describe_machine, package_versions

RECIPE = ["--preset", "coursera", "--backend", "torch", "--precision", "fp32"]
OURS = ["--preset", "coursera", "--solver", "lbfgs", "--init", "content"]


def run(content: Path, style: Path, folder: Path, options: list[str]) -> dict[str, Any]:
    """Run `nstx optimize` in a process of its own; return its JSON, its wall time and its trace."""
    trace = folder / "trace.jsonl"
    command = [sys.executable, "-m", "nstx", "optimize", str(content), str(style)]
    command += ["-o", str(folder / "out.png"), "--trace", str(trace), "--json", "-q", *options]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    rows = [json.loads(line) for line in trace.read_text().splitlines()]
    return {**json.loads(done.stdout), "wall": seconds, "trace": rows}


def time_to(result: dict[str, Any], cost: float) -> float | None:
    """Return the seconds of a process that ended at the first step that is good enough."""
    scales = max(row["scale"] for row in result["trace"])
    for row in result["trace"]:
        if row["scale"] == scales and row["total"] <= cost:
            after = result["trace"][-1]["seconds"] - row["seconds"]
            return float(result["wall"] - after)
    return None


def compare(pair: str, size: int, steps: int, scales: str, folder: Path) -> dict[str, Any]:
    """Return what both took for a pair of pictures."""
    content, _, style = pair.partition(":")
    chosen = ["--size", str(size)]
    recipe = run(Path(content), Path(style), folder, [*RECIPE, *chosen])
    more = [*OURS, *chosen, "--steps", str(steps), "--scales", scales]
    ours = run(Path(content), Path(style), folder, more)
    cost = recipe["cost"]["total"]
    seconds = time_to(ours, cost)
    return {
        "content": Path(content).name,
        "style": Path(style).name,
        "height": recipe["height"],
        "width": recipe["width"],
        "cost": cost,
        "recipe_seconds": recipe["wall"],
        "recipe_evaluations": recipe["evaluations"],
        "nstx_seconds": seconds,
        "nstx_share": None if seconds is None else seconds / recipe["wall"],
        "nstx_backend": ours["backend"],
        "nstx_precision": ours["precision"],
        "nstx_final_cost_share": ours["cost"]["total"] / cost,
    }


def main() -> None:
    """Compare all pairs, print them, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--steps", type=int, default=30, help="of nstx, at most")
    parser.add_argument("--scales", default="1", help="of nstx")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # Files come into the system's cache, weights and graphs into nstx's.
        first, _, second = chosen.pairs[0].partition(":")
        for options in (RECIPE, OURS):
            run(Path(first), Path(second), Path(folder), [*options, "--size", "64", "--steps", "1"])
        for pair in chosen.pairs:
            row = compare(pair, chosen.size, chosen.steps, chosen.scales, Path(folder))
            rows.append(row)
            share = row["nstx_share"]
            shown = "not reached" if share is None else f"{row['nstx_seconds']:.1f} s, {share:.3f}"
            print(
                f"{row['content']} × {row['style']}: cost {row['cost']:.4g}, recipe "
                f"{row['recipe_seconds']:.1f} s, nstx {shown} of it",
                flush=True,
            )
    shares = [row["nstx_share"] for row in rows if row["nstx_share"] is not None]
    if shares:
        print(f"median {statistics.median(shares):.3f} ({len(shares)} of {len(rows)} reached it)")
    if chosen.json is not None:
        data = {
            "machine": describe_machine(),
            "packages": package_versions(),
            "recipe": RECIPE,
            "nstx": [*OURS, "--scales", chosen.scales],
            "rows": rows,
        }
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
