"""How fast features are: this package's extractor beside PyTorch's, in one run on one machine.

Machines are noisy, so variants take turns: each round measures every variant of a cell once, each
in a process of its own, one after the other.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..models.errors import DeviceError, UsageError
from ..models.presets import PRESETS
from ..models.vgg19 import find_layer, flops_per_pixel, split_layers, truncate
from .bench_worker import PEAK, VARIANTS, Task
from .machine import describe_machine, package_versions
from .settings import check_threads

_PRIMING_SIZE = 64
# What the widest layers hold per pixel of a batch, four buffers of 64 channels in fp32.
_BYTES_PER_PIXEL = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBench:
    """What is measured.

    Attributes:
        sizes: sides of the square pictures, in pixels.
        batches: numbers of pictures at once.
        variants: some of `nstx.engine.bench_worker.VARIANTS`.
        rounds: how often each variant of each cell is measured.
        repeats: runs after the first one in each measurement, at least.
        seconds: that these runs take together, at least.
        device: ``cpu`` or ``cuda[:N]``.
        threads: of the CPU; None leaves it to the library.
        activations: layers whose activations come out.
        grams: layers whose Gram matrices come out.
        weights: ``embedded`` or a file.

    Raises:
        UsageError: a value cannot be.
    """

    sizes: tuple[int, ...] = (256, 512, 1024)
    batches: tuple[int, ...] = (1, 4, 8)
    variants: tuple[str, ...] = ("onnx", "torch", "torch-compile")
    rounds: int = 3
    repeats: int = 1
    seconds: float = 2.0
    device: str = "cpu"
    threads: int | None = None
    activations: tuple[str, ...] = ("conv4_2",)
    grams: tuple[str, ...] = tuple(item.layer for item in PRESETS["default"].objective.style_layers)
    weights: str = "embedded"

    def __post_init__(self) -> None:
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown or not self.variants:
            raise UsageError(
                f"expected variants among {', '.join(VARIANTS)}, got {', '.join(unknown) or 'none'}"
            )
        for name, least, most in (("sizes", 16, 8192), ("batches", 1, 256)):
            values = getattr(self, name)
            if not values or not all(least <= value <= most for value in values):
                raise UsageError(
                    f"expected {name} of {least} … {most}, got {values}; try --{name} {least}"
                )
        check_threads(self.threads)
        if not 0 <= self.seconds <= 3600:
            raise UsageError(f"expected 0 … 3600 seconds, got {self.seconds}; try --seconds 2")
        for name in ("rounds", "repeats"):
            if not 1 <= getattr(self, name) <= 1000:
                raise UsageError(f"expected 1 … 1000 {name}, got {getattr(self, name)}")
        for name in ("activations", "grams"):
            layers = getattr(self, name)
            object.__setattr__(self, name, split_layers(",".join(layers)) if layers else ())
        truncate([*self.activations, *self.grams])

    @property
    def cells(self) -> tuple[tuple[int, int], ...]:
        """Every size with every batch."""
        return tuple((size, batch) for size in self.sizes for batch in self.batches)

    @property
    def measurements(self) -> int:
        """How many processes will be started, priming and peaks included."""
        each = len(self.variants) * (len(self.cells) * self.rounds + 1)
        return each + self.rounds * len(self.precisions)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of the variants, each once; the matrix product's peak is measured for each."""
        return tuple(dict.fromkeys(VARIANTS[name] for name in self.variants))

    @property
    def flops_per_pixel(self) -> float:
        """Operations per pixel of a picture: convolutions, and the Gram matrices' products."""
        network = truncate([*self.activations, *self.grams])
        grams = [find_layer(name) for name in self.grams]
        return flops_per_pixel(network) + sum(
            2 * layer.channels**2 / layer.stride**2 for layer in grams
        )

    def task(self, variant: str, size: int, batch: int) -> Task:
        """Return one measurement."""
        return Task(
            variant=variant,
            size=size,
            batch=batch,
            repeats=self.repeats,
            seconds=self.seconds,
            device=self.device,
            threads=self.threads,
            activations=self.activations,
            grams=self.grams,
            weights=self.weights,
        )


