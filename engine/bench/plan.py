"""What benchmarks of features and of gradients measure, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nstx.models.errors import UsageError
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import Pooling, find_layer, flops_per_pixel, split_layers, truncate

from ..devices.device import Device
from ..devices.memory import GRADIENT_BYTES
from ..settings import check_threads, choose_settings
from .worker import FEATURE_VARIANTS, GRADIENT_VARIANTS, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured, whatever it is.

    Attributes:
        sizes: sides of the square pictures, in pixels.
        batches: numbers of pictures at once.
        variants: some of those that the benchmark knows.
        rounds: how often each variant of each cell is measured.
        repeats: runs after the first one in each measurement, at least.
        seconds: that these runs take together, at least.
        device: ``cpu`` or ``cuda[:N]``.
        threads: of the CPU; None leaves it to the library.
        weights: ``embedded`` or a file.

    Raises:
        UsageError: a value cannot be.
    """

    known: ClassVar[Mapping[str, str]]
    """The variants, with their precisions."""

    sizes: tuple[int, ...] = (256, 512, 1024)
    batches: tuple[int, ...] = (1, 4, 8)
    variants: tuple[str, ...] = ("onnx", "torch")
    rounds: int = 2
    repeats: int = 1
    seconds: float = 2.0
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
        for name, least, most in (("sizes", 16, 8192), ("batches", 1, 256)):
            values = getattr(self, name)
            if not values or not all(least <= value <= most for value in values):
                raise UsageError(
                    f"expected {name} of {least} … {most}, got {', '.join(map(str, values)) or 'none'}; try --{name} {least}"
                )
        check_threads(self.threads)
        device = Device.parse(self.device)
        if device is None or device.is_mps:
            raise UsageError(f"expected cpu or cuda[:N] to measure, got {self.device}; try cpu")
        if not 0 <= self.seconds <= 3600:
            raise UsageError(f"expected 0 … 3600 seconds, got {self.seconds}; try --seconds 2")
        for name in ("rounds", "repeats"):
            if not 1 <= getattr(self, name) <= 1000:
                raise UsageError(
                    f"expected 1 … 1000 {name}, got {getattr(self, name)}; try --{name} 3"
                )

    @property
    def cells(self) -> tuple[tuple[int, int], ...]:
        """Every size with every batch."""
        return tuple((size, batch) for size in self.sizes for batch in self.batches)

    @property
    def measurements(self) -> int:
        """How many processes will be started, priming and peaks included."""
        each = len(self.variants) * len(self.cells) + len(self.precisions)
        return len(self.primed) + self.rounds * each

    @property
    def primed(self) -> tuple[str, ...]:
        """Variants that are run once without being counted.

        Files get into the system's cache by it, graphs and weights into ours; what PyTorch
        compiles is not kept, so eager serves for it.
        """
        return tuple(dict.fromkeys(name.partition("-compile")[0] for name in self.variants))

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of the variants, each once; the matrix product's peak is measured for each."""
        return tuple(dict.fromkeys(map(self.precision, self.variants)))

    def precision(self, variant: str) -> str:
        """Return what a variant computes in; ONNX Runtime's CPU provider has fp32 for fp16."""
        chosen = self.known[variant]
        return "fp32" if self.device == "cpu" and chosen == "fp16" else chosen

    @property
    def flops_per_pixel(self) -> float:
        """Operations per pixel of a picture."""
        raise NotImplementedError

    @property
    def bytes_per_pixel(self) -> int:
        """Memory that a measurement takes per pixel of a batch, about."""
        raise NotImplementedError

    def task(self, variant: str, size: int, batch: int) -> Task:
        """Return one measurement."""
        return Task(
            work=self.work,
            variant=variant,
            size=size,
            batch=batch,
            repeats=self.repeats,
            seconds=self.seconds,
            device=self.device,
            threads=self.threads,
            weights=self.weights,
            **self.details,
        )

    @property
    def work(self) -> str:
        """What is measured: ``features`` or ``gradient``."""
        raise NotImplementedError

    @property
    def details(self) -> dict[str, Any]:
        """The fields of a task that this kind of work needs."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBench(Bench):
    """The extraction of features: activations and Gram matrices.

    Attributes:
        activations: layers whose activations come out.
        grams: layers whose Gram matrices come out.

    Raises:
        UsageError: a value cannot be.
    """

    known: ClassVar[Mapping[str, str]] = FEATURE_VARIANTS

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
    def work(self) -> str:
        """See `Bench`."""
        return "features"

    @property
    def details(self) -> dict[str, Any]:
        """See `Bench`."""
        return {"activations": self.activations, "grams": self.grams}

    @property
    def flops_per_pixel(self) -> float:
        """Convolutions, and the Gram matrices' products."""
        return flops_per_pixel(truncate([*self.activations, *self.grams])) + _gram_flops(self.grams)

    @property
    def bytes_per_pixel(self) -> int:
        """Four buffers of the widest layers, 64 channels in fp32."""
        return 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientBench(Bench):
    """A step: the cost of pictures with its gradient, from pixels in memory to a gradient in memory.

    Attributes:
        preset: whose objective is measured.
        pooling: ``avg`` or ``max``; None takes the preset's.

    Raises:
        UsageError: a value cannot be.
    """

    known: ClassVar[Mapping[str, str]] = GRADIENT_VARIANTS

    batches: tuple[int, ...] = (1,)
    preset: str = "default"
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        Bench.__post_init__(self)
        choose_settings(self.preset, pooling=self.pooling)

    @property
    def work(self) -> str:
        """See `Bench`."""
        return "gradient"

    @property
    def details(self) -> dict[str, Any]:
        """See `Bench`."""
        return {"preset": self.preset, "pooling": self.pooling}

    @property
    def flops_per_pixel(self) -> float:
        """Convolutions and the Gram matrices' products, forward and backward: twice each."""
        objective = choose_settings(self.preset, pooling=self.pooling).objective
        network = flops_per_pixel(truncate(objective.layers))
        return 2 * (network + _gram_flops(objective.style_names))

    @property
    def bytes_per_pixel(self) -> int:
        """What a step of the default objective takes in fp32."""
        return GRADIENT_BYTES


def _gram_flops(layers: Sequence[str]) -> float:
    found = [find_layer(name) for name in layers]
    return sum(2 * layer.channels**2 / layer.stride**2 for layer in found)
