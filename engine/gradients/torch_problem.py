"""What a batch of pictures is compared with, in PyTorch's tensors; the costs that come of it."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from numpy.typing import ArrayLike, NDArray

from nstx.models.cost import Cost, check_cost, combine_costs
from nstx.models.objective import LAPLACIAN_POOL, Objective

from ..devices.torch_device import TorchDevice
from ..statistics.moments import MomentCost
from ..targets.targets import Targets
from .backend import Problems, check_batch, check_regions

Part = tuple[str, str]
"""A part of the cost: ``content`` or ``style`` with a layer, or ``tv`` or ``laplacian`` with nothing."""


class TorchProblem:
    """Targets and weights of a batch of pictures, on a device.

    Attributes:
        layers: whose features are needed.
        regions: how many each picture has, one beside the other in what there is of style layers.
        targets: of each layer, (batch, …), or of styles (batch · regions, …).
        moments: how moments are compared, of style layers that compare no Gram matrices.
        shares: of each style layer's positions, (batch · regions, h, w); of layers in which all positions count
            alike, none.
        factors: what each layer's costs are multiplied with, (batch), or of styles (batch · regions).
        weights: of each part of the cost, (batch).
        slopes: weights times factors, of each layer, as these.
        laplacian: of the contents, (batch, h, w); None where it does not count.
        aims: what features are compared with: targets, with offsets where there are some.
        noted: features that were compared, in a block of `noting`; None outside.
    """

    def __init__(self, device: TorchDevice, problems: Problems) -> None:
        self._objectives = [objective for objective, _ in problems]
        targets = [of_picture for _, of_picture in problems]
        first = check_batch(self._objectives, [(t.height, t.width) for t in targets])
        self.layers, self.regions = first.layers, check_regions(targets)

        def upload(values: Sequence[ArrayLike], *, of_regions: bool = False) -> torch.Tensor:
            array = np.array(values)
            if of_regions and self.regions > 1:
                array = array.reshape(-1, *array.shape[2:])
            return device.upload(array, device.accumulate_dtype)

        self.targets: dict[Part, torch.Tensor] = {
            (kind, name): upload(
                [getattr(picture, kind)[name] for picture in targets], of_regions=kind == "style"
            )
            for kind in ("content", "style")
            for name in getattr(first, f"{kind}_names")
        }
        self.moments = {
            ("style", name): MomentCost(
                statistic,
                self.targets["style", name],
                upload([picture.root(name) for picture in targets], of_regions=True)
                if statistic == "wasserstein"
                else None,
            )
            for name, statistic in first.statistics.items()
            if statistic != "gram"
        }
        self.shares = {
            ("style", name): upload(shares, of_regions=True)
            for name in first.style_names
            if (shares := _shares_of(name, targets))
        }
        self.factors = {
            part: _factor(first, part[0], x, self.moments.get(part))
            for part, x in self.targets.items()
        }
        if self.regions > 1:
            areas = upload([picture.areas for picture in targets], of_regions=True)
            for name in first.style_names:
                self.factors["style", name] = self.factors["style", name] * areas
        self.weights = {part: upload(w) for part, w in _weights_of(self._objectives).items()}
        self.slopes = {
            part: self.weights[part].repeat_interleave(len(factors) // len(problems)) * factors
            for part, factors in self.factors.items()
        }
        details = [detail for picture in targets if (detail := picture.laplacian) is not None]
        self.laplacian = upload(details) if ("laplacian", "") in self.weights else None
        self._begin()

    def _begin(self) -> None:
        # Changed in place, as CUDA graphs know its place.
        self.aims = {part: target.clone() for part, target in self.targets.items()}
        self.noted: dict[Part, torch.Tensor] | None = None

    def share(self) -> "TorchProblem":
        """Return the same problem for another backend: targets are shared, offsets are not."""
        problem = copy.copy(self)
        problem._begin()
        return problem

    def offset(self, offsets: Mapping[Part, torch.Tensor]) -> None:
        """Add offsets to targets, in place of earlier ones, to make up for what rounding adds."""
        for part, offset in offsets.items():
            torch.add(self.targets[part], offset, out=self.aims[part])

    def export(self) -> dict[str, NDArray[Any]]:
        """Return a copy of all aims on the host, by the names of their parts."""
        return {"/".join(part): aim.cpu().numpy().copy() for part, aim in self.aims.items()}

    def resume(self, aims: Mapping[str, NDArray[Any]]) -> None:
        """Take over aims that were exported."""
        for part, aim in self.aims.items():
            aim.copy_(torch.from_numpy(aims["/".join(part)]))

    @contextmanager
    def noting(self) -> Iterator[dict[Part, torch.Tensor]]:
        """Note what is compared in this block: Gram matrices and activations, and slopes of moments."""
        self.noted = {}
        try:
            yield self.noted
        finally:
            self.noted = None

    def note(self, part: Part, features: torch.Tensor) -> None:
        """Note a layer's features, in a block of `noting`."""
        if self.noted is not None:
            self.noted[part] = features.detach()

    def difference(self, part: Part, features: torch.Tensor) -> torch.Tensor:
        """Return Gram matrices or activations, in the precision of sums, minus their aims."""
        self.note(part, features)
        return features - self.aims[part]

    def cost(self, part: Part, difference: torch.Tensor) -> torch.Tensor:
        """Return a layer's costs before their weights, (batch), of `difference`."""
        return self._add_regions(self.factors[part] * difference.square().flatten(1).mean(1), part)

    def _add_regions(self, costs: torch.Tensor, part: Part) -> torch.Tensor:
        """Return the sums of regions' costs, (batch), of a layer."""
        if part[0] == "content" or self.regions == 1:
            return costs
        return costs.reshape(-1, self.regions).sum(1)

    def compare_moments(
        self, part: Part, moments: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer's costs before their weights, (batch), and their slope, as the moments, of its moments.

        What is noted, and has offsets, is the slope: moments less an offset need be those of no activation,
        and their covariance no covariance. The cost goes with the slope, and is as it was at the target.
        """
        cost, slope = self.moments[part].compare(moments)
        self.note(part, slope)
        tilt = self.aims[part] - self.targets[part]
        cost = cost - (tilt * (moments - self.targets[part])).sum((1, 2))
        factors = self.factors[part]
        return self._add_regions(factors * cost, part), factors[:, None, None] * (slope - tilt)

    def total(self, parts: Mapping[Part, torch.Tensor]) -> torch.Tensor:
        """Return the sum of all pictures' costs, (), of the parts before their weights, (batch)."""
        return torch.stack([self.weights[key] * value for key, value in parts.items()]).sum()

    def report(self, parts: Sequence[Part], rows: Sequence[Sequence[float]]) -> list[Cost]:
        """Return each picture's cost, of rows (parts, batch) before their weights.

        `NumericalError` if one is not finite.
        """
        values = dict(zip(parts, rows, strict=True))
        costs: list[Cost] = []
        for index, objective in enumerate(self._objectives):
            layers: dict[str, dict[str, float]] = {"content": {}, "style": {}}
            # In the order of targets: the pass that is written out comes to the deepest layers first.
            for kind, layer in self.targets:
                layers[kind][layer] = values[kind, layer][index]
            variation, laplacian = (
                values[name, ""][index] if (name, "") in values else 0.0
                for name in ("tv", "laplacian")
            )
            cost = combine_costs(
                objective, layers["content"], layers["style"], variation, laplacian
            )
            costs.append(check_cost(cost))
        return costs

    def pixel_costs(self, pixels: torch.Tensor) -> dict[Part, torch.Tensor]:
        """Return the costs before their weights, (batch), of pixels (batch, 3, height, width) as they are."""
        costs: dict[Part, torch.Tensor] = {}
        if ("tv", "") in self.weights:
            costs["tv", ""] = total_variation(pixels)
        if self.laplacian is not None:
            difference = laplacians(pixels) - self.laplacian
            costs["laplacian", ""] = difference.square().flatten(1).mean(1)
        return costs

    def pixel_slopes(self, pixels: torch.Tensor) -> dict[Part, torch.Tensor]:
        """Return the gradients of `pixel_costs`, (batch, 3 or 1, height, width): 1 where channels have the same."""
        slopes: dict[Part, torch.Tensor] = {}
        if ("tv", "") in self.weights:
            slopes["tv", ""] = variation_gradient(pixels)
        if self.laplacian is not None:
            slopes["laplacian", ""] = laplacian_gradient(pixels, self.laplacian)
        return slopes


def _shares_of(layer: str, targets: Sequence[Targets]) -> list[NDArray[np.float32]]:
    """Return the shares of a layer's positions, (h, w), by picture; none if all count alike in all pictures."""
    sizes = [picture.shares[layer].shape[-2:] for picture in targets if layer in picture.shares]
    return [picture.shares_of(layer, sizes[0]) for picture in targets] if sizes else []


def _weights_of(objectives: Sequence[Objective]) -> dict[Part, list[float]]:
    weights: dict[Part, list[float]] = {}
    for objective in objectives:
        if objective.tv_weight > 0:
            weights.setdefault(("tv", ""), []).append(objective.tv_weight)
        if objective.laplacian_weight > 0:
            weights.setdefault(("laplacian", ""), []).append(objective.laplacian_weight)
        for kind in ("content", "style"):
            factor = getattr(objective, f"{kind}_weight")
            for item in getattr(objective, f"{kind}_layers"):
                weights.setdefault((kind, item.layer), []).append(factor * item.weight)
    return weights


def _factor(
    objective: Objective, kind: str, target: torch.Tensor, moments: MomentCost | None
) -> torch.Tensor:
    factor = getattr(objective, f"{kind}_factor")
    if not objective.relative:
        return target.new_full((len(target),), factor)
    strength = target.square().flatten(1).mean(1) if moments is None else moments.strength()
    factors: torch.Tensor = factor / strength.clamp(min=1.0)
    return factors


def total_variation(pixels: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of horizontal plus that of vertical neighbours, (batch).

    The squared (not absolute) form, as in Mahendran and Vedaldi 2015 with exponent β = 2.
    """
    across = (pixels[..., :, 1:] - pixels[..., :, :-1]).square().flatten(1).mean(1)
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).square().flatten(1).mean(1)
    return across + down


def variation_gradient(pixels: torch.Tensor) -> torch.Tensor:
    """Return the gradient of `total_variation` with respect to pixels (batch, 3, height, width)."""
    gradient = torch.zeros_like(pixels)
    for dimension in (2, 3):
        slope = pixels.diff(dim=dimension)
        slope *= 2 / slope[0].numel()
        length = slope.shape[dimension]
        gradient.narrow(dimension, 1, length).add_(slope)
        gradient.narrow(dimension, 0, length).sub_(slope)
    return gradient


def laplacians(pixels: torch.Tensor) -> torch.Tensor:
    """Return Δ P x, (batch, h, w), of pixels (batch, 3, height, width): see `nstx.models.objective`."""
    return _differences(F.avg_pool2d(pixels.sum(1, keepdim=True), LAPLACIAN_POOL, 1)[:, 0])


def laplacian_gradient(pixels: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the mean square of `laplacians` less their target: (batch, 1, height, width).

    Of symmetric kernels the adjoint is the kernel with zeros around.
    """
    difference, side = laplacians(pixels) - target, LAPLACIAN_POOL
    slope = F.pad(difference * (2 / difference[0].numel()), (2 * side,) * 4)
    squares = F.pad(_differences(slope)[:, None], (side - 1,) * 4)
    return F.avg_pool2d(squares, side, 1)


def _differences(x: torch.Tensor) -> torch.Tensor:
    # No convolution, which would be in TF32 where others are.
    side = LAPLACIAN_POOL
    middle = x[:, side:-side, side:-side]
    rows, columns = x[:, :, side:-side], x[:, side:-side]
    sides = rows[:, 2 * side :], rows[:, : -2 * side], columns[..., 2 * side :]
    return sum((middle - other for other in sides), middle - columns[..., : -2 * side])
