"""How fast features or gradients are: this package beside PyTorch, in one run on one machine."""

import itertools
import math
import os
import statistics
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from nstx.models.presets import PRESETS
from nstx.models.vgg19 import Pooling, find_layer, flops_per_pixel, split_layers, truncate
from nstx.models.weights.load import weights_digest

from ..choices import choose_settings
from ..devices.free_memory import free_memory
from ..planning.memory_model import Load, Way, extraction_needed, gradient_needed
from .tasks import FEATURE_VARIANTS, GRADIENT_VARIANTS, OPTIMIZE_VARIANTS, Task
from .turns import Answers, Bench, Row, RowMaker, make_report, run_process, take_turns

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PRIMING_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputBench(Bench):
    """A benchmark of one computation that is repeated in warm processes, on square pictures.

    Attributes:
        choices: every variant that can be measured, with its precision.
        repeats: least number of runs after the first one in each process.
        seconds: least total of these runs.
    """

    choices: ClassVar[Mapping[str, str]]

    sizes: tuple[int, ...] = (256, 512, 1024)
    batches: tuple[int, ...] = (1, 4, 8)
    variants: tuple[str, ...] = ("onnx", "torch")
    repeats: int = 1
    seconds: float = 2.0

    @property
    @abstractmethod
    def flops_per_pixel(self) -> float:
        """Operations per pixel of a picture."""

    @abstractmethod
    def memory_needed(self, task: Task) -> int:
        """Return the bytes that a measurement has at its peak on the CPU, about."""

    def peak_task(self, precision: str) -> Task:
        """Return the measurement of matrix products in a precision."""
        return replace(self.task(precision, _PRIMING_SIZE), work="peak")

    @property
    def warm_up(self) -> tuple[Task, ...]:
        """Each variant on a small picture; eager PyTorch for one whose compilation is not kept."""
        names = dict.fromkeys(name.partition("-compile")[0] for name in self.variants)
        return tuple(self.task(name, _PRIMING_SIZE) for name in names)

    @property
    def cells(self) -> tuple[tuple[Task, ...], ...]:
        """The peak of each precision, then every size with every batch, by every variant."""
        peaks = tuple(map(self.peak_task, self.precisions))
        cells = [(size, batch) for size in self.sizes for batch in self.batches]
        return peaks, *(
            tuple(self.task(name, size, batch=batch) for name in self.variants)
            for size, batch in cells
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of the variants, without repetition."""
        return tuple(dict.fromkeys(map(self.precision, self.variants)))

    def precision(self, variant: str) -> str:
        """Return a variant's precision; ONNX Runtime's CPU provider computes fp16 in fp32."""
        precision = self.choices[variant]
        return "fp32" if self.device == "cpu" and precision == "fp16" else precision


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBench(ThroughputBench):
    """The extraction of the activations and Gram matrices of some layers."""

    work = "features"
    choices: ClassVar[Mapping[str, str]] = FEATURE_VARIANTS
    variants: tuple[str, ...] = ("onnx", "torch", "torch-compile")
    activations: tuple[str, ...] = ("conv4_2",)
    grams: tuple[str, ...] = tuple(item.layer for item in PRESETS["default"].objective.style_layers)

    def __post_init__(self) -> None:
        Bench.__post_init__(self)
        for name in ("activations", "grams"):
            layers = getattr(self, name)
            object.__setattr__(self, name, split_layers(",".join(layers)) if layers else ())
        truncate([*self.activations, *self.grams])

    @property
    def flops_per_pixel(self) -> float:
        """Operations of the convolutions and of the Gram matrices' products."""
        return _forward_flops([*self.activations, *self.grams], self.grams)

    def memory_needed(self, task: Task) -> int:
        """Implement `ThroughputBench`."""
        pixels = task.size**2 * task.batch
        return extraction_needed([*self.activations, *self.grams], pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientBench(ThroughputBench):
    """The cost of pictures with its gradient, from pixels in memory to a gradient in memory.

    A pooling of None is that of the preset.
    """

    work = "gradient"
    choices: ClassVar[Mapping[str, str]] = GRADIENT_VARIANTS
    batches: tuple[int, ...] = (1,)
    preset: str = "default"
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        Bench.__post_init__(self)
        choose_settings(self.preset, pooling=self.pooling)

    @property
    def flops_per_pixel(self) -> float:
        """Operations of the convolutions and Gram matrices, twice: forward and backward."""
        objective = choose_settings(self.preset, pooling=self.pooling).objective
        return 2 * _forward_flops(objective.layers, objective.style_names)

    def memory_needed(self, task: Task) -> int:
        """Implement `ThroughputBench`."""
        objective = choose_settings(self.preset, pooling=self.pooling).objective
        name, _ = OPTIMIZE_VARIANTS[task.variant]
        by_torch: Way = "bf16" if self.precision(task.variant) == "bf16" else "autograd"
        way: Way = "onnx" if name == "onnx" else by_torch
        size = (task.size, task.size)
        return gradient_needed(Load(size=size, objective=objective, way=way, batch=task.batch))


def _forward_flops(layers: Sequence[str], grams: Sequence[str]) -> float:
    products = [find_layer(name) for name in grams]
    return flops_per_pixel(truncate(layers)) + sum(
        2 * layer.channels**2 / layer.stride**2 for layer in products
    )


def run_timed(task: Task) -> dict[str, Any]:
    """Measure a task in a process of its own, with ``cold``: seconds to its first result.

    Everything that PyTorch compiles is compiled again.
    """
    threads = {} if task.threads is None else dict.fromkeys(_THREAD_VARIABLES, str(task.threads))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, **threads, "TORCHINDUCTOR_CACHE_DIR": folder}
        started = time.time()
        answer = run_process(task, environment)
    if "first_result_at" in answer:
        answer["cold"] = answer.pop("first_result_at") - started
    return answer


def run_bench(
    bench: ThroughputBench,
    on_measurement: Callable[[str], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
    *,
    run_task: Callable[[Task], dict[str, Any]] = run_timed,
) -> dict[str, Any]:
    """Measure everything, and return it as plain data.

    To the fields of `make_report` come ``flops_per_pixel`` and, by precision,
    ``matrix_peak_gflops``. A row is a size, batch and variant, with ``cold_seconds`` (process start
    to first result), ``seconds`` (median of the later runs), ``fastest`` and ``slowest`` of them,
    and ``norms`` of the outputs. On CUDA, ``step_seconds`` are those of gradients whose pictures stay on
    the device, ``floor_seconds`` those of the convolutions alone (`nstx.engine.bench.floor`), and
    ``of_floor`` is how many times as long the step, or the extraction, takes; None elsewhere, and where
    ``floor_error`` says why. Beside eager PyTorch it has ``of_torch`` and ``cold_of_torch``,
    the shares of its times, and ``norm_difference``, the largest relative difference of an output's
    norm. A norm that is not finite is None, and so are differences from it; ``peak_memory_bytes`` is None
    on CUDA without PyTorch. A row that could not be measured has ``error`` instead.

    ``on_measurement`` is called after each process with its label, ``on_row`` with each row when all
    of it is measured, and ``run_task`` returns what was measured, or ``error``. `DeviceError` if
    nothing could be measured.
    """
    weights_digest(bench.weights)

    def complete(task: Task, answers: Answers) -> None:
        if on_row is not None and task.work != "peak":
            on_row(_row_maker(bench, answers)(task, answers))

    answers, interrupted = take_turns(
        bench, lambda task: check_memory(bench, task) or run_task(task), on_measurement, complete
    )
    tasks = itertools.chain(*bench.cells[1:])
    return make_report(
        bench,
        _row_maker(bench, answers).rows(tasks, answers),
        interrupted=interrupted,
        flops_per_pixel=bench.flops_per_pixel,
        matrix_peak_gflops=_peaks(bench, answers),
    )


def _row_maker(bench: ThroughputBench, answers: Answers) -> RowMaker:
    peaks = _peaks(bench, answers)

    def describe(task: Task, answers: Sequence[dict[str, Any]]) -> Row:
        flops = bench.flops_per_pixel * task.size**2 * task.batch
        return _describe(task, answers, flops, peaks.get(bench.precision(task.variant), 0.0))

    return RowMaker(("size", "batch"), describe, _compare)


def _peaks(bench: ThroughputBench, answers: Answers) -> dict[str, float]:
    """Return the rates of matrix products, by precision, of those that were measured."""
    peaks = {}
    for name in bench.precisions:
        measured = [answer.get("gflops", 0.0) for answer in answers.get(bench.peak_task(name), ())]
        if measured:
            peaks[name] = float(statistics.median(measured))
    return peaks


def check_memory(bench: ThroughputBench, task: Task) -> dict[str, Any] | None:
    """Return an ``error`` for a task that would drive the machine into swapping.

    A CUDA device has memory of its own, and reports by itself that it does not suffice.
    """
    if bench.device != "cpu" or task.work == "peak":
        return None
    needed = bench.memory_needed(task)
    if needed < free_memory(swap=False):
        return None
    return {"error": f"needs about {needed / 2**30:.0f} GiB of memory"}


def _describe(
    task: Task, answers: Sequence[dict[str, Any]], flops: float, peak: float
) -> dict[str, Any]:
    warm = sorted(second for answer in answers for second in answer["warm"])
    seconds = statistics.median(warm)
    steps = [second for answer in answers for second in answer.get("step", ())]
    step = statistics.median(steps) if steps else None
    floors = [answer["floor"] for answer in answers if "floor" in answer]
    floor = statistics.median(floors) if floors else None
    memory = [answer["peak_memory_bytes"] for answer in answers if answer["peak_memory_bytes"]]
    gflops = flops / (step or seconds) / 1e9
    return {
        "runs_on": answers[0]["runs_on"],
        "cold_seconds": statistics.median(answer["cold"] for answer in answers),
        "seconds": seconds,
        "per_picture": seconds / task.batch,
        "fastest": warm[0],
        "slowest": warm[-1],
        "runs": len(warm),
        "step_seconds": step,
        "floor_seconds": floor,
        "of_floor": (step or seconds) / floor if floor else None,
        "gflops": gflops,
        "share_of_peak": gflops / peak if peak else None,
        "peak_memory_bytes": max(memory) if memory else None,
        "norms": [_finite(norm) for norm in answers[0]["norms"]],
        **{name: answers[0][name] for name in ("floor_error",) if name in answers[0]},
    }


def _compare(row: dict[str, Any], eager: dict[str, Any]) -> dict[str, Any]:
    return {
        "of_torch": row["seconds"] / eager["seconds"],
        "cold_of_torch": row["cold_seconds"] / eager["cold_seconds"],
        "norm_difference": _norm_difference(row["norms"], eager["norms"]),
    }


def _norm_difference(norms: Sequence[float | None], others: Sequence[float | None]) -> float | None:
    """Return the largest relative difference of norms.

    None where a norm is not finite, or where only the other one is 0.
    """
    largest = 0.0
    for norm, other in zip(norms, others, strict=True):
        if norm is None or other is None or (norm and not other):
            return None
        if other:
            largest = max(largest, abs(norm / other - 1))
    return _finite(largest)


def _finite(value: float) -> float | None:
    # JSON has neither infinity nor NaN.
    return value if math.isfinite(value) else None
