"""L-BFGS's two loops on the host, over inner products alone, as in Chen, Wang and Zhou 2014.

With Byrd, Nocedal and Schnabel 1994 they are two triangular systems. With S and Y the last steps and changes
of the gradient, oldest first, R the upper triangle of SᵀY, D its diagonal, P the preconditioner, γ its
scale, and n minus the gradient where it is not blocked, the direction is

    γ P n − γ P Y a + S c,  R a = Sᵀ n,  Rᵀ c = D a − γ ((P Y)ᵀ n − Yᵀ P Y a).

P is symmetric, so that Yᵀ P n needs no picture but P Y, which is kept in place of Y.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..settings import PAIRS

# The matrix's first rows, a picture each: P y and s of the pairs that are kept, then those of the point that
# was examined last.
CHANGES, STEPS = slice(0, PAIRS), slice(PAIRS, 2 * PAIRS)
SMOOTH_DOWNHILL = 2 * PAIRS  # P n
SMOOTH_CHANGE = SMOOTH_DOWNHILL + 1  # P y
STEP = SMOOTH_CHANGE + 1  # s

SUMMED = SMOOTH_DOWNHILL + 1
"""Of so many rows, the first, the direction is a sum."""

MULTIPLIED = STEP + 1
"""So many rows, the first, are multiplied with n and y."""

PRODUCTS = 2 * MULTIPLIED + 4
"""Inner products that are fetched after an evaluation."""

Numbers = NDArray[np.float64]


class Products:
    """The inner products of an evaluation.

    Attributes:
        numbers: all of them.
        with_downhill: of the rows with n, (`MULTIPLIED`).
        with_change: of the rows with y, (`MULTIPLIED`).
        squares: s · s and y · y.
        expected: of the step with minus the gradient that it is from.
        descent: of minus the gradient with the direction, without values that stand at bounds.
    """

    def __init__(self, numbers: Numbers) -> None:
        """Take numbers (`PRODUCTS`) in the order of the attributes, which are kept."""
        self.numbers = numbers
        self.with_downhill = numbers[:MULTIPLIED]
        self.with_change = numbers[MULTIPLIED : 2 * MULTIPLIED]
        others: list[float] = numbers[2 * MULTIPLIED :].tolist()
        self.squares = others[0], others[1]
        self.expected, self.descent = others[2], others[3]


class Pairs:
    """The inner products of the pairs that are kept; each pair has a slot, for as long as it is kept.

    Matrices are by slot, rather than by age: R's inverse is so as well, and its rows and columns of
    the younger pairs are the inverse of their part of R. Those of a slot without a pair are 0.
    """

    def __init__(self) -> None:
        self._count, self._next = 0, 0
        self._inverse: Numbers = np.zeros((PAIRS, PAIRS))
        self._smoothed: Numbers = np.zeros((PAIRS, PAIRS))
        self._diagonal: Numbers = np.zeros(PAIRS)
        self._result: Numbers = np.zeros(SUMMED)
        self._scale = 1.0

    def __bool__(self) -> bool:
        return self._count > 0

    def export(self) -> dict[str, Numbers]:
        """Return all that `resume` needs, by name; nothing changes it later."""
        return {
            "pairs": np.array([self._count, self._next, self._scale]),
            "inverse": self._inverse.copy(),
            "smoothed": self._smoothed.copy(),
            "diagonal": self._diagonal.copy(),
        }

    def resume(self, earlier: Mapping[str, Numbers]) -> None:
        """Take over what was exported."""
        count, following, self._scale = earlier["pairs"].tolist()
        self._count, self._next = int(count), int(following)
        self._inverse, self._smoothed, self._diagonal = (
            earlier[name].copy() for name in ("inverse", "smoothed", "diagonal")
        )

    def clear(self) -> None:
        """Forget all pairs."""
        self._count = 0
        self._inverse[:] = 0

    def add(self, products: Products) -> int:
        """Add the pair of a step and change that were examined; return its slot, the oldest's if need be.

        The products of the slot's rows become those of the new pair.
        """
        slot = self._next
        self._next = (slot + 1) % PAIRS
        self._count = min(self._count + 1, PAIRS)
        for numbers in (products.with_downhill, products.with_change):
            numbers[slot], numbers[PAIRS + slot] = numbers[SMOOTH_CHANGE], numbers[STEP]
        curvatures, smoothed = products.with_change[STEPS], products.with_change[CHANGES]
        curvature, inverse = float(curvatures[slot]), self._inverse
        inverse[slot] = inverse[:, slot] = 0
        # The inverse of a triangle with one more column, above whose diagonal there is r: −R⁻¹ r / d.
        inverse[:, slot] = inverse @ curvatures / -curvature
        inverse[slot, slot] = 1 / curvature
        self._smoothed[:, slot] = self._smoothed[slot] = smoothed
        self._diagonal[slot] = curvature
        self._scale = curvature / float(smoothed[slot])
        return slot

    def coefficients(self, products: Products) -> Numbers:
        """Return what the rows that the direction is a sum of are multiplied with, (`SUMMED`).

        The same array in each call.
        """
        scale, result, inverse = self._scale, self._result, self._inverse
        shares = inverse @ products.with_downhill[STEPS]
        along = products.with_downhill[CHANGES] - self._smoothed @ shares
        result[CHANGES] = shares * -scale
        result[STEPS] = (self._diagonal * shares - scale * along) @ inverse
        result[SMOOTH_DOWNHILL] = scale
        return result
