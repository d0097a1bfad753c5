"""Following a run step by step: the record of a step, when to stop, and what to keep."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from nstx.models.cost import Cost

from ..devices.arrays import NUMPY, Array, Arrays
from ..gradients.backend import PrecisionCheck
from ..pictures.picture import Pixels
from ..settings import Settings
from ..solvers.solver import StopSolving

StopReason = Literal["steps", "no_progress", "interrupted"]

# A scale ends when its best cost has fallen by less than 0.1 % in ten steps.
_WINDOW = 10
_LEAST_PROGRESS = 1e-3


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """A step that was made.

    Attributes:
        step: its number, from 1, over all scales.
        steps: the largest number of steps that there can be.
        scale: the number of the scale, from 1, coarse first.
        scales: the number of scales.
        cost: of ``pixels``, under the objective at this scale's size, in the precision of the step.
        evaluations: of the cost, with or without its gradient, that were begun so far.
        seconds: from the start of the first scale until the step is reported: Adam on CUDA runs up to
            ten steps ahead.
        picture: (height, width, 3), 0–255, one of ``arrays``; not to be changed.
        arrays: of the backend.
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


def trace_line(step: Step) -> dict[str, object]:
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
    """Counts the steps and evaluations of one run over its scales, and decides when to stop.

    A `nstx.engine.solvers.solver.Watcher`.

    Args:
        settings: the largest number of steps, and whether to end early.
        scales: the number of scales.
        arrays: of the solver's pictures.
        on_step: called after each step.
        should_stop: called before each evaluation; True ends the run at the last finished step.

    Attributes:
        step: the number of steps so far, over all scales.
        evaluations: the number of evaluations so far.
        interrupted: whether ``should_stop`` ended the run.
        first_cost: of the first evaluation.
        cost: after the last step.
        checks: of the gradient's precision, so far.
    """

    def __init__(
        self,
        settings: Settings,
        scales: int,
        arrays: Arrays,
        on_step: Callable[[Step], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.step = 0
        self.evaluations = 0
        self.interrupted = False
        self.first_cost: Cost | None = None
        self.cost: Cost | None = None
        self.checks: list[PrecisionCheck] = []
        self._steps, self._early_stop = settings.steps, settings.early_stop
        self._scales, self._scale = scales, 0
        self._on_step, self._should_stop = on_step, should_stop
        self._began = time.perf_counter()
        self._best: deque[float] = deque(maxlen=_WINDOW + 1)
        self._picture: Array | None = None
        self._arrays = arrays

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

    def before_evaluation(self) -> None:
        """Count an evaluation.

        Raises:
            StopSolving: the run is to stop.
        """
        if self._should_stop is not None and self._should_stop():
            self.interrupted = True
            raise StopSolving
        self.evaluations += 1

    def after_evaluation(self, cost: Cost, checks: Sequence[PrecisionCheck]) -> None:
        """Keep the first cost, and the checks of the precision."""
        self.first_cost = self.first_cost or cost
        self.checks += checks
        if checks:
            # Costs before and after a correction do not compare.
            self._best.clear()

    def after_step(self, picture: Array, cost: Cost, /) -> None:
        """Keep the picture, call back, and look whether there is progress.

        Raises:
            StopSolving: there is none any more.
        """
        self.step += 1
        self._picture, self.cost = picture, cost
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
                    arrays=self._arrays,
                )
            )
        best = min(cost.total, self._best[-1]) if self._best else cost.total
        self._best.append(best)
        is_over = len(self._best) > _WINDOW and best >= self._best[0] * (1 - _LEAST_PROGRESS)
        if self._early_stop and is_over:
            raise StopSolving
