"""Everything that a CUDA device must show, in a few minutes: steps, solvers, processes, pictures.

NSTX_TEST_DATA=FOLDER python benchmarks/cuda_report.py [--device cuda:0] [--sections steps,…]
    [--budget 340] [--json FILE]

Sections: `steps` beside their floors, `solvers` beside the gradient, gradients beside float64 and
what `checks` take, whole `processes` and whether two of them give equal bytes, final `costs` of
precision `auto` beside fp32's, `onnx` beside PyTorch, and `tests`, those marked `gpu`. The budget,
in seconds, is shared among the sections; what one does not use goes to those after it, and what
does not fit is left out and said so. A row that fails has `error`, and a section that fails keeps
the rows before; the JSON is written after each row. With `--device cpu` everything is tiny: it
shows that the script runs.
"""

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from cuda_pictures import measure_costs, measure_processes, run_tests
from cuda_plan import Plan, Row, Section
from cuda_solvers import measure_solvers
from cuda_steps import measure_checks, measure_onnx, measure_steps

from nstx.engine.devices.machine import describe_machine, package_versions

SECTIONS: Mapping[str, tuple[Callable[[Plan, Section], Iterator[Row]], float]] = {
    "steps": (measure_steps, 80),
    "processes": (measure_processes, 55),
    "solvers": (measure_solvers, 35),
    "checks": (measure_checks, 15),
    "costs": (measure_costs, 40),
    "onnx": (measure_onnx, 50),
    "tests": (run_tests, 65),
}
"""What measures a section, and its share of the budget, in seconds of 340."""


def run_sections(plan: Plan, names: list[str], budget: float, path: Path | None) -> dict[str, Any]:
    """Run some sections; return the report, which is also written to a path after each row."""
    report: dict[str, Any] = {
        "machine": {**describe_machine(), "gpu": describe_device(plan)},
        "packages": package_versions(),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "plan": plan.described(),
        "sections": {},
    }
    shares = {name: SECTIONS[name][1] for name in names}
    ends, began = 0.0, time.monotonic()

    def write() -> None:
        report["seconds"] = round(time.monotonic() - began, 1)
        if path is not None:
            beside = path.with_name(f".{path.name}.part")
            beside.write_text(json.dumps(report, indent=1) + "\n")
            beside.replace(path)

    for name in names:
        ends += budget * shares[name] / sum(shares.values())
        section = Section(began + ends, report["sections"])
        entry: dict[str, Any] = {"rows": [], "error": None, "cut": False}
        report["sections"][name] = entry
        started = time.monotonic()
        try:
            for row in SECTIONS[name][0](plan, section):
                entry["rows"].append(row)
                print(f"{name}: {one_line(row)}", flush=True)
                write()
        except Exception:  # noqa: BLE001  (the sections after this one are worth their time)
            entry["error"] = traceback.format_exc(limit=-3)[-1500:]
            print(f"{name}: {entry['error'].splitlines()[-1]}", flush=True)
        entry["cut"] = section.cut
        entry["seconds"] = round(time.monotonic() - started, 1)
        print(f"-- {name}: {entry['seconds']} s{', cut' if section.cut else ''}", flush=True)
        write()
    return report


def describe_device(plan: Plan) -> str:
    """Return the name of a CUDA device, with its compute capability."""
    if plan.device == "cpu":
        return "none"
    major, minor = torch.cuda.get_device_capability(plan.device)
    return f"{torch.cuda.get_device_name(plan.device)}, {major}.{minor}"


def one_line(row: Row) -> str:
    """Return a row as a short line."""
    texts = []
    for name, value in row.items():
        if isinstance(value, float):
            texts.append(f"{name} {value:.4g}")
        elif isinstance(value, str | int) and value != "":
            texts.append(f"{name} {str(value).splitlines()[-1][:160]}")
    return ", ".join(texts)


def main() -> None:
    """Run the sections that are asked for, print their rows, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--budget", type=float, default=340.0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    names = chosen.sections.split(",")
    if not set(names) <= set(SECTIONS):
        parser.error(f"expected sections of {', '.join(SECTIONS)}, got {chosen.sections}")
    data = os.environ.get("NSTX_TEST_DATA")
    plan = Plan.on(chosen.device, Path(data) if data else None)
    with tempfile.TemporaryDirectory() as folder:
        # What is computed once is kept for the sections after it, and nothing of other days is used.
        os.environ["NSTX_CACHE_DIR"] = folder
        run_sections(plan, names, chosen.budget, chosen.json)


if __name__ == "__main__":
    main()
