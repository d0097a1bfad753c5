"""The solvers: Adam, and L-BFGS with a line search, both within the bounds of a pixel if asked.

Both call back after every step with the picture that the step led to and its cost.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fmin_l_bfgs_b

from ..models.errors import NumericalError
from .cost import Cost, GradientBackend
from .pixels import Pixels

_LOW, _HIGH = 0.0, 255.0

# Kingma and Ba 2015, with ε as in their section 2 (and TensorFlow 1), on gradients scaled to 1.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8

# L-BFGS keeps 2·m float64 copies of the picture. m = 20 pays, but a large picture gets fewer.
_MOST_PAIRS, _FEWEST_PAIRS = 20, 5
_HISTORY_BYTES = 256 << 20

# The cost is scaled so that the first trial step, which is the negative gradient, changes the
# pixel that moves most by this much. Unscaled, gradients of 10⁵ send the first trial to a corner
# of the box, and the line search wastes its evaluations on the way back.
_FIRST_STEP = 32.0


class StopSolving(Exception):  # noqa: N818  (a signal of the step callback, not an error)
    """Raised by a step callback to end a solver at the picture it was called with."""


class StepCallback(Protocol):
    """Called after each step."""

    def __call__(self, pixels: Pixels, cost: Cost) -> None:
        """Take the picture after the step, and its cost; raise `StopSolving` to end."""
        ...


def minimise_adam(
    backend: GradientBackend,
    start: Pixels,
    *,
    steps: int,
    learning_rate: float,
    clip: bool,
    on_step: StepCallback,
) -> None:
    """Run Adam for a number of steps.

    Args:
        backend: gives cost and gradient.
        start: where to begin; not changed.
        steps: 1 or more.
        learning_rate: in pixel values.
        clip: whether pixels are brought back into 0–255 after each step.
        on_step: takes the picture and its cost after each step.

    Raises:
        NumericalError: the cost or gradient is not finite.
    """
    pixels = start.astype(np.float32)
    mean = np.zeros_like(pixels)
    square = np.zeros_like(pixels)
    try:
        _, gradient = backend.cost_and_gradient(pixels)
        # Adam does not depend on the cost's scale but for ε, which must not exceed the gradient:
        # costs of 10⁹ and of 0.1 are both usual.
        scale = np.float32(1 / max(float(np.abs(gradient).max()), 1e-30))
        for step in range(1, steps + 1):
            gradient = gradient * scale
            mean += (1 - _BETA1) * (gradient - mean)
            square += (1 - _BETA2) * (gradient * gradient - square)
            rate = np.float32(learning_rate * (1 - _BETA2**step) ** 0.5 / (1 - _BETA1**step))
            pixels = (pixels - rate * mean / (np.sqrt(square) + _EPSILON)).astype(np.float32)
            if clip:
                pixels = np.clip(pixels, np.float32(_LOW), np.float32(_HIGH))
            if step < steps:
                cost, gradient = backend.cost_and_gradient(pixels)
            else:
                cost = backend.cost(pixels)
            on_step(pixels, cost)
    except StopSolving:
        return


def minimise_lbfgs(
    backend: GradientBackend,
    start: Pixels,
    *,
    steps: int,
    clip: bool,
    on_step: StepCallback,
) -> None:
    """Run L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995; SciPy's) for a number of steps.

    Its line search (Moré and Thuente) guarantees that no step makes the cost worse. It ends early
    where float32 can find no better point along the search direction.

    Args:
        backend: gives cost and gradient.
        start: where to begin; not changed.
        steps: iterations, 1 or more; each takes one or a few evaluations.
        clip: whether pixels are bounded to 0–255.
        on_step: takes the picture and its cost after each step.

    Raises:
        NumericalError: the cost or gradient is not finite.
    """
    problem = _ScaledProblem(backend, start.shape)
    first = start.astype(np.float64).ravel()
    if clip:
        first = first.clip(_LOW, _HIGH)

    def after_step(x: NDArray[np.float64]) -> None:
        pixels = problem.to_pixels(x)
        on_step(pixels, problem.cost_at(pixels))

    try:
        fmin_l_bfgs_b(
            problem,
            first,
            bounds=[(_LOW, _HIGH)] * first.size if clip else None,
            m=history_length(first.size),
            factr=0.0,
            pgtol=0.0,
            maxiter=steps,
            maxfun=20 * steps + 20,
            callback=after_step,
        )
    except StopSolving:
        return


def history_length(variables: int) -> int:
    """Return how many correction pairs L-BFGS keeps: 20, or fewer to stay under 256 MiB."""
    affordable = _HISTORY_BYTES // (2 * 8 * variables)
    return int(max(_FEWEST_PAIRS, min(_MOST_PAIRS, affordable)))


class _ScaledProblem:
    """The cost as SciPy calls it: flat float64 vectors, scaled by the first gradient."""

    def __init__(self, backend: GradientBackend, shape: tuple[int, ...]) -> None:
        self._backend = backend
        self._shape = shape
        self._scale: float | None = None
        self._last: tuple[Pixels, Cost] | None = None

    def __call__(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        pixels = self.to_pixels(x)
        cost, gradient = self._backend.cost_and_gradient(pixels)
        self._last = (pixels, cost)
        if self._scale is None:
            largest = float(np.abs(gradient).max())
            self._scale = _FIRST_STEP / largest if largest > 0 else 1.0
            if not np.isfinite(self._scale):
                raise NumericalError("expected a gradient that can be scaled, got one near 0")
        return cost.total * self._scale, gradient.astype(np.float64).ravel() * self._scale

    def to_pixels(self, x: NDArray[np.float64]) -> Pixels:
        return x.astype(np.float32).reshape(self._shape)

    def cost_at(self, pixels: Pixels) -> Cost:
        # The line search nearly always ends at the point that it evaluated last.
        if self._last is not None and np.array_equal(self._last[0], pixels):
            return self._last[1]
        return self._backend.cost(pixels)
