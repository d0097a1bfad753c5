"""The gradient by PyTorch's autograd, on CPU, CUDA or MPS."""

import numpy as np
import torch

from ..models.objective import Objective
from .cost import Cost, check_cost, check_gradient, combine_costs
from .devices import TorchDevice
from .pixels import Pixels
from .targets import Targets
from .torch_network import TorchNetwork, gram_matrix

# fp16 gradients overflow at 65 504 and vanish below 6e-8, so the cost is scaled before it is
# differentiated. The scale starts high, is divided while the gradient is not finite, and grows again
# when the largest value of the gradient leaves room.
_FIRST_SCALE = 2.0**24
_SCALE_STEP = 16.0
_SMALLEST_SCALE = 2.0**-60
_ROOM = 2.0**4


class TorchBackend:
    """A `nstx.engine.cost.GradientBackend` on PyTorch.

    Args:
        objective: what is minimised.
        network: VGG-19 on a device.
        device: the same device, for the precision of sums.
        targets: for the size of the pictures that will be given.
    """

    def __init__(
        self, objective: Objective, network: TorchNetwork, device: TorchDevice, targets: Targets
    ) -> None:
        self._objective = objective
        self._network = network
        self._device = device
        dtype = device.accumulate_dtype
        self._content = {
            name: device.upload(targets.content[name], dtype) for name in objective.content_names
        }
        self._style = {
            name: device.upload(targets.style[name], dtype) for name in objective.style_names
        }
        self._content_factors = self._factors(objective.content_factor, self._content)
        self._style_factors = self._factors(objective.style_factor, self._style)
        self._scale = _FIRST_SCALE if device.precision == "fp16" else 1.0

    def _factors(self, factor: float, targets: dict[str, torch.Tensor]) -> dict[str, float]:
        """Return what each layer's mean squared error is multiplied with."""
        if not self._objective.relative:
            return dict.fromkeys(targets, factor)
        return {name: factor / max(1.0, float(t.square().mean())) for name, t in targets.items()}

    def cost_and_gradient(self, pixels: Pixels) -> tuple[Cost, Pixels]:
        """See `nstx.engine.cost.GradientBackend`."""
        with self._device.numerics():
            x = self._network.upload(pixels).requires_grad_()
            parts = self._parts(x)
            cost = self._report(parts)
            (gradient,) = torch.autograd.grad(self._total(parts) * self._scale, x)
            if self._device.precision == "fp16":
                gradient = self._rescaled(gradient, pixels)
            result = (gradient[0] / self._scale).permute(1, 2, 0).cpu().numpy()
        return cost, check_gradient(np.ascontiguousarray(result))

    def _rescaled(self, gradient: torch.Tensor, pixels: Pixels) -> torch.Tensor:
        """Repeat an fp16 gradient at smaller scales until it is finite; prepare the next scale."""
        while not gradient.isfinite().all() and self._scale > _SMALLEST_SCALE:
            self._scale /= _SCALE_STEP
            x = self._network.upload(pixels).requires_grad_()
            (gradient,) = torch.autograd.grad(self._total(self._parts(x)) * self._scale, x)
        if gradient.abs().max() < _ROOM:
            # The gradient that is returned carries the present scale, so it is adjusted with it.
            self._scale *= _SCALE_STEP
            gradient = gradient * _SCALE_STEP
        return gradient

    def cost(self, pixels: Pixels) -> Cost:
        """See `nstx.engine.cost.GradientBackend`."""
        with self._device.numerics(), torch.no_grad():
            return self._report(self._parts(self._network.upload(pixels)))

    def _parts(self, x: torch.Tensor) -> dict[tuple[str, str], torch.Tensor]:
        """Return each layer's cost, before its weight, and the total variation."""
        dtype = self._device.accumulate_dtype
        parts: dict[tuple[str, str], torch.Tensor] = {}
        features = self._network(x, self._objective.layers)
        for layer, target in self._content.items():
            difference = features[layer][0].to(dtype) - target
            parts["content", layer] = self._content_factors[layer] * difference.square().mean()
        for layer, target in self._style.items():
            difference = gram_matrix(features[layer], dtype) - target
            parts["style", layer] = self._style_factors[layer] * difference.square().mean()
        if self._objective.tv_weight > 0:
            parts["tv", ""] = total_variation(x)
        return parts

    def _total(self, parts: dict[tuple[str, str], torch.Tensor]) -> torch.Tensor:
        objective = self._objective
        weights = {("tv", ""): objective.tv_weight}
        for item in objective.content_layers:
            weights["content", item.layer] = objective.content_weight * item.weight
        for item in objective.style_layers:
            weights["style", item.layer] = objective.style_weight * item.weight
        return torch.stack([weights[key] * value for key, value in parts.items()]).sum()

    def _report(self, parts: dict[tuple[str, str], torch.Tensor]) -> Cost:
        # One transfer for all numbers: each .item() would wait for the device.
        values = dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))
        cost = combine_costs(
            self._objective,
            {layer: value for (kind, layer), value in values.items() if kind == "content"},
            {layer: value for (kind, layer), value in values.items() if kind == "style"},
            values.get(("tv", ""), 0.0),
        )
        return check_cost(cost)


def total_variation(pixels: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of horizontal plus that of vertical neighbours.

    The squared (not absolute) form, as in Mahendran and Vedaldi 2015 with exponent β = 2.

    Args:
        pixels: (1, 3, height, width), 0–255.
    """
    across = (pixels[..., :, 1:] - pixels[..., :, :-1]).square().mean()
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).square().mean()
    return across + down
