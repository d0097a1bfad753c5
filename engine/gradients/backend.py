"""What every gradient backend must offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from nstx.models.cost import Cost
from nstx.models.errors import NumericalError, UsageError
from nstx.models.objective import Objective

from ..devices.arrays import Array, ArrayT
from ..settings import Precision
from ..targets.targets import Targets

Problems = Sequence[tuple[Objective, Targets]]
"""What each picture of a batch is compared with."""


# fp16 gradients overflow at 65 504 and vanish below 6e-8, so the cost is multiplied by a seed before it
# is differentiated. The seed starts high, is divided while the gradient is not finite, and grows again
# when the largest value of the gradient leaves room.
_FIRST_SEED = 2.0**24
_SEED_STEP = 16.0
_SMALLEST_SEED = 2.0**-60
_ROOM = 2.0**4


def first_seed(precision: str) -> float:
    """Return what a cost is multiplied by before it is differentiated for the first time; 1 but in fp16."""
    return _FIRST_SEED if precision == "fp16" else 1.0


def lower_seed(seed: float) -> float | None:
    """Return the seed that comes after one whose gradient was not finite; None where it is the last."""
    return None if seed <= _SMALLEST_SEED else seed / _SEED_STEP


def raise_seed(seed: float, largest: float) -> float:
    """Return the next evaluation's seed, of the largest value of a gradient that was differentiated with this one."""
    return seed * _SEED_STEP if 0 < largest < _ROOM else seed


def gradient_error() -> NumericalError:
    """Return the error of a gradient that is not finite."""
    return NumericalError(
        "expected a finite gradient, got NaN or infinity; try smaller weights, or --precision fp32"
    )


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """The precisions of a run that is checked.

    Attributes:
        stages: from the one in which each scale begins; the last is fp32, with which the others are
            compared.
        exact_by: how fp32 is computed: as it is, or by three products in TF32, nearly as right.
    """

    stages: tuple[Precision, ...]
    exact_by: Literal["fp32", "tf32x3"] = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionCheck:
    """A gradient of low precision that was compared with one of fp32.

    Attributes:
        evaluation: number of the evaluation, which counts from 1 at each scale.
        precision: of the gradient, such as ``bf16``.
        error: ‖g − g₃₂‖ / ‖g₃₂‖, of a batch the largest; infinite if the gradient was not finite.
        bound: largest error with which the precision is kept.
        kept: whether the run goes on in this precision.
        continues_in: the precision in which it goes on.
        seconds: that the evaluation took with its check.
    """

    height: int
    width: int
    evaluation: int
    precision: str
    error: float
    bound: float
    kept: bool
    continues_in: str
    seconds: float


Follower = Callable[[Array, Array], None]
"""Takes pictures and gradients of a batch that are under way, to begin with what follows from them."""


class GradientBackend(ABC):
    """Computes the costs of several pictures of one size and their gradients, all in one pass.

    Pictures are NumPy arrays, or those of `nstx.engine.gradients.opening.BackendFactory.arrays`; their
    gradients are of the same kind. Each picture has its own targets and its own weights of content, style
    and total variation; layers and pooling are common. `NumericalError` where a cost or gradient is not
    finite.

    Attributes:
        checks: of a gradient's precision, that were made so far.
        approximate: whether costs that come with gradients are less exact than those that come alone.
    """

    checks: Sequence[PrecisionCheck] = ()
    approximate: bool = False
    _follower: Follower | None = None

    @abstractmethod
    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Return each picture's cost and ∂J/∂pixels, float32 (batch, height, width, 3)."""

    def lead(self, follower: Follower | None) -> None:
        """Have work begin on the device with each gradient, before its costs are waited for; None ends it.

        Backends that do not wait for a device call nothing. A gradient that is returned need not be one that the
        follower took: what is found not to be finite, or too inexact, is computed again.
        """
        self._follower = follower

    @abstractmethod
    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Return the costs alone."""

    def export(self) -> Mapping[str, NDArray[Any]]:
        """Return what the next evaluation depends on besides its pictures, by name; nothing changes it later."""
        return {}

    def resume(self, earlier: Mapping[str, NDArray[Any]], checks: Sequence[PrecisionCheck]) -> None:
        """Take over, before the first evaluation, what was exported, and the checks that had been made."""
        assert not earlier  # what exports something takes it over

    def cost_and_gradient(self, pixels: ArrayT) -> tuple[Cost, ArrayT]:
        """Return the cost and ∂J/∂pixels, float32 (height, width, 3), of a backend of one picture."""
        costs, gradients = self.costs_and_gradients(pixels[None])
        return costs[0], gradients[0]

    def cost(self, pixels: Array) -> Cost:
        """Return the cost alone, of a backend of one picture."""
        return self.costs(pixels[None])[0]


def check_regions(targets: Sequence[Targets]) -> int:
    """Return how many regions each picture of a batch has; `UsageError` if they have not as many."""
    counts = sorted({len(of_picture.areas) for of_picture in targets})
    if len(counts) > 1:
        raise UsageError(
            f"expected pictures with as many regions, got {' and '.join(map(str, counts))}; try one batch for each"
        )
    return counts[0]


def check_batch(objectives: Sequence[Objective], sizes: Sequence[tuple[int, int]]) -> Objective:
    """Return a batch's first objective, whose layers, formulas and pooling all pictures have.

    `UsageError` if they have not, or if there is none, or if sizes (height, width) differ.
    """
    kinds = {objective.with_unit_weights() for objective in objectives}
    if not objectives or len(set(sizes)) > 1 or len(kinds) > 1:
        listed = ", ".join(f"{width}×{height}" for height, width in dict.fromkeys(sizes))
        raise UsageError(
            "expected pictures of one size, with objectives that differ in their weights alone, "
            f"got sizes {listed or 'of none'}; try one batch for each"
        )
    return objectives[0]
