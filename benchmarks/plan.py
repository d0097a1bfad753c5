"""Predicted beside measured memory: the peak of a process for each setting, as the system counts it.

``python benchmarks/plan.py`` runs some settings that were used to fit the model's coefficients
(`nstx.engine.planning.memory_model`) and others that were not, a few steps each, and prints a line of JSON for each:
MiB predicted, MiB measured, and how far they are apart. ``--only TEXT`` runs those whose name has it.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import nstx
from nstx.engine.devices.device import Device
from nstx.engine.devices.memory import peak_memory_bytes
from nstx.engine.gradients.choice import PrecisionPolicy
from nstx.engine.planning.memory_model import load_of, memory_needed, way_of

WAYS: dict[str, dict[str, Any]] = {
    "onnx": {"backend": "onnx", "precision": "fp32"},
    "autograd": {"backend": "torch", "precision": "fp32"},
    "bf16": {"backend": "torch", "precision": "bf16"},
    "checked": {},
}
FIT = [(320, None), (576, None), (896, None), (256, 64), (512, 192), (768, 384), (1024, 512)]
"""Sides of pictures and of tiles, of settings that coefficients were fitted to."""

CHECK = [(448, None), (720, None), (384, 128), (640, 256), (1152, 448), (1408, 320)]
"""And of those that they were not."""

OTHER: dict[str, tuple[int, int | None, str, dict[str, Any]]] = {
    "adam": (640, None, "onnx", {"solver": "adam", "steps": 3}),
    "wide": (400, None, "onnx", {"width": 1000}),
    "gatys": (512, None, "onnx", {"preset": "gatys", "steps": 1}),
    "bold tiles": (640, 192, "onnx", {"preset": "bold"}),
    "fine": (512, None, "onnx", {"preset": "fine"}),
    "more steps": (512, None, "onnx", {"steps": 8}),
    "more steps tiles": (640, 320, "onnx", {"steps": 6}),
    "large": (2048, 512, "onnx", {}),
}
"""More of these: a name, sides of picture and tile, a way, and what is chosen besides."""


def draw_picture(height: int, width: int, seed: int) -> np.ndarray:
    """Return a picture of blocks of random colours, uint8 (height, width, 3), for which little memory is needed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (67, 67, 3), np.uint8)
    rows, columns = (np.arange(side) * 67 // side for side in (height, width))
    return blocks[rows[:, None], columns[None]]


def measure(side: int, tile: int | None, way: str, choices: dict[str, Any]) -> dict[str, Any]:
    """Return the peak of this process after a run."""
    width = choices.pop("width", side)
    content, style = draw_picture(side, width, 0), draw_picture(512, 512, 1)
    policy = PrecisionPolicy(least_bf16_work=0) if way == "checked" else None
    chosen = {
        "scales": 1,
        "steps": 1,
        "early_stop": False,
        "clean": False,
        "tile": tile,
        **WAYS[way],
        **choices,
    }
    preset = chosen.pop("preset", "default")
    job = nstx.prepare_job(
        content, style, preset=preset, width=width, height=side, device="cpu",
        style_scale=min(1.0, 384 / max(side, width)), policy=policy, **chosen,
    )  # fmt: skip
    choice = job.opened.choice
    if way_of(choice) != way:
        return {"skipped": f"got {way_of(choice)}"}
    began = time.perf_counter()
    nstx.run_job(job)
    seconds = time.perf_counter() - began
    peak, predicted = (
        peak_memory_bytes(Device("cpu")),
        memory_needed(load_of(job.settings, (side, width), choice)),
    )
    return {
        "predicted_mib": round(predicted / 2**20),
        "measured_mib": round(peak / 2**20),
        "error": round(predicted / peak - 1, 3),
        "seconds": round(seconds, 1),
    }


def settings_of(only: str) -> list[tuple[str, tuple[Any, ...]]]:
    """Return names of settings, and what `measure` takes of them."""
    named: list[tuple[str, tuple[Any, ...]]] = [
        (
            f"{kind} {way} {side} {'whole' if tile is None else f'tile {tile}'}",
            (side, tile, way, {}),
        )
        for kind, sizes in (("fit", FIT), ("check", CHECK))
        for way in WAYS
        for side, tile in sizes
    ]
    named += [(f"check {name}", values) for name, values in OTHER.items()]
    return [(name, values) for name, values in named if only in name]


def main() -> None:
    """Measure each setting in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, prog=Path(sys.argv[0]).name)
    parser.add_argument("--only", default="", help="settings whose name has this")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    errors = list[float]()
    for name, values in settings_of(options.only):
        command = [sys.executable, __file__, "--one", json.dumps(values)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer: dict[str, Any] = (
            json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr[-300:]}
        )
        print(json.dumps({"name": name, **answer}), flush=True)
        if name.startswith("check") and "error" in answer:
            errors.append(abs(answer["error"]))
    if errors:
        print(json.dumps({"settings": len(errors), "largest_error": max(errors)}))


if __name__ == "__main__":
    main()
