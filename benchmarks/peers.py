"""nstx beside the package pastiche: the time to the cost that pastiche reaches, and pastiche's pictures.

python benchmarks/peers.py --pairs CONTENT:STYLE… [--size 400] [--steps 200] [--json FILE]

pastiche (MIT) minimises the cost of Gatys et al. 2016 by torch's L-BFGS from the content picture, which is
its default, and that of `nstx --preset gatys`. Both run in processes of their own, from the start to the
saved picture, pastiche for a number of steps. The costs of both saved pictures are those of the float64
yardstick; nstx is timed until its trace reaches the cost of pastiche's picture. Both are given pictures of
the right size, so that neither resizes them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from time_to_quality import run, time_to

from nstx import choose_settings, evaluate_picture, read_image
from nstx.engine.devices.machine import describe_machine, package_versions


def run_pastiche(content: Path, style: Path, output: Path, size: int, steps: int) -> float:
    """Run pastiche, and return its seconds."""
    command = [sys.executable, "-m", "pastiche", "--content", str(content), "--styles", str(style)]
    command += ["--output", str(output), "--size", str(size), "--num-steps", str(steps)]
    command += ["--style-size", str(size), "--seed", "0"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def shrink(path: str, size: int, output: Path) -> Path:
    """Write a picture with a long side of ``size`` pixels, and return where it is."""
    picture = Image.open(path).convert("RGB")
    share = size / max(picture.size)
    picture.resize([round(side * share) for side in picture.size], Image.Resampling.LANCZOS).save(
        output
    )
    return output


def measure(picture: Path, content: Path, style: Path) -> float:
    """Return a picture's cost under the preset gatys, in float64."""
    settings = choose_settings("gatys")
    styles = [(read_image(style), 1.0)]
    return evaluate_picture(read_image(picture), read_image(content), styles, settings).total


def compare(pair: str, size: int, steps: int, folder: Path) -> dict[str, Any]:
    """Return what both took for a pair of pictures."""
    first, second = pair.split(":")
    content, style = shrink(first, size, folder / "c.png"), shrink(second, size, folder / "s.png")
    theirs = folder / "pastiche.png"
    seconds = run_pastiche(content, style, theirs, size, steps)
    cost = measure(theirs, content, style)
    width, height = Image.open(theirs).size
    options = ["--preset", "gatys", "--size", str(size)]
    ours = run(content, style, folder, [*options, "--steps", str(steps)])
    reached = time_to(ours, cost)
    return {
        "content": Path(first).name,
        "style": Path(second).name,
        "width": width,
        "height": height,
        "steps": steps,
        "pastiche_seconds": seconds,
        "pastiche_cost": cost,
        "nstx_seconds_to_that": reached,
        "nstx_share": None if reached is None else reached / seconds,
        "nstx_seconds": ours["wall"],
        "nstx_cost": measure(folder / "out.png", content, style),
        "nstx_runs_on": f"{ours['backend']} {ours['precision']}",
    }


def main() -> None:
    """Compare all pairs, print them, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in chosen.pairs:
            row = compare(pair, chosen.size, chosen.steps, Path(folder))
            rows.append(row)
            reached = row["nstx_seconds_to_that"]
            shown = (
                "not reached" if reached is None else f"{reached:.1f} s ({row['nstx_share']:.3f})"
            )
            print(
                f"{row['content']} × {row['style']}, {row['width']}×{row['height']}: pastiche "
                f"{row['pastiche_cost']:.5g} in {row['pastiche_seconds']:.1f} s; nstx {shown}, and "
                f"{row['nstx_cost']:.5g} in {row['nstx_seconds']:.1f} s",
                flush=True,
            )
    if chosen.json is not None:
        data = {
            "machine": describe_machine(),
            "packages": package_versions(),
            "rows": rows,
        }
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
