"""What solvers have in common, and Adam.

A solver is a generator: it yields a picture, is sent the picture's cost and gradient, and so on, so that
the pictures of many solvers can be evaluated as one batch. After every step it calls back with the
picture that the step led to and its cost.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Protocol

from nstx.models.cost import Cost

from ..devices.arrays import Array

_LOW, _HIGH = 0.0, 255.0

# Kingma and Ba 2015, with ε as in their section 2 (and TensorFlow 1), on gradients scaled to 1.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


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
        solver: from `adam_steps` or `nstx.engine.solvers.lbfgs.lbfgs_steps`.
        evaluate: returns the cost of a picture and its gradient.

    Raises:
        NumericalError: a cost or gradient is not finite.
    """
    with contextlib.suppress(StopSolving, StopIteration):
        pixels = next(solver)
        while True:
            pixels = solver.send(evaluate(pixels))


def adam_steps(
    start: Array, *, steps: int, learning_rate: float, clip: bool, on_step: StepCallback
) -> Solver:
    """Return Adam, ready to run.

    Args:
        start: where to begin, float32 (height, width, 3); not changed.
        steps: 1 or more.
        learning_rate: in pixel values.
        clip: whether pixels are brought back into 0–255 after each step.
        on_step: takes the picture and its cost after each step.
    """
    pixels, mean, square = start, start * 0, start * 0
    _, gradient = yield pixels
    # Adam does not depend on the cost's scale but for ε, which must not exceed the gradient:
    # costs of 10⁹ and of 0.1 are both usual.
    scale = 1 / max(float(abs(gradient).max()), 1e-34)
    for step in range(1, steps + 1):
        gradient = gradient * scale
        mean += (1 - BETA1) * (gradient - mean)
        square += (1 - BETA2) * (gradient * gradient - square)
        rate = learning_rate * (1 - BETA2**step) ** 0.5 / (1 - BETA1**step)
        pixels = pixels - rate * mean / (square**0.5 + EPSILON)
        if clip:
            pixels = pixels.clip(_LOW, _HIGH)
        cost, gradient = yield pixels
        on_step(pixels, cost)
