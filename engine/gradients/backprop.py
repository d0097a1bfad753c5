"""The gradient by PyTorch's operators, with the backward pass written out.

Faster than autograd: backward convolutions are forward convolutions with kernels that were flipped once,
the gradient of a Gram matrix is added where the gradient passes by, masks are applied in place, and
everything is channels_last. In bf16 little but convolutions remains. On CUDA all of it is one graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)

from nstx.models.objective import Objective
from nstx.models.vgg19 import Layer, truncate
from nstx.models.weights.load import Weights

from ..devices.convolution import Convolution
from ..devices.torch_device import TorchDevice
from ..targets.targets import Targets
from .torch_gradient import TorchGradient
from .torch_problem import Part, total_variation, variation_gradient


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
        device: where it runs and at what precision.
    """

    def __init__(self, weights: Weights, objective: Objective, device: TorchDevice) -> None:
        self.device = device
        self._layers = truncate(objective.layers)
        self._average = objective.pooling == "avg"
        self._ceil = objective.pool_rounding == "ceil"
        mean = device.upload(np.asarray(weights.mean), device.accumulate_dtype)
        self._mean = mean.reshape(1, 3, 1, 1)
        self._forward: dict[str, Convolution] = {}
        self._backward: dict[str, Convolution] = {}
        for name in (layer.name for layer in self._layers if layer.kind == "conv"):
            kernel = device.upload(weights.kernels[name], device.dtype)
            bias = device.upload(weights.biases[name], device.dtype)
            self._forward[name] = Convolution(kernel, bias, device, relu=True)
            flipped = kernel.flip(2, 3).transpose(0, 1)
            self._backward[name] = Convolution(flipped, None, device, relu=False)

    def forward(self, pixels: torch.Tensor) -> list[_Passed]:
        """Return what every layer gives for pixels (batch, 3, height, width), RGB, 0–255."""
        x = (pixels - self._mean).to(self.device.dtype)
        passed = []
        for layer in self._layers:
            indices = None
            if layer.kind == "conv":
                x = self._forward[layer.name](x)
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
            return self._backward[name](gradient)
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


class BackpropBackend(TorchGradient):
    """Costs and gradients by `BackpropNetwork`.

    Args:
        network: of the objectives' layers and pooling.
        problems: an objective and targets for each picture of a batch.

    Raises:
        UsageError: the pictures are no batch (`nstx.engine.gradients.backend.check_batch`).
    """

    def __init__(
        self, network: BackpropNetwork, problems: Sequence[tuple[Objective, Targets]]
    ) -> None:
        super().__init__(network.device, problems)
        self._network = network
        self._dtype = network.device.dtype
        self._sums = network.device.accumulate_dtype

    def _differentiate(
        self, pixels: torch.Tensor, seed: torch.Tensor
    ) -> tuple[dict[Part, torch.Tensor], torch.Tensor]:
        passed = self._network.forward(pixels)
        parts: dict[Part, torch.Tensor] = {}
        gradient: torch.Tensor | None = None
        while passed:
            last = passed.pop()
            gradient = self._add_style(last, gradient, parts, seed)
            gradient = self._add_content(last, gradient, parts, seed)
            # The network ends at a layer of the objective.
            assert gradient is not None
            before = passed[-1].output if passed else pixels
            gradient = self._network.backward(last, gradient, before)
        assert gradient is not None
        gradient = gradient.to(self._sums)
        if ("tv", "") in self.problem.weights:
            parts["tv", ""] = total_variation(pixels)
            weights = self.problem.weights["tv", ""] * seed
            gradient = gradient + weights.reshape(-1, 1, 1, 1) * variation_gradient(pixels)
        return parts, gradient

    def _parts(self, pixels: torch.Tensor) -> dict[Part, torch.Tensor]:
        parts: dict[Part, torch.Tensor] = {}
        for passed in self._network.forward(pixels):
            for kind in ("style", "content"):
                if (kind, passed.layer.name) in self.problem.targets:
                    self._compare(kind, passed, parts)
        if ("tv", "") in self.problem.weights:
            parts["tv", ""] = total_variation(pixels)
        return parts

    def _compare(self, kind: str, passed: _Passed, parts: dict[Part, torch.Tensor]) -> torch.Tensor:
        """Note a layer's cost; return its gradient with respect to what is compared."""
        part = (kind, passed.layer.name)
        if kind == "content":
            difference = self.problem.difference(part, passed.output.to(self._sums))
        elif self._dtype == torch.bfloat16 and not passed.output.is_cuda:
            difference = self._gram_difference(part, passed.output)
        else:
            difference = self.problem.difference(part, self._gram(passed.output))
        parts[part] = self.problem.cost(part, difference)
        slope = 2 * self.problem.weights[part] * self.problem.factors[part] / difference[0].numel()
        return difference * slope.reshape(-1, *(1,) * (difference.ndim - 1))

    def _gram(self, features: torch.Tensor) -> torch.Tensor:
        """Return G = FᵀF / N, (batch, channels, channels), accumulated in the precision of sums."""
        rows = _rows(features)
        positions = rows.shape[1]
        if self._dtype.itemsize == 2 and rows.is_cuda:
            # Its matrix units sum halves in fp32, and PyTorch hands that on.
            return torch.bmm(rows.transpose(1, 2), rows, out_dtype=self._sums) / positions
        wide = rows.to(self._sums)
        return wide.transpose(1, 2) @ wide / positions

    def _gram_difference(self, part: Part, features: torch.Tensor) -> torch.Tensor:
        """Return G − A, for bf16 on the CPU.

        Its matrix products are summed in fp32, but come back as bf16, which would be too coarse for G.
        So A is subtracted within the product, before rounding: the difference is rounded, by less than
        its 256th. That A has to be in bf16 for it, too, is made up for in fp32.
        """
        rows, aim = _rows(features), self.problem.aims[part]
        rounded = aim.to(self._dtype)
        scale = 1 / rows.shape[1]
        found = torch.baddbmm(rounded, rows.transpose(1, 2), rows, beta=-1, alpha=scale)
        difference = found.to(self._sums) + (rounded.to(self._sums) - aim)
        self.problem.note(part, aim + difference)
        return difference

    def _add_style(
        self,
        passed: _Passed,
        gradient: torch.Tensor | None,
        parts: dict[Part, torch.Tensor],
        seed: torch.Tensor,
    ) -> torch.Tensor | None:
        if ("style", passed.layer.name) not in self.problem.targets:
            return gradient
        batch, channels, height, width = passed.output.shape
        # G is symmetric, and F stands in it twice: ∂J/∂F = 2 F ∂J/∂G / N.
        slope = self._compare("style", passed, parts) * (seed * (2 / (height * width)))
        rows = _rows(passed.output)
        if gradient is None:
            found = rows @ slope.to(self._dtype)
        else:
            # In place: otherwise the gradient would be copied first.
            found = _rows(gradient).baddbmm_(rows, slope.to(self._dtype))
        return found.reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def _add_content(
        self,
        passed: _Passed,
        gradient: torch.Tensor | None,
        parts: dict[Part, torch.Tensor],
        seed: torch.Tensor,
    ) -> torch.Tensor | None:
        if ("content", passed.layer.name) not in self.problem.targets:
            return gradient
        slope = (self._compare("content", passed, parts) * seed).to(self._dtype)
        return _channels_last(slope) if gradient is None else gradient + slope


def _rows(features: torch.Tensor) -> torch.Tensor:
    """Return channels_last activations as (batch, positions, channels), without a copy."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)
