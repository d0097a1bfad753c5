"""What L-BFGS asks of the pictures on its way: a point, what the last steps taught, where to go next.

`nstx.engine.solvers.two_loops` answers it for arrays on the host, `nstx.engine.solvers.torch_descent` for
those that must be waited for.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..devices.arrays import Array
from .memory import Saved, State

# The first step changes the pixel that moves most by this much.
FIRST_STEP = 32.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a pixel, infinite where there are none, and how numbers are kept within float32.

    Attributes:
        scale: of the cost, so that neither 10⁹ nor 10⁻⁹ leaves float32 when it is squared.
    """

    low: float
    high: float
    scale: float


class Point(Protocol):
    """A picture whose gradient is known."""

    @property
    def pixels(self) -> Array:
        """The picture, (height, width, 3)."""


PointT = TypeVar("PointT", bound=Point)


class Descent(Protocol[PointT]):
    """A current point, the direction from it, and the last steps, which the direction follows from.

    Gradients are scaled, so that their squares stay within float32. Values that the gradient pushes
    against their bounds are blocked: the direction leaves them out.
    """

    @property
    def pixels(self) -> Array:
        """The picture of the current point."""

    def __bool__(self) -> bool:
        """Whether there are steps that the direction follows from."""

    def export(self) -> State:
        """Return the state after `follow`, for `nstx.engine.solvers.memory`."""

    def resume(self, earlier: Saved) -> None:
        """Take over a state that was exported, of a picture of this size."""

    def begin(self, pictures: Array, gradients: Array) -> None:
        """Begin to examine a batch of one picture, which may be examined next, on a device."""

    def examine(self, pixels: Array, gradient: Array) -> PointT:
        """Return a point, of a picture and its gradient before the scale."""

    def restart(self, point: PointT) -> None:
        """Make a point the current one, and forget all steps."""

    def follow(self, point: PointT) -> None:
        """Make a point the current one, and learn from the step to it, if it curves upwards."""

    def aim(self) -> float:
        """Set the direction from the current point; return its slope, which is negative downhill."""

    def trial(self, length: float) -> Array:
        """Return the picture at a length along the direction, brought back into the bounds.

        It holds until a point is examined; that point's own picture is to keep.
        """

    def expected(self, point: PointT) -> float:
        """Return the decrease that the gradient promised for the step to a point, 0 or more."""

    def steepness(self, point: PointT) -> float | Array:
        """Return the slope at a point along the direction, without values that stand at bounds."""


def curves_upwards(
    curvature: float | Array, squares: tuple[float | Array, float | Array], smoothed: float | Array
) -> bool:
    """Whether a step s and the gradient's change y over it have positive curvature, above rounding.

    A pair that has not would lead upwards.

    Args:
        curvature: sᵀy.
        squares: sᵀs and yᵀy.
        smoothed: yᵀPy, of the preconditioner P.
    """
    return bool(curvature > 1e-6 * (squares[0] * squares[1]) ** 0.5 and smoothed > 0)


ENLARGED = 0.5
"""Exponent of frequencies where the picture comes from a coarser scale: what is coarse is nearly right there, and
what is fine is not there yet."""


def frequency_weights(height: int, width: int, exponent: float = 1.0) -> NDArray[np.float32]:
    """Return 1/f to a power, of a size's frequencies, (height, width // 2 + 1, 1): L-BFGS's preconditioner.

    The cost is far flatter along coarse structures than along fine ones, which make up nearly all of a
    gradient's length. Olah, Mordvintsev and Schubert 2017 change the parametrisation to the same end,
    under Adam. The mean colour is weighted as the lowest frequency is.
    """
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(down, across), 1 / max(height, width))
    weights: NDArray[np.float32] = (1 / frequency**exponent).astype(np.float32)[..., None]
    return weights
