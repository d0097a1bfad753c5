"""L-BFGS's direction by Nocedal's two loops of 1980, for arrays whose sums are there at once.

On a device each of its products would be a kernel of its own, and each condition a wait:
`nstx.engine.solvers.torch_descent`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..devices.arrays import Array, Arrays, Mask
from ..settings import PAIRS
from .descent import FIRST_STEP, Limits, curves_upwards, frequency_weights
from .memory import Saved, State, place_value
from .shelf import Kept, Shelf, in_memory

Preconditioner = Callable[[Array], Array]
"""A symmetric, positive linear map of pictures (height, width, 3), which returns a new one."""


def make_preconditioner(
    height: int, width: int, arrays: Arrays, exponent: float = 1.0
) -> Preconditioner:
    """Return the filter that weights the frequencies of pictures of a size by `frequency_weights`; of 0, none."""
    if exponent == 0:
        return lambda picture: picture
    weights = arrays.place(frequency_weights(height, width, exponent))
    return lambda picture: arrays.filter_frequencies(picture, weights)


class History:
    """The last steps and what they changed of the gradient: an estimate of the inverse Hessian.

    Before the first step, the preconditioner is the estimate.
    """

    def __init__(
        self, arrays: Arrays, precondition: Preconditioner, shelf: Shelf = in_memory
    ) -> None:
        self._arrays, self._dot, self._precondition = arrays, arrays.dot, precondition
        # 240 bytes per pixel, on their shelf.
        self._keep = shelf
        self._pairs: deque[tuple[Kept, Kept, float | Array]] = deque(maxlen=PAIRS)
        self._scale: float | Array = 1.0

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def clear(self) -> None:
        """Forget all steps."""
        self._pairs.clear()

    def export(self) -> State:
        """Return the steps by name, oldest first; nothing changes them later."""
        state: dict[str, Array | float] = {"factor": self._scale}
        for index, (step, change, curvature) in enumerate(self._pairs):
            state |= {f"step/{index}": step.share(), f"change/{index}": change.share()}
            state[f"curvature/{index}"] = curvature
        return state

    def resume(self, earlier: Saved) -> None:
        """Take over the steps that were exported."""
        self._scale, self._pairs = place_value(earlier["factor"], self._arrays), deque(maxlen=PAIRS)
        while f"step/{len(self._pairs)}" in earlier:
            index = len(self._pairs)
            step, change = (
                self._keep(self._arrays.place(earlier[f"{k}/{index}"])) for k in ("step", "change")
            )
            self._pairs.append(
                (step, change, place_value(earlier[f"curvature/{index}"], self._arrays))
            )

    def add(self, step: Array, change: Array) -> None:
        """Add a step, and the change of the gradient over it, if they curve upwards."""
        curvature, squares = (
            self._dot(step, change),
            (self._dot(step, step), self._dot(change, change)),
        )
        smoothed = self._dot(change, self._precondition(change))
        if curves_upwards(curvature, squares, smoothed):
            self._pairs.append((self._keep(step), self._keep(change), curvature))
            self._scale = curvature / smoothed

    def direction(self, gradient: Array) -> Array:
        """Return minus the estimate times a gradient."""
        if not self._pairs:
            first = self._precondition(gradient)
            return first * (-FIRST_STEP / max(float(abs(first).max()), 1e-30))
        direction = -gradient
        del gradient  # which is of the size of a picture, as is all here
        shares = []
        for step, change, curvature in reversed(self._pairs):
            share = self._dot(step.load(), direction) / curvature
            shares.append(share)
            direction -= share * change.load()
        direction = self._precondition(direction)
        direction *= self._scale
        for (step, change, curvature), share in zip(self._pairs, reversed(shares), strict=True):
            direction += (share - self._dot(change.load(), direction) / curvature) * step.load()
        return direction


@dataclass(frozen=True, slots=True, eq=False)
class HostPoint:
    """A picture with its gradient, which is scaled."""

    pixels: Array
    gradient: Array


class HostDescent:
    """`nstx.engine.solvers.descent.Descent` by a `History`.

    Args:
        pixels: of the first point, (height, width, 3).
        gradient: there, before the scale.
        limits: of the pixels, and the scale of gradients.
        arrays: of pictures and gradients.
        exponent: of the frequencies by which the preconditioner divides; 0 is none.
        shelf: where steps are kept.
    """

    def __init__(
        self,
        pixels: Array,
        gradient: Array,
        limits: Limits,
        arrays: Arrays,
        *,
        exponent: float = 1.0,
        shelf: Shelf = in_memory,
    ) -> None:
        height, width, _ = pixels.shape
        self._limits, self._arrays, self._dot = limits, arrays, arrays.dot
        precondition = make_preconditioner(height, width, arrays, exponent)
        self._history = History(arrays, precondition, shelf)
        self._point = self.examine(pixels, gradient)
        self._direction = self._point.gradient

    @property
    def pixels(self) -> Array:
        """Implement `Descent`."""
        return self._point.pixels

    def __bool__(self) -> bool:
        return bool(self._history)

    def export(self) -> State:
        """Implement `Descent`."""
        point = self._point
        return {"pixels": point.pixels, "gradient": point.gradient, **self._history.export()}

    def resume(self, earlier: Saved) -> None:
        """Implement `Descent`."""
        pixels, gradient = (self._arrays.place(earlier[name]) for name in ("pixels", "gradient"))
        self._point = HostPoint(pixels, gradient)
        self._history.resume(earlier)

    def begin(self, pictures: Array, gradients: Array) -> None:
        """Implement `Descent`; the host has nothing to do meanwhile."""

    def examine(self, pixels: Array, gradient: Array) -> HostPoint:
        """Implement `Descent`."""
        return HostPoint(pixels, gradient * self._limits.scale)

    def restart(self, point: HostPoint) -> None:
        """Implement `Descent`."""
        self._history.clear()
        self._point = point

    def follow(self, point: HostPoint) -> None:
        """Implement `Descent`."""
        earlier, self._point = self._point, point
        self._history.add(point.pixels - earlier.pixels, point.gradient - earlier.gradient)

    def aim(self) -> float:
        """Implement `Descent`."""
        blocked = self._blocked()
        self._direction = self._point.gradient  # so that the last one's memory is free
        self._direction = self._history.direction(self._point.gradient * ~blocked)
        self._direction[blocked] = 0
        return float(self._dot(self._point.gradient, self._direction))

    def trial(self, length: float) -> Array:
        """Implement `Descent`."""
        moved = self._point.pixels + length * self._direction
        return moved.clip(self._limits.low, self._limits.high)

    def expected(self, point: HostPoint) -> float:
        """Implement `Descent`."""
        step = point.pixels - self._point.pixels
        return -min(0.0, float(self._dot(self._point.gradient, step)))

    def steepness(self, point: HostPoint) -> float | Array:
        """Implement `Descent`."""
        low, high = self._limits.low, self._limits.high
        movable = self._direction * ((point.pixels > low) & (point.pixels < high))
        return self._dot(point.gradient, movable)

    def _blocked(self) -> Mask:
        point = self._point
        below = (point.pixels <= self._limits.low) & (point.gradient > 0)
        above = (point.pixels >= self._limits.high) & (point.gradient < 0)
        return below | above
