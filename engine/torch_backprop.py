"""The gradient by PyTorch's operators, with the backward pass written out.

For the CPU, where it is faster than autograd: backward convolutions are forward convolutions with
kernels that were flipped once, the gradient of a Gram matrix is added where the gradient passes by,
masks are applied in place, and everything is channels_last. In bf16 little but convolutions remains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)

from ..models.objective import Objective
from ..models.vgg19 import Layer, truncate
from ..models.weights import Weights
from .cost import BatchBackend, Cost, check_gradient
from .devices import TorchDevice
from .pixels import Batch
from .targets import Targets
from .torch_problem import Part, TorchProblem, total_variation

# Gram matrices are summed over this many activations at a time, so that half-precision ones need not
# be widened all at once: at 4 megapixels that would be a gigabyte.
_CHUNK = 2**20


@dataclass(slots=True)
class _Passed:
    """A layer that the forward pass has gone through.

    Attributes:
        layer: of VGG-19.
        output: channels_last (batch, channels, h, w).
        indices: of the largest values, of a max pooling.
    """

    layer: Layer
    output: torch.Tensor
    indices: torch.Tensor | None = None


class BackpropNetwork:
    """VGG-19 up to the deepest layer of an objective, forward and backward.

    Args:
        weights: of all 16 convolutions.
        objective: whose layers and pooling it has.
        device: where it runs and at what precision; not fp16, whose gradients need scaling.
    """

    def __init__(self, weights: Weights, objective: Objective, device: TorchDevice) -> None:
        self.device = device
        self._layers = truncate(objective.layers)
        self._average = objective.pooling == "avg"
        self._ceil = objective.pool_rounding == "ceil"
        mean = device.upload(np.asarray(weights.mean), device.accumulate_dtype)
        self._mean = mean.reshape(1, 3, 1, 1)
        self._kernels: dict[str, torch.Tensor] = {}
        self._flipped: dict[str, torch.Tensor] = {}
        self._biases: dict[str, torch.Tensor] = {}
        for name in (layer.name for layer in self._layers if layer.kind == "conv"):
            kernel = device.upload(weights.kernels[name], device.dtype)
            self._kernels[name] = _channels_last(kernel)
            self._flipped[name] = _channels_last(kernel.flip(2, 3).transpose(0, 1))
            self._biases[name] = device.upload(weights.biases[name], device.dtype)

    def upload(self, pixels: Batch) -> torch.Tensor:
        """Move pixels (batch, height, width, 3) to the device as (batch, 3, height, width).

        Their bytes are channels_last as they are.
        """
        return self.device.upload(pixels, self.device.accumulate_dtype).permute(0, 3, 1, 2)

    def forward(self, pixels: torch.Tensor) -> list[_Passed]:
        """Return what every layer gives for pixels (batch, 3, height, width), RGB, 0–255."""
        x = (pixels - self._mean).to(self.device.dtype)
        passed = []
        for layer in self._layers:
            indices = None
            if layer.kind == "conv":
                kernel, bias = self._kernels[layer.name], self._biases[layer.name]
                x = F.conv2d(x, kernel, bias, padding=1).relu_()
            elif self._average:
                x = F.avg_pool2d(x, 2, stride=2, ceil_mode=self._ceil)
            else:
                x, indices = F.max_pool2d(x, 2, stride=2, ceil_mode=self._ceil, return_indices=True)
            passed.append(_Passed(layer, x, indices))
        return passed

    def backward(
        self, passed: _Passed, gradient: torch.Tensor, before: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient before a layer, of that after it, which may be overwritten.

        Args:
            passed: the layer.
            gradient: as large as its output.
            before: as large as its input; the values do not matter.
        """
        aten, name = torch.ops.aten, passed.layer.name
        if passed.layer.kind == "conv":
            aten.threshold_backward(gradient, passed.output, 0, grad_input=gradient)
            return F.conv2d(gradient, self._flipped[name], padding=1)
        size, padding = [2, 2], [0, 0]
        height, width = before.shape[2:]
        if self._average and height % 2 == width % 2 == 0:
            # As below, in a tenth of the time.
            return F.interpolate(gradient.mul_(0.25), scale_factor=2, mode="nearest")
        if self._average:
            found = aten.avg_pool2d_backward(
                gradient, before, size, size, padding, self._ceil, True, None
            )
        else:
            found = aten.max_pool2d_with_indices_backward(
                gradient, before, size, size, padding, [1, 1], self._ceil, passed.indices
            )
        assert isinstance(found, torch.Tensor)
        return found


