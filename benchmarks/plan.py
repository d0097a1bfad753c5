"""Predicted beside measured memory and time: of a process for each setting, as the system counts them.

``python benchmarks/plan.py`` runs settings that were not used to fit the model's coefficients
(`nstx.engine.planning.memory_model`), 28 of them and more where the processor has bf16 units, a step or a few each, and
prints a line of JSON for each: MiB and seconds predicted and measured, and how far they are apart. The last line counts
those within 15 % of memory and 25 % of time. Seconds are those of the evaluations that a run made, by the pace of a
calibration of its own process as ``nstx plan`` makes it; they mean something on an idle machine alone. After
``--minutes`` no further setting is begun. ``--fit`` runs those that were used for the fit as well, ``--only TEXT`` those
whose name has it.
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
from nstx.engine.devices.machine import has_bf16_units
from nstx.engine.devices.memory import peak_memory_bytes
from nstx.engine.gradients.choice import PrecisionPolicy, choose_backend
from nstx.engine.planning.memory_model import load_of, memory_needed, way_of
from nstx.engine.transfer.plan import calibrate, evaluated_pixels

WAYS: dict[str, dict[str, Any]] = {
    "onnx": {"backend": "onnx", "precision": "fp32"},
    "autograd": {"backend": "torch", "precision": "fp32"},
    "bf16": {"backend": "torch", "precision": "bf16"},
    "checked": {},
}
FIT = [(320, None), (576, None), (896, None), (256, 64), (512, 192), (768, 384), (1024, 512)]
"""Sides of pictures and of tiles, of settings that coefficients were fitted to."""

CHECK = [
    (288, None), (352, 96), (384, 128), (448, None), (512, 160), (560, None), (640, 256),
    (720, None), (832, 320), (1024, 448),
]  # fmt: skip
"""And of those that they were not."""

OTHER: dict[str, tuple[int, int | None, str, dict[str, Any]]] = {
    "adam": (640, None, "onnx", {"solver": "adam", "steps": 3}),
    "wide": (400, None, "onnx", {"width": 1000}),
    "gatys": (512, None, "onnx", {"preset": "gatys", "steps": 1}),
    "bold tiles": (640, 192, "onnx", {"preset": "bold"}),
    "fine": (512, None, "onnx", {"preset": "fine"}),
    "more steps": (512, None, "onnx", {"steps": 8}),
    "more steps tiles": (512, 256, "onnx", {"steps": 4}),
    "large": (1600, 512, "onnx", {}),
}
"""More of these: a name, sides of picture and tile, a way, and what is chosen besides."""

_SMALL = 2**19
"""Evaluated pixels below which more steps are made, as the first evaluation is slower than others."""


def draw_picture(height: int, width: int, seed: int) -> np.ndarray:
    """Return a picture of blocks of random colours, uint8 (height, width, 3), for which little memory is needed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (67, 67, 3), np.uint8)
    rows, columns = (np.arange(side) * 67 // side for side in (height, width))
    return blocks[rows[:, None], columns[None]]


def choose(
    side: int, tile: int | None, way: str, choices: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the preset of a setting and what is chosen besides."""
    chosen = {
        "scales": 1,
        "steps": 3 if tile is None and side * side < _SMALL else 1,
        "early_stop": False,
        "clean": False,
        "tile": tile,
        **WAYS[way],
        **choices,
    }
    chosen.pop("width", None)
    return chosen.pop("preset", "default"), chosen


def measure(
    side: int, tile: int | None, way: str, choices: dict[str, Any], pace: float
) -> dict[str, Any]:
    """Return the peak of this process after a run, and its seconds; ``pace`` is as `calibrate` has it."""
    width = choices.get("width", side)
    content, style = draw_picture(side, width, 0), draw_picture(512, 512, 1)
    preset, chosen = choose(side, tile, way, choices)
    job = nstx.prepare_job(
        content, style, preset=preset, width=width, height=side, device="cpu",
        style_scale=min(1.0, 384 / max(side, width)), policy=_policy(way), **chosen,
    )  # fmt: skip
    choice = job.opened.choice
    if way_of(choice) != way:
        return {"skipped": f"got {way_of(choice)}"}
    result = nstx.run_job(job)
    peak, load = peak_memory_bytes(Device("cpu")), load_of(job.settings, (side, width), choice)
    predicted = memory_needed(load)
    seconds = result.evaluations * pace * evaluated_pixels(load) / 2**20
    return {
        "predicted_mib": round(predicted / 2**20),
        "measured_mib": round(peak / 2**20),
        "memory_error": round(predicted / peak - 1, 3),
        "predicted_seconds": round(seconds, 2),
        "measured_seconds": round(result.seconds, 2),
        "evaluations": result.evaluations,
        "time_error": round(seconds / result.seconds - 1, 3),
    }


def measure_pace(side: int, tile: int | None, way: str, choices: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of an evaluation by a setting's backend and objective for each 2²⁰ pixels."""
    preset, chosen = choose(side, tile, way, choices)
    settings = nstx.choose_settings(preset, size=side, device="cpu", **chosen)
    choice = choose_backend(settings, (side, side), _policy(way))
    return {"pace": calibrate(settings, choice) if way_of(choice) == way else 0.0}


def _policy(way: str) -> PrecisionPolicy | None:
    return PrecisionPolicy(least_bf16_work=0) if way == "checked" else None


def settings_of(only: str, *, with_fit: bool) -> list[tuple[str, tuple[Any, ...]]]:
    """Return names of settings, and what `measure` takes of them; those that take little time first."""
    kinds = [("check", CHECK), *([("fit", FIT)] if with_fit else [])]
    named: list[tuple[str, tuple[Any, ...]]] = [
        (
            f"{kind} {way} {side} {'whole' if tile is None else f'tile {tile}'}",
            (side, tile, way, {}),
        )
        for kind, sizes in kinds
        for side, tile in sizes
        for way in WAYS
        if way != "bf16" or has_bf16_units()  # emulated, it takes minutes
    ]
    named += [(f"check {name}", values) for name, values in OTHER.items()]
    return sorted(
        ((name, values) for name, values in named if only in name), key=lambda item: item[1][0]
    )


def run_apart(kind: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, f"--{kind}", json.dumps(values)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr[-300:]}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def summarise(answers: list[dict[str, Any]], left_out: int) -> dict[str, Any]:
    """Return how many settings were within the bounds, and the largest errors."""
    summary: dict[str, Any] = {"settings": len(answers), "left_out": left_out}
    for of, bound in (("memory", 0.15), ("time", 0.25)):
        errors = [abs(answer[f"{of}_error"]) for answer in answers]
        summary[f"{of}_within_{bound:.0%}"] = sum(error <= bound for error in errors)
        summary[f"worst_{of}_error"] = max(errors, default=None)
    return summary


def main() -> None:
    """Measure each setting in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, prog=Path(sys.argv[0]).name)
    parser.add_argument("--only", default="", help="settings whose name has this")
    parser.add_argument("--fit", action="store_true", help="those that were fitted to, too")
    parser.add_argument("--minutes", type=float, default=11.0, help="after which none is begun")
    for kind in ("measure", "pace"):
        parser.add_argument(f"--{kind}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure or options.pace:
        values = json.loads(options.measure or options.pace)
        print(json.dumps(measure(*values) if options.measure else measure_pace(*values)))
        return
    began, paces = time.monotonic(), dict[str, float]()
    checked, left_out = list[dict[str, Any]](), 0
    for name, values in settings_of(options.only, with_fit=options.fit):
        if time.monotonic() - began > 60 * options.minutes:
            left_out += 1
            continue
        key = json.dumps([values[2], values[3].get("preset")])
        if key not in paces:
            paces[key] = run_apart("pace", values).get("pace", 0.0)
        answer = run_apart("measure", (*values, paces[key])) if paces[key] else {"skipped": key}
        print(json.dumps({"name": name, **answer}), flush=True)
        if name.startswith("check") and "time_error" in answer:
            checked.append(answer)
    print(json.dumps(summarise(checked, left_out)))


if __name__ == "__main__":
    main()
