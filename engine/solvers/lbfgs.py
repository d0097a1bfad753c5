"""L-BFGS within the bounds of a pixel, with a line search and a preconditioner that suits pictures.

Nocedal 1980's two loops; the bounds by projection, as in Bertsekas 1982: variables that the gradient
pushes against their bound are left out of the step, and a trial point beyond a bound is brought back
to it. Pictures are float32: half the memory of SciPy's L-BFGS-B, which without the preconditioner comes
to the same cost at equal evaluations, and takes seconds to begin with a picture's worth of bounds.
"""

import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from nstx.models.cost import Cost

from ..devices.arrays import NUMPY, Array, Arrays, Mask
from .solver import Evaluation, StepCallback, Steps

# Ten pairs serve as well as 20 or 40, and take 240 bytes per pixel.
_PAIRS = 10

# The first step changes the pixel that moves most by this much.
_FIRST_STEP = 32.0

# Of the line search: the share of the expected decrease that is enough, and the share of the slope
# that may be left. A search that asks for more needs more evaluations than it saves.
_DECREASE, _SLOPE = 1e-4, 0.9
_MOST_TRIALS, _MOST_GROWTHS, _GROWTH = 10, 4, 2.5

Preconditioner = Callable[[Array], Array]
"""A symmetric, positive linear map of pictures (height, width, 3), which returns a new one."""


def make_preconditioner(height: int, width: int, arrays: Arrays) -> Preconditioner:
    """Return a filter that weights the frequencies f of pictures of a size by 1/f.

    The cost is far flatter along coarse structures than along fine ones, which make up nearly all of a
    gradient's length. Olah, Mordvintsev and Schubert 2017 change the parametrisation to the same end,
    under Adam. The mean colour is weighted as the lowest frequency is.
    """
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(down, across), 1 / max(height, width))
    weights = arrays.place((1 / frequency).astype(np.float32)[..., None])
    return lambda picture: arrays.filter_frequencies(picture, weights)


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """A picture with its cost and its gradient, which is scaled."""

    pixels: Array
    cost: Cost
    gradient: Array


_Search = Generator[Array, Evaluation, _Point | None]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Problem:
    """The cost within bounds.

    Attributes:
        scale: of the cost, so that neither 10⁹ nor 10⁻⁹ leaves float32 when it is squared.
    """

    low: float
    high: float
    scale: float
    arrays: Arrays

    def evaluate(self, pixels: Array) -> Generator[Array, Evaluation, _Point]:
        cost, gradient = yield pixels
        return _Point(pixels, cost, gradient * self.scale)

    def movable(self, pixels: Array, direction: Array) -> Array:
        """Return a direction without the values that stand at their bounds."""
        masked: Array = direction * ((pixels > self.low) & (pixels < self.high))
        return masked

    def blocked(self, point: _Point) -> Mask:
        """Return which values the gradient pushes against their bounds."""
        below = (point.pixels <= self.low) & (point.gradient > 0)
        above = (point.pixels >= self.high) & (point.gradient < 0)
        return below | above


class History:
    """The last steps and what they changed of the gradient: an estimate of the inverse Hessian.

    Before the first step, the preconditioner is the estimate.
    """

    def __init__(self, arrays: Arrays, precondition: Preconditioner) -> None:
        self._dot, self._precondition = arrays.dot, precondition
        self._pairs: deque[tuple[Array, Array, float | Array]] = deque(maxlen=_PAIRS)
        self._scale: float | Array = 1.0

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def clear(self) -> None:
        """Forget all steps."""
        self._pairs.clear()

    def add(self, step: Array, change: Array) -> None:
        """Add a step, and the change of the gradient over it, if they curve upwards."""
        curvature, size = self._dot(step, change), self._dot(change, change)
        smoothed = self._dot(change, self._precondition(change))
        # A pair without positive curvature, or one that is rounding, would lead upwards.
        if curvature > 1e-6 * (self._dot(step, step) * size) ** 0.5 and smoothed > 0:
            self._pairs.append((step, change, curvature))
            self._scale = curvature / smoothed

    def direction(self, gradient: Array) -> Array:
        """Return minus the estimate times a gradient."""
        if not self._pairs:
            first = self._precondition(gradient)
            return first * (-_FIRST_STEP / max(float(abs(first).max()), 1e-30))
        direction = -gradient
        shares = []
        for step, change, curvature in reversed(self._pairs):
            share = self._dot(step, direction) / curvature
            shares.append(share)
            direction -= share * change
        direction = self._precondition(direction) * self._scale
        for (step, change, curvature), share in zip(self._pairs, reversed(shares), strict=True):
            direction += (share - self._dot(change, direction) / curvature) * step
        return direction


