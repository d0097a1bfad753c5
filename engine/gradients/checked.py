"""A gradient of low precision that is checked against fp32 as it goes, and corrected by it.

Rounding to bf16 shifts the features: by a thousandth of a Gram matrix, which is nothing far from the
optimum, and as much as the whole residual G − A near it. But this shift hardly depends on the picture.
So at some evaluations the features are computed in fp32 as well, the difference is added to the targets
of the low precision, and the residual is right again: gradients that were wrong by as much as they were
long are wrong by a twentieth. (Iterative refinement in numerical linear algebra, Wilkinson 1963, does
the same: residuals in high precision, the rest in low.)

When these checks come was chosen by experiments: see docs/precision.md.
"""

import contextlib
import math
from collections.abc import Sequence

from nstx.models.cost import Cost
from nstx.models.errors import NumericalError

from ..devices.arrays import Array, ArrayT
from .backend import GradientBackend, PrecisionCheck
from .choice import LARGEST_ERROR
from .torch_gradient import TorchGradient

_SOON, _FIRST, _MOST = 4, 8, 32
"""Evaluations until the next check: after one that failed, after the first one, and at most."""

_STALL = 6
"""Evaluations without a lower cost, after which a check comes at once."""


class CheckedBackend(GradientBackend):
    """Costs and gradients of low precision where that is good enough, else of fp32.

    Args:
        fast: backend of low precision.
        exact: backend of the same problems in fp32.
        precision: of ``fast``, as reports call it.
        largest_error: of a gradient, ‖g − g₃₂‖ / ‖g₃₂‖; beyond it the next check comes early, and if
            that one fails too, fp32 takes over.
    """

    approximate = True

    def __init__(
        self,
        fast: TorchGradient,
        exact: TorchGradient,
        precision: str,
        largest_error: float = LARGEST_ERROR,
    ) -> None:
        self._fast: TorchGradient | None = fast
        self._exact = exact
        self._precision, self._largest_error = precision, largest_error
        self.checks: list[PrecisionCheck] = []
        self._evaluation = 0
        self._next_check, self._interval = 1, _FIRST
        self._best, self._best_at = math.inf, 0

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Implement `GradientBackend`."""
        self._evaluation += 1
        if self._fast is None:
            return self._exact.costs_and_gradients(pixels)
        stalls = self._evaluation - self._best_at > _STALL
        if stalls or self._evaluation >= self._next_check:
            return self._check(self._fast, pixels)
        try:
            costs, gradients = self._fast.costs_and_gradients(pixels)
        except NumericalError:
            return self._check(None, pixels)
        self._watch(costs)
        return costs, gradients

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Implement `GradientBackend`, in fp32."""
        return self._exact.costs(pixels)

    def _watch(self, costs: Sequence[Cost]) -> None:
        total = sum(cost.total for cost in costs)
        if total < self._best:
            self._best, self._best_at = total, self._evaluation

    def _check(self, fast: TorchGradient | None, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Return the evaluation in fp32; compare and correct the low precision by it.

        ``fast`` is None where it has just failed.
        """
        with self._exact.problem.noting() as exact_features:
            costs, gradients = self._exact.costs_and_gradients(pixels)
        error = math.inf
        if fast is not None:
            with contextlib.suppress(NumericalError), fast.problem.noting() as features:
                error = largest_relative_error(fast.costs_and_gradients(pixels)[1], gradients)
                fast.problem.offset(
                    {part: features[part] - exact for part, exact in exact_features.items()}
                )
        failed_before = bool(self.checks) and self.checks[-1].error > self._largest_error
        is_good = error <= self._largest_error
        kept = is_good or (math.isfinite(error) and not failed_before)
        if not kept:
            self._fast = None
        height, width = pixels.shape[1:3]
        self.checks.append(
            PrecisionCheck(
                height=height, width=width, evaluation=self._evaluation,
                precision=self._precision, error=error, bound=self._largest_error, kept=kept,
            )
        )  # fmt: skip
        self._next_check = self._evaluation + (self._interval if is_good else _SOON)
        self._interval = min(2 * self._interval, _MOST) if is_good else _FIRST
        # Costs before and after a correction do not compare.
        self._best, self._best_at = math.inf, self._evaluation
        self._watch(costs)
        return costs, gradients


def largest_relative_error(gradients: Array, exact: Array) -> float:
    """Return the largest of a batch's ‖g − e‖ / ‖e‖; infinite where e alone is 0."""
    return max(map(_relative_error, gradients, exact))


def _relative_error(gradient: Array, exact: Array) -> float:
    # Weights may be such that the squares of a gradient leave float32, or even float64's small ones.
    largest = float(abs(exact).max())
    if largest == 0:
        return math.inf if float(abs(gradient).max()) != 0 else 0.0
    scaled = exact / largest
    difference, norm = (float((x**2).sum()) for x in (gradient / largest - scaled, scaled))
    return math.sqrt(difference / norm) if math.isfinite(difference) else math.inf
