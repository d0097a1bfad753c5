"""Following a run step by step: the record of a step, when to stop, and what to keep."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nstx.models.cost import Cost

from ..devices.arrays import NUMPY, Array, Arrays
from ..gradients.backend import BatchBackend, PrecisionCheck
from ..pictures.pixels import Pixels
from ..settings import Settings
from ..solvers.solver import Evaluation, StopSolving

StopReason = Literal["steps", "no_progress", "interrupted"]

# A scale ends when its best cost has fallen by less than 0.1 % in ten steps.
_WINDOW = 10
_LEAST_PROGRESS = 1e-3


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """What a callback is told after each step.

    Attributes:
        step: counts from 1 over all scales.
        steps: how many there will be at most.
        scale: counts from 1, coarse first.
        scales: how many there are.
        cost: of ``pixels``, under the objective at this scale's size; in the precision of the step.
        evaluations: of the cost, with or without its gradient, that were begun so far.
        seconds: since the first scale began, when the step is told: Adam on CUDA runs up to ten steps
            ahead.
        picture: (height, width, 3), 0–255, as an array of ``arrays``; not to be changed.
        arrays: that it is one of.
    """

    step: int
    steps: int
    scale: int
    scales: int
    cost: Cost
    evaluations: int
    seconds: float
    picture: Array
    arrays: Arrays = NUMPY

    @property
    def pixels(self) -> Pixels:
        """The picture, float32 (height, width, 3), 0–255; fetched from the device it lies on."""
        return self.arrays.fetch(self.picture)


def trace_line(step: Step) -> dict[str, Any]:
    """Return a step's line of a trace, as plain data."""
    return {
        "step": step.step,
        "scale": step.scale,
        "height": step.picture.shape[0],
        "width": step.picture.shape[1],
        "total": step.cost.total,
        "content": step.cost.content,
        "style": step.cost.style,
        "total_variation": step.cost.total_variation,
        "style_layers": dict(step.cost.style_layers),
        "evaluations": step.evaluations,
        "seconds": step.seconds,
    }


class Progress:
    """Counts steps and evaluations over the scales of one run, and decides when to stop.

    Args:
        settings: how many steps there will be at most, and whether to end early.
        scales: how many there are.
        on_step: is told of each step.
        should_stop: asked before each evaluation; True ends the run at the last finished step.
    """

    def __init__(
        self,
        settings: Settings,
        scales: int,
        on_step: Callable[[Step], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.step = 0
        self.evaluations = 0
        self.interrupted = False
        self.first_cost: Cost | None = None
        self.checks: list[PrecisionCheck] = []
        self._steps, self._early_stop = settings.steps, settings.early_stop
        self._scales, self._scale = scales, 0
        self._on_step, self._should_stop = on_step, should_stop
        self._began = time.perf_counter()
        self._best: deque[float] = deque(maxlen=_WINDOW + 1)
        self._picture: Array | None = None
        self._arrays: Arrays = NUMPY
        self.cost: Cost | None = None

    @property
    def stopped(self) -> StopReason:
        """Why the run ended; a solver that ends by itself before its last step found no better."""
        if self.interrupted:
            return "interrupted"
        return "steps" if self.step == self._steps else "no_progress"

    @property
    def seconds(self) -> float:
        """Since the first scale began."""
        return time.perf_counter() - self._began

    @property
    def pixels(self) -> Pixels | None:
        """The picture after the last step; None before the first."""
        return None if self._picture is None else self._arrays.fetch(self._picture)

    def begin_scale(self) -> None:
        """Enter the next scale."""
        self._scale += 1
        self._best.clear()

    def count_evaluation(self) -> None:
        """Count one evaluation, unless the run is to stop.

        Raises:
            StopSolving: it is.
        """
        if self._should_stop is not None and self._should_stop():
            self.interrupted = True
            raise StopSolving
        self.evaluations += 1

    def note(self, cost: Cost, checks: Sequence[PrecisionCheck]) -> None:
        """Note an evaluation: its cost, and the checks of the precision that were made with it."""
        self.first_cost = self.first_cost or cost
        self.checks += checks
        if checks:
            # Costs before and after a correction do not compare.
            self._best.clear()

    def count(self, backend: BatchBackend) -> Callable[[Array], Evaluation]:
        """Return a backend's evaluation, counted, which does not happen if the run is to stop."""

        def counted(pixels: Array) -> Evaluation:
            self.count_evaluation()
            known = len(backend.checks)
            cost, gradient = backend.cost_and_gradient(pixels)
            self.note(cost, backend.checks[known:])
            return cost, gradient

        return counted

    def after_step(self, picture: Array, cost: Cost, arrays: Arrays = NUMPY) -> None:
        """Keep the picture, tell the callback, and look whether there is progress.

        Args:
            picture: after the step.
            cost: of it.
            arrays: that it is one of.

        Raises:
            StopSolving: there is none any more.
        """
        self.step += 1
        self._picture, self._arrays, self.cost = picture, arrays, cost
        if self._on_step is not None:
            self._on_step(
                Step(
                    step=self.step,
                    steps=self._steps,
                    scale=self._scale,
                    scales=self._scales,
                    cost=cost,
                    evaluations=self.evaluations,
                    seconds=self.seconds,
                    picture=picture,
                    arrays=arrays,
                )
            )
        best = min(cost.total, self._best[-1]) if self._best else cost.total
        self._best.append(best)
        if (
            self._early_stop
            and len(self._best) > _WINDOW
            and best >= self._best[0] * (1 - _LEAST_PROGRESS)
        ):
            raise StopSolving
