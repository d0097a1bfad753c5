"""What solvers have in common: a generator of pictures, and the loop that evaluates them.

A solver yields a picture, is sent the picture's cost and gradient, and so on, so that the pictures of
many solvers can be evaluated as one batch. After every step it calls back with the picture that the step
led to and its cost.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from nstx.models.cost import Cost

from ..devices.arrays import Array
from ..gradients.backend import GradientBackend, PrecisionCheck


class StopSolving(Exception):  # noqa: N818  (a signal of the step callback, not an error)
    """Raised by a step callback to end a solver at the picture it was called with."""


class StepCallback(Protocol):
    """Called after each step."""

    def __call__(self, pixels: Array, cost: Cost, /) -> None:
        """Take the picture after the step, and its cost; raise `StopSolving` to end."""
        ...


class Watcher(Protocol):
    """Follows a solver, and may end it by `StopSolving`."""

    def before_evaluation(self) -> None:
        """Called before each evaluation, which does not happen if this raises."""
        ...

    def after_evaluation(self, cost: Cost, checks: Sequence[PrecisionCheck]) -> None:
        """Take an evaluation's cost, and the checks of the precision that were made with it."""
        ...

    def after_step(self, pixels: Array, cost: Cost, /) -> None:
        """Take the picture after a step, and its cost."""
        ...


Evaluation = tuple[Cost, Array]
"""A picture's cost and gradient."""

Steps = Generator[Array, Evaluation, None]
"""A solver at work: yields pictures, is sent their evaluations."""


def run_solver(steps: Steps, evaluate: Callable[[Array], Evaluation]) -> None:
    """Run a solver to its end, or until `StopSolving` is raised by its callback or ``evaluate``.

    Args:
        steps: from `nstx.engine.solvers.adam.adam_steps` or `nstx.engine.solvers.lbfgs.lbfgs_steps`.
        evaluate: returns the cost of a picture and its gradient.

    Raises:
        NumericalError: a cost or gradient is not finite.
    """
    with contextlib.suppress(StopSolving, StopIteration):
        pixels = next(steps)
        while True:
            pixels = steps.send(evaluate(pixels))


def watch_evaluations(backend: GradientBackend, watcher: Watcher) -> Callable[[Array], Evaluation]:
    """Return a backend's evaluation of one picture, followed by a watcher."""

    def evaluate(pixels: Array) -> Evaluation:
        watcher.before_evaluation()
        earlier = len(backend.checks)
        cost, gradient = backend.cost_and_gradient(pixels)
        watcher.after_evaluation(cost, backend.checks[earlier:])
        return cost, gradient

    return evaluate
