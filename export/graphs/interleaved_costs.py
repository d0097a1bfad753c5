"""Costs of interleaved activations (batch, h, w, channels), and seeds: their gradients there.

As `nstx.export.graphs.costs` has them, but for how they are computed on CUDA in fp16 and TF32:

The product of a Gram matrix is fp32's although TF32 is on. TF32 and fp16 both have 11 significant bits, so
activations of fp16 lose nothing in it; those of float32 are the sum of a value of fp16 and a rest, and
F Fᵀ = H Hᵀ + H Rᵀ + (H Rᵀ)ᵀ but for R Rᵀ, which is below 2⁻²² of it. Positions are split into groups whose
products are added up, as a matrix of 64×64 from a million positions would keep one processor busy.

In fp16 a style's seed D F, with D = (G − T) weighted, is one product of fp16 numbers. Its size must be known
before: the mean square of D F over N positions and C channels is the sum of (D G) ∘ D over C.
"""

from dataclasses import dataclass

from nstx.models.objective import LayerWeight
from nstx.models.vgg19 import find_layer

from .builder import CONTRIBUTED, FLOAT, FLOAT16
from .costs import CostBuilder
from .feature_graph import FP16_SCALE, GraphPrecision
from .gradient_graph import content_input, style_input

SEED_SIZE = 0.25
"""The root mean square of the largest seed in fp16, which reaches from 6e-8 to 65 504."""

_MOST_GROUPS = 64


@dataclass(frozen=True, slots=True)
class Seed:
    """The gradient of a cost at a layer, whose product is not yet made.

    Attributes:
        factor: float32 (batch, channels, channels) of a style, or (batch, h, w, channels): all of it.
        flat: activations (batch, positions, channels) that the factor of a style is multiplied with.
        size: root mean square over a picture, float32 (batch); in fp16 only.
    """

    layer: str
    name: str
    factor: str
    flat: str | None
    size: str | None


