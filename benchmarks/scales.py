"""How soon the last scale's cost falls: the work until what an earlier version's run ended with is reached.

python benchmarks/scales.py --pairs CONTENT:STYLE… [--size 512] [--json FILE] [--against FILE]

The default preset. Work is counted in evaluations times pixels, of which one of the whole picture is 1, so that other
work on the machine does not matter. ``--against`` names the JSON of another version's run of this script.
"""

import argparse
import json
import math
from pathlib import Path

from nstx import stylize
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.engine.transfer.progress import Step

Curve = list[tuple[float, float]]
"""Work and cost after each step at the last scale."""


def follow(pair: str, size: int) -> Curve:
    """Return the curve of a run."""
    content, _, style = pair.partition(":")
    steps: list[Step] = []
    stylize(content, style, size=size, on_step=steps.append)
    work, before, curve = 0.0, 0, []
    whole = math.prod(steps[-1].picture.shape[:2])
    for step in steps:
        work += (step.evaluations - before) * math.prod(step.picture.shape[:2]) / whole
        before = step.evaluations
        if step.scale == step.scales:
            curve.append((work, step.cost.total))
    return curve


def compare(curve: Curve, earlier: Curve) -> tuple[float, float]:
    """Return the share of an earlier run's work after which its last cost is reached, and that of costs at the end."""
    work, cost = earlier[-1]
    reached = next((own for own, total in curve if total <= cost), math.inf)
    return reached / work, curve[-1][1] / cost


def main() -> None:
    """Follow all pairs, and print and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--against", type=Path)
    chosen = parser.parse_args()
    earlier = json.loads(chosen.against.read_text())["curves"] if chosen.against else {}
    curves, shares = {}, []
    for pair in chosen.pairs:
        name = " × ".join(Path(part).stem for part in pair.split(":"))
        curves[name] = follow(pair, chosen.size)
        work, cost = curves[name][-1]
        print(f"{name}: cost {cost:.4f} after {work:.1f} evaluations", flush=True)
        if name in earlier:
            shares.append(compare(curves[name], earlier[name]))
            print(
                f"  the earlier cost after {shares[-1][0]:.2f} of its work; {shares[-1][1]:.3f} of it at the end"
            )
    if shares:
        mean = math.exp(sum(math.log(share) for share, _ in shares) / len(shares))
        print(f"the earlier costs after {mean:.2f} of their work (geometric mean)")
    if chosen.json is not None:
        data = {
            "machine": describe_machine(), "packages": package_versions(), "size": chosen.size,
            "curves": curves,
        }  # fmt: skip
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
