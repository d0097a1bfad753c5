"""What a batch of large pictures is compared with: sums over tiles become costs and slopes here, in float64.

The formulas are those of `nstx.models.reference`; what is compared with untiled gradients shares no code with those.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.cost import Cost, check_cost, combine_costs
from nstx.models.objective import Objective
from nstx.models.reference.statistics import reference_scale, reference_style_cost

from ..gradients.backend import Problems, check_batch, check_regions
from ..targets.targets import Targets
from ..tiles.kept import sum_squares
from ..tiles.layout import Tile, TileLayout
from .passes import Slopes, TileTask, Values

Part = tuple[str, str]
Array64 = NDArray[np.float64]


class TiledProblem:
    """Targets and weights of a batch of pictures, for tiles.

    Attributes:
        layout: of the tiles.
        regions: how many each picture has; arrays of style layers are (batch · regions, …).
        noted: Gram matrices and slopes that were compared, in a block of `noting`; None outside.
    """

    def __init__(self, layout: TileLayout, problems: Problems) -> None:
        self.layout = layout
        self.objectives = [objective for objective, _ in problems]
        self._targets = [targets for _, targets in problems]
        sizes = [(targets.height, targets.width) for targets in self._targets]
        self._first = check_batch(self.objectives, sizes)
        self.regions = check_regions(self._targets)
        self._shared = {
            name: any(name in targets.shares for targets in self._targets)
            for name in self._first.style_names
        }
        self._content_factors = {
            name: np.array([_content_factor(self._first, own, name) for own in self._targets])
            for name in self._first.content_names
        }
        self._style_factors = {
            name: np.concatenate([_style_factors(self._first, own, name) for own in self._targets])
            for name in self._first.style_names
        }
        self._offsets: dict[Part, Array64] = {}
        self.noted: dict[Part, Array64] | None = None

    def share(self) -> "TiledProblem":
        """Return the same problem for another precision: its offsets are not shared."""
        problem = copy.copy(self)
        problem._offsets, problem.noted = {}, None
        return problem

    @property
    def variations(self) -> Array64:
        """The weights of the total variation, (batch)."""
        return np.array([objective.tv_weight for objective in self.objectives])

    @property
    def details(self) -> tuple[Array64, list[NDArray[np.float32]]]:
        """The weights of the contents' detail, (batch), and their Laplacians: none where it does not count."""
        weights = np.array([objective.laplacian_weight for objective in self.objectives])
        return weights, [item for own in self._targets if (item := own.laplacian) is not None]

    def task(self, tile: Tile, pixels: Values) -> TileTask:
        """Return what is done with a tile of pictures (batch, height, width, 3)."""
        layout, first = self.layout, self._first
        return TileTask(
            pixels=pixels[:, *tile.window],
            places={name: layout.within(tile, name) for name in first.layers},
            positions={name: layout.count(name) for name in first.layers},
            regions=self.regions,
            shares={
                name: self._shares(name, tile) for name, shared in self._shared.items() if shared
            },
            content={
                name: np.stack([self._content(own, name, tile) for own in self._targets])
                for name in first.content_names
            },
        )

    def _shares(self, layer: str, tile: Tile) -> Values:
        place, count = self.layout.positions(tile, layer), self.layout.count(layer)
        size = (place[0].stop - place[0].start, place[1].stop - place[1].start)
        alike = np.full(size, 1 / count, np.float32)
        shares = [
            own.shares[layer][..., *place] if layer in own.shares else alike
            for own in self._targets
        ]
        return np.stack(shares).reshape(-1, *size)

    def _content(self, targets: Targets, layer: str, tile: Tile) -> Values:
        place = self.layout.positions(tile, layer)
        if layer in targets.kept:
            return targets.kept[layer].read(*place)
        return targets.content[layer][:, *place]

    @contextmanager
    def noting(self) -> Iterator[dict[Part, Array64]]:
        """Note what is compared in this block: Gram matrices, and slopes of moments; of contents, nothing.

        What rounding does to these is no more than it does to any gradient, as contents are never met.
        """
        self.noted = {}
        try:
            yield self.noted
        finally:
            self.noted = None

    def offset(self, offsets: Mapping[Part, Array64]) -> None:
        """Add offsets to style targets, in place of earlier ones, to make up for what rounding adds."""
        self._offsets = dict(offsets)

    def export(self) -> dict[str, NDArray[Any]]:
        """Return a copy of all offsets, by the names of their parts."""
        return {"/".join(part): offset.copy() for part, offset in self._offsets.items()}

    def resume(self, aims: Mapping[str, NDArray[Any]]) -> None:
        """Take over offsets that were exported."""
        parts = [("style", name) for name in self._first.style_names]
        self._offsets = {
            part: np.array(aims["/".join(part)]) for part in parts if "/".join(part) in aims
        }

    def compare(
        self,
        style: Mapping[str, Array64],
        content: Mapping[str, Array64],
        variation: Array64,
        laplacian: Array64,
    ) -> tuple[list[Cost], Slopes]:
        """Return each picture's cost, and how it changes.

        ``style`` are Gram matrices or moments, (batch · regions, side, side), ``content`` sums of squared differences, (batch),
        and the costs of pixels are (batch). `NumericalError` if a cost is not finite.
        """
        style_costs, style_slopes = dict[str, Array64](), dict[str, Array64]()
        for name, values in style.items():
            costs, slopes = self._compare_style(name, values)
            factors = self._style_factors[name]
            style_costs[name] = (costs * factors).reshape(-1, self.regions).sum(1)
            weights = self._weights("style", name).repeat(self.regions) * factors
            style_slopes[name] = slopes * weights[:, None, None]
        content_costs, content_slopes = dict[str, Array64](), dict[str, Array64]()
        for name, sums in content.items():
            mean = self._content_factors[name] / (self.layout.count(name) * self._channels(name))
            content_costs[name] = sums * mean
            content_slopes[name] = 2 * self._weights("content", name) * mean
        costs_of = [
            check_cost(
                combine_costs(
                    objective,
                    {name: float(values[index]) for name, values in content_costs.items()},
                    {name: float(values[index]) for name, values in style_costs.items()},
                    float(variation[index]),
                    float(laplacian[index]),
                )
            )
            for index, objective in enumerate(self.objectives)
        ]
        return costs_of, Slopes(style_slopes, content_slopes)

    def _compare_style(self, name: str, values: Array64) -> tuple[Array64, Array64]:
        """Return costs before all factors, (batch · regions), and their slopes; offsets are as `TorchProblem`'s."""
        statistic, part = self._first.statistics[name], ("style", name)
        offsets = self._offsets.get(part, np.zeros_like(values))
        costs, slopes = [], []
        for own, target, offset in zip(values, self._style(name), offsets, strict=True):
            if statistic == "gram":
                cost, slope = reference_style_cost(statistic, own, target + offset)
            else:
                cost, slope = reference_style_cost(statistic, own, target)
                cost -= float(np.sum(offset * (own - target)))
            costs.append(cost)
            slopes.append(slope)
        if self.noted is not None:
            self.noted[part] = values if statistic == "gram" else np.stack(slopes)
        stacked = np.stack(slopes)
        return np.array(costs), stacked if statistic == "gram" else stacked - offsets

    def _style(self, name: str) -> Sequence[Array64]:
        return [
            target
            for own in self._targets
            for target in _regions_of(own, np.asarray(own.style[name], np.float64))
        ]

    def _channels(self, name: str) -> int:
        own = self._targets[0]
        return own.kept[name].channels if name in own.kept else len(own.content[name])

    def _weights(self, kind: str, name: str) -> Array64:
        return np.array(
            [
                getattr(objective, f"{kind}_weight") * item.weight
                for objective in self.objectives
                for item in getattr(objective, f"{kind}_layers")
                if item.layer == name
            ]
        )


def _content_factor(objective: Objective, targets: Targets, name: str) -> float:
    if not objective.relative:
        return objective.content_factor
    if name in targets.kept:
        strength = targets.kept[name].mean_square
    else:
        target = targets.content[name]
        strength = sum_squares(target) / target.size
    return objective.content_factor / max(1.0, strength)


def _style_factors(objective: Objective, targets: Targets, name: str) -> list[float]:
    """Return the factor of each region."""
    statistic, factor = objective.statistics[name], objective.style_factor
    return [
        area * factor / (reference_scale(statistic, target) if objective.relative else 1.0)
        for area, target in zip(
            targets.areas, _regions_of(targets, targets.style[name]), strict=True
        )
    ]


def _regions_of(targets: Targets, style: NDArray[Any]) -> NDArray[Any]:
    """Return a layer's style target of each region, (regions, side, side)."""
    return style if len(targets.areas) > 1 else style[None]
