"""The gradient by PyTorch's autograd, on CPU, CUDA or MPS."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.objective import Objective
from .cost import BatchBackend, Cost, check_batch, check_cost, check_gradient, combine_costs
from .devices import TorchDevice
from .pixels import Batch
from .targets import Targets
from .torch_network import TorchNetwork, gram_matrices

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

    Raises:
        UsageError: the pictures are no batch (`check_batch`).
    """

    def __init__(
        self,
        network: TorchNetwork,
        device: TorchDevice,
        problems: Sequence[tuple[Objective, Targets]],
    ) -> None:
        self._objectives = [objective for objective, _ in problems]
        targets = [each for _, each in problems]
        first = check_batch(self._objectives, [(each.height, each.width) for each in targets])
        self._layers = first.layers
        self._network = network
        self._device = device

        def upload(arrays: Sequence[NDArray[np.float32]]) -> torch.Tensor:
            return device.upload(np.stack(arrays), device.accumulate_dtype)

        self._targets = {
            ("content", name): upload([each.content[name] for each in targets])
            for name in first.content_names
        }
        self._targets |= {
            ("style", name): upload([each.style[name] for each in targets])
            for name in first.style_names
        }
        factors = {"content": first.content_factor, "style": first.style_factor}
        self._factors = {
            key: self._factor(first, factors[key[0]], target)
            for key, target in self._targets.items()
        }
        self._weights = self._all_weights()
        self._scale = _FIRST_SCALE if device.precision == "fp16" else 1.0

    def _factor(self, objective: Objective, factor: float, target: torch.Tensor) -> torch.Tensor:
        """Return what a layer's mean squared errors are multiplied with, (batch)."""
        if not objective.relative:
            return target.new_full((len(target),), factor)
        return factor / target.square().flatten(1).mean(1).clamp(min=1.0)

    def _all_weights(self) -> dict[tuple[str, str], torch.Tensor]:
        """Return the weight of each part of the cost, (batch)."""
        weights: dict[tuple[str, str], list[float]] = {}
        for each in self._objectives:
            if each.tv_weight > 0:
                weights.setdefault(("tv", ""), []).append(each.tv_weight)
            for kind, factor in (("content", each.content_weight), ("style", each.style_weight)):
                for item in getattr(each, f"{kind}_layers"):
                    weights.setdefault((kind, item.layer), []).append(factor * item.weight)
        dtype = self._device.accumulate_dtype
        return {key: self._device.upload(np.array(w), dtype) for key, w in weights.items()}

    def costs_and_gradients(self, pixels: Batch) -> tuple[Sequence[Cost], Batch]:
        """See `BatchBackend`."""
        with self._device.numerics():
            x = self._network.upload(pixels).requires_grad_()
            parts = self._parts(x)
            costs = self._report(parts)
            (gradient,) = torch.autograd.grad(self._total(parts) * self._scale, x)
            if self._device.precision == "fp16":
                gradient = self._rescaled(gradient, pixels)
            result = (gradient / self._scale).permute(0, 2, 3, 1).cpu().numpy()
        return costs, check_gradient(np.ascontiguousarray(result))

    def _rescaled(self, gradient: torch.Tensor, pixels: Batch) -> torch.Tensor:
        """Repeat fp16 gradients at smaller scales until they are finite; prepare the next scale."""
        while not gradient.isfinite().all() and self._scale > _SMALLEST_SCALE:
            self._scale /= _SCALE_STEP
            x = self._network.upload(pixels).requires_grad_()
            (gradient,) = torch.autograd.grad(self._total(self._parts(x)) * self._scale, x)
        if gradient.abs().max() < _ROOM:
            # The gradient that is returned carries the present scale, so it is adjusted with it.
            self._scale *= _SCALE_STEP
            gradient = gradient * _SCALE_STEP
        return gradient

    def costs(self, pixels: Batch) -> Sequence[Cost]:
        """See `BatchBackend`."""
        with self._device.numerics(), torch.no_grad():
            return self._report(self._parts(self._network.upload(pixels)))

    def _parts(self, x: torch.Tensor) -> dict[tuple[str, str], torch.Tensor]:
        """Return each layer's costs and the total variations, before their weights, (batch)."""
        dtype = self._device.accumulate_dtype
        parts: dict[tuple[str, str], torch.Tensor] = {}
        features = self._network(x, self._layers)
        for (kind, layer), target in self._targets.items():
            if kind == "content":
                difference = features[layer].to(dtype) - target
            else:
                difference = gram_matrices(features[layer], dtype) - target
            mean = difference.square().flatten(1).mean(1)
            parts[kind, layer] = self._factors[kind, layer] * mean
        if ("tv", "") in self._weights:
            parts["tv", ""] = total_variation(x)
        return parts

    def _total(self, parts: dict[tuple[str, str], torch.Tensor]) -> torch.Tensor:
        return torch.stack([self._weights[key] * value for key, value in parts.items()]).sum()

    def _report(self, parts: dict[tuple[str, str], torch.Tensor]) -> list[Cost]:
        # One transfer for all numbers: each .item() would wait for the device.
        rows = torch.stack(list(parts.values()), dim=1).tolist()
        return [
            self._cost(objective, dict(zip(parts, row, strict=True)))
            for objective, row in zip(self._objectives, rows, strict=True)
        ]

    def _cost(self, objective: Objective, values: dict[tuple[str, str], float]) -> Cost:
        cost = combine_costs(
            objective,
            {layer: value for (kind, layer), value in values.items() if kind == "content"},
            {layer: value for (kind, layer), value in values.items() if kind == "style"},
            values.get(("tv", ""), 0.0),
        )
        return check_cost(cost)


def total_variation(pixels: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of horizontal plus that of vertical neighbours.

    The squared (not absolute) form, as in Mahendran and Vedaldi 2015 with exponent β = 2.

    Args:
        pixels: (batch, 3, height, width), 0–255.

    Returns:
        (batch).
    """
    across = (pixels[..., :, 1:] - pixels[..., :, :-1]).square().flatten(1).mean(1)
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).square().flatten(1).mean(1)
    return across + down
