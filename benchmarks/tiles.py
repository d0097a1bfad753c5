"""How much memory and time a cost with its gradient takes by tiles, and whole: one process for each number.

``python benchmarks/tiles.py 16 --tile 1024`` prints, as JSON, the peak of this process's resident memory as the system
counts it (libraries, weights, the picture, its targets and their extraction included), and the seconds of an evaluation
of 16 megapixels. Without ``--tile`` it is evaluated whole.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import nstx
from nstx.engine.devices.device import Device
from nstx.engine.devices.memory import peak_memory_bytes


def draw_picture(height: int, width: int, seed: int) -> np.ndarray:
    """Return a picture of blocks of random colours, uint8 (height, width, 3), for which little memory is needed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (67, 67, 3), np.uint8)
    rows, columns = (np.arange(side) * 67 // side for side in (height, width))
    return blocks[rows[:, None], columns[None]]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the memory and time of an evaluation, after ``--warm`` others."""
    side = round(math.sqrt(options.megapixels * 2**20))
    content = draw_picture(side, side, 0)
    style = draw_picture(512, 512, 1)
    began = time.perf_counter()
    job = nstx.prepare_job(
        content, style, size=side, scales=1, tile=options.tile, device="cpu", clean=False,
        style_scale=min(1.0, 2048 / side), backend=options.backend, precision=options.precision,
        solver="adam", threads=options.threads, tv_weight=options.tv_weight,
    )  # fmt: skip
    backend, start = job.backend(-1), job.opened.arrays.place(job.start(-1))
    prepared, seconds = time.perf_counter() - began, list[float]()
    for _ in range(options.warm + 1):
        began = time.perf_counter()
        backend.cost_and_gradient(start)
        seconds.append(time.perf_counter() - began)
    return {
        "width": side,
        "height": side,
        "tile": options.tile,
        "backend": job.opened.choice.name,
        "precision": job.opened.choice.precision,
        "prepare_seconds": round(prepared, 2),
        "seconds": [round(value, 2) for value in seconds],
        "seconds_per_megapixel": round(min(seconds) / options.megapixels, 3),
        "peak_gib": round(peak_memory_bytes(Device("cpu")) / 2**30, 3),
    }


def main() -> None:
    """Measure once, in this process."""
    parser = argparse.ArgumentParser(description=__doc__, prog=Path(sys.argv[0]).name)
    parser.add_argument("megapixels", type=float, help="of 2²⁰ pixels, in a square")
    parser.add_argument("--tile", type=int, help="side of tiles in pixels; whole without it")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tv-weight", type=float, default=1e-3)
    parser.add_argument("--warm", type=int, default=0, help="evaluations before")
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
