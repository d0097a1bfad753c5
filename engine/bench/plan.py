"""Benchmarks as data: what is measured, how often, and in which order."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from nstx.models.errors import UsageError
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import Pooling, find_layer, flops_per_pixel, split_layers, truncate

from ..devices.device import Device
from ..devices.memory import GRADIENT_BYTES
from ..settings import check_count, choose_settings
from .tasks import FEATURE_VARIANTS, GRADIENT_VARIANTS, Task

_PRIMING_SIZE = 64

# Least, most, and a value to try.
_RANGES: Mapping[str, tuple[int, int, int]] = {
    "sizes": (16, 8192, 256),
    "batches": (1, 256, 1),
    "steps": (1, 100_000, 50),
    "rounds": (1, 1000, 2),
    "repeats": (1, 1000, 1),
    "seconds": (0, 3600, 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench(ABC):
    """A benchmark, whose variants are measured in turns.

    Attributes:
        work: what is measured.
        known: every variant that can be measured.
        sizes: of the pictures, in pixels.
        variants: some of the known ones.
        rounds: how often each variant is measured at each size.
        device: ``cpu`` or ``cuda[:N]``.
        threads: of the CPU; None leaves it to the library.
        weights: ``embedded`` or a file.

    Raises:
        UsageError: a value is out of its range.
    """

    work: ClassVar[Literal["features", "gradient", "optimize"]]
    known: ClassVar[Collection[str]]

    sizes: tuple[int, ...]
    variants: tuple[str, ...]
    rounds: int = 2
    device: str = "cpu"
    threads: int | None = None
    weights: str = "embedded"

    def __post_init__(self) -> None:
        unknown = [name for name in self.variants if name not in self.known]
        if unknown or not self.variants:
            raise UsageError(
                f"expected variants among {', '.join(self.known)}, "
                f"got {', '.join(unknown) or 'none'}; try onnx,torch"
            )
        for name, (least, most, example) in _RANGES.items():
            value = getattr(self, name, least)
            values = value if isinstance(value, tuple) else (value,)
            if not values or not all(least <= number <= most for number in values):
                raise UsageError(
                    f"expected {name} of {least} … {most}, "
                    f"got {', '.join(map(str, values)) or 'none'}; try --{name} {example}"
                )
        check_count("threads", self.threads)
        device = Device.parse(self.device)
        if device is None or device.is_mps:
            raise UsageError(f"expected cpu or cuda[:N] to measure, got {self.device}; try cpu")

    def task(self, variant: str, size: int, **details: Any) -> Task:
        """Return one measurement; ``details`` are other attributes of it."""
        return Task(
            work=self.work,
            variant=variant,
            size=size,
            device=self.device,
            threads=self.threads,
            weights=self.weights,
            **details,
        )

    @property
    @abstractmethod
    def warm_up(self) -> tuple[Task, ...]:
        """Tasks that are run once and not counted, so that later ones find files in caches."""

    @abstractmethod
    def round(self, order: Sequence[str]) -> tuple[Task, ...]:
        """Return the tasks of a round, whose variants take turns in an order."""

    @property
    def measurements(self) -> int:
        """How many processes will be started, warm-up included."""
        return len(self.warm_up) + self.rounds * len(self.round(self.variants))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputBench(Bench):
    """A benchmark of one computation that is repeated in warm processes, on square pictures.

    Attributes:
        known: every variant that can be measured, with its precision.
        bytes_per_pixel: memory that a measurement takes per pixel of a batch, about.
        batches: numbers of pictures at once.
        repeats: runs after the first one in each process, at least.
        seconds: total of these runs, at least.

    Raises:
        UsageError: a value is out of its range.
    """

    known: ClassVar[Mapping[str, str]]
    bytes_per_pixel: ClassVar[int]

    sizes: tuple[int, ...] = (256, 512, 1024)
    batches: tuple[int, ...] = (1, 4, 8)
    variants: tuple[str, ...] = ("onnx", "torch")
    repeats: int = 1
    seconds: float = 2.0

    @property
    @abstractmethod
    def flops_per_pixel(self) -> float:
        """Operations per pixel of a picture."""

    @property
    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Attributes of a task that only this kind of work has."""

    def cell_task(self, variant: str, size: int, batch: int) -> Task:
        """Return the measurement of a variant at a size and batch."""
        return self.task(
            variant,
            size,
            batch=batch,
            repeats=self.repeats,
            seconds=self.seconds,
            **self.details,
        )

    def peak_task(self, precision: str) -> Task:
        """Return the measurement of matrix products in a precision."""
        return replace(self.task(precision, _PRIMING_SIZE), work="peak")

    @property
    def cells(self) -> tuple[tuple[int, int], ...]:
        """Every size with every batch."""
        return tuple((size, batch) for size in self.sizes for batch in self.batches)

    @property
    def warm_up(self) -> tuple[Task, ...]:
        """Each variant on a small picture; eager PyTorch for a compiled one, which keeps nothing."""
        names = dict.fromkeys(name.partition("-compile")[0] for name in self.variants)
        return tuple(self.cell_task(name, _PRIMING_SIZE, 1) for name in names)

    def round(self, order: Sequence[str]) -> tuple[Task, ...]:
        """Return the peak of each precision, and every cell by every variant in an order."""
        peaks = map(self.peak_task, self.precisions)
        return *peaks, *(self.cell_task(name, *cell) for cell in self.cells for name in order)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of the variants, each once."""
        return tuple(dict.fromkeys(map(self.precision, self.variants)))

    def precision(self, variant: str) -> str:
        """Return a variant's precision; ONNX Runtime's CPU provider computes fp16 in fp32."""
        precision = self.known[variant]
        return "fp32" if self.device == "cpu" and precision == "fp16" else precision


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBench(ThroughputBench):
    """The extraction of features: activations and Gram matrices.

    Attributes:
        activations: layers whose activations are extracted.
        grams: layers whose Gram matrices are extracted.

    Raises:
        UsageError: a value is out of its range, or a layer is unknown.
    """

    work = "features"
    known: ClassVar[Mapping[str, str]] = FEATURE_VARIANTS
    # Four buffers of the widest layers, 64 channels in fp32.
    bytes_per_pixel: ClassVar[int] = 1024

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
    def details(self) -> dict[str, Any]:
        """The layers."""
        return {"activations": self.activations, "grams": self.grams}

    @property
    def flops_per_pixel(self) -> float:
        """Operations of the convolutions and of the Gram matrices' products."""
        return flops_per_pixel(truncate([*self.activations, *self.grams])) + _gram_flops(self.grams)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientBench(ThroughputBench):
    """The cost of pictures with its gradient, from pixels in memory to a gradient in memory.

    Attributes:
        preset: whose objective is measured.
        pooling: ``avg`` or ``max``; None takes the preset's.

    Raises:
        UsageError: a value is out of its range, or the preset or pooling is unknown.
    """

    work = "gradient"
    known: ClassVar[Mapping[str, str]] = GRADIENT_VARIANTS
    # A step of the default objective in fp32.
    bytes_per_pixel: ClassVar[int] = GRADIENT_BYTES

    batches: tuple[int, ...] = (1,)
    preset: str = "default"
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        Bench.__post_init__(self)
        choose_settings(self.preset, pooling=self.pooling)

    @property
    def details(self) -> dict[str, Any]:
        """What chooses the objective."""
        return {"preset": self.preset, "pooling": self.pooling}

    @property
    def flops_per_pixel(self) -> float:
        """Operations of the convolutions and Gram matrices, twice: forward and backward."""
        objective = choose_settings(self.preset, pooling=self.pooling).objective
        network = flops_per_pixel(truncate(objective.layers))
        return 2 * (network + _gram_flops(objective.style_names))


def _gram_flops(names: Sequence[str]) -> float:
    layers = [find_layer(name) for name in names]
    return sum(2 * layer.channels**2 / layer.stride**2 for layer in layers)
