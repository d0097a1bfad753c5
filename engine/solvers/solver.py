"""What solvers have in common.

A solver is a generator: it yields a picture, is sent the picture's cost and gradient, and so on, so that
the pictures of many solvers can be evaluated as one batch. After every step it calls back with the
picture that the step led to and its cost.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Protocol

from nstx.models.cost import Cost

from ..devices.arrays import Array


class StopSolving(Exception):  # noqa: N818  (a signal of the step callback, not an error)
    """Raised by a step callback to end a solver at the picture it was called with."""


class StepCallback(Protocol):
    """Called after each step."""

    def __call__(self, pixels: Array, cost: Cost) -> None:
        """Take the picture after the step, and its cost; raise `StopSolving` to end."""
        ...


Evaluation = tuple[Cost, Array]
Solver = Generator[Array, Evaluation, None]
"""Yields pictures, is sent their costs and gradients."""


def run_solver(solver: Solver, evaluate: Callable[[Array], Evaluation]) -> None:
    """Run a solver to its end, or until `StopSolving` is raised by its callback or ``evaluate``.

    Args:
        solver: from `nstx.engine.solvers.adam.adam_steps` or `nstx.engine.solvers.lbfgs.lbfgs_steps`.
        evaluate: returns the cost of a picture and its gradient.

    Raises:
        NumericalError: a cost or gradient is not finite.
    """
    with contextlib.suppress(StopSolving, StopIteration):
        pixels = next(solver)
        while True:
            pixels = solver.send(evaluate(pixels))
