"""Costs of other style statistics than the Gram matrix as ONNX nodes, with their gradients.

The formulas are those of `nstx.models.statistics`. With P the moments and D = ∂J/∂P, which is S bordered by a
vector b, the gradient at an activation F of N positions is 2 (S F + b 1ᵀ) / N, or of positions with shares s
2 (S F + b 1ᵀ) diag(s). Roots of matrices are the coupled
Newton–Schulz iteration, unrolled: products and sums alone, which every runtime has.
"""

from dataclasses import dataclass

import numpy as np

from nstx.models.layers import LayerWeight
from nstx.models.statistics import DEVIATION_FLOOR, LEAST, RIDGE, ROOT_STEPS

from .costs import CostBuilder, StyleRegion
from .pixel_costs import CostNames


@dataclass(frozen=True, slots=True)
class _Moments:
    """The names of an activation's or a target's moments.

    Attributes:
        gram, covariance: (batch, channels, channels).
        mean: (batch, channels, 1).
    """

    gram: str
    mean: str
    covariance: str


@dataclass(frozen=True, slots=True)
class _Compared:
    """The names of a cost before its factor, (batch), and of what its gradient is made of.

    Attributes:
        by_gram: S, (batch, channels, channels).
        border: b, (batch, channels, 1).
        strength: what relative costs are divided by, (batch).
    """

    cost: str
    by_gram: str
    border: str
    strength: str


