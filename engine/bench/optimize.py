"""How fast whole runs of ``nstx optimize`` are, by each backend and precision, in turns."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nstx.models.errors import UsageError
from nstx.models.presets import find_preset

from ..devices.device import Device
from ..settings import check_threads
from .report import error_of, first_error, make_report

OPTIMIZE_VARIANTS: Mapping[str, tuple[str, ...]] = {
    "auto": ("--backend", "auto", "--precision", "auto"),
    "onnx": ("--backend", "onnx", "--precision", "fp32"),
    "onnx-fp16": ("--backend", "onnx", "--precision", "fp16"),
    "torch": ("--backend", "torch", "--precision", "fp32"),
    "torch-tf32": ("--backend", "torch", "--precision", "tf32"),
    "torch-bf16": ("--backend", "torch", "--precision", "bf16"),
    "torch-fp16": ("--backend", "torch", "--precision", "fp16"),
}
"""What can be measured, with the options of ``nstx optimize``. ``auto``: what it chooses by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeBench:
    """What is measured.

    Attributes:
        content: the content picture; None draws one.
        style: the style picture; None draws one.
        sizes: long sides of the results, in pixels.
        variants: some of `OPTIMIZE_VARIANTS`.
        preset: of the runs.
        steps: of each run, 1 or more.
        rounds: how often each variant runs at each size.
        device: ``cpu`` or ``cuda[:N]``.
        threads: of the CPU; None leaves it to the library.
        weights: ``embedded`` or a file.

    Raises:
        UsageError: a value cannot be.
    """

    content: str | None = None
    style: str | None = None
    sizes: tuple[int, ...] = (400,)
    variants: tuple[str, ...] = ("auto", "onnx", "torch")
    preset: str = "default"
    steps: int = 50
    rounds: int = 2
    device: str = "cpu"
    threads: int | None = None
    weights: str = "embedded"

    def __post_init__(self) -> None:
        unknown = [name for name in self.variants if name not in OPTIMIZE_VARIANTS]
        if unknown or not self.variants:
            raise UsageError(
                f"expected variants among {', '.join(OPTIMIZE_VARIANTS)}, "
                f"got {', '.join(unknown) or 'none'}; try auto,torch"
            )
        if not self.sizes or not all(16 <= size <= 8192 for size in self.sizes):
            raise UsageError(
                f"expected sizes of 16 … 8192, got {', '.join(map(str, self.sizes)) or 'none'}; try --sizes 400"
            )
        for name, most in (("steps", 100_000), ("rounds", 1000)):
            if not 1 <= getattr(self, name) <= most:
                raise UsageError(
                    f"expected 1 … {most} {name}, got {getattr(self, name)}; try --{name} 2"
                )
        device = Device.parse(self.device)
        if device is None or device.is_mps:
            raise UsageError(f"expected cpu or cuda[:N] to measure, got {self.device}; try cpu")
        check_threads(self.threads)
        find_preset(self.preset)

    @property
    def measurements(self) -> int:
        """How many processes will be started, with one of each kind that is not counted."""
        return len(self.variants) * (1 + self.rounds) * len(self.sizes)

    def options(self, variant: str, size: int, steps: int) -> list[str]:
        """Return the options of a run."""
        chosen = ["--size", str(size), "--steps", str(steps), "--device", self.device]
        chosen += ["--preset", self.preset, "--weights", self.weights]
        if self.threads is not None:
            chosen += ["--threads", str(self.threads)]
        return [*chosen, *OPTIMIZE_VARIANTS[variant]]