def run_feature_bench(
    bench: FeatureBench, on_measurement: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Measure everything, and return it as plain data.

    Args:
        bench: what is measured.
        on_measurement: is told after each process, in a few words, what it measured.

    Returns:
        ``machine``, ``packages``, ``settings``, ``flops_per_pixel``, ``matrix_peak_gflops`` by
        precision, and ``rows``: one for each size, batch and variant, with ``cold_seconds``
        (process start to first result), ``seconds`` (median of the later runs), ``per_picture``,
        ``fastest``, ``slowest``, ``runs``, ``gflops``, ``share_of_peak``, ``peak_memory_bytes``,
        and ``of_torch``, ``cold_of_torch``: the shares of PyTorch eager's time. A row that could
        not be measured has ``error`` instead.

    Raises:
        DeviceError: nothing could be measured.
    """

    def measure(variant: str, size: int, batch: int) -> dict[str, Any]:
        answer = _run_worker(bench.task(variant, size, batch))
        if on_measurement is not None:
            on_measurement(f"{variant} {size} px × {batch}")
        return answer

    # Once without being counted: files get into the system's cache, graphs and weights into ours.
    for variant in bench.variants:
        measure(variant, _PRIMING_SIZE, 1)
    peaks: dict[str, list[float]] = {name: [] for name in bench.precisions}
    answers: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
    for _ in range(bench.rounds):
        for name, found in peaks.items():
            found.append(float(measure(PEAK + name, _PRIMING_SIZE, 1).get("gflops", 0.0)))
        for size, batch in bench.cells:
            for variant in bench.variants:
                told = _too_large(size, batch) or measure(variant, size, batch)
                answers.setdefault((size, batch, variant), []).append(told)
    matrix_peak = {name: statistics.median(values) for name, values in peaks.items()}
    rows = [_row(bench, matrix_peak, *key, told) for key, told in answers.items()]
    _add_ratios(rows)
    if all("error" in row for row in rows):
        raise DeviceError(f"expected something to measure, got: {rows[0]['error']}")
    return {
        "machine": describe_machine(),
        "packages": package_versions(),
        "settings": asdict(bench),
        "flops_per_pixel": bench.flops_per_pixel,
        "matrix_peak_gflops": matrix_peak,
        "rows": rows,
    }


def _too_large(size: int, batch: int) -> dict[str, Any] | None:
    """Return an error instead of a measurement that would drive the machine into swapping."""
    import psutil

    needed, present = _BYTES_PER_PIXEL * size**2 * batch, psutil.virtual_memory().available
    if needed < present:
        return None
    return {"error": f"needs about {needed / 2**30:.0f} GiB of memory"}


def _run_worker(task: Task) -> dict[str, Any]:
    command = [sys.executable, "-m", "nstx.engine.bench_worker", json.dumps(asdict(task))]
    started = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": said[-1][:300]}
    answer: dict[str, Any] = json.loads(lines[-1])
    if "first_result_at" in answer:
        answer["cold"] = answer.pop("first_result_at") - started
    return answer


def _row(
    bench: FeatureBench,
    matrix_peak: dict[str, float],
    size: int,
    batch: int,
    variant: str,
    answers: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    row: dict[str, Any] = {"size": size, "batch": batch, "variant": variant}
    errors = [answer["error"] for answer in answers if "error" in answer]
    if errors:
        return row | {"error": errors[0]}
    warm = sorted(second for answer in answers for second in answer["warm"])
    seconds = statistics.median(warm)
    gflops = bench.flops_per_pixel * size**2 * batch / seconds / 1e9
    peak = matrix_peak[VARIANTS[variant]]
    return row | {
        "runs_on": answers[0]["runs_on"],
        "cold_seconds": statistics.median(answer["cold"] for answer in answers),
        "seconds": seconds,
        "per_picture": seconds / batch,
        "fastest": warm[0],
        "slowest": warm[-1],
        "runs": len(warm),
        "gflops": gflops,
        "share_of_peak": gflops / peak if peak else None,
        "peak_memory_bytes": max(answer["peak_memory_bytes"] for answer in answers),
    }


def _add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    eager = {
        (r["size"], r["batch"]): r for r in rows if r["variant"] == "torch" and "error" not in r
    }
    for row in rows:
        base = eager.get((row["size"], row["batch"]))
        if base is not None and "error" not in row:
            row["of_torch"] = row["seconds"] / base["seconds"]
            row["cold_of_torch"] = row["cold_seconds"] / base["cold_seconds"]
