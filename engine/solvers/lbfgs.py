"""L-BFGS within the bounds of a pixel, with a line search and a preconditioner that suits pictures.

The bounds by projection, as in Bertsekas 1982: variables that the gradient pushes against their bound are
left out of the step, and a trial point beyond a bound is brought back to it. Pictures are float32: half
the memory of SciPy's L-BFGS-B, which without the preconditioner comes to the same cost at equal
evaluations, and takes seconds to begin with a picture's worth of bounds.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic

from nstx.models.cost import Cost

from ..devices.arrays import NUMPY, Array, Arrays
from ..gradients.backend import Follower
from .descent import Descent, Limits, PointT
from .memory import SolverMemory
from .shelf import Shelf, in_memory
from .solver import Evaluation, StepCallback, Steps
from .two_loops import HostDescent

# Of the line search: the share of the expected decrease that is enough, and the share of the slope
# that may be left. A search that asks for more needs more evaluations than it saves.
_DECREASE, _SLOPE = 1e-4, 0.9
_MOST_TRIALS, _MOST_GROWTHS, _GROWTH = 10, 4, 2.5


@dataclass(frozen=True, slots=True, eq=False)
class _Evaluated(Generic[PointT]):
    """A point with its cost."""

    point: PointT
    cost: Cost


_Search = Generator[Array, Evaluation, _Evaluated[PointT] | None]


def lbfgs_steps(
    start: Array,
    *,
    steps: int,
    clip: bool,
    on_step: StepCallback,
    arrays: Arrays = NUMPY,
    exponent: float = 1.0,
    lead: Callable[[Follower], None] | None = None,
    memory: SolverMemory | None = None,
    shelf: Shelf = in_memory,
) -> Steps:
    """Return L-BFGS, ready to run from a picture, which is not changed.

    A step takes one or a few evaluations, and never makes the cost worse. It ends early where no better
    point is found along the steepest descent.

    The preconditioner divides by frequencies to the power of ``exponent``; 0 is none. ``lead`` is that of the backend,
    if one evaluates this solver's pictures and no others (`GradientBackend.lead`). Where ``memory`` has a state, the
    solver goes on from it. ``shelf`` is where steps are kept, of arrays that need not be awaited.
    """
    low, high = (0.0, 255.0) if clip else (-math.inf, math.inf)
    memory = memory or SolverMemory()
    made, earlier, pixels = 0, memory.earlier, start.clip(low, high)
    if earlier is None:
        cost, gradient = yield pixels
        total, largest = cost.total, float(abs(gradient).max())
        # Less is as good as nothing, and its inverse would leave float32.
        limits = Limits(low=low, high=high, scale=1 / largest if largest > 1e-34 else 0.0)
    else:
        made, total, gradient = int(earlier["made"]), float(earlier["total"]), pixels * 0
        limits = Limits(low=low, high=high, scale=float(earlier["scale"]))
    descent = _open_descent(pixels, gradient, limits, arrays, shelf, exponent=exponent)
    if earlier is not None:
        descent.resume(earlier)
    del start, pixels, gradient, earlier  # as large as the picture, each
    memory.export = lambda: {
        "made": float(made), "total": total, "scale": limits.scale, **descent.export()
    }  # fmt: skip
    if lead is not None:
        lead(descent.begin)
    while made < steps:
        better = yield from _take_step(descent, total, limits.scale)
        if better is None and descent:
            # A backend of low precision may have corrected itself since the last evaluation.
            cost, gradient = yield descent.pixels
            total = cost.total
            descent.restart(descent.examine(descent.pixels, gradient))
            del gradient
            better = yield from _take_step(descent, total, limits.scale)
        if better is None:
            return
        descent.follow(better.point)
        made, total = made + 1, better.cost.total
        on_step(better.point.pixels, better.cost)


def _open_descent(
    pixels: Array,
    gradient: Array,
    limits: Limits,
    arrays: Arrays,
    shelf: Shelf,
    *,
    exponent: float,
) -> Descent[Any]:
    if arrays.must_be_awaited:
        from .torch_descent import TorchDescent

        return TorchDescent(pixels, gradient, limits, exponent=exponent)
    return HostDescent(pixels, gradient, limits, arrays, exponent=exponent, shelf=shelf)


def _take_step(descent: Descent[PointT], total: float, scale: float) -> _Search[PointT]:
    """Return a better point, or None where there is none in the direction of the last steps."""
    slope = descent.aim()
    if slope >= 0:
        return None
    return (yield from _search(descent, total, slope, scale))


def _search(descent: Descent[PointT], total: float, slope: float, scale: float) -> _Search[PointT]:
    """Search along a direction, bent at the bounds; return the best point that is good enough.

    Armijo's condition on the decrease; steps grow while most of the slope is left (Wolfe's), and
    shrink to the minimum of a parabola.

    Args:
        descent: aimed along a direction.
        total: cost of the current point.
        slope: of the direction, negative.
        scale: of the cost, as the slope has it.
    """
    length, is_too_long = 1.0, False
    best: _Evaluated[PointT] | None = None
    for trial in range(_MOST_TRIALS):
        pixels = descent.trial(length)
        trial_cost, gradient = yield pixels
        point = descent.examine(pixels, gradient)
        del gradient
        decrease = (total - trial_cost.total) * scale
        if decrease <= _DECREASE * descent.expected(point):
            if best is not None:
                break
            is_too_long = True
            parabola = -slope * length**2 / (2 * max(-decrease - slope * length, 1e-30))
            length = min(max(parabola, 0.1 * length), 0.5 * length)
            continue
        if best is None or trial_cost.total < best.cost.total:
            best = _Evaluated(point, trial_cost)
        is_flat = not descent.steepness(point) < _SLOPE * slope
        if is_too_long or is_flat or trial >= _MOST_GROWTHS:
            break
        length *= _GROWTH
    return best