def run_optimize_bench(
    bench: OptimizeBench, on_measurement: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Measure everything, and return it as plain data.

    Targets lie in the cache: a run of one step at each size, which is not counted, puts them, graphs
    and weights there.

    Args:
        bench: what is measured.
        on_measurement: is told after each process, in a few words, what it measured.

    Returns:
        ``machine``, ``packages``, ``settings``, ``warm_up`` and ``rows``: one for each size and
        variant, with ``runs_on``, ``seconds`` (median of whole processes), ``fastest``,
        ``slowest``, ``first_step`` (seconds from the process's start), ``per_evaluation`` (seconds
        of the optimisation for each evaluation), ``evaluations``, ``cost`` (of the saved picture),
        ``checks`` (of the precision), ``peak_memory_bytes``, and beside ``torch`` the shares
        ``of_torch`` of the time and ``cost_of_torch``. A row that failed has ``error`` instead.
        ``interrupted``: whether Ctrl-C ended it early; the rows are those that were measured.

    Raises:
        DeviceError: nothing could be measured.
    """
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    interrupted = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        pictures = _pictures(bench, Path(folder))

        def measure(variant: str, size: int, steps: int) -> dict[str, Any]:
            answer = _run(pictures, Path(folder), bench.options(variant, size, steps))
            if on_measurement is not None:
                on_measurement(f"{variant} {size} px")
            return answer

        try:
            for size in bench.sizes:
                for variant in bench.variants:
                    measure(variant, size, 1)
            for turn in range(bench.rounds):
                # Each way round in turn: see `nstx.engine.bench.run`.
                order = bench.variants if turn % 2 == 0 else bench.variants[::-1]
                for size in bench.sizes:
                    for variant in order:
                        answer = measure(variant, size, bench.steps)
                        found.setdefault((size, variant), []).append(answer)
        except KeyboardInterrupt:
            interrupted = True
    rows = [
        _row(size, variant, found[size, variant])
        for size in bench.sizes
        for variant in bench.variants
        if (size, variant) in found
    ]
    _add_ratios(rows)
    return make_report(
        asdict(bench),
        rows,
        interrupted=interrupted,
        warm_up="one run of one step for each size and variant",
    )


def _pictures(bench: OptimizeBench, folder: Path) -> tuple[str, str]:
    """Return the paths of content and style; draw what was not given, of 4:3."""
    given = [bench.content, bench.style]
    paths = [path or str(folder / f"drawn{index}.png") for index, path in enumerate(given)]
    size = max(bench.sizes)
    height, width = max(1, 3 * size // 4), size
    down, across = np.mgrid[0:height, 0:width] / size
    for index, waves in enumerate((3.0, 17.0)):
        if given[index] is None:
            angles = np.stack([waves * (down + k * across * down + k) for k in (1, 2, 3)], axis=-1)
            pixels = (127.5 + 127.5 * np.sin(2 * np.pi * angles)).astype(np.uint8)
            Image.fromarray(pixels).save(paths[index])
    return paths[0], paths[1]


def _run(pictures: tuple[str, str], folder: Path, options: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "nstx", "optimize", *pictures, "-o", str(folder / "out.png")]
    done = subprocess.run(
        [*command, "--json", "--quiet", *options], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return error_of(done)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _row(size: int, variant: str, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"size": size, "variant": variant}
    failure = first_error(answers)
    if failure is not None:
        return row | failure
    seconds = sorted(answer["seconds"]["total"] for answer in answers)
    last = answers[-1]
    schedule = last["precision_schedule"]
    return row | {
        "width": last["width"],
        "height": last["height"],
        "runs_on": f"{last['backend']} {last['device']} {last['precision']}",
        "seconds": statistics.median(seconds),
        "fastest": seconds[0],
        "slowest": seconds[-1],
        "first_step": statistics.median(a["seconds"]["until_first_step"] for a in answers),
        "per_evaluation": statistics.median(
            a["seconds"]["optimize"] / a["evaluations"] for a in answers
        ),
        "evaluations": last["evaluations"],
        "cost": last["cost"]["total"],
        "checks": None if schedule is None else schedule["checks"],
        "peak_memory_bytes": max(answer["peak_memory_bytes"] for answer in answers),
    }


def _add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    eager = {row["size"]: row for row in rows if row["variant"] == "torch" and "error" not in row}
    for row in rows:
        if "error" not in row and row["size"] in eager:
            row["of_torch"] = row["seconds"] / eager[row["size"]]["seconds"]
            row["cost_of_torch"] = row["cost"] / eager[row["size"]]["cost"]