@dataclass(frozen=True, slots=True, eq=False)
class InterleavedCosts(CostBuilder):
    """Adds an objective's costs and their seeds to a graph.

    Attributes:
        poolings: of the network; with ``even`` sides, positions are divisible by a power of 4 by it.
    """

    precision: GraphPrecision = "fp32"
    even: bool = False
    poolings: int = 0

    def add_content_seed(self, item: LayerWeight, x: str, channels: int) -> tuple[str, Seed]:
        """Add the content cost of a layer, (batch)."""
        target, name = content_input(item.layer), f"{item.layer}_content"
        wide = x
        if self.precision == "fp16":
            wide = self.builder.add("Cast", [x], f"{name}_float", to=FLOAT)
            unscale = self.builder.number("fp16_unscale", 1 / FP16_SCALE)
            wide = self.builder.add("Mul", [wide, unscale], f"{name}_wide")
        difference = self.builder.add("Sub", [wide, target], f"{name}_difference")
        mean = self._mean_square(name, difference, (1, 2, 3), None)
        factor = self._factor(name, self.objective.content_factor, target, (1, 2, 3))
        cost = self.builder.add("Mul", [mean, factor], f"{name}_cost")
        scale = self._scale(name, 2 * item.weight / channels, x, factor, "content_weight")
        spread = self._reshape(f"{name}_scale", scale, (-1, 1, 1, 1))
        weighted = self.builder.add("Mul", [difference, spread], f"{name}_weighted_difference")
        size = None
        if self.precision == "fp16":
            root = self.builder.add("Sqrt", [mean], f"{name}_root")
            size = self.builder.add("Mul", [root, scale], f"{name}_size")
        return cost, Seed(item.layer, name, weighted, None, size)

    def add_style_seed(self, item: LayerWeight, x: str, channels: int) -> tuple[str, Seed]:
        """Add the style cost of a layer, (batch)."""
        target, name = style_input(item.layer), f"{item.layer}_style"
        gram = self._add_gram(item.layer, x, channels)
        difference = self.builder.add("Sub", [gram, target], f"{name}_difference")
        factor = self._factor(name, self.objective.style_factor, target, (1, 2))
        cost = self._mean_square(name, difference, (1, 2), factor)
        scale = self._scale(name, 4 * item.weight / channels**2, x, factor, "style_weight")
        spread = self._reshape(f"{name}_scale", scale, (-1, 1, 1))
        weighted = self.builder.add("Mul", [difference, spread], f"{name}_weighted_difference")
        flat = self._reshape(f"{name}_flat", x, (0, -1, channels))
        size = None
        if self.precision == "fp16":
            product = self.builder.add("MatMul", [weighted, gram], f"{name}_size_product")
            product = self.builder.add("Mul", [product, weighted], f"{name}_size_terms")
            axes = self.builder.integers("both_channels", [1, 2])
            total = self.builder.add("ReduceSum", [product, axes], f"{name}_size_sum", keepdims=0)
            # Rounding may leave a sum below zero.
            total = self.builder.add("Relu", [total], f"{name}_size_total")
            count = self.builder.number(f"channels_{channels}", channels)
            square = self.builder.add("Div", [total, count], f"{name}_size_square")
            size = self.builder.add("Sqrt", [square], f"{name}_size")
        return cost, Seed(item.layer, name, weighted, flat, size)

    def add_gradient_scale(self, seeds: list[Seed]) -> str | None:
        """Add what fp16 gradients are divided by, (batch); None in fp32."""
        if self.precision == "fp32":
            return None
        sizes = [seed.size for seed in seeds if seed.size is not None]
        largest = self.builder.add(
            "Max", [*sizes, self.builder.number("smallest_scale", 1e-30)], "largest_seed"
        )
        unit = self.builder.number("seed_unit", 1 / SEED_SIZE)
        return self.builder.add("Mul", [largest, unit], "gradient_scale")

    def finish_seed(self, seed: Seed, x: str, scale: str | None) -> str:
        """Add the gradient of a seed's cost at its layer, of an activation's kind and shape."""
        factor, name = seed.factor, seed.name
        if scale is not None:
            sizes = (-1, 1, 1) if seed.flat else (-1, 1, 1, 1)
            spread = self._reshape(f"{name}_gradient_scale", scale, sizes)
            factor = self.builder.add("Div", [factor, spread], f"{name}_unit")
            if seed.flat:
                # The activations of fp16 are scaled.
                unscale = self.builder.number("fp16_unscale", 1 / FP16_SCALE)
                factor = self.builder.add("Mul", [factor, unscale], f"{name}_unscaled")
            factor = self.builder.add("Cast", [factor], f"{name}_narrow", to=FLOAT16)
        if seed.flat is None:
            return factor
        product = self.builder.add("MatMul", [seed.flat, factor], f"{name}_flat_gradient")
        shape = self.builder.add("Shape", [x], f"{name}_shape")
        return self.builder.add("Reshape", [product, shape], f"{name}_gradient")

    def _add_gram(self, layer: str, x: str, channels: int) -> str:
        """Add the Gram matrix of an activation, (batch, channels, channels)."""
        name, half = f"{layer}_gram", x
        if self.precision == "fp32":
            scaled = self.builder.add(
                "Mul", [x, self.builder.number("fp16_scale", FP16_SCALE)], f"{name}_scaled"
            )
            half = self.builder.add("Cast", [scaled], f"{name}_half", to=FLOAT16)
        wide = self.builder.add("Cast", [half], f"{name}_wide", to=FLOAT)
        flat = self._group(layer, f"{name}_groups", wide, channels)
        product = self._multiply(name, flat, flat)
        if self.precision == "fp32":
            rest = self.builder.add("Sub", [scaled, wide], f"{name}_rest")
            rest = self._group(layer, f"{name}_rest_groups", rest, channels)
            mixed = self._multiply(f"{name}_mixed", flat, rest)
            turned = self.builder.add("Transpose", [mixed], f"{name}_turned", perm=[0, 2, 1])
            product = self.builder.add("Sum", [product, mixed, turned], f"{name}_product")
        unscale = self.builder.number("fp16_unscale_square", FP16_SCALE**-2)
        product = self.builder.add("Mul", [product, unscale], f"{name}_unscaled")
        return self.builder.add("Div", [product, self._positions(x)], name)

    def _group(self, layer: str, name: str, x: str, channels: int) -> str:
        """Add an activation as (batch, groups, positions, channels)."""
        stride = find_layer(layer).stride
        groups = min(_MOST_GROUPS, (2**self.poolings // stride) ** 2) if self.even else 1
        return self._reshape(name, x, (0, groups, -1, channels))

    def _multiply(self, name: str, a: str, b: str) -> str:
        """Add the sum of the groups' products aᵀ b, (batch, channels, channels)."""
        groups = self.builder.add(
            "FusedMatMul", [a, b], f"{name}_products", domain=CONTRIBUTED, transA=1
        )
        axis = self.builder.integers("groups_axis", [1])
        return self.builder.add("ReduceSum", [groups, axis], f"{name}_sum", keepdims=0)

    def _positions(self, activation: str) -> str:
        name = f"{activation}_positions"
        if self.builder.has(name):
            return name
        sizes = self.builder.add("Shape", [activation], f"{name}_sizes", start=1, end=3)
        count = self.builder.add("ReduceProd", [sizes], f"{name}_integer", keepdims=0)
        return self.builder.add("Cast", [count], name, to=FLOAT)

    def _mean_square(self, name: str, x: str, axes: tuple[int, ...], factor: str | None) -> str:
        # All axes at once: CUDA's sums are trees, which lose nothing by it.
        square = self.builder.add("Mul", [x, x], f"{name}_square")
        over = self.builder.integers("over_" + "_".join(map(str, axes)), axes)
        mean = self.builder.add("ReduceMean", [square, over], f"{name}_mean", keepdims=0)
        return mean if factor is None else self.builder.add("Mul", [mean, factor], f"{name}_cost")
