"""The gradient by PyTorch's autograd, on CPU, CUDA or MPS."""

from collections.abc import Sequence

import numpy as np
import torch

from ..models.objective import Objective
from .cost import BatchBackend, Cost, check_gradient
from .devices import TorchDevice
from .pixels import Batch
from .targets import Targets
from .torch_network import TorchNetwork, gram_matrices
from .torch_problem import Part, TorchProblem, total_variation

# fp16 gradients overflow at 65 504 and vanish below 6e-8, so the cost is scaled before it is
# differentiated. The scale starts high, is divided while the gradient is not finite, and grows again
# when the largest value of the gradient leaves room.
_FIRST_SCALE = 2.0**24
_SCALE_STEP = 16.0
_SMALLEST_SCALE = 2.0**-60
_ROOM = 2.0**4


class TorchBackend(BatchBackend):
    """Costs and gradients by PyTorch.

    Args:
        network: VGG-19 on a device.
        device: the same device, for the precision of sums.
        problems: an objective and targets for each picture of a batch.

    Attributes:
        problem: the targets, on the device.

    Raises:
        UsageError: the pictures are no batch (`nstx.engine.cost.check_batch`).
    """

    def __init__(
        self,
        network: TorchNetwork,
        device: TorchDevice,
        problems: Sequence[tuple[Objective, Targets]],
    ) -> None:
        self.problem = TorchProblem(device, problems)
        self._network = network
        self._device = device
        self._scale = _FIRST_SCALE if device.precision == "fp16" else 1.0

    def costs_and_gradients(self, pixels: Batch) -> tuple[Sequence[Cost], Batch]:
        """See `BatchBackend`."""
        with self._device.numerics():
            x = self._network.upload(pixels).requires_grad_()
            parts = self._parts(x)
            costs = self.problem.report(parts)
            (gradient,) = torch.autograd.grad(self.problem.total(parts) * self._scale, x)
            if self._device.precision == "fp16":
                gradient = self._rescaled(gradient, pixels)
            result = (gradient / self._scale).permute(0, 2, 3, 1).cpu().numpy()
        return costs, check_gradient(np.ascontiguousarray(result))

    def _rescaled(self, gradient: torch.Tensor, pixels: Batch) -> torch.Tensor:
        """Repeat fp16 gradients at smaller scales until they are finite; prepare the next scale."""
        while not gradient.isfinite().all() and self._scale > _SMALLEST_SCALE:
            self._scale /= _SCALE_STEP
            x = self._network.upload(pixels).requires_grad_()
            total = self.problem.total(self._parts(x))
            (gradient,) = torch.autograd.grad(total * self._scale, x)
        if gradient.abs().max() < _ROOM:
            # The gradient that is returned carries the present scale, so it is adjusted with it.
            self._scale *= _SCALE_STEP
            gradient = gradient * _SCALE_STEP
        return gradient

    def costs(self, pixels: Batch) -> Sequence[Cost]:
        """See `BatchBackend`."""
        with self._device.numerics(), torch.no_grad():
            return self.problem.report(self._parts(self._network.upload(pixels)))

    def _parts(self, pixels: torch.Tensor) -> dict[Part, torch.Tensor]:
        """Return each layer's costs and the total variations, before their weights, (batch)."""
        problem, dtype = self.problem, self._device.accumulate_dtype
        parts: dict[Part, torch.Tensor] = {}
        features = self._network(pixels, problem.layers)
        for kind, layer in problem.targets:
            x = features[layer]
            found = x.to(dtype) if kind == "content" else gram_matrices(x, dtype)
            parts[kind, layer], _ = problem.compare((kind, layer), found)
        if ("tv", "") in problem.weights:
            parts["tv", ""] = total_variation(pixels)
        return parts
