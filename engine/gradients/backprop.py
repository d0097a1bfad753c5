"""The gradient by PyTorch's operators, with the backward pass written out.

Faster than autograd: backward convolutions are forward convolutions with kernels that were flipped once,
the gradient of a Gram matrix is added where the gradient passes by, masks are applied in place, and
everything is channels_last. In bf16 little but convolutions remains. On CUDA all of it is one graph.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)

from nstx.models.objective import Objective
from nstx.models.weights.load import Weights

from ..devices.convolution import Convolution, Layout, fastest_layout, make_convolution
from ..devices.cuda_graph import Capture
from ..devices.torch_device import TorchDevice
from ..features.torch_network import (
    Activation,
    TorchNetwork,
    channel_means,
    join_moments,
    join_regions,
    split_regions,
)
from .backend import Problems
from .torch_gradient import TorchGradient
from .torch_problem import Part, TorchProblem


class BackwardPass:
    """The backward pass of VGG-19: its convolutions with their kernels flipped.

    The layout is not contiguous; None takes the device's fastest.

    Attributes:
        network: the forward pass.
    """

    def __init__(
        self,
        weights: Weights,
        objective: Objective,
        device: TorchDevice,
        layout: Layout | None = None,
    ) -> None:
        layout = layout or fastest_layout(device)
        self.network = TorchNetwork(
            weights, objective.layers, *objective.poolings, device, layout=layout
        )
        self._convolutions: dict[str, Convolution] = {}
        for name in (layer.name for layer in self.network.layers if layer.kind == "conv"):
            kernel = device.upload(weights.kernels[name], device.dtype)
            flipped = kernel.flip(2, 3).transpose(0, 1)
            self._convolutions[name] = make_convolution(device, flipped, None, layout, relu=False)

    def activate(self, pixels: torch.Tensor) -> list[Activation]:
        """Return the activations of all layers, of pixels (batch, 3, height, width)."""
        x = self.network.centre(pixels)
        activations: list[Activation] = []
        for layer in self.network.layers:
            activations.append(self.network.apply(layer, x))
            x = activations[-1].output
        return activations

    def __call__(
        self, activation: Activation, gradient: torch.Tensor, before: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient before a layer, of that after it, which may be overwritten.

        ``before`` is the layer's input; of an average pooling, the values do not matter.
        """
        aten, name = torch.ops.aten, activation.layer.name
        if activation.layer.kind == "conv":
            aten.threshold_backward(gradient, activation.output, 0, grad_input=gradient)
            return self._convolutions[name](gradient)
        size, padding, rounds_up = [2, 2], [0, 0], self.network.rounds_up
        height, width = before.shape[2:]
        if self.network.averages and height % 2 == width % 2 == 0:
            # As below, in a tenth of the time.
            return F.interpolate(gradient.mul_(0.25), scale_factor=2, mode="nearest")
        if self.network.averages:
            pooled = aten.avg_pool2d_backward(
                gradient, before, size, size, padding, rounds_up, True, None
            )
        else:
            pooled = aten.max_pool2d_with_indices_backward(
                gradient, before, size, size, padding, [1, 1], rounds_up, activation.indices
            )
        assert isinstance(pooled, torch.Tensor)
        return pooled


