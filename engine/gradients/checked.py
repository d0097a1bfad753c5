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
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nstx.models.cost import Cost
from nstx.models.errors import NumericalError

from ..devices.arrays import Array, ArrayT
from ..devices.device import Device
from ..devices.torch_device import TorchPrecision
from .backend import Follower, GradientBackend, PrecisionCheck, PrecisionPlan, Problems
from .choice import LARGEST_ERROR
from .torch_problem import Part

_SOON = 4
"""Evaluations from a check that failed to the next."""

_STALL = 6
"""Evaluations without a lower cost, after which a check comes at once."""

_SMALL = 1 / 16
"""Share of the largest error that counts as small, as fp16's and TF32's errors are."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When checks come.

    Attributes:
        begins: evaluation of the first check, unless a gradient fails or costs stall before.
        first: evaluations from the first check to the next.
        growth: factor of this number, from check to check.
        most: evaluations between checks, at most.
        patience: factor of the number after a check whose error was small.
    """

    begins: int = 1
    first: int = 8
    growth: int = 2
    most: int = 32
    patience: int = 1

    @classmethod
    def on(cls, device: Device, *, is_coarse: bool = False) -> "Schedule":
        """Return the usual, or a device's where a check takes as long as several steps.

        The first of a scale takes as long as all its steps do there, as libraries choose kernels for each new
        size. The result of a coarse scale is a start for the next, which is checked: so only long ones are.
        """
        if not device.is_cuda:
            return cls()
        return cls(begins=65 if is_coarse else 1, first=16, growth=4, most=64, patience=8)


class Aims(Protocol):
    """What a backend compares with, and notes, so that it can be corrected."""

    def noting(self) -> contextlib.AbstractContextManager[Mapping[Part, Any]]:
        """Note what is compared in this block."""

    def offset(self, offsets: Mapping[Part, Any]) -> None:
        """Add offsets, in place of earlier ones."""

    def export(self) -> dict[str, NDArray[Any]]:
        """Return what offsets have made of it, by name."""

    def resume(self, aims: Mapping[str, NDArray[Any]]) -> None:
        """Take over what was exported."""


class CorrectableBackend(Protocol):
    """A `GradientBackend` whose aims can be corrected."""

    @property
    def problem(self) -> Aims:
        """Its aims."""

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """As of `GradientBackend`, like all that follows."""

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """See there."""

    def lead(self, follower: Follower | None) -> None:
        """See there."""

    def export(self) -> Mapping[str, NDArray[Any]]:
        """See there."""

    def resume(self, earlier: Mapping[str, NDArray[Any]], checks: Sequence[PrecisionCheck]) -> None:
        """See there."""


MakeBackend = Callable[..., CorrectableBackend]
"""Makes a backend of problems, or of those of another backend, whose targets it shares; ``capture`` says
whether evaluations are captured."""


