"""The costs of pixels as ONNX nodes, each with its gradient; what all costs are computed by.

With n the number of values that the mean is of, and w the weight (see `nstx.models.objective`)::

    total variation    mean of the squared    its gradient at a pixel   2 w / n · (sum of its
                       differences                                      differences)
    detail             mean (Δ P x − T)²      its gradient at a pixel   2 w / n · Pᵀ Δᵀ (Δ P x − T)
"""

from dataclasses import dataclass

from nstx.models.objective import LAPLACIAN_POOL, Objective

from ..nodes.builder import FLOAT, GraphBuilder
from .feature_graph import INPUT_NAME

CostNames = tuple[str, str | None]
"""Names of a cost, float32 (batch), and of its weighted gradient, if gradients are added."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelCosts:
    """Adds the costs of pixels to a graph, and with ``gradient`` their gradients."""

    builder: GraphBuilder
    objective: Objective
    gradient: bool

    def add_total_variation(self) -> CostNames:
        """Add the total variation of the pixels; its gradient is (batch, height, width, 3)."""
        means, gradients = [], []
        for axis, name in ((1, "down"), (2, "across")):
            later = self._slice(f"variation_{name}_later", axis, 1, 2**31 - 1)
            earlier = self._slice(f"variation_{name}_earlier", axis, 0, -1)
            difference = self.builder.add("Sub", [later, earlier], f"variation_{name}")
            means.append(self._mean_square(f"variation_{name}", difference, (1, 2, 3), None))
            if self.gradient:
                gradients.append(self._variation_gradient(f"variation_{name}", difference, axis))
        cost = self.builder.add("Sum", means, "total_variation")
        if not self.gradient:
            return cost, None
        summed = self.builder.add("Sum", gradients, "variation_unweighted")
        weight = self._reshape("variation_weight", "tv_weight", (-1, 1, 1, 1))
        return cost, self.builder.add("Mul", [summed, weight], "variation_gradient")

    def add_laplacian(self) -> CostNames:
        """Add the cost of the content's detail; its gradient is (batch, height, width, 1)."""
        add, integers, side = self.builder.add, self.builder.integers, LAPLACIAN_POOL
        grey = add("ReduceSum", [INPUT_NAME, integers("axis_3", [3])], "laplacian_grey", keepdims=0)
        planar = add("Unsqueeze", [grey, integers("axis_1", [1])], "laplacian_planar")
        pooled = add("AveragePool", [planar], "laplacian_pooled", kernel_shape=[side, side])
        squares = add("Squeeze", [pooled, integers("axis_1", [1])], "laplacian_squares")
        values = self._add_second_differences(squares, "laplacian_values")
        difference = add("Sub", [values, "laplacian_target"], "laplacian_difference")
        cost = self._mean_square("laplacian", difference, (1, 2), None)
        cost = add("Identity", [cost], "laplacian")
        if not self.gradient:
            return cost, None
        return cost, self._laplacian_gradient(difference)

    def _laplacian_gradient(self, difference: str) -> str:
        """Add the gradient: the adjoint of a symmetric kernel is the kernel, with zeros around."""
        add, integers, side = self.builder.add, self.builder.integers, LAPLACIAN_POOL
        count = self._count("laplacian_count", difference, 1)
        scale = add("Div", [self.builder.number("two", 2), count], "laplacian_part")
        scale = add("Mul", ["laplacian_weight", scale], "laplacian_with_weight")
        spread = self._reshape("laplacian_scale", scale, (-1, 1, 1))
        slope = add("Mul", [difference, spread], "laplacian_slope")
        pads = integers("squares_around", [0, 2 * side, 2 * side] * 2)
        slope = add("Pad", [slope, pads, self.builder.number("nothing", 0)], "laplacian_padded")
        squares = self._add_second_differences(slope, "laplacian_at_squares")
        squares = add("Unsqueeze", [squares, integers("axis_1", [1])], "laplacian_planar_slope")
        whole = add(
            "AveragePool", [squares], "laplacian_spread", kernel_shape=[side, side],
            pads=[side - 1] * 4, count_include_pad=1,
        )  # fmt: skip
        return add("Transpose", [whole], "laplacian_gradient", perm=[0, 2, 3, 1])

    def _add_second_differences(self, x: str, name: str) -> str:
        """Add Δ of squares (batch, h, w), without edges; by slices, as convolutions may be in TF32."""
        side, later = LAPLACIAN_POOL, 2**31 - 1
        inner, before, after = (side, -side), (0, -2 * side), (2 * side, later)
        middle = self._window(f"{name}_middle", x, inner, inner)
        sides = []
        for place, rows, columns in (
            ("above", before, inner),
            ("below", after, inner),
            ("left", inner, before),
            ("right", inner, after),
        ):
            other = self._window(f"{name}_{place}", x, rows, columns)
            sides.append(self.builder.add("Sub", [middle, other], f"{name}_from_{place}"))
        return self.builder.add("Sum", sides, name)

    def _window(self, name: str, x: str, rows: tuple[int, int], columns: tuple[int, int]) -> str:
        """Add a part of (batch, h, w), from and to rows and columns."""
        starts, ends = zip(rows, columns, strict=True)
        bounds = [
            self.builder.integers("window_" + "_".join(map(str, pair)), pair)
            for pair in (starts, ends, (1, 2))
        ]
        return self.builder.add("Slice", [x, *bounds], name)

    def _variation_gradient(self, name: str, difference: str, axis: int) -> str:
        """Add the gradient: differences to the pixel before, less those of the pixel after."""
        count = self._count(f"{name}_count", difference, 1)
        scale = self.builder.add("Div", [self.builder.number("two", 2), count], f"{name}_scale")
        scaled = self.builder.add("Mul", [difference, scale], f"{name}_scaled")
        sides = []
        for side, place in (("before", axis), ("after", 4 + axis)):
            pads = self.builder.integers(f"pad_{axis}_{side}", [int(i == place) for i in range(8)])
            nothing = self.builder.number("nothing", 0)
            sides.append(self.builder.add("Pad", [scaled, pads, nothing], f"{name}_{side}"))
        return self.builder.add("Sub", sides, f"{name}_gradient")

    def _mean_square(self, name: str, x: str, axes: tuple[int, ...], factor: str | None) -> str:
        mean = self.builder.add("Mul", [x, x], f"{name}_square")
        # Axis by axis: ONNX Runtime sums a million float32 values one after the other, which was
        # wrong by 1e-5.
        for axis in reversed(axes):
            over = self.builder.integers(f"over_{axis}", (axis,))
            mean = self.builder.add("ReduceMean", [mean, over], f"{name}_mean_{axis}", keepdims=0)
        return mean if factor is None else self.builder.add("Mul", [mean, factor], f"{name}_cost")

    def _count(self, name: str, x: str, first: int) -> str:
        """Add the product of a tensor's sizes from an axis on, as a float."""
        if self.builder.has(name):
            return name
        sizes = self.builder.add("Shape", [x], f"{name}_sizes", start=first, end=4)
        count = self.builder.add("ReduceProd", [sizes], f"{name}_integer", keepdims=0)
        return self.builder.add("Cast", [count], name, to=FLOAT)

    def _slice(self, name: str, axis: int, start: int, end: int) -> str:
        bounds = [
            self.builder.integers(f"{kind}_{value}", (value,))
            for kind, value in (("from", start), ("to", end), ("axis", axis))
        ]
        return self.builder.add("Slice", [INPUT_NAME, *bounds], name)

    def _reshape(self, name: str, x: str, shape: tuple[int, ...]) -> str:
        sizes = self.builder.integers("shape_" + "_".join(map(str, shape)), shape)
        return self.builder.add("Reshape", [x, sizes], name)
