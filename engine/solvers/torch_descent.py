"""L-BFGS's direction for tensors of a device: all inner products of a step are fetched at once.

The vectors are the rows of one matrix, and `nstx.engine.solvers.pairs` says what is done with their products.
An evaluation costs one wait: what follows from it, with one batch of two Fourier pairs (P n and P y of the
new y), ends in the products' sum, which is fetched; coefficients are sent, and the direction and the first
picture along it follow from them. Both are captured in CUDA graphs where that is allowed, and are by kernels
of our own where those work.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..devices.arrays import Array
from ..devices.cuda_graph import CudaGraph, Function, graphs_are_allowed
from ..devices.torch_arrays import as_tensor
from ..devices.torch_device import exact_products
from .descent import FIRST_STEP, PAIRS, Limits, curves_upwards, frequency_weights
from .pairs import (
    MULTIPLIED,
    PRODUCTS,
    SMOOTH_CHANGE,
    SMOOTH_DOWNHILL,
    STEP,
    SUMMED,
    Pairs,
    Products,
)

# The matrix's other rows, (3, height, width) each. Work on two rows at once has them side by side.
_MOVABLE = MULTIPLIED  # the direction, without values that stand at their bounds
_FREE = _MOVABLE + 1  # n
_CHANGE = _FREE + 1  # y
_DIRECTION = _CHANGE + 1
_DOWNHILL = _DIRECTION + 1  # minus the gradient
_EARLIER = _DOWNHILL + 1  # the same, at the current point
_ROWS = _EARLIER + 1

# Multiplies a distance from a bound into more than any movement, exactly.
_HUGE = 2.0**100


@dataclass(frozen=True, slots=True, eq=False)
class TorchPoint:
    """A picture with its gradient before the scale, and the products that came of it."""

    pixels: torch.Tensor
    gradient: torch.Tensor
    products: Products


class TorchDescent:
    """`nstx.engine.solvers.descent.Descent` on a device; 400 bytes per pixel.

    `DeviceError` if its work cannot be captured in a CUDA graph.

    Args:
        pixels: of the first point, (height, width, 3).
        gradient: there, before the scale.
        limits: of the pixels, and the scale of gradients.
        preconditioned: whether frequencies are weighted.
        capture: whether the work on either side of an evaluation is captured in CUDA graphs; None lets it
            on CUDA, unless ``NSTX_CUDA_GRAPHS`` is 0.
        kernels: whether that work is by kernels of our own; None is where they work, on CUDA.
    """

    def __init__(
        self,
        pixels: Array,
        gradient: Array,
        limits: Limits,
        *,
        preconditioned: bool = True,
        capture: bool | None = None,
        kernels: bool | None = None,
    ) -> None:
        start = as_tensor(pixels)
        height, width, channels = start.shape
        self._limits, self._pairs = limits, Pairs()
        self._rows = start.new_zeros((_ROWS, channels, height, width), dtype=torch.float32)
        # Of the current point, of that examined last, and where the first trial is computed.
        self._pictures = start.float().repeat(3, 1, 1, 1)
        # The transforms are not scaled: it is done here.
        weights = frequency_weights(height, width)[..., 0] / np.float32(height * width)
        if not preconditioned:
            weights = np.full_like(weights, 1 / (height * width))
        self._weights = torch.from_numpy(weights).to(start.device)
        self._make_buffers(start.device)
        self._has_kernels = _kernels_work(start.device) if kernels is None else kernels
        if capture is None:
            capture = start.is_cuda and graphs_are_allowed()
        self._comparing = CudaGraph() if capture else None
        self._combining = CudaGraph(copies=False) if capture else None
        self._trial: torch.Tensor | None = None
        self._examined = self._point = self.examine(start, gradient)

    def _make_buffers(self, device: torch.device) -> None:
        """Make what numbers are sent and fetched by; memory of the host's that devices read is slow to get."""
        on_cuda = device.type == "cuda"
        self._products = torch.zeros(PRODUCTS, dtype=torch.float64, device=device)
        self._fetched = torch.zeros(PRODUCTS, dtype=torch.float64, pin_memory=on_cuda)
        self._factors = torch.zeros(SUMMED, dtype=torch.float32, device=device)
        self._sent = torch.zeros(SUMMED, dtype=torch.float32, pin_memory=on_cuda)
        self._numbers = self._sent.numpy(), self._fetched.numpy()
        self._order = torch.from_numpy(_order_of_products()).to(device)
        rows = self._rows
        self._newest = rows[SMOOTH_CHANGE : STEP + 1]
        self._pair_rows = [rows[slot : slot + PAIRS + 1 : PAIRS] for slot in range(PAIRS)]

    @property
    def pixels(self) -> torch.Tensor:
        """Implement `Descent`."""
        return self._point.pixels

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def examine(self, pixels: Array, gradient: Array) -> TorchPoint:
        """Implement `Descent`; waits for the device."""
        x, slope = as_tensor(pixels), as_tensor(gradient)
        if x is not self._trial:
            self._pictures[2].copy_(x)
        self._trial = None
        _run(self._comparing, self._compare, slope)
        self._fetched.copy_(self._products)
        self._examined = TorchPoint(x, slope, Products(self._numbers[1].copy()))
        return self._examined

    def restart(self, point: TorchPoint) -> None:
        """Implement `Descent`."""
        self._pairs.clear()
        self._point = self._examined_again(point)

    def follow(self, point: TorchPoint) -> None:
        """Implement `Descent`."""
        point = self._examined_again(point)
        products = point.products
        curvature, smoothed = (float(products.with_change[row]) for row in (STEP, SMOOTH_CHANGE))
        if curves_upwards(curvature, products.squares, smoothed):
            self._pair_rows[self._pairs.add(products)].copy_(self._newest)
        self._point = point

    def aim(self) -> float:
        """Implement `Descent`; waits for the device where there is no step yet."""
        assert self._examined is self._point
        products = self._point.products
        if self:
            coefficients = self._pairs.coefficients(products)
        else:
            largest = float(self._rows[SMOOTH_DOWNHILL].abs().max())
            coefficients = np.zeros(SUMMED)
            coefficients[SMOOTH_DOWNHILL] = FIRST_STEP / max(largest, 1e-30)
        # What was sent before has arrived: other coefficients follow a wait, here or for products.
        self._numbers[0][:] = coefficients
        self._factors.copy_(self._sent, non_blocking=True)
        (trial,) = _run(self._combining, self._combine, self._factors)
        self._trial = trial.clone()
        return -float(coefficients @ products.with_downhill[:SUMMED])

    def trial(self, length: float) -> torch.Tensor:
        """Implement `Descent`."""
        if length == 1 and self._trial is not None:
            return self._trial
        pixels = torch.empty_like(self._point.pixels)
        moved = self._rows[_DIRECTION].permute(1, 2, 0)
        torch.add(self._point.pixels, moved, alpha=length, out=pixels)
        return pixels.clamp_(self._limits.low, self._limits.high)

    def expected(self, point: TorchPoint) -> float:
        """Implement `Descent`."""
        return max(0.0, point.products.expected)

    def steepness(self, point: TorchPoint) -> float:
        """Implement `Descent`."""
        return -point.products.descent

    def _examined_again(self, point: TorchPoint) -> TorchPoint:
        """Return a point as the rows have it; else they are those of a later trial that was worse."""
        return point if point is self._examined else self.examine(point.pixels, point.gradient)

    # Both pieces of work may be done twice, as the first call of a capture does it: neither changes what
    # it reads.

    def _compare(self, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Fill the rows that belong to an evaluation, and the products."""
        rows = self._rows
        pair = rows[_FREE : _CHANGE + 1]
        if not self._has_kernels:
            self._compare_plainly(gradient)
            rows[SMOOTH_DOWNHILL : SMOOTH_CHANGE + 1] = _filter_pair(pair, self._weights)
            self._multiply_plainly()
            return ()
        from ..kernels.descent import compare_points, multiply_rows

        here, now, trial = self._pictures
        with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
            compare_points(
                trial, here, gradient.contiguous(), rows[_EARLIER], rows[_DIRECTION],
                scale=self._limits.scale, limits=(self._limits.low, self._limits.high), now=now,
                downhill=rows[_DOWNHILL], step=rows[STEP], change=rows[_CHANGE],
                movable=rows[_MOVABLE], free=rows[_FREE],
            )  # fmt: skip
            multiply_rows(
                rows[:MULTIPLIED], _filter_pair(pair, self._weights), free=rows[_FREE],
                change=rows[_CHANGE], step=rows[STEP], earlier=rows[_EARLIER],
                movable=rows[_MOVABLE], downhill=rows[_DOWNHILL], first=SMOOTH_DOWNHILL,
                products=self._products,
            )  # fmt: skip
        return ()

    def _combine(self, factors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Make the point that was examined the current one; return its first trial, (h, w, 3)."""
        rows, (here, now, trial) = self._rows, self._pictures
        low, high = self._limits.low, self._limits.high
        if self._has_kernels:
            from ..kernels.descent import combine_rows

            with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
                combine_rows(
                    rows[:SUMMED], factors, rows[_FREE], rows[_DOWNHILL], now, limits=(low, high),
                    direction=rows[_DIRECTION], earlier=rows[_EARLIER], before=here, trial=trial,
                )  # fmt: skip
            return (trial,)
        torch.mv(rows[:SUMMED].flatten(1).T, factors, out=rows[_DIRECTION].view(-1))
        rows[_DIRECTION].mul_(rows[_FREE] == rows[_DOWNHILL])
        rows[_EARLIER].copy_(rows[_DOWNHILL])
        here.copy_(now)
        torch.add(now, rows[_DIRECTION].permute(1, 2, 0), out=trial).clamp_(low, high)
        return (trial,)

    def _compare_plainly(self, gradient: torch.Tensor) -> None:
        """Do as `nstx.engine.kernels.descent.compare_points`.

        A value that stands at a bound moves away from it only. The direction never leads away from a
        bound that it has led to, so that none of its values are left there.
        """
        rows, low, high = self._rows, self._limits.low, self._limits.high
        here, now, trial = self._pictures
        now.copy_(trial)
        x, x0, slope = (picture.permute(2, 0, 1) for picture in (trial, here, gradient))
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
        lines = self._rows.view(_ROWS, -1, self._rows.shape[-1])
        with exact_products():
            products = lines[: _CHANGE + 1].transpose(0, 1) @ lines[STEP:].permute(1, 2, 0)
        total = products.sum(0, dtype=torch.float64)
        torch.index_select(total.flatten(), 0, self._order, out=self._products)


def _run(
    graph: CudaGraph | None, function: Function, tensor: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    return function(tensor) if graph is None else graph(function, tensor)


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