class BackpropBackend(TorchGradient):
    """Costs and gradients by `BackwardPass`."""

    def __init__(
        self,
        backward: BackwardPass,
        problems: Problems | TorchProblem,
        *,
        capture: Capture | bool | None = None,
    ) -> None:
        device = backward.network.device
        super().__init__(device, problems, capture=capture)
        self._backward = backward
        self._dtype, self._sums = device.dtype, device.accumulate_dtype
        # Of each region, shares over their largest, which half precision holds, (batch, positions, 1), and these.
        self._weighed = {
            part: [
                _over_largest(region, self._dtype)
                for region in split_regions(shares, len(shares) // self.problem.regions)
            ]
            for part, shares in self.problem.shares.items()
        }

    def _differentiate(
        self, pixels: torch.Tensor, seed: torch.Tensor
    ) -> tuple[dict[Part, torch.Tensor], torch.Tensor]:
        activations = self._backward.activate(pixels)
        parts: dict[Part, torch.Tensor] = {}
        gradient: torch.Tensor | None = None
        while activations:
            last = activations.pop()
            gradient = self._add_parts(last, gradient, parts, seed)
            # The network ends at a layer of the objective.
            assert gradient is not None
            before = activations[-1].output if activations else pixels
            gradient = self._backward(last, gradient, before)
        assert gradient is not None
        gradient = gradient.to(self._sums)
        for part, slope in self.problem.pixel_slopes(pixels).items():
            weights = self.problem.weights[part] * seed
            gradient = gradient + weights.reshape(-1, 1, 1, 1) * slope
        return parts | self.problem.pixel_costs(pixels), gradient

    def _parts(self, pixels: torch.Tensor) -> dict[Part, torch.Tensor]:
        parts: dict[Part, torch.Tensor] = {}
        for activation in self._backward.activate(pixels):
            for kind in ("style", "content"):
                if (kind, activation.layer.name) in self.problem.targets:
                    self._compare(kind, activation, parts)
        return parts | self.problem.pixel_costs(pixels)

    def _compare(
        self, kind: str, activation: Activation, parts: dict[Part, torch.Tensor]
    ) -> torch.Tensor:
        """Add a layer's cost to parts; return its gradient with respect to what is compared."""
        part = (kind, activation.layer.name)
        if part in self.problem.moments:
            features = activation.output
            mean = channel_means(features, self._sums, self.problem.shares.get(part))
            moments = join_moments(self._gram(part, features), mean)
            parts[part], slope = self.problem.compare_moments(part, moments)
            weights = self.problem.weights[part]
            return slope * weights.repeat_interleave(self.problem.regions)[:, None, None]
        if kind == "content":
            difference = self.problem.difference(part, activation.output.to(self._sums))
        elif self._dtype == torch.bfloat16 and not activation.output.is_cuda:
            difference = self.gram_difference(part, activation.output)
        else:
            difference = self.problem.difference(part, self._gram(part, activation.output))
        parts[part] = self.problem.cost(part, difference)
        slope = 2 * self.problem.slopes[part] / difference[0].numel()
        return difference * slope.reshape(-1, *(1,) * (difference.ndim - 1))

    def _gram(self, part: Part, features: torch.Tensor) -> torch.Tensor:
        """Return G = FᵀF / N, (batch, channels, channels), accumulated in the precision of sums.

        Where positions have shares s, Fᵀ diag(s) F, (batch · regions, channels, channels).
        """
        rows, grams = _rows(features), []
        for weighed, total in self._weigh(part, rows):
            if self._dtype.itemsize == 2 and rows.is_cuda:
                # The matrix units sum halves in fp32, and PyTorch hands that on.
                product = torch.bmm(weighed.transpose(1, 2), rows, out_dtype=self._sums)
            else:
                wide = rows.to(self._sums)
                left = wide if weighed is rows else weighed.to(self._sums)
                product = left.transpose(1, 2) @ wide
            grams.append(product / total)
        return join_regions(grams)

    def _weigh(
        self, part: Part, rows: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, float | torch.Tensor]]:
        """Yield positions times a region's shares over the largest, and what to divide sums over them by."""
        if part not in self._weighed:
            yield rows, rows.shape[1]
        for relative, largest in self._weighed.get(part, ()):
            yield rows * relative, 1 / largest

    def gram_difference(self, part: Part, features: torch.Tensor) -> torch.Tensor:
        """Return G − A, for bf16 on the CPU.

        Matrix products are summed in fp32 there, but come back as bf16, which would be too coarse for G.
        So A is subtracted within the product, before rounding: the difference is rounded, by less than
        its 256th. That A has to be in bf16 for it, too, is made up for in fp32.
        """
        rows, aims, differences = _rows(features), self.problem.aims[part], []
        regions = split_regions(aims, len(rows))
        for (weighed, total), aim in zip(self._weigh(part, rows), regions, strict=True):
            if isinstance(total, torch.Tensor):
                # Each picture has its own total, which one factor of a product cannot be: so A is multiplied.
                rounded = (aim * total).to(self._dtype)
                product = torch.baddbmm(rounded, weighed.transpose(1, 2), rows, beta=-1)
                rest = rounded.to(self._sums) / total - aim
                differences.append(product.to(self._sums) / total + rest)
            else:
                rounded = aim.to(self._dtype)
                product = torch.baddbmm(
                    rounded, rows.transpose(1, 2), rows, beta=-1, alpha=1 / total
                )
                differences.append(product.to(self._sums) + (rounded.to(self._sums) - aim))
        difference = join_regions(differences)
        self.problem.note(part, aims + difference)
        return difference

    def _add_parts(
        self,
        activation: Activation,
        gradient: torch.Tensor | None,
        parts: dict[Part, torch.Tensor],
        seed: torch.Tensor,
    ) -> torch.Tensor | None:
        """Return a gradient plus that of a layer's own costs."""
        name, features = activation.layer.name, activation.output
        if ("style", name) in self.problem.targets:
            slopes = self._compare("style", activation, parts)
            gradient = self._add_style(("style", name), features, slopes, gradient, seed)
        if ("content", name) in self.problem.targets:
            slope = (self._compare("content", activation, parts) * seed).to(self._dtype)
            if gradient is None:
                gradient = slope.contiguous(memory_format=torch.channels_last)
            else:
                gradient = gradient + slope
        return gradient

    def _add_style(
        self,
        part: Part,
        features: torch.Tensor,
        slopes: torch.Tensor,
        gradient: torch.Tensor | None,
        seed: torch.Tensor,
    ) -> torch.Tensor:
        """Return a gradient plus that of a layer's style costs, by their slopes, (batch · regions, …)."""
        batch, channels, height, width = features.shape
        regions = split_regions(slopes, batch)
        added = None if gradient is None else _rows(gradient)
        weighed = self._weigh(part, _rows(features))
        for index, ((rows, total), slope) in enumerate(zip(weighed, regions, strict=True)):
            # G is symmetric, and F stands in it twice: ∂J/∂F = 2 F ∂J/∂G / N.
            slope = (slope * (seed * (2 / total))).to(self._dtype)
            # Of moments, the slope is bordered by what all positions have in common.
            slope, border = slope[:, :channels, :channels], slope[:, channels:, :channels]
            # In place: otherwise the gradient would be copied first.
            added = rows @ slope if added is None else added.baddbmm_(rows, slope)
            if border.shape[1]:
                shares = self._weighed.get(part)
                added += border if shares is None else border * shares[index][0]
        assert added is not None
        return added.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def _over_largest(shares: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return shares (batch, h, w) over their largest, (batch, positions, 1), and these, (batch, 1, 1)."""
    flat = shares.flatten(1)
    largest = flat.amax(1)[:, None, None]
    return (flat[:, :, None] / largest).to(dtype), largest


def _rows(features: torch.Tensor) -> torch.Tensor:
    """Return channels_last activations as (batch, positions, channels), without a copy."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)
