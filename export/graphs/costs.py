"""The costs of style transfer as ONNX nodes, each with its gradient where it arises.

With G = F Fᵀ / N the Gram matrix of an activation F (channels × N positions), T its target, C the
number of channels, k the objective's factor (see `nstx.models.objective`) and w all weights together::

    style cost         k · mean (G − T)²      its gradient at F         4 k w / (C² N) · (G − T) F
    of a region        G = F diag(s) Fᵀ                                 4 k w / C² · (G − T) F diag(s)
    content cost       k · mean (F − T)²      its gradient at F         2 k w / (C N) · (F − T)

In an objective with relative costs, k is divided by the mean square of T, or by 1 where that is less.
"""

from dataclasses import dataclass

import numpy as np

from nstx.models.layers import LayerWeight

from .gradient_graph import AREAS_INPUT, content_input, root_input, shares_input, style_input
from .pixel_costs import CostNames, PixelCosts


@dataclass(frozen=True, slots=True)
class StyleRegion:
    """The names of what a style layer is compared with in a region, and of what is added for it.

    Attributes:
        name: what names of nodes begin with.
        shares: (batch, h, w); None where all positions count alike.
        area: (batch); None where there is one region.
    """

    name: str
    target: str
    root: str
    shares: str | None
    area: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CostBuilder(PixelCosts):
    """Adds an objective's costs to a graph, and with ``gradient`` their gradients."""

    regions: int = 0

    def add_content(self, item: LayerWeight, activation: str, channels: int) -> CostNames:
        """Add the content cost of a layer; its gradient is (batch, channels, h, w)."""
        target, name = content_input(item.layer), f"{item.layer}_content"
        difference = self.builder.add("Sub", [activation, target], f"{name}_difference")
        factor = self._factor(name, self.objective.content_factor, target, (1, 2, 3))
        cost = self._mean_square(name, difference, (1, 2, 3), factor)
        if not self.gradient:
            return cost, None
        scale = self._scale(name, 2 * item.weight / channels, activation, factor, "content_weight")
        spread = self._reshape(f"{name}_scale", scale, (-1, 1, 1, 1))
        return cost, self.builder.add("Mul", [difference, spread], f"{name}_gradient")

    def add_style(self, item: LayerWeight, activation: str, channels: int) -> CostNames:
        """Add the style cost of a layer, of all regions; its gradient is (batch, channels, h, w)."""
        if self.regions <= 1:
            shares = shares_input(item.layer) if self.regions else None
            region = StyleRegion(
                f"{item.layer}_style", style_input(item.layer), root_input(item.layer), shares
            )
            return self.add_region(item, region, activation, channels)
        regions = [
            self.add_region(item, self._take_region(item, index), activation, channels)
            for index in range(self.regions)
        ]
        name = f"{item.layer}_style"
        cost = self.builder.add("Sum", [cost for cost, _ in regions], f"{name}_regions")
        gradients = [gradient for _, gradient in regions if gradient is not None]
        if not gradients:
            return cost, None
        return cost, self.builder.add("Sum", gradients, f"{name}_regions_gradient")

    def _take_region(self, item: LayerWeight, index: int) -> "StyleRegion":
        """Add what there is of one of several regions, out of inputs (batch, regions, …)."""
        place = self.builder.constant(f"region_{index}", np.array(index, np.int64))

        def take(name: str) -> str:
            return self.builder.add("Gather", [name, place], f"{name}_{index}", axis=1)

        layer, area = item.layer, f"{AREAS_INPUT}_{index}"
        if not self.builder.has(area):
            take(AREAS_INPUT)
        return StyleRegion(
            name=f"{layer}_style_{index}",
            target=take(style_input(layer)),
            root=take(root_input(layer)) if item.statistic == "wasserstein" else root_input(layer),
            shares=take(shares_input(layer)),
            area=area,
        )

    def add_region(
        self, item: LayerWeight, region: "StyleRegion", activation: str, channels: int
    ) -> CostNames:
        """Add the cost of a layer's Gram matrix in one region; its gradient is (batch, channels, h, w)."""
        target, name = region.target, region.name
        flat = self._reshape(f"{name}_flat", activation, (0, 0, -1))
        transposed = self.builder.add("Transpose", [flat], f"{name}_transposed", perm=[0, 2, 1])
        weighed = self._weigh(region, flat)
        gram = self._weighed_gram(name, activation, weighed, transposed)
        difference = self.builder.add("Sub", [gram, target], f"{name}_difference")
        factor = self._factor(name, self.objective.style_factor, target, (1, 2))
        factor = self._weigh_area(region, factor)
        cost = self._mean_square(name, difference, (1, 2), factor)
        if not self.gradient:
            return cost, None
        number = 4 * item.weight / channels**2
        scale = self._scale(name, number, activation, factor, "style_weight", self.regions > 0)
        spread = self._reshape(f"{name}_scale", scale, (-1, 1, 1))
        scaled = self.builder.add("Mul", [difference, spread], f"{name}_scaled")
        flat_gradient = self.builder.add("MatMul", [scaled, weighed], f"{name}_flat_gradient")
        shape = self.builder.add("Shape", [activation], f"{name}_shape")
        return cost, self.builder.add("Reshape", [flat_gradient, shape], f"{name}_gradient")

    def _weigh(self, region: "StyleRegion", flat: str) -> str:
        """Add an activation (batch, channels, positions) times its positions' shares, if there are regions."""
        if region.shares is None:
            return flat
        return self.builder.add("Mul", [flat, self._flatten(region.shares)], f"{flat}_weighed")

    def _weigh_area(self, region: "StyleRegion", factor: str) -> str:
        """Add a factor, () or (batch), times a region's area, if there are several."""
        if region.area is None:
            return factor
        return self.builder.add("Mul", [factor, region.area], f"{region.name}_factor_of_area")

    def _flatten(self, shares: str) -> str:
        """Add the shares of a style layer's positions, (batch, 1, positions)."""
        name = f"{shares}_flat"
        if self.builder.has(name):
            return name
        return self._reshape(name, shares, (0, 1, -1))

    def _weighed_gram(self, name: str, activation: str, weighed: str, transposed: str) -> str:
        if self.regions:
            return self.builder.add("MatMul", [weighed, transposed], f"{name}_gram")
        product = self.builder.add("MatMul", [weighed, transposed], f"{name}_product")
        return self.builder.add("Div", [product, self._positions(activation)], f"{name}_gram")

    def _factor(self, name: str, factor: float, target: str, axes: tuple[int, ...]) -> str:
        """Add what a mean squared error is multiplied with: a number, or (batch)."""
        constant = self.builder.number(f"{name}_factor", factor)
        if not self.objective.relative:
            return constant
        strength = self._mean_square(f"{target}_strength", target, axes, None)
        one = self.builder.number("one", 1)
        strength = self.builder.add("Max", [strength, one], f"{name}_strength")
        return self.builder.add("Div", [constant, strength], f"{name}_relative_factor")

    def _scale(
        self,
        name: str,
        number: float,
        activation: str,
        factor: str,
        weight: str,
        has_shares: bool = False,
    ) -> str:
        """Add number · factor · weight / positions, (batch); where these have shares, without them."""
        scale = self.builder.number(f"{name}_number", number)
        if not has_shares:
            scale = self.builder.add("Div", [scale, self._positions(activation)], f"{name}_part")
        scale = self.builder.add("Mul", [scale, factor], f"{name}_with_factor")
        return self.builder.add("Mul", [scale, weight], f"{name}_with_weight")

    def _positions(self, activation: str) -> str:
        return self._count(f"{activation}_positions", activation, 2)