@dataclass(frozen=True, slots=True, eq=False)
class MomentCosts(CostBuilder):
    """Adds an objective's costs, those of all style statistics."""

    def add_region(
        self, item: LayerWeight, region: StyleRegion, activation: str, channels: int
    ) -> CostNames:
        """Add the style cost of a layer in one region; its gradient is (batch, channels, h, w)."""
        if item.statistic == "gram":
            return CostBuilder.add_region(self, item, region, activation, channels)
        name, add = region.name, self.builder.add
        flat = self._reshape(f"{name}_flat", activation, (0, 0, -1))
        weighed = self._weigh(region, flat)
        ours = self._add_moments(region, activation, flat, weighed)
        theirs = self._split_moments(region.target, channels)
        if item.statistic == "covariance":
            compared = self._compare_covariances(name, ours, theirs, channels)
        elif item.statistic == "mean-std":
            compared = self._compare_deviations(name, ours, theirs, channels)
        else:
            compared = self._transport(name, ours, theirs, region.root, channels)
        factor = self.builder.number(f"{name}_factor", self.objective.style_factor)
        if self.objective.relative:
            one = self.builder.number("one", 1)
            strength = add("Max", [compared.strength, one], f"{name}_strength")
            factor = add("Div", [factor, strength], f"{name}_relative_factor")
        factor = self._weigh_area(region, factor)
        cost = add("Mul", [compared.cost, factor], f"{name}_cost")
        if not self.gradient:
            return cost, None
        # Not the quotient first: ONNX Runtime 1.31 loses a node where two quotients of 1 are multiplied.
        scale = add(
            "Mul", [factor, self.builder.number(f"{name}_number", 2 * item.weight)], f"{name}_twice"
        )
        scale = add("Mul", [scale, "style_weight"], f"{name}_with_weight")
        if not self.regions:
            scale = add("Div", [scale, self._positions(activation)], f"{name}_per_position")
        spread = self._reshape(f"{name}_scale", scale, (-1, 1, 1))
        scaled, border = (
            add("Mul", [part, spread], f"{part}_scaled")
            for part in (compared.by_gram, compared.border)
        )
        if region.shares is not None:
            border = add("Mul", [border, self._flatten(region.shares)], f"{name}_border_weighed")
        product = add("MatMul", [scaled, weighed], f"{name}_product_gradient")
        flat_gradient = add("Add", [product, border], f"{name}_flat_gradient")
        shape = add("Shape", [activation], f"{name}_shape")
        return cost, add("Reshape", [flat_gradient, shape], f"{name}_gradient")

    def _compare_covariances(
        self, name: str, ours: _Moments, theirs: _Moments, channels: int
    ) -> _Compared:
        add = self.builder.add
        difference = add("Sub", [ours.covariance, theirs.covariance], f"{name}_difference")
        share = self.builder.number(f"{name}_share", 2 / channels**2)
        slope = add("Mul", [difference, share], f"{name}_slope")
        pulled = add("MatMul", [slope, ours.mean], f"{name}_pulled")
        border = add("Neg", [pulled], f"{name}_border")
        cost = self._mean_square(name, difference, (1, 2), None)
        strength = self._mean_square(f"{name}_target", theirs.covariance, (1, 2), None)
        return _Compared(cost, slope, border, strength)

    def _compare_deviations(
        self, name: str, ours: _Moments, theirs: _Moments, channels: int
    ) -> _Compared:
        add, number = self.builder.add, self.builder.number
        strength = self._mean_diagonal(f"{name}_target", theirs.gram, channels)
        floor = add(
            "Mul", [strength, number("deviation_floor", DEVIATION_FLOOR)], f"{name}_share_of"
        )
        floor = add("Add", [floor, number("least", LEAST)], f"{name}_floor")
        deviations = []
        for side, moments in (("ours", ours), ("theirs", theirs)):
            label = f"{name}_{side}"
            variance = self._diagonal(f"{label}_variance", moments.covariance, channels)
            # Rounding may leave a variance below zero.
            variance = add("Relu", [variance], f"{label}_variance_positive")
            variance = add("Add", [variance, floor], f"{label}_variance_with_floor")
            deviations.append(add("Sqrt", [variance], f"{label}_deviation"))
        change = add("Sub", deviations, f"{name}_deviation_difference")
        share = add("Div", [change, deviations[0]], f"{name}_deviation_share")
        share = add(
            "Mul", [share, number(f"part_{channels}", 1 / channels)], f"{name}_deviation_part"
        )
        slope = add("Mul", [share, self._identity(channels)], f"{name}_slope")
        pulled = add("Mul", [share, ours.mean], f"{name}_pulled")
        means, border = self._compare_means(name, ours, theirs, pulled, channels)
        spread = self._mean_square(f"{name}_deviation", change, (1, 2), None)
        cost = add("Add", [means, spread], f"{name}_sum")
        return _Compared(cost, slope, border, self._reshape(f"{name}_per_picture", strength, (-1,)))

    def _transport(
        self, name: str, ours: _Moments, theirs: _Moments, root: str, channels: int
    ) -> _Compared:
        add, number = self.builder.add, self.builder.number
        part, identity = number(f"part_{channels}", 1 / channels), self._identity(channels)
        ridge = self._mean_diagonal(f"{name}_gram", ours.gram, channels)
        ridge = add("Mul", [ridge, number("ridge", RIDGE)], f"{name}_ridge_share")
        ridge = add("Add", [ridge, number("least", LEAST)], f"{name}_ridge")
        ridge = add("Mul", [identity, ridge], f"{name}_ridge_matrix")
        covariance = add("Add", [ours.covariance, ridge], f"{name}_with_ridge")
        product = add("MatMul", [root, covariance], f"{name}_left")
        product = add("MatMul", [product, root], f"{name}_both")
        inverse = self._add_inverse_root(name, product, channels)
        map_ = add("MatMul", [root, inverse], f"{name}_map_left")
        map_ = add("MatMul", [map_, root], f"{name}_map")
        slope = add("Sub", [identity, map_], f"{name}_identity_less_map")
        slope = add("Mul", [slope, part], f"{name}_by_covariance")
        pulled = add("MatMul", [slope, ours.mean], f"{name}_pulled")
        means, border = self._compare_means(name, ours, theirs, pulled, channels)
        spread = self._mean_diagonal(f"{name}_by_covariance", slope, channels)
        spread = add("Mul", [spread, number("ridge", RIDGE)], f"{name}_ridge_slope")
        spread = add("Mul", [identity, spread], f"{name}_ridge_slope_matrix")
        by_gram = add("Add", [slope, spread], f"{name}_slope")
        # The mean square of what the map changes: its rounding shrinks with it, which that of traces does not.
        moved = add("MatMul", [slope, covariance], f"{name}_moved")
        terms = add("Mul", [moved, slope], f"{name}_terms")
        axes = self.builder.integers("over_matrix", (1, 2))
        total = add("ReduceSum", [terms, axes], f"{name}_terms_sum", keepdims=0)
        total = add("Mul", [total, number(f"count_{channels}", channels)], f"{name}_distance")
        cost = add("Add", [means, total], f"{name}_sum")
        strength = self._mean_diagonal(f"{name}_target", theirs.gram, channels)
        strength = self._reshape(f"{name}_per_picture", strength, (-1,))
        return _Compared(cost, by_gram, border, strength)

    def _compare_means(
        self, name: str, ours: _Moments, theirs: _Moments, pulled: str, channels: int
    ) -> tuple[str, str]:
        """Add the cost of means, (batch), and the border, less what covariances pull them by."""
        add = self.builder.add
        shift = add("Sub", [ours.mean, theirs.mean], f"{name}_shift")
        part = self.builder.number(f"part_{channels}", 1 / channels)
        shift_part = add("Mul", [shift, part], f"{name}_shift_part")
        border = add("Sub", [shift_part, pulled], f"{name}_border")
        return self._mean_square(f"{name}_shift", shift, (1, 2), None), border

    def _add_inverse_root(self, name: str, matrix: str, channels: int) -> str:
        """Add M^−½ of matrices, (batch, channels, channels)."""
        add, number = self.builder.add, self.builder.number
        square = add("Mul", [matrix, matrix], f"{name}_matrix_square")
        axes = self.builder.integers("over_matrix", (1, 2))
        total = add("ReduceSum", [square, axes], f"{name}_matrix_squares", keepdims=1)
        norm = add("Sqrt", [total], f"{name}_matrix_norm")
        half = add("Div", [matrix, norm], f"{name}_half_0")
        three_halves = self.builder.constant(
            f"three_halves_{channels}", np.eye(channels, dtype=np.float32) * np.float32(1.5)
        )
        # −Z/2 in the place of Z, which saves a product with a number in each step.
        minus = number("minus_half", -0.5)
        step = add("Mul", [half, minus], f"{name}_minus_0")
        step = add("Add", [three_halves, step], f"{name}_step_0")
        inverse = add("Mul", [step, minus], f"{name}_inverse_1")
        for index in range(1, ROOT_STEPS):
            half = add("MatMul", [half, step], f"{name}_half_{index}")
            step = add("MatMul", [inverse, half], f"{name}_product_{index}")
            step = add("Add", [three_halves, step], f"{name}_step_{index}")
            inverse = add("MatMul", [step, inverse], f"{name}_inverse_{index + 1}")
        inverse = add("Mul", [inverse, number("minus_two", -2)], f"{name}_inverse_over_norm")
        return add("Div", [inverse, add("Sqrt", [norm], f"{name}_size")], f"{name}_inverse")

    def _add_moments(
        self, region: StyleRegion, activation: str, flat: str, weighed: str
    ) -> _Moments:
        name, add = region.name, self.builder.add
        transposed = add("Transpose", [flat], f"{name}_transposed", perm=[0, 2, 1])
        gram = self._weighed_gram(name, activation, weighed, transposed)
        if region.shares is not None:
            shares = self._flatten(region.shares)
            column = add("Transpose", [shares], f"{name}_shares", perm=[0, 2, 1])
            return self._with_covariance(name, gram, add("MatMul", [flat, column], f"{name}_mean"))
        # Axis by axis, as sums of a million values one after the other are not exact in float32.
        across, down = (self.builder.integers(f"over_{axis}", (axis,)) for axis in (3, 2))
        mean = add("ReduceMean", [activation, across], f"{name}_mean_across", keepdims=0)
        mean = add("ReduceMean", [mean, down], f"{name}_mean", keepdims=1)
        return self._with_covariance(name, gram, mean)

    def _split_moments(self, target: str, channels: int) -> _Moments:
        integers, parts = self.builder.integers, []
        axes = integers("axes_1_2", (1, 2))
        for part, first, last in (
            ("gram", (0, 0), (channels, channels)),
            ("mean", (0, channels), (channels, channels + 1)),
        ):
            bounds = [integers(f"at_{a}_{b}", (a, b)) for a, b in (first, last)]
            parts.append(self.builder.add("Slice", [target, *bounds, axes], f"{target}_{part}"))
        return self._with_covariance(target, *parts)

    def _with_covariance(self, name: str, gram: str, mean: str) -> _Moments:
        row = self.builder.add("Transpose", [mean], f"{name}_mean_row", perm=[0, 2, 1])
        outer = self.builder.add("MatMul", [mean, row], f"{name}_mean_square_matrix")
        return _Moments(gram, mean, self.builder.add("Sub", [gram, outer], f"{name}_covariance"))

    def _identity(self, channels: int) -> str:
        return self.builder.constant(f"identity_{channels}", np.eye(channels, dtype=np.float32))

    def _diagonal(self, name: str, matrix: str, channels: int) -> str:
        """Add the diagonal, (batch, channels, 1), of matrices."""
        masked = self.builder.add("Mul", [matrix, self._identity(channels)], f"{name}_masked")
        axis = self.builder.integers("over_2", (2,))
        return self.builder.add("ReduceSum", [masked, axis], f"{name}_diagonal", keepdims=1)

    def _mean_diagonal(self, name: str, matrix: str, channels: int) -> str:
        """Add the mean of matrices' diagonals, (batch, 1, 1)."""
        diagonal = self._diagonal(name, matrix, channels)
        axis = self.builder.integers("over_1", (1,))
        return self.builder.add("ReduceMean", [diagonal, axis], f"{name}_trace_part", keepdims=1)
