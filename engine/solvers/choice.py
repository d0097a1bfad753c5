"""The solvers that settings name, each with the loops that drive it."""

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ..devices.arrays import Array
from ..gradients.backend import GradientBackend
from ..gradients.opening import BackendFactory
from ..settings import Settings
from .adam import adam_steps
from .lbfgs import lbfgs_steps
from .solver import StepCallback, Steps, StopSolving, Watcher, run_solver, watch_evaluations


class Begin(Protocol):
    """Begins a solver whose evaluations are made outside, one at a time."""

    def __call__(self, start: Array, *, on_step: StepCallback) -> Steps:
        """Return its steps from a picture (height, width, 3) on."""
        ...


class RunAhead(Protocol):
    """Runs a solver on a device, ahead of its host."""

    def __call__(self, backend: GradientBackend, start: Array, *, watcher: Watcher) -> None:
        """Run it from a picture (height, width, 3) on; raises what the watcher raises."""
        ...


@dataclass(frozen=True, slots=True)
class Solver:
    """A solver of one scale.

    Attributes:
        begin: for a batch, whose pictures are evaluated together.
        run_ahead: its loop on a device; None where the solver or the backend has none.
    """

    begin: Begin
    run_ahead: RunAhead | None = None

    def run(self, start: Array, backend: GradientBackend, watcher: Watcher) -> None:
        """Run it to its end, or until the watcher raises `StopSolving`.

        Args:
            start: float32 (height, width, 3), of the backend's arrays; not changed.
            backend: of one picture.
            watcher: follows evaluations and steps.

        Raises:
            NumericalError: a cost or gradient is not finite.
        """
        if self.run_ahead is None:
            steps = self.begin(start, on_step=watcher.after_step)
            run_solver(steps, watch_evaluations(backend, watcher))
            return
        with contextlib.suppress(StopSolving):
            self.run_ahead(backend, start, watcher=watcher)


def choose_solver(settings: Settings, steps: int, opened: BackendFactory) -> Solver:
    """Return the solver that settings name, for a number of steps on a backend."""
    clip, rate = settings.clip, settings.learning_rate
    if settings.solver == "lbfgs":
        return Solver(partial(lbfgs_steps, steps=steps, clip=clip, arrays=opened.arrays))
    adam = partial(adam_steps, steps=steps, learning_rate=rate, clip=clip)
    if not opened.runs_ahead:
        return Solver(adam)
    from .torch_adam import run_adam

    return Solver(adam, partial(run_adam, steps=steps, learning_rate=rate, clip=clip))
