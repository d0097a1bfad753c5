"""Costs of interleaved activations (batch, h, w, channels), and seeds: their gradients there.

As `nstx.export.graphs.costs` has them, but for how they are computed on CUDA in fp16 and TF32:

Sums of a Gram matrix are fp32's although TF32 is on. TF32 and fp16 both have 11 significant bits, so
activations of fp16 lose nothing in its products; those of float32 are the sum of a value of fp16 and a rest, and
F Fᵀ = H Hᵀ + H Rᵀ + (H Rᵀ)ᵀ but for R Rᵀ, which is below 2⁻²² of it. Positions are split into groups whose
products are added up, as a matrix of 64×64 from a million positions would keep one processor busy. In fp16 the
products of 16 groups or more are rounded to fp16 before they are added up, which averages out: near an optimum
it moves a gradient by 1e-5 of itself, where the rest of fp16 moves it by some percent.

What there is one of for each layer, costs and how large seeds are, is one tensor of all layers: a launch takes as long
as the arithmetic of some thousand of them. Numbers that follow from targets, weights and sizes are inputs, and
targets are in the units of what is compared with them (`interleaved_inputs`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..graphs.costs import CostBuilder
from ..graphs.feature_graph import FP16_SCALE, INPUT_NAME
from ..graphs.gradient_graph import LAYER_INPUTS, GradientGraph, content_input, style_input
from ..nodes.builder import CONTRIBUTED, FLOAT, FLOAT16
from .interleaved_inputs import count_groups, gram_alpha, rounds_products


@dataclass(frozen=True, slots=True)
class Difference:
    """What a cost is the mean square of: an activation or a Gram matrix, less its target, in their units.

    Attributes:
        values: float32 (batch, h, w, channels), or of a style (batch, channels, channels).
        mean: of its squares, float32 (batch, 1).
        flat: activations (batch, positions, channels), of a style only.
    """

    layer: str
    name: str
    values: str
    mean: str
    flat: str | None


@dataclass(frozen=True, slots=True, eq=False)
class InterleavedCosts(CostBuilder):
    """Adds an objective's costs and their seeds to a graph."""

    graph: GradientGraph = field(kw_only=True)

    def add_content_difference(self, layer: str, x: str) -> Difference:
        """Add an activation's difference to its target, with its mean square."""
        name, wide = f"{layer}_content", x
        if self.graph.precision == "fp16":
            wide = self.builder.add("Cast", [x], f"{name}_float", to=FLOAT)
        values = self.builder.add("Sub", [wide, content_input(layer)], f"{name}_difference")
        return Difference(layer, name, values, self._row_mean(name, values), None)

    def add_style_difference(self, layer: str, x: str, channels: int) -> Difference:
        """Add a Gram matrix's difference to its target, with its mean square."""
        name, gram = f"{layer}_style", self._add_gram(layer, x, channels)
        values = self.builder.add("Sub", [gram, style_input(layer)], f"{name}_difference")
        mean = self._row_mean(name, values)
        flat = self._reshape(f"{name}_flat", x, (0, -1, channels))
        return Difference(layer, name, values, mean, flat)

    def add_layers(self, differences: Sequence[Difference]) -> tuple[list[str], str | None]:
        """Add the costs of all layers; return what each difference is multiplied with in its seed, (batch, 1).

        In fp16 seeds are divided by a number for each picture, (batch, 1), which is returned with them: the size of
        the largest in units of `SEED_SIZE`.
        """
        factors, slopes, constants, growths = LAYER_INPUTS
        means = self._columns([item.mean for item in differences], "layer_means")
        self.builder.add("Mul", [means, factors], "layers")
        scales, unit = slopes, None
        if self.graph.precision == "fp16":
            unit = self._add_unit(means, constants, growths, slopes)
            scales = self.builder.add("Div", [slopes, unit], "layer_scales")
        first, *more = [f"{item.name}_scale" for item in differences]
        if not more:
            return [scales], unit
        count = len(differences)
        self.builder.add("Split", [scales], first, more=more, axis=1, num_outputs=count)
        return [first, *more], unit

    def add_seed(self, difference: Difference, x: str, scale: str) -> str:
        """Add the gradient of a difference's cost at its layer, of an activation's kind and shape."""
        name = difference.name
        axes = (-1, 1, 1) if difference.flat else (-1, 1, 1, 1)
        spread = self._reshape(f"{name}_spread_scale", scale, axes)
        factor = self.builder.add("Mul", [difference.values, spread], f"{name}_factor")
        if self.graph.precision == "fp16":
            factor = self.builder.add("Cast", [factor], f"{name}_narrow", to=FLOAT16)
        if difference.flat is None:
            return factor
        product = self.builder.add("MatMul", [difference.flat, factor], f"{name}_flat_gradient")
        shape = self.builder.add("Shape", [x], f"{name}_shape")
        return self.builder.add("Reshape", [product, shape], f"{name}_gradient")

    def _add_unit(self, means: str, constants: str, growths: str, slopes: str) -> str:
        """Add what fp16 gradients are divided by, (batch, 1), so that no seed is larger than `SEED_SIZE`."""
        # Of means, no sum of products, so that rounding leaves none below zero.
        root = self.builder.add("Sqrt", [means], "layer_roots")
        growth = self.builder.add("Mul", [root, growths], "layer_growth")
        strength = self.builder.add("Add", [growth, constants], "layer_strengths")
        strength = self.builder.add("Sqrt", [strength], "layer_strength_roots")
        size = self.builder.add("Mul", [root, strength], "layer_unweighted_sizes")
        size = self.builder.add("Mul", [size, slopes], "layer_sizes")
        axis = self.builder.integers("last_axis", [1])
        largest = self.builder.add("ReduceMax", [size, axis], "largest_seed", keepdims=1)
        smallest = self.builder.number("smallest_seed", 1e-30)
        return self.builder.add("Max", [largest, smallest], "gradient_scale")

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
        """Add the Gram matrix of an activation in its unit, (batch, channels, channels)."""
        name, half, precision = f"{layer}_gram", x, self.graph.precision
        alpha = gram_alpha(self.graph, layer)
        if precision == "fp32":
            scaled = self.builder.add(
                "Mul", [x, self.builder.number("fp16_scale", FP16_SCALE)], f"{name}_scaled"
            )
            half = self.builder.add("Cast", [scaled], f"{name}_half", to=FLOAT16)
        # Rounded products save an activation in float32.
        rounds = rounds_products(self.graph, layer)
        wide = x if rounds else self.builder.add("Cast", [half], f"{name}_wide", to=FLOAT)
        flat = self._group(layer, f"{name}_groups", wide, channels)
        product = self._multiply(layer, name, flat, flat, alpha)
        if precision == "fp32":
            rest = self.builder.add("Sub", [scaled, wide], f"{name}_rest")
            rest = self._group(layer, f"{name}_rest_groups", rest, channels)
            mixed = self._multiply(layer, f"{name}_mixed", flat, rest)
            turned = self.builder.add("Transpose", [mixed], f"{name}_turned", perm=[0, 2, 1])
            product = self.builder.add("Sum", [product, mixed, turned], f"{name}_product")
        return product

    def _group(self, layer: str, name: str, x: str, channels: int) -> str:
        """Add an activation as (batch, groups, positions, channels), without the groups if it is one."""
        groups = count_groups(self.graph, layer)
        shape = (0, groups, -1, channels) if groups > 1 else (0, -1, channels)
        return self._reshape(name, x, shape)

    def _multiply(self, layer: str, name: str, a: str, b: str, alpha: float = 1.0) -> str:
        """Add the sum of the groups' products alpha aᵀ b, float32 (batch, channels, channels)."""
        how: dict[str, Any] = {"domain": CONTRIBUTED, "transA": 1, "alpha": alpha}
        product = self.builder.add("FusedMatMul", [a, b], f"{name}_products", **how)
        if rounds_products(self.graph, layer):
            product = self.builder.add("Cast", [product], f"{name}_products_float", to=FLOAT)
        if count_groups(self.graph, layer) == 1:
            return product
        axis = self.builder.integers("groups_axis", [1])
        return self.builder.add("ReduceSum", [product, axis], f"{name}_sum", keepdims=0)

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
