"""L-BFGS's direction for tensors of a device: all inner products of a step are fetched at once.

`nstx.engine.solvers.torch_vectors` works on the vectors, `nstx.engine.solvers.pairs` on their products. An
evaluation costs one wait: what follows from it ends in the products, which are fetched; coefficients are
sent, and the direction and the first picture along it follow from them.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..devices.arrays import Array
from ..devices.cuda_graph import CudaGraph, graphs_are_allowed, run_by
from ..devices.torch_arrays import as_tensor
from .descent import FIRST_STEP, Limits, curves_upwards
from .memory import Saved, State
from .pairs import PRODUCTS, SMOOTH_CHANGE, SMOOTH_DOWNHILL, STEP, SUMMED, Pairs, Products
from .torch_vectors import NO_SLOT, Vectors


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
        exponent: of the frequencies by which the preconditioner divides; 0 is none.
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
        exponent: float = 1.0,
        capture: bool | None = None,
        kernels: bool | None = None,
    ) -> None:
        start = as_tensor(pixels)
        self._pairs, self._scale = Pairs(), limits.scale
        self._vectors = Vectors(start, limits, exponent=exponent, kernels=kernels)
        if capture is None:
            capture = start.is_cuda and graphs_are_allowed()
        self._comparing = CudaGraph() if capture else None
        self._combining = CudaGraph(copies=False) if capture else None
        # Copies between a device and the host are quicker with pinned memory.
        pinned, last = start.is_cuda, SUMMED + 1
        self._fetched = torch.zeros(PRODUCTS, dtype=torch.float64, pin_memory=pinned)
        self._sent = torch.zeros(last, dtype=torch.float32, pin_memory=pinned)
        self._factors = torch.zeros(last, dtype=torch.float32, device=start.device)
        # The new pair's, whether the vectors are kept of the current point, and whether there is a trial.
        self._slot, self._is_kept, self._has_trial = NO_SLOT, True, False
        # The gradient whose products are under way.
        self._begun: torch.Tensor | None = None
        self._examined = self._point = self.examine(start, gradient)
        self._is_kept = False

    @property
    def pixels(self) -> torch.Tensor:
        """Implement `Descent`."""
        return self._point.pixels

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def export(self) -> State:
        """Implement `Descent`; waits for the device."""
        assert self._examined is self._point
        pairs, products = self._pairs.export(), self._point.products.numbers.copy()
        return {**self._vectors.export(), **pairs, "products": products, "slot": float(self._slot)}

    def resume(self, earlier: Saved) -> None:
        """Implement `Descent`."""
        self._pairs.resume(earlier)
        gradient = self._vectors.resume(earlier) / -self._scale
        products = Products(earlier["products"].copy())
        self._examined = self._point = TorchPoint(self._vectors.now.clone(), gradient, products)
        self._slot, self._is_kept, self._has_trial = int(earlier["slot"]), False, False

    def begin(self, pictures: Array, gradients: Array) -> None:
        """Implement `Descent`; does not wait for the device."""
        x, slope, first = as_tensor(pictures)[0], as_tensor(gradients)[0], self._vectors.trial
        if self._has_trial and x.data_ptr() == first.data_ptr():
            self._compare(slope)

    def examine(self, pixels: Array, gradient: Array) -> TorchPoint:
        """Implement `Descent`; waits for the device."""
        x, slope, first = as_tensor(pixels), as_tensor(gradient), self._vectors.trial
        if self._begun is None or self._begun.data_ptr() != slope.data_ptr() or x is not first:
            if x is not first:
                first.copy_(x)
            self._compare(slope)
        self._has_trial, self._begun = False, None
        if x is first:
            # While the device is busy.
            x = first.clone()
        if slope.is_cuda:
            torch.cuda.current_stream(slope.device).synchronize()
        self._examined = TorchPoint(x, slope, Products(self._fetched.numpy().copy()))
        return self._examined

    def restart(self, point: TorchPoint) -> None:
        """Implement `Descent`."""
        self._point = self._examine_again(point)
        self._pairs.clear()
        self._slot, self._is_kept = NO_SLOT, False

    def follow(self, point: TorchPoint) -> None:
        """Implement `Descent`."""
        self._point = self._examine_again(point)
        products = self._point.products
        curvature, smoothed = (float(products.with_change[row]) for row in (STEP, SMOOTH_CHANGE))
        is_good = curves_upwards(curvature, products.squares, smoothed)
        self._slot = self._pairs.add(products) if is_good else NO_SLOT
        self._is_kept = False

    def aim(self) -> float:
        """Implement `Descent`; waits for the device where there is no step yet."""
        assert self._examined is self._point
        vectors, products = self._vectors, self._point.products
        if not vectors.has_kernels:
            self._keep()
        if self:
            coefficients = self._pairs.coefficients(products)
        else:
            largest = float(vectors.rows[SMOOTH_DOWNHILL].abs().max())
            coefficients = np.zeros(SUMMED)
            coefficients[SMOOTH_DOWNHILL] = FIRST_STEP / max(largest, 1e-30)
        # What was sent before has arrived: other numbers follow a wait, here or for products.
        numbers = self._sent.numpy()
        numbers[:SUMMED], numbers[SUMMED] = coefficients, self._slot
        self._factors.copy_(self._sent, non_blocking=True)
        run_by(self._combining, vectors.combine, self._factors)
        self._is_kept = self._has_trial = True
        return -float(coefficients @ products.with_downhill[:SUMMED])

    def trial(self, length: float) -> torch.Tensor:
        """Implement `Descent`."""
        if length == 1 and self._has_trial:
            return self._vectors.trial
        return self._vectors.move(self._point.pixels, length)

    def expected(self, point: TorchPoint) -> float:
        """Implement `Descent`."""
        return max(0.0, point.products.expected)

    def steepness(self, point: TorchPoint) -> float:
        """Implement `Descent`."""
        return -point.products.descent

    def _compare(self, slope: torch.Tensor) -> None:
        """Compare the trial with the current point, and send the products to the host."""
        self._keep()
        run_by(self._comparing, self._vectors.compare, slope)
        self._fetched.copy_(self._vectors.products, non_blocking=True)
        self._begun = slope

    def _keep(self) -> None:
        """Let the vectors keep what they need of the current point, if they have not."""
        if not self._is_kept:
            self._vectors.keep(self._slot)
            self._is_kept = True

    def _examine_again(self, point: TorchPoint) -> TorchPoint:
        """Return a point as the rows have it; else they are those of a later trial that was worse."""
        return point if point is self._examined else self.examine(point.pixels, point.gradient)
