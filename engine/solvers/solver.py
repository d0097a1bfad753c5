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
from ..gradients.backend import PrecisionCheck

Evaluation = tuple[Cost, Array]
"""A picture's cost and gradient."""

Steps = Generator[Array, Evaluation, None]
"""A solver at work: yields pictures, is sent their evaluations."""

StepCallback = Callable[[Array, Cost], None]
"""Takes the picture after a step, and its cost; may raise `StopSolving`."""


class StopSolving(Exception):  # noqa: N818  (a signal of the step callback, not an error)
    """Raised by a step callback to end a solver at the picture it was called with."""


class Watcher(Protocol):
    """Follows a solver, and may end it by `StopSolving`."""

    def before_evaluation(self) -> None:
        """Called before each evaluation, which does not happen if this raises."""

    def during_evaluation(self) -> None:
        """Called between the parts of an evaluation that has several; nothing comes of it if this raises."""

    def after_evaluation(self, cost: Cost, checks: Sequence[PrecisionCheck]) -> None:
        """Take an evaluation's cost, and the checks of the precision that were made with it."""

    def after_step(self, pixels: Array, cost: Cost, /) -> None:
        """Take the picture after a step, and its cost."""


def run_solver(steps: Steps, evaluate: Callable[[Array], Evaluation]) -> None:
    """Run a solver to its end, or until its callback or ``evaluate`` raises `StopSolving`."""
    with contextlib.suppress(StopSolving, StopIteration):
        pixels = next(steps)
        while True:
            pixels = steps.send(evaluate(pixels))
