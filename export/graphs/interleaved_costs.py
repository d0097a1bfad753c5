"""Costs of interleaved activations (batch, h, w, channels), and seeds: their gradients there.

As `nstx.export.graphs.costs` has them, but for how they are computed on CUDA in fp16 and TF32:

Sums of a Gram matrix are fp32's although TF32 is on. TF32 and fp16 both have 11 significant bits, so
activations of fp16 lose nothing in its products; those of float32 are the sum of a value of fp16 and a rest, and
F Fᵀ = H Hᵀ + H Rᵀ + (H Rᵀ)ᵀ but for R Rᵀ, which is below 2⁻²² of it. Positions are split into groups whose
products are added up, as a matrix of 64×64 from a million positions would keep one processor busy. In fp16 the
products of 16 groups or more are rounded to fp16 before they are added up, which averages out: near an optimum
it moves a gradient by 1e-5 of itself, where the rest of fp16 moves it by some percent.

In fp16 a style's seed D F, with D = (G − T) weighted, is one product of fp16 numbers. Its size must be known
before: the mean square of D F over N positions and C channels is the sum of (D G) ∘ D over C.

What there is one of for each layer, costs and sizes, is one tensor of all layers: a launch takes as long as
the arithmetic of some thousand of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nstx.models.layers import LayerWeight
from nstx.models.vgg19 import find_layer

from ..nodes.builder import CONTRIBUTED, FLOAT, FLOAT16
from .costs import CostBuilder
from .feature_graph import FP16_SCALE, INPUT_NAME, GraphPrecision
from .gradient_graph import content_input, style_input

SEED_SIZE = 0.25
"""The root mean square of the largest seed in fp16, which reaches from 6e-8 to 65 504."""

_MOST_GROUPS = 256

# Of groups, from which products are rounded to fp16. A product is shrunk, so that groups of 65 536 positions
# do not overflow while the mean square of their activations is below 4e6.
_FEWEST_ROUNDED, _SHRINK = 16, 2.0**-14


@dataclass(frozen=True, slots=True)
class Difference:
    """What a cost is the mean square of: an activation or a Gram matrix, less its target.

    Attributes:
        values: float32 (batch, h, w, channels), or of a style (batch, channels, channels).
        number: its weight in the gradient, before `FACTOR_INPUTS` and α or β.
        mean: of its squares, float32 (batch, 1).
        flat: activations (batch, positions, channels), of a style only.
        power: mean square of its seed but for the scale, float32 (batch, 1); in fp16 only.
    """

    layer: str
    name: str
    values: str
    number: float
    mean: str
    flat: str | None
    power: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """The cost of content or style.

    Attributes:
        weighted: its share of the total, float32 (batch).
        scales: of its differences in the gradient, float32 (batch, layers).
    """

    kind: str
    differences: Sequence[Difference]
    weighted: str
    scales: str


@dataclass(frozen=True, slots=True, eq=False)
class InterleavedCosts(CostBuilder):
    """Adds an objective's costs and their seeds to a graph.

    Attributes:
        poolings: of the network; with ``even`` sides, positions are divisible by a power of 4 by it.
    """

    precision: GraphPrecision = "fp32"
    even: bool = False
    poolings: int = 0

    def add_content_difference(self, item: LayerWeight, x: str, channels: int) -> Difference:
        """Add an activation's difference to its target, with its mean square."""
        name, wide = f"{item.layer}_content", x
        if self.precision == "fp16":
            wide = self.builder.add("Cast", [x], f"{name}_float", to=FLOAT)
            unscale = self.builder.number("fp16_unscale", 1 / FP16_SCALE)
            wide = self.builder.add("Mul", [wide, unscale], f"{name}_wide")
        target = content_input(item.layer)
        values = self.builder.add("Sub", [wide, target], f"{name}_difference")
        mean = self._row_mean(name, values)
        power = mean if self.precision == "fp16" else None
        return Difference(item.layer, name, values, 2 * item.weight / channels, mean, None, power)

    def add_style_difference(self, item: LayerWeight, x: str, channels: int) -> Difference:
        """Add a Gram matrix's difference to its target, with its mean square."""
        name, gram = f"{item.layer}_style", self._add_gram(item.layer, x, channels)
        values = self.builder.add("Sub", [gram, style_input(item.layer)], f"{name}_difference")
        mean, power = self._row_mean(name, values), None
        flat = self._reshape(f"{name}_flat", x, (0, -1, channels))
        if self.precision == "fp16":
            product = self.builder.add(
                "FusedMatMul", [values, gram], f"{name}_size_product",
                domain=CONTRIBUTED, alpha=1 / channels,
            )  # fmt: skip
            terms = self.builder.add("Mul", [product, values], f"{name}_size_terms")
            power = self._reduce("ReduceSum", terms, f"{name}_size")
        number = 4 * item.weight / channels**2
        return Difference(item.layer, name, values, number, mean, flat, power)

    def add_part(
        self, kind: str, items: Sequence[LayerWeight], differences: Sequence[Difference]
    ) -> Part:
        """Add the content or style cost from the differences of its layers."""
        factors, name = f"{kind}_factors", f"{kind}_layer_weights"
        means = self._columns([item.mean for item in differences], f"{kind}_means")
        layers = self.builder.add("Mul", [means, factors], f"{kind}_layers")
        column = np.array([[item.weight] for item in items], np.float32)
        weights = self.builder.constant(name, column)
        cost = self.builder.add("MatMul", [layers, weights], f"{kind}_column")
        cost = self._reshape(kind, cost, (-1,))
        weighted = self.builder.add("Mul", [cost, f"{kind}_weight"], f"{kind}_weighted")
        numbers = self.builder.constant(
            f"{kind}_numbers", np.array([item.number for item in differences], np.float32)
        )
        counts = [
            self._reshape(f"{item.name}_positions", self._positions(item.layer), (1,))
            for item in differences
        ]
        positions = self.builder.add("Concat", counts, f"{kind}_positions", axis=0)
        shares = self.builder.add("Div", [numbers, positions], f"{kind}_shares")
        scales = self.builder.add("Mul", [factors, shares], f"{kind}_unweighted_scales")
        spread = self._reshape(f"{kind}_weight_column", f"{kind}_weight", (-1, 1))
        scales = self.builder.add("Mul", [scales, spread], f"{kind}_scales")
        return Part(kind, differences, weighted, scales)

    def add_scales(self, parts: Sequence[Part]) -> tuple[list[str], str | None]:
        """Add what each difference is multiplied with in its seed, (batch, 1).

        In fp16 seeds are divided by a number for each picture, (batch, 1), which is returned with them.
        """
        unit = self._add_unit(parts) if self.precision == "fp16" else None
        names: list[str] = []
        for part in parts:
            scales = part.scales
            if unit is not None:
                scales = self.builder.add("Div", [scales, unit], f"{part.kind}_unit_scales")
            if unit is not None and part.kind == "style":
                # The activations that a style's difference is multiplied with are scaled.
                unscale = self.builder.number("fp16_unscale", 1 / FP16_SCALE)
                scales = self.builder.add("Mul", [scales, unscale], "style_fp16_scales")
            first, *more = [f"{item.name}_scale" for item in part.differences]
            if more:
                count = len(part.differences)
                self.builder.add("Split", [scales], first, more=more, axis=1, num_outputs=count)
            names += [first, *more] if more else [scales]
        return names, unit

    def add_seed(self, difference: Difference, x: str, scale: str) -> str:
        """Add the gradient of a difference's cost at its layer, of an activation's kind and shape."""
        name = difference.name
        axes = (-1, 1, 1) if difference.flat else (-1, 1, 1, 1)
        spread = self._reshape(f"{name}_spread_scale", scale, axes)
        factor = self.builder.add("Mul", [difference.values, spread], f"{name}_factor")
        if self.precision == "fp16":
            factor = self.builder.add("Cast", [factor], f"{name}_narrow", to=FLOAT16)
        if difference.flat is None:
            return factor
        product = self.builder.add("MatMul", [difference.flat, factor], f"{name}_flat_gradient")
        shape = self.builder.add("Shape", [x], f"{name}_shape")
        return self.builder.add("Reshape", [product, shape], f"{name}_gradient")

    def _add_unit(self, parts: Sequence[Part]) -> str:
        """Add what fp16 gradients are divided by, (batch, 1), so that the largest seed is `SEED_SIZE`."""
        axis = self.builder.integers("last_axis", [1])
        largest = []
        for kind, differences, scales in ((x.kind, x.differences, x.scales) for x in parts):
            powers = [item.power for item in differences if item.power is not None]
            power = self._columns(powers, f"{kind}_powers")
            # Rounding may leave a sum below zero.
            power = self.builder.add("Relu", [power], f"{kind}_powers_positive")
            root = self.builder.add("Sqrt", [power], f"{kind}_roots")
            size = self.builder.add("Mul", [root, scales], f"{kind}_seed_sizes")
            if len(powers) > 1:
                size = self.builder.add("ReduceMax", [size, axis], f"{kind}_largest", keepdims=1)
            largest.append(size)
        most = largest[0] if len(largest) == 1 else self.builder.add("Max", largest, "largest_seed")
        smallest = self.builder.number("smallest_seed", 1e-30)
        most = self.builder.add("Max", [most, smallest], "largest_seed_positive")
        unit = self.builder.number("seed_unit", 1 / SEED_SIZE)
        return self.builder.add("Mul", [most, unit], "gradient_scale")

    def _columns(self, names: Sequence[str], output: str) -> str:
        """Put tensors (batch, 1) side by side.

        For those of one width CUDA needs no table from the host. A captured graph would copy it again in every
        step, from memory that has been another's since.
        """
        return names[0] if len(names) == 1 else self.builder.add("Concat", names, output, axis=1)

    def _variation_gradient(self, name: str, difference: str, axis: int) -> str:
        if axis == 2:
            return CostBuilder._variation_gradient(self, name, difference, axis)
        # CUDA pads the last two axes of three or four in a tenth of the time of any others.
        count = self._count(f"{name}_count", difference, 1)
        scale = self.builder.add("Div", [self.builder.number("two", 2), count], f"{name}_scale")
        scaled = self.builder.add("Mul", [difference, scale], f"{name}_scaled")
        flat = self._reshape(f"{name}_rows", scaled, (0, 0, -1))
        nothing, sides = self.builder.number("nothing", 0), []
        for side, place in (("before", 1), ("after", 4)):
            pads = self.builder.integers(f"pad_rows_{side}", [int(i == place) for i in range(6)])
            sides.append(self.builder.add("Pad", [flat, pads, nothing], f"{name}_{side}"))
        gradient = self.builder.add("Sub", sides, f"{name}_gradient_rows")
        size = self.builder.add("Shape", [INPUT_NAME], f"{name}_size")
        return self.builder.add("Reshape", [gradient, size], f"{name}_gradient")

    def _add_gram(self, layer: str, x: str, channels: int) -> str:
        """Add the Gram matrix of an activation, (batch, channels, channels)."""
        name, half = f"{layer}_gram", x
        rounds = self.precision == "fp16" and self._groups(layer) >= _FEWEST_ROUNDED
        alpha = _SHRINK if rounds else 1.0
        if self.precision == "fp32":
            scaled = self.builder.add(
                "Mul", [x, self.builder.number("fp16_scale", FP16_SCALE)], f"{name}_scaled"
            )
            half = self.builder.add("Cast", [scaled], f"{name}_half", to=FLOAT16)
        # Rounded products save an activation in float32.
        wide = x if rounds else self.builder.add("Cast", [half], f"{name}_wide", to=FLOAT)
        flat = self._group(layer, f"{name}_groups", wide, channels)
        product = self._multiply(layer, name, flat, flat, alpha)
        if self.precision == "fp32":
            rest = self.builder.add("Sub", [scaled, wide], f"{name}_rest")
            rest = self._group(layer, f"{name}_rest_groups", rest, channels)
            mixed = self._multiply(layer, f"{name}_mixed", flat, rest)
            turned = self.builder.add("Transpose", [mixed], f"{name}_turned", perm=[0, 2, 1])
            product = self.builder.add("Sum", [product, mixed, turned], f"{name}_product")
        unscale = self.builder.number(f"gram_unscale_{alpha}", FP16_SCALE**-2 / alpha)
        share = self.builder.add("Div", [unscale, self._positions(layer)], f"{name}_share")
        return self.builder.add("Mul", [product, share], name)

    def _group(self, layer: str, name: str, x: str, channels: int) -> str:
        """Add an activation as (batch, groups, positions, channels), without the groups if it is one."""
        groups = self._groups(layer)
        shape = (0, groups, -1, channels) if groups > 1 else (0, -1, channels)
        return self._reshape(name, x, shape)

    def _groups(self, layer: str) -> int:
        if not self.even:
            return 1
        side: int = 2**self.poolings // find_layer(layer).stride
        return min(_MOST_GROUPS, side**2)

    def _multiply(self, layer: str, name: str, a: str, b: str, alpha: float = 1.0) -> str:
        """Add the sum of the groups' products alpha aᵀ b, float32 (batch, channels, channels)."""
        how: dict[str, Any] = {"domain": CONTRIBUTED, "transA": 1, "alpha": alpha}
        product = self.builder.add("FusedMatMul", [a, b], f"{name}_products", **how)
        if alpha != 1.0:
            product = self.builder.add("Cast", [product], f"{name}_products_float", to=FLOAT)
        if self._groups(layer) == 1:
            return product
        axis = self.builder.integers("groups_axis", [1])
        return self.builder.add("ReduceSum", [product, axis], f"{name}_sum", keepdims=0)

    def _positions(self, activation: str) -> str:
        name = f"{activation}_positions"
        if self.builder.has(name):
            return name
        sizes = self.builder.add("Shape", [activation], f"{name}_sizes", start=1, end=3)
        count = self.builder.add("ReduceProd", [sizes], f"{name}_integer", keepdims=0)
        return self.builder.add("Cast", [count], name, to=FLOAT)

    def _row_mean(self, name: str, x: str) -> str:
        square = self.builder.add("Mul", [x, x], f"{name}_square")
        return self._reduce("ReduceMean", square, f"{name}_mean")

    def _reduce(self, operator: str, x: str, name: str) -> str:
        """Reduce all but the batch, to (batch, 1); CUDA's sums are trees, which lose nothing by it."""
        rows = self._reshape(f"{name}_rows", x, (0, -1))
        axis = self.builder.integers("last_axis", [1])
        return self.builder.add(operator, [rows, axis], name, keepdims=1)

    def _mean_square(self, name: str, x: str, axes: tuple[int, ...], factor: str | None) -> str:
        # Of the total variation, all axes at once.
        square = self.builder.add("Mul", [x, x], f"{name}_square")
        over = self.builder.integers("over_" + "_".join(map(str, axes)), axes)
        mean = self.builder.add("ReduceMean", [square, over], f"{name}_mean", keepdims=0)
        return mean if factor is None else self.builder.add("Mul", [mean, factor], f"{name}_cost")
