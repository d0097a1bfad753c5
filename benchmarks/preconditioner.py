"""What the preconditioner of L-BFGS saves: the cost after a number of evaluations, with it and without.

python benchmarks/preconditioner.py --pairs CONTENT:STYLE… [--size 192] [--preset default] [--json FILE]

One scale, from the content picture. Evaluations are counted, not seconds, so other work on the machine
does not matter; the filter itself takes about a hundredth of a step.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from nstx import choose_settings, prepare_job, read_image
from nstx.engine.devices.arrays import Array
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.engine.solvers.lbfgs import lbfgs_steps
from nstx.engine.solvers.solver import StopSolving, run_solver
from nstx.engine.transfer.job import Job
from nstx.models.cost import Cost

COUNTS = (10, 20, 40, 80)


def best_costs(job: Job, *, exponent: float) -> list[float]:
    """Return the lowest cost after each of `COUNTS` evaluations."""
    evaluate = job.backend(0).cost_and_gradient
    costs: list[float] = []

    def counted(pixels: Array) -> tuple[Cost, Array]:
        if len(costs) == COUNTS[-1]:
            raise StopSolving
        cost, gradient = evaluate(pixels)
        costs.append(cost.total)
        return cost, gradient

    solver = lbfgs_steps(
        job.start(0), steps=COUNTS[-1], clip=True, on_step=lambda *_: None,
        exponent=exponent,
    )  # fmt: skip
    run_solver(solver, counted)
    return [min(costs[:count]) for count in COUNTS]


def main() -> None:
    """Compare all pairs, print the geometric means, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    settings = choose_settings(
        chosen.preset, size=chosen.size, scales=1, solver="lbfgs", init="content"
    )
    rows, logs = [], []
    for pair in chosen.pairs:
        content, _, style = pair.partition(":")
        job = prepare_job(read_image(content), [(read_image(style), 1.0)], settings)
        with_it, without = (best_costs(job, exponent=exponent) for exponent in (1.0, 0.0))
        names = {"content": Path(content).name, "style": Path(style).name}
        rows.append({**names, "with": with_it, "without": without})
        shares = [a / b for a, b in zip(with_it, without, strict=True)]
        print(names, [f"{share:.3f}" for share in shares], flush=True)
        logs.append(np.log(np.divide(with_it, without)))
    means = np.exp(np.mean(logs, axis=0)).tolist()
    print(f"after {COUNTS} evaluations: {', '.join(f'{mean:.3f}' for mean in means)}")
    if chosen.json is not None:
        data = {
            "machine": describe_machine(),
            "packages": package_versions(),
            "size": chosen.size,
            "preset": chosen.preset,
            "evaluations": COUNTS,
            "shares": means,
            "rows": rows,
        }
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