class CheckedBackend(GradientBackend):
    """Costs and gradients of low precision where that is good enough, else of a higher one.

    What a precision needs is made when it is first needed; the first one's at once.

    Args:
        plan: the precisions, from the lowest to fp32.
        backends: for a precision, what makes its backends. fp32 is not captured, as there are a handful
            of checks.
        problems: of the batch.
        largest_error: of a gradient, ‖g − g₃₂‖ / ‖g₃₂‖; beyond it the next check comes early, and if
            that one fails too, the next precision takes over, which is checked as the first one was.
    """

    approximate = True

    def __init__(
        self,
        plan: PrecisionPlan,
        backends: Callable[[TorchPrecision], MakeBackend],
        problems: Problems,
        *,
        largest_error: float = LARGEST_ERROR,
        schedule: Schedule | None = None,
    ) -> None:
        self._plan, self._backends = plan, backends
        self._largest_error, self._schedule = largest_error, schedule or Schedule()
        self._stage = 0
        self._fast: CorrectableBackend | None = backends(plan.stages[0])(problems)
        # Its targets are shared by those that come later; it is not kept, so that it can be freed.
        self._problem = self._fast.problem
        self.checks: list[PrecisionCheck] = []
        self._evaluation = 0
        self._next_check, self._interval = self._schedule.begins, self._schedule.first
        self._best, self._best_at = math.inf, 0
        # The aims of the low precision, exported after so many checks: they change with a check alone.
        self._exported: tuple[int, Mapping[str, NDArray[Any]]] = (0, {})

    def export(self) -> Mapping[str, NDArray[Any]]:
        """Implement `GradientBackend`."""
        counts = [self._stage, self._evaluation, self._next_check, self._interval, self._best_at]
        state = {"checking": np.array([*counts, self._best], np.float64)}
        if self._fast is None:
            return state
        if self._exported[0] != len(self.checks):
            aims = self._fast.problem.export()
            self._exported = len(self.checks), {f"aim/{name}": aim for name, aim in aims.items()}
        return {**state, **self._fast.export(), **self._exported[1]}

    def resume(self, earlier: Mapping[str, NDArray[Any]], checks: Sequence[PrecisionCheck]) -> None:
        """Implement `GradientBackend`."""
        *counts, self._best = earlier["checking"].tolist()
        stage, self._evaluation, self._next_check, self._interval, self._best_at = map(int, counts)
        self.checks = list(checks)
        if stage != self._stage or "seed" not in earlier:
            self._stage, self._fast = stage, None
        if "seed" not in earlier:
            return
        if self._fast is None:
            self._fast = self._backends(self._plan.stages[stage])(self._problem)
        self._fast.resume(earlier, checks)
        aims = {name.removeprefix("aim/"): aim for name, aim in earlier.items()}
        if any(name.startswith("aim/") for name in earlier):
            self._fast.problem.resume(aims)

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Implement `GradientBackend`."""
        self._evaluation += 1
        if self._stage == len(self._plan.stages) - 1:
            return self._exact.costs_and_gradients(pixels)
        if self._fast is None:
            self._fast = self._backends(self._plan.stages[self._stage])(self._problem)
            self._fast.lead(self._follower)
        stalls = self._evaluation - self._best_at > _STALL
        if stalls or self._evaluation >= self._next_check:
            return self._check(self._fast, pixels)
        try:
            costs, gradients = self._fast.costs_and_gradients(pixels)
        except NumericalError:
            return self._check(None, pixels)
        self._watch(costs)
        return costs, gradients

    def lead(self, follower: Follower | None) -> None:
        """Implement `GradientBackend`; in low precision alone, as there are a handful of checks."""
        super().lead(follower)
        if self._fast is not None:
            self._fast.lead(follower)

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Implement `GradientBackend`, in fp32."""
        return self._exact.costs(pixels)

    @functools.cached_property
    def _exact(self) -> CorrectableBackend:
        return self._backends(self._plan.exact_by)(self._problem, capture=False)

    def _watch(self, costs: Sequence[Cost]) -> None:
        total = sum(cost.total for cost in costs)
        if total < self._best:
            self._best, self._best_at = total, self._evaluation

    def _check(
        self, fast: CorrectableBackend | None, pixels: ArrayT
    ) -> tuple[Sequence[Cost], ArrayT]:
        """Return the evaluation in fp32; compare and correct the low precision by it.

        ``fast`` is None where it has just failed.
        """
        began = time.perf_counter()
        with self._exact.problem.noting() as exact_features:
            costs, gradients = self._exact.costs_and_gradients(pixels)
        error = math.inf
        if fast is not None:
            with contextlib.suppress(NumericalError), fast.problem.noting() as features:
                error = largest_relative_error(fast.costs_and_gradients(pixels)[1], gradients)
                fast.problem.offset(
                    {part: features[part] - exact for part, exact in exact_features.items()}
                )
        height, width = pixels.shape[1:3]
        self._note(height, width, error, began)
        # Costs before and after a correction do not compare.
        self._best, self._best_at = math.inf, self._evaluation
        self._watch(costs)
        return costs, gradients

    def _note(self, height: int, width: int, error: float, began: float) -> None:
        """Add a check to those that were made, and settle what comes of it."""
        precision, bound = self._plan.stages[self._stage], self._largest_error
        last = self.checks[-1] if self.checks else None
        failed_before = last is not None and last.precision == precision and last.error > bound
        is_good = error <= bound
        kept = is_good or (math.isfinite(error) and not failed_before)
        if not kept:
            self._stage, self._fast = self._stage + 1, None
        self.checks.append(
            PrecisionCheck(
                height=height, width=width, evaluation=self._evaluation, precision=precision,
                error=error, bound=bound, kept=kept, continues_in=self._plan.stages[self._stage],
                seconds=time.perf_counter() - began,
            )
        )  # fmt: skip
        schedule = self._schedule
        if not is_good:
            # Another precision is checked at once.
            self._next_check = self._evaluation + (_SOON if kept else 1)
            self._interval = schedule.first
            return
        patience = schedule.patience if error <= _SMALL * bound else 1
        self._next_check = self._evaluation + self._interval * patience
        self._interval = min(schedule.growth * self._interval, schedule.most)


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
