"""The solvers that settings name, each with the loop that drives it."""

import contextlib
from dataclasses import dataclass
from typing import Protocol

from ..devices.arrays import Array, Arrays
from ..gradients.backend import GradientBackend
from ..gradients.opening import BackendFactory
from ..settings import Settings
from .adam import adam_steps
from .lbfgs import lbfgs_steps
from .solver import StepCallback, Steps, StopSolving, Watcher, run_solver, watch_evaluations


class Solver(Protocol):
    """A solver of one scale: driven one evaluation at a time, as in a batch, or by its own loop."""

    def begin(self, start: Array, on_step: StepCallback) -> Steps:
        """Return its steps from a picture on, to be driven one evaluation at a time."""
        ...

    def run(self, start: Array, backend: GradientBackend, watcher: Watcher) -> None:
        """Run it from a picture on to its end, or until the watcher ends it.

        Args:
            start: float32 (height, width, 3), of the backend's arrays.
            backend: of one picture.
            watcher: takes evaluations and steps.

        Raises:
            NumericalError: a cost or gradient is not finite.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lbfgs:
    """L-BFGS.

    Attributes:
        steps: 1 or more.
        clip: whether pixels are bounded to 0–255.
        arrays: of the pictures.
    """

    steps: int
    clip: bool
    arrays: Arrays

    def begin(self, start: Array, on_step: StepCallback) -> Steps:
        """See `Solver`."""
        return lbfgs_steps(
            start, steps=self.steps, clip=self.clip, on_step=on_step, arrays=self.arrays
        )

    def run(self, start: Array, backend: GradientBackend, watcher: Watcher) -> None:
        """See `Solver`."""
        run_solver(self.begin(start, watcher.after_step), watch_evaluations(backend, watcher))


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam:
    """Adam.

    Attributes:
        steps: 1 or more.
        learning_rate: in pixel values.
        clip: whether pixels are brought back into 0–255 after each step.
        runs_ahead: whether steps are begun before the costs of earlier ones are there.
    """

    steps: int
    learning_rate: float
    clip: bool
    runs_ahead: bool

    def begin(self, start: Array, on_step: StepCallback) -> Steps:
        """See `Solver`."""
        return adam_steps(
            start,
            steps=self.steps,
            learning_rate=self.learning_rate,
            clip=self.clip,
            on_step=on_step,
        )

    def run(self, start: Array, backend: GradientBackend, watcher: Watcher) -> None:
        """See `Solver`."""
        if not self.runs_ahead:
            run_solver(self.begin(start, watcher.after_step), watch_evaluations(backend, watcher))
            return
        from .torch_adam import run_adam

        with contextlib.suppress(StopSolving):
            run_adam(
                backend,
                start,
                steps=self.steps,
                learning_rate=self.learning_rate,
                clip=self.clip,
                watcher=watcher,
            )


def choose_solver(settings: Settings, steps: int, opened: BackendFactory) -> Solver:
    """Return the solver that settings name.

    Args:
        settings: of the run.
        steps: of the scale, 1 or more.
        opened: the backend whose costs are minimised.
    """
    if settings.solver == "lbfgs":
        return Lbfgs(steps=steps, clip=settings.clip, arrays=opened.arrays)
    return Adam(
        steps=steps,
        learning_rate=settings.learning_rate,
        clip=settings.clip,
        runs_ahead=opened.runs_ahead,
    )