class BackpropBackend(BatchBackend):
    """Costs and gradients by `BackpropNetwork`.

    Args:
        network: of the objectives' layers and pooling.
        problems: an objective and targets for each picture of a batch.

    Attributes:
        problem: the targets, on the device.

    Raises:
        UsageError: the pictures are no batch (`nstx.engine.cost.check_batch`).
    """

    def __init__(
        self, network: BackpropNetwork, problems: Sequence[tuple[Objective, Targets]]
    ) -> None:
        self.problem = TorchProblem(network.device, problems)
        self._network = network
        self._dtype = network.device.dtype
        self._sums = network.device.accumulate_dtype

    def costs_and_gradients(self, pixels: Batch) -> tuple[Sequence[Cost], Batch]:
        """See `BatchBackend`."""
        with self._network.device.numerics(), torch.no_grad():
            x = self._network.upload(pixels)
            passed = self._network.forward(x)
            parts: dict[Part, torch.Tensor] = {}
            gradient: torch.Tensor | None = None
            while passed:
                last = passed.pop()
                gradient = self._add_style(last, gradient, parts)
                gradient = self._add_content(last, gradient, parts)
                # The network ends at a layer of the objective.
                assert gradient is not None
                before = passed[-1].output if passed else x
                gradient = self._network.backward(last, gradient, before)
            assert gradient is not None
            gradient = self._add_variation(x, gradient.to(self._sums), parts)
            costs = self.problem.report(parts)
            result = gradient.permute(0, 2, 3, 1).cpu().numpy()
        return costs, check_gradient(np.ascontiguousarray(result))

    def costs(self, pixels: Batch) -> Sequence[Cost]:
        """See `BatchBackend`."""
        with self._network.device.numerics(), torch.no_grad():
            x = self._network.upload(pixels)
            parts: dict[Part, torch.Tensor] = {}
            for passed in self._network.forward(x):
                for kind in ("style", "content"):
                    if (kind, passed.layer.name) in self.problem.targets:
                        self._compare(kind, passed, parts)
            if ("tv", "") in self.problem.weights:
                parts["tv", ""] = total_variation(x)
            return self.problem.report(parts)

    def _compare(self, kind: str, passed: _Passed, parts: dict[Part, torch.Tensor]) -> torch.Tensor:
        """Note a layer's cost; return its gradient with respect to what is compared."""
        part = (kind, passed.layer.name)
        found = passed.output.to(self._sums) if kind == "content" else self._gram(passed.output)
        parts[part], difference = self.problem.compare(part, found)
        slope = 2 * self.problem.weights[part] * self.problem.factors[part] / found[0].numel()
        return difference * slope.reshape(-1, *(1,) * (difference.ndim - 1))

    def _gram(self, features: torch.Tensor) -> torch.Tensor:
        """Return G = FᵀF / N, (batch, channels, channels), accumulated in the precision of sums."""
        rows = _rows(features)
        batch, positions, channels = rows.shape
        gram = torch.zeros(batch, channels, channels, dtype=self._sums, device=rows.device)
        for some in torch.split(rows, max(1, _CHUNK // (batch * channels)), dim=1):
            wide = some.to(self._sums)
            gram.baddbmm_(wide.transpose(1, 2), wide)
        return gram / positions

    def _add_style(
        self, passed: _Passed, gradient: torch.Tensor | None, parts: dict[Part, torch.Tensor]
    ) -> torch.Tensor | None:
        if ("style", passed.layer.name) not in self.problem.targets:
            return gradient
        batch, channels, height, width = passed.output.shape
        # G is symmetric, and F stands in it twice: ∂J/∂F = 2 F ∂J/∂G / N.
        slope = self._compare("style", passed, parts) * (2 / (height * width))
        rows = _rows(passed.output)
        if gradient is None:
            found = rows @ slope.to(self._dtype)
        else:
            found = torch.baddbmm(_rows(gradient), rows, slope.to(self._dtype))
        return found.reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def _add_content(
        self, passed: _Passed, gradient: torch.Tensor | None, parts: dict[Part, torch.Tensor]
    ) -> torch.Tensor | None:
        if ("content", passed.layer.name) not in self.problem.targets:
            return gradient
        slope = self._compare("content", passed, parts).to(self._dtype)
        return _channels_last(slope) if gradient is None else gradient + slope

    def _add_variation(
        self, x: torch.Tensor, gradient: torch.Tensor, parts: dict[Part, torch.Tensor]
    ) -> torch.Tensor:
        if ("tv", "") not in self.problem.weights:
            return gradient
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            variation = total_variation(x)
            total = (self.problem.weights["tv", ""] * variation).sum()
            (slope,) = torch.autograd.grad(total, x)
        parts["tv", ""] = variation.detach()
        return gradient + slope


def _rows(features: torch.Tensor) -> torch.Tensor:
    """Return channels_last activations as (batch, positions, channels), without a copy."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)
