"""Whether a picture's own texture returns from noise: the cost by each statistic, as a share of the start's.

python benchmarks/textures.py --pictures FILE… [--size 96] [--scales N] [--steps 300,1000] [--json FILE]

Each picture is content and style of a run in which the content weighs nothing, so that a cost of 0 can be reached.
Steps are counted, not seconds, so other work on the machine does not matter. Of several scales the last has half of the
steps or more, and the share is that of what noise costs there.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nstx import choose_settings, prepare_job, run_job
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.models.statistics import STATISTICS


def measure_shares(picture: str, counts: Sequence[int], **choices: Any) -> list[float]:
    """Return the cost after each number of steps, as a share of the start's."""
    settings = choose_settings(
        init="noise", content_weight=0, clean=False, precision="fp32", early_stop=False,
        steps=max(counts), **choices,
    )  # fmt: skip
    job = prepare_job(picture, picture, settings)
    costs: dict[int, float] = {}
    # Of one scale a run passes all counts; of several each count is another run.
    for count in counts[-1:] if len(job.sizes) == 1 else counts:
        result = run_job(
            replace(job, settings=replace(settings, steps=count)),
            on_step=lambda step: costs.__setitem__(step.step, step.cost.total),
        )
        costs[count] = result.cost.total
    noise = job.backend(-1).cost(job.start(len(job.sizes) - 1)).total
    return [costs.get(count, result.cost.total) / noise for count in counts]


def main() -> None:
    """Measure all pictures by all statistics, print the shares, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", nargs="+", required=True)
    parser.add_argument("--statistics", default=",".join(STATISTICS))
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--scales", type=int)
    parser.add_argument("--steps", default="300,1000")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    counts, rows = sorted(int(text) for text in chosen.steps.split(",")), []
    for picture in chosen.pictures:
        for statistic in chosen.statistics.split(","):
            shares = measure_shares(
                picture, counts, size=chosen.size, scales=chosen.scales, threads=chosen.threads,
                style_statistic=statistic,
            )  # fmt: skip
            rows.append({"picture": Path(picture).name, "statistic": statistic, "shares": shares})
            steps = (f"{count}: {share:.2e}" for count, share in zip(counts, shares, strict=True))
            print(Path(picture).name, f"{statistic:<11}", ", ".join(steps), flush=True)
    if chosen.json is not None:
        data = {
            "machine": describe_machine(),
            "packages": package_versions(),
            "size": chosen.size,
            "scales": chosen.scales,
            "steps": counts,
            "rows": rows,
        }
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
