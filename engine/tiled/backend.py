"""Costs and gradients of pictures that memory would not hold whole, exactly.

In a first pass over the tiles, sums of style statistics and of content costs come about; from these the cost of the
whole and its slopes follow; in a second pass each tile's inner positions are where its gradient begins, and these
gradients add up to that of the whole. A step takes two forward passes and a backward one, of tiles with their halos.
(Two passes, as in Galerne et al. 2024, "Scaling painting style transfer"; there gradients are cut to inner pixels,
for which halos have to be twice as wide.)
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nstx.models.cost import Cost
from nstx.models.errors import NumericalError

from ..devices.arrays import NUMPY, Array, Arrays, ArrayT
from ..gradients.backend import (
    GradientBackend,
    PrecisionCheck,
    gradient_error,
    lower_seed,
    raise_seed,
)
from ..tiles.pauses import pause
from .detail import add_detail_gradient, detail_costs
from .passes import Slopes, TilePasses, Values
from .problem import TiledProblem
from .variation import add_variation_gradient, total_variation


class TiledBackend(GradientBackend):
    """Costs and gradients by a network's passes over tiles.

    Args:
        passes: of the network.
        problem: of the batch, with the layout of its tiles; that of another backend is shared.
        arrays: that pictures are kept as, on the host.

    Attributes:
        problem: the targets, with offsets of this backend's own.
        seed: that the next slopes are multiplied by, as `nstx.engine.gradients.torch_gradient` has it; 1 but in fp16.
    """

    def __init__(
        self, passes: TilePasses, problem: TiledProblem, *, arrays: Arrays = NUMPY
    ) -> None:
        self._passes, self._arrays = passes, arrays
        self.problem, self.seed = problem, passes.first_seed

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Implement `GradientBackend`."""
        x = self._fetch(pixels)
        costs, slopes = self._compare(x)
        gradient = (
            self._add_tiles(x, slopes) if self._passes.first_seed == 1 else self._by_seed(x, slopes)
        )
        self._passes.rest()
        weights = self.problem.variations
        if weights.any():
            add_variation_gradient(x, weights, gradient)
        weights, details = self.problem.details
        if details:
            add_detail_gradient(x, details, weights, gradient)
        if isinstance(pixels, np.ndarray):
            return costs, cast(ArrayT, gradient)
        return costs, cast(ArrayT, self._arrays.place(gradient))

    def _add_tiles(self, pixels: Values, slopes: Slopes) -> Values:
        """Return the sum of the tiles' gradients; `NumericalError` if one is not finite."""
        gradient = np.zeros_like(pixels)
        for tile in self.problem.layout.tiles:
            pause()
            part = self._passes.gradient(self.problem.task(tile, pixels), slopes)
            if not np.isfinite(part).all():
                raise gradient_error()
            gradient[:, *tile.window] += part
        return gradient

    def _by_seed(self, pixels: Values, slopes: Slopes) -> Values:
        """Return the same of slopes that were multiplied by a seed, by which it is divided: the largest that works."""
        while True:
            try:
                gradient = self._add_tiles(pixels, slopes.times(self.seed))
                break
            except NumericalError:
                lower = lower_seed(self.seed)
                if lower is None:
                    raise
                self.seed = lower
        largest = float(abs(gradient).max())
        gradient /= self.seed
        self.seed = raise_seed(self.seed, largest)
        return gradient

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Implement `GradientBackend`, by the first pass alone."""
        return self._compare(self._fetch(pixels))[0]

    def export(self) -> Mapping[str, NDArray[Any]]:
        """Implement `GradientBackend`: nothing but its problem's offsets, which a checked one exports.

        The seed goes with those passes whose untiled backends may scale gradients, as their states have the same form.
        """
        return {"seed": np.asarray(self.seed)} if self._passes.has_seed else {}

    def resume(self, earlier: Mapping[str, NDArray[Any]], checks: Sequence[PrecisionCheck]) -> None:
        """Implement `GradientBackend`."""
        if self._passes.first_seed != 1:
            self.seed = float(earlier["seed"])

    def _fetch(self, pixels: Array) -> Values:
        return pixels if isinstance(pixels, np.ndarray) else self._arrays.fetch(pixels)

    def _compare(self, pixels: Values) -> tuple[list[Cost], Slopes]:
        """Return the costs and slopes that follow from a pass over all tiles."""
        style, content = dict[str, Any](), dict[str, Any]()
        for tile in self.problem.layout.tiles:
            pause()
            sums = self._passes.sums(self.problem.task(tile, pixels))
            for total, part in ((style, sums.style), (content, sums.content)):
                for name, values in part.items():
                    wide = np.asarray(values, np.float64)
                    total[name] = total[name] + wide if name in total else wide
        self._passes.rest()
        has_variation = self.problem.variations.any()
        variation = total_variation(pixels) if has_variation else np.zeros(len(pixels))
        details = self.problem.details[1]
        detail = detail_costs(pixels, details) if details else np.zeros(len(pixels))
        return self.problem.compare(style, content, variation, detail)
