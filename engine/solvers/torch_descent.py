"""L-BFGS's direction for tensors of a device: all inner products of a step are fetched at once.

The vectors are the rows of one matrix, and the two loops run over their inner products on the host, as in
Chen, Wang and Zhou 2014; with Byrd, Nocedal and Schnabel 1994 they are two triangular systems. With S and Y
the last steps and changes of the gradient, oldest first, R the upper triangle of SᵀY, D its diagonal, P the
preconditioner, γ its scale, and n minus the gradient where it is not blocked, the direction is

    γ P n − γ P Y a + S c,  R a = Sᵀ n,  Rᵀ c = D a − γ ((P Y)ᵀ n − Yᵀ P Y a).

P is symmetric, so that Yᵀ P n needs no picture but P Y, which is kept in place of Y. A step is one batch of
two Fourier pairs (P n and P y of the new y), one product of the matrix with the new vectors, one fetch of
it, and one product with the direction's coefficients.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ..devices.arrays import Array
from ..devices.cuda_graph import CudaGraph, Function, graphs_are_allowed
from ..devices.torch_arrays import as_tensor
from ..devices.torch_device import exact_products
from .descent import FIRST_STEP, PAIRS, Limits, curves_upwards, frequency_weights

# The matrix's rows, (3, height, width) each: P y and s of the pairs that are kept; then those of the point
# that was examined last. Kernels that take or make two rows have them side by side.
_CHANGES, _STEPS = slice(0, PAIRS), slice(PAIRS, 2 * PAIRS)
_SMOOTH_DOWNHILL = 2 * PAIRS  # P n
_SMOOTH_CHANGE = _SMOOTH_DOWNHILL + 1  # P y
_STEP = _SMOOTH_CHANGE + 1  # s
_MOVABLE = _STEP + 1  # the direction, without values that stand at their bounds
_FREE = _MOVABLE + 1  # n
_CHANGE = _FREE + 1  # y
_DIRECTION = _CHANGE + 1
_DOWNHILL = _DIRECTION + 1  # minus the gradient
_EARLIER = _DOWNHILL + 1  # the same, at the current point
_ROWS = _EARLIER + 1

# The direction is a sum of the first rows. Products are of all rows up to the change with those from the
# step on.
_SUMMED, _LEFT, _RIGHT = _SMOOTH_DOWNHILL + 1, _CHANGE + 1, _STEP

# Multiplies a distance from a bound into more than any movement, exactly.
_HUGE = 2.0**100

Products = NDArray[np.float64]
"""Inner products of rows: those before `_LEFT`, with those from `_RIGHT` on."""


def _of(products: Products, left: int, right: int) -> float:
    return float(products[left, right - _RIGHT])


class Pairs:
    """The inner products of the pairs that are kept, and which row each has.

    Attributes:
        slots: of the pairs, oldest first.
    """

    def __init__(self) -> None:
        self.slots: list[int] = []
        self._curvatures: Products = np.zeros((PAIRS, PAIRS))
        self._smoothed: Products = np.zeros((PAIRS, PAIRS))
        self._scale = 1.0

    def add(self, products: Products) -> int:
        """Add the pair of a step and change that were examined; return its slot, the oldest's if need be.

        Rows of the slot in ``products`` become those of the new pair.
        """
        free = [slot for slot in range(PAIRS) if slot not in self.slots]
        slot = free[0] if free else self.slots.pop(0)
        self.slots.append(slot)
        products[slot], products[PAIRS + slot] = products[_SMOOTH_CHANGE], products[_STEP]
        self._curvatures[:, slot] = products[_STEPS, _CHANGE - _RIGHT]
        smoothed = products[_CHANGES, _CHANGE - _RIGHT]
        self._smoothed[:, slot] = self._smoothed[slot] = smoothed
        self._scale = self._curvatures[slot, slot] / self._smoothed[slot, slot]
        return slot

    def coefficients(self, products: Products) -> Products:
        """Return what the rows that the direction is a sum of are multiplied with, (`_SUMMED`)."""
        slots, scale = self.slots, self._scale
        along_changes, along_steps = (products[rows, _FREE - _RIGHT] for rows in (_CHANGES, _STEPS))
        triangle = np.triu(self._curvatures[np.ix_(slots, slots)])
        shares = np.linalg.solve(triangle, along_steps[slots])
        along = along_changes[slots] - self._smoothed[np.ix_(slots, slots)] @ shares
        weighted = triangle.diagonal() * shares - scale * along
        result: Products = np.zeros(_SUMMED)
        result[slots] = -scale * shares
        result[[PAIRS + slot for slot in slots]] = np.linalg.solve(triangle.T, weighted)
        result[_SMOOTH_DOWNHILL] = scale
        return result


@dataclass(frozen=True, slots=True, eq=False)
class TorchPoint:
    """A picture with its gradient before the scale, and the products that came of it."""

    pixels: torch.Tensor
    gradient: torch.Tensor
    products: Products


class TorchDescent:
    """`nstx.engine.solvers.descent.Descent` on a device; 348 bytes per pixel.

    `DeviceError` if its work cannot be captured in a CUDA graph.

    Args:
        pixels: of the first point, (height, width, 3).
        gradient: there, before the scale.
        limits: of the pixels, and the scale of gradients.
        preconditioned: whether frequencies are weighted.
        capture: whether the work after an evaluation is captured in a CUDA graph; None lets it on CUDA,
            unless ``NSTX_CUDA_GRAPHS`` is 0.
    """

    def __init__(
        self,
        pixels: Array,
        gradient: Array,
        limits: Limits,
        *,
        preconditioned: bool = True,
        capture: bool | None = None,
    ) -> None:
        start = as_tensor(pixels)
        height, width, channels = start.shape
        self._limits, self._pairs = limits, Pairs()
        self._rows = start.new_zeros((_ROWS, channels, height, width), dtype=torch.float32)
        # The transforms are not scaled: it is done here.
        weights = frequency_weights(height, width)[..., 0] / np.float32(height * width)
        if not preconditioned:
            weights = np.full_like(weights, 1 / (height * width))
        self._weights = torch.from_numpy(weights).to(start.device)
        if capture is None:
            capture = start.is_cuda and graphs_are_allowed()
        self._compute: Function = partial(CudaGraph(), self._compare) if capture else self._compare
        self._point = TorchPoint(start, as_tensor(gradient), np.zeros((_LEFT, _ROWS - _RIGHT)))
        self._examined: TorchPoint | None = None
        self.restart(self.examine(pixels, gradient))

    @property
    def pixels(self) -> torch.Tensor:
        """Implement `Descent`."""
        return self._point.pixels

    def __bool__(self) -> bool:
        return bool(self._pairs.slots)

    def examine(self, pixels: Array, gradient: Array) -> TorchPoint:
        """Implement `Descent`; waits for the device."""
        x, slope = as_tensor(pixels), as_tensor(gradient)
        (products,) = self._compute(x, self._point.pixels, slope)
        self._examined = TorchPoint(x, slope, products.cpu().numpy())
        return self._examined

    def restart(self, point: TorchPoint) -> None:
        """Implement `Descent`."""
        self._pairs.slots.clear()
        self._move_to(point)

    def follow(self, point: TorchPoint) -> None:
        """Implement `Descent`."""
        if point is not self._examined:
            # The rows are those of a later trial that was worse.
            point = self.examine(point.pixels, point.gradient)
        products = point.products
        squares = _of(products, _STEP, _STEP), _of(products, _CHANGE, _CHANGE)
        smoothed = _of(products, _SMOOTH_CHANGE, _CHANGE)
        if curves_upwards(_of(products, _STEP, _CHANGE), squares, smoothed):
            slot = self._pairs.add(products)
            self._rows[slot : slot + PAIRS + 1 : PAIRS] = self._rows[_SMOOTH_CHANGE : _STEP + 1]
        self._move_to(point)

    def aim(self) -> float:
        """Implement `Descent`; waits for the device where there is no step yet."""
        rows, products = self._rows, self._point.products
        if self:
            coefficients = self._pairs.coefficients(products)
        else:
            coefficients = np.zeros(_SUMMED)
            largest = float(rows[_SMOOTH_DOWNHILL].abs().max())
            coefficients[_SMOOTH_DOWNHILL] = FIRST_STEP / max(largest, 1e-30)
        factors = torch.from_numpy(coefficients.astype(np.float32))
        torch.mv(
            rows[:_SUMMED].flatten(1).T,
            factors.to(rows.device, non_blocking=True),
            out=rows[_DIRECTION].view(-1),
        )
        rows[_DIRECTION].mul_(rows[_FREE] == rows[_DOWNHILL])
        return -float(coefficients @ products[:_SUMMED, _FREE - _RIGHT])

    def trial(self, length: float) -> torch.Tensor:
        """Implement `Descent`."""
        pixels = torch.empty_like(self._point.pixels)
        moved = self._rows[_DIRECTION].permute(1, 2, 0)
        torch.add(self._point.pixels, moved, alpha=length, out=pixels)
        return pixels.clamp_(self._limits.low, self._limits.high)

    def expected(self, point: TorchPoint) -> float:
        """Implement `Descent`."""
        return max(0.0, _of(point.products, _STEP, _EARLIER))

    def steepness(self, point: TorchPoint) -> float:
        """Implement `Descent`."""
        return -_of(point.products, _MOVABLE, _DOWNHILL)

    def _move_to(self, point: TorchPoint) -> None:
        self._point = point
        self._rows[_EARLIER] = self._rows[_DOWNHILL]

    def _compare(
        self, pixels: torch.Tensor, earlier: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Fill the rows that belong to an evaluation; return its products, (`_LEFT`, …), float64."""
        rows = self._rows
        x, x0, slope = (picture.permute(2, 0, 1) for picture in (pixels, earlier, gradient))
        torch.mul(slope, -self._limits.scale, out=rows[_DOWNHILL])
        torch.sub(x, x0, out=rows[_STEP])
        torch.sub(rows[_EARLIER], rows[_DOWNHILL], out=rows[_CHANGE])
        self._clamp(x)
        height, width = self._weights.shape[0], pixels.shape[1]
        spectra = torch.fft.rfft2(rows[_FREE : _CHANGE + 1]).mul_(self._weights)
        smooth = torch.fft.irfft2(spectra, s=(height, width), norm="forward")
        rows[_SMOOTH_DOWNHILL : _SMOOTH_CHANGE + 1] = smooth
        # Many short products in place of few long ones, which would leave most of the device idle.
        lines = rows.view(_ROWS, -1, width)
        with exact_products():
            products = lines[:_LEFT].transpose(0, 1) @ lines[_RIGHT:].permute(1, 2, 0)
        return (products.sum(0, dtype=torch.float64),)

    def _clamp(self, x: torch.Tensor) -> None:
        """Take from the direction and from downhill, which is beside it, what pixels cannot follow.

        A value that stands at a bound moves away from it only. The direction never leads away from a
        bound that it has led to, so that none of its values are left there.
        """
        rows, low, high = self._rows, self._limits.low, self._limits.high
        movements, movable = rows[_DIRECTION : _DOWNHILL + 1], rows[_MOVABLE : _FREE + 1]
        if math.isinf(low):
            movable.copy_(movements)
            return
        down, up = (torch.rsub(x, bound * _HUGE, alpha=_HUGE) for bound in (low, high))
        torch.clamp(movements, down, up, out=movable)
