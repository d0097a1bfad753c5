"""The vectors of L-BFGS on a device, and the two pieces of work on either side of an evaluation.

Both are by `nstx.engine.kernels.descent` or by PyTorch's operators, and may be captured in CUDA graphs. They
may be done twice, as the first call of a capture does: neither changes what its results follow from.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..devices.arrays import Array
from ..devices.torch_device import exact_products
from ..settings import PAIRS
from .descent import Limits, frequency_weights
from .pairs import MULTIPLIED, PRODUCTS, SMOOTH_CHANGE, SMOOTH_DOWNHILL, STEP, SUMMED

# The matrix's other rows, (3, height, width) each. Work on two rows at once has them side by side.
_MOVABLE = MULTIPLIED  # the direction, without values that stand at their bounds
_FREE = _MOVABLE + 1  # n
_CHANGE = _FREE + 1  # y
_DIRECTION = _CHANGE + 1
_DOWNHILL = _DIRECTION + 1  # minus the gradient
_EARLIER = _DOWNHILL + 1  # the same, at the current point
_ROWS = _EARLIER + 1

NO_SLOT = -1
"""In place of a new pair's slot."""

# Multiplies a distance from a bound into more than any movement, exactly.
_HUGE = 2.0**100


class Vectors:
    """The rows of the matrix, and three pictures (height, width, 3); all float32.

    Attributes:
        rows: of `nstx.engine.solvers.pairs` and this module, (rows, 3, height, width).
        before: the picture of the current point.
        now: the picture that was examined last.
        trial: the first picture along the direction, or another one that is to be examined.
        products: what is fetched, float64 (`PRODUCTS`).

    Args:
        start: the picture of the first point, (height, width, 3).
        limits: of the pixels, and the scale of gradients.
        exponent: of the frequencies by which the preconditioner divides; 0 is none.
        kernels: whether the work is by kernels of our own; None is where they work, on CUDA.
    """

    def __init__(
        self, start: torch.Tensor, limits: Limits, *, exponent: float, kernels: bool | None
    ) -> None:
        height, width, channels = start.shape
        self._limits = limits
        self.rows = start.new_zeros((_ROWS, channels, height, width), dtype=torch.float32)
        self.before, self.now, self.trial = start.float().repeat(3, 1, 1, 1).unbind()
        # The transforms are not scaled: it is done here.
        weights = frequency_weights(height, width, exponent)[..., 0] / np.float32(height * width)
        self._weights = torch.from_numpy(weights).to(start.device)
        self.products = torch.zeros(PRODUCTS, dtype=torch.float64, device=start.device)
        self._order = torch.from_numpy(_order_of_products()).to(start.device)
        self.has_kernels = _kernels_work(start.device) if kernels is None else kernels

    @property
    def _state(self) -> dict[str, torch.Tensor]:
        """The examined point's picture and rows, and those of all pairs, by name."""
        return {
            "pixels": self.now,
            "rows": self.rows[:MULTIPLIED],
            "free": self.rows[_FREE],
            "downhill": self.rows[_DOWNHILL],
        }

    def export(self) -> dict[str, Array | NDArray[np.float64] | float]:
        """Return the state on the host."""
        return {name: tensor.to("cpu", copy=True) for name, tensor in self._state.items()}

    def resume(self, earlier: Mapping[str, NDArray[Any]]) -> torch.Tensor:
        """Take over what was exported; return minus the gradient (height, width, 3), times its scale."""
        for name, tensor in self._state.items():
            tensor.copy_(torch.from_numpy(earlier[name]))
        return self.rows[_DOWNHILL].permute(1, 2, 0).contiguous()

    def compare(self, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Fill the rows of an evaluation of ``trial``, and the products; ``now`` becomes the trial.

        The gradient is (height, width, 3), before the scale.
        """
        rows, limits = self.rows, self._limits
        pair = rows[_FREE : _CHANGE + 1]
        if not self.has_kernels:
            self._compare_plainly(gradient)
            rows[SMOOTH_DOWNHILL : SMOOTH_CHANGE + 1] = _filter_pair(pair, self._weights)
            self._multiply_plainly()
            return ()
        from ..kernels.descent import compare_points, multiply_rows

        with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
            compare_points(
                self.trial, self.before, gradient.contiguous(), rows[_EARLIER], rows[_DIRECTION],
                scale=limits.scale, limits=(limits.low, limits.high), now=self.now,
                downhill=rows[_DOWNHILL], step=rows[STEP], change=rows[_CHANGE],
                movable=rows[_MOVABLE], free=rows[_FREE],
            )  # fmt: skip
            multiply_rows(
                rows[:MULTIPLIED], _filter_pair(pair, self._weights), free=rows[_FREE],
                change=rows[_CHANGE], step=rows[STEP], earlier=rows[_EARLIER],
                movable=rows[_MOVABLE], downhill=rows[_DOWNHILL], first=SMOOTH_DOWNHILL,
                products=self.products,
            )  # fmt: skip
        return ()

    def combine(self, factors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Fill the direction's row and ``trial``, from the point that was examined last.

        Args:
            factors: of the rows that are summed; and the new pair's slot, or `NO_SLOT`. With kernels,
                this does what `keep` does without.
        """
        rows, low, high = self.rows, self._limits.low, self._limits.high
        if self.has_kernels:
            from ..kernels.descent import combine_rows

            with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
                combine_rows(
                    rows[:MULTIPLIED], factors, rows[_FREE], rows[_DOWNHILL], self.now, pairs=PAIRS,
                    limits=(low, high), direction=rows[_DIRECTION], earlier=rows[_EARLIER],
                    before=self.before, trial=self.trial,
                )  # fmt: skip
            return ()
        summed = rows[:SUMMED].flatten(1).T
        torch.mv(summed, factors[:SUMMED], out=rows[_DIRECTION].view(-1))
        rows[_DIRECTION].mul_(rows[_FREE] == rows[_DOWNHILL])
        torch.add(self.now, rows[_DIRECTION].permute(1, 2, 0), out=self.trial).clamp_(low, high)
        return ()

    def keep(self, slot: int) -> None:
        """Keep what the next `compare` needs of the point that was examined last, the current one.

        A new pair is kept in the rows of its slot.
        """
        rows = self.rows
        if slot != NO_SLOT:
            rows[slot : slot + PAIRS + 1 : PAIRS] = rows[SMOOTH_CHANGE : STEP + 1]
        rows[_EARLIER].copy_(rows[_DOWNHILL])
        self.before.copy_(self.now)

    def move(self, pixels: torch.Tensor, length: float) -> torch.Tensor:
        """Return a new picture at a length along the direction, brought back into the bounds."""
        moved = torch.add(pixels, self.rows[_DIRECTION].permute(1, 2, 0), alpha=length)
        return moved.clamp_(self._limits.low, self._limits.high)

    def _compare_plainly(self, gradient: torch.Tensor) -> None:
        """Do as `nstx.engine.kernels.descent.compare_points`.

        A value that stands at a bound moves away from it only. The direction never leads away from a
        bound that it has led to, so that none of its values are left there.
        """
        rows, low, high = self.rows, self._limits.low, self._limits.high
        self.now.copy_(self.trial)
        x, x0, slope = (picture.permute(2, 0, 1) for picture in (self.trial, self.before, gradient))
        torch.mul(slope, -self._limits.scale, out=rows[_DOWNHILL])
        torch.sub(x, x0, out=rows[STEP])
        torch.sub(rows[_EARLIER], rows[_DOWNHILL], out=rows[_CHANGE])
        movements, movable = rows[_DIRECTION : _DOWNHILL + 1], rows[_MOVABLE : _FREE + 1]
        if math.isinf(low):
            movable.copy_(movements)
            return
        down, up = (torch.rsub(x, bound * _HUGE, alpha=_HUGE) for bound in (low, high))
        torch.clamp(movements, down, up, out=movable)

    def _multiply_plainly(self) -> None:
        """Do as `nstx.engine.kernels.descent.multiply_rows`."""
        # Many short products in place of few long ones, which would leave most of the device idle.
        lines = self.rows.view(_ROWS, -1, self.rows.shape[-1])
        with exact_products():
            products = lines[: _CHANGE + 1].transpose(0, 1) @ lines[STEP:].permute(1, 2, 0)
        total = products.sum(0, dtype=torch.float64)
        torch.index_select(total.flatten(), 0, self._order, out=self.products)


def _filter_pair(pair: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return two rows (2, 3, h, w) with their frequencies weighted."""
    size = pair.shape[-2:]
    spectra = torch.fft.rfft2(pair).mul_(weights)
    smooth: torch.Tensor = torch.fft.irfft2(spectra, s=size, norm="forward")
    return smooth.contiguous()


def _order_of_products() -> NDArray[np.int64]:
    """Return where each of `Products` is among those of all rows up to y with those from s on."""
    both = [(row, other) for other in (_FREE, _CHANGE) for row in range(MULTIPLIED)]
    both += [(STEP, STEP), (_CHANGE, _CHANGE), (STEP, _EARLIER), (_MOVABLE, _DOWNHILL)]
    return np.array([row * (_ROWS - STEP) + other - STEP for row, other in both])


def _kernels_work(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    from ..kernels.availability import kernel_support

    index = torch.cuda.current_device() if device.index is None else device.index
    return kernel_support(index).works