def lbfgs_steps(
    start: Array,
    *,
    steps: int,
    clip: bool,
    on_step: StepCallback,
    arrays: Arrays = NUMPY,
    preconditioned: bool = True,
) -> Steps:
    """Return L-BFGS, ready to run from a picture, which is not changed.

    A step takes one or a few evaluations, and never makes the cost worse. It ends early where no better
    point is found along the steepest descent.
    """
    low, high = (0.0, 255.0) if clip else (-math.inf, math.inf)
    pixels = start.clip(low, high)
    cost, gradient = yield pixels
    largest = float(abs(gradient).max())
    # Less is as good as nothing, and its inverse would leave float32.
    scale = 1 / largest if largest > 1e-34 else 0.0
    problem = _Problem(low=low, high=high, scale=scale, arrays=arrays)
    point = _Point(pixels, cost, gradient * scale)
    height, width, _ = start.shape
    history = History(
        arrays, make_preconditioner(height, width, arrays) if preconditioned else lambda x: x
    )
    for _ in range(steps):
        better = yield from _take_step(problem, point, history)
        if better is None and history:
            history.clear()
            # A backend of low precision may have corrected itself since the last evaluation.
            point = yield from problem.evaluate(point.pixels)
            better = yield from _take_step(problem, point, history)
        if better is None:
            return
        history.add(better.pixels - point.pixels, better.gradient - point.gradient)
        point = better
        on_step(point.pixels, point.cost)


def _take_step(problem: _Problem, point: _Point, history: History) -> _Search:
    """Return a better point, or None where there is none in the direction of the history."""
    blocked = problem.blocked(point)
    direction = history.direction(point.gradient * ~blocked)
    direction[blocked] = 0
    slope = float(problem.arrays.dot(point.gradient, direction))
    if slope >= 0:
        return None
    return (yield from _search(problem, point, direction, slope))


def _search(problem: _Problem, start: _Point, direction: Array, slope: float) -> _Search:
    """Search along a direction, bent at the bounds; return the best point that is good enough.

    Armijo's condition on the decrease; steps grow while most of the slope is left (Wolfe's), and
    shrink to the minimum of a parabola.
    """
    dot = problem.arrays.dot
    length, is_too_long = 1.0, False
    best: _Point | None = None
    for trial in range(_MOST_TRIALS):
        pixels = (start.pixels + length * direction).clip(problem.low, problem.high)
        point = yield from problem.evaluate(pixels)
        decrease = (start.cost.total - point.cost.total) * problem.scale
        expected = -min(0.0, float(dot(start.gradient, pixels - start.pixels)))
        if decrease <= _DECREASE * expected:
            if best is not None:
                break
            is_too_long = True
            parabola = -slope * length**2 / (2 * max(-decrease - slope * length, 1e-30))
            length = min(max(parabola, 0.1 * length), 0.5 * length)
            continue
        if best is None or point.cost.total < best.cost.total:
            best = point
        steepness = dot(point.gradient, problem.movable(pixels, direction))
        if is_too_long or not steepness < _SLOPE * slope or trial >= _MOST_GROWTHS:
            break
        length *= _GROWTH
    return best
