"""What a network does with one tile: sums for the cost, then the gradient that begins at its inner positions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.objective import Objective

Values = NDArray[Any]
"""float32, or float64 where tests compute in that."""

Place = tuple[slice, slice]
"""Rows and columns of a layer, in a tile's outer rectangle."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TileTask:
    """A tile of a batch, and what its inner positions are compared with.

    Attributes:
        pixels: of the outer rectangle, (batch, height, width, 3).
        places: the inner positions of each layer.
        positions: how many each layer has in the whole picture.
        regions: how many there are in each picture, with styles of their own.
        shares: of inner positions, (batch · regions, h, w), of style layers in which not all count alike.
        content: targets of inner positions, (batch, channels, h, w), by content layer.
    """

    pixels: Values
    places: Mapping[str, Place]
    positions: Mapping[str, int]
    regions: int = 1
    shares: Mapping[str, Values] = field(default_factory=dict)
    content: Mapping[str, Values] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class TileSums:
    """A tile's part of what costs follow from.

    Attributes:
        style: its part of Gram matrices or moments, (batch · regions, side, side), by style layer.
        content: sums of squared differences, (batch), by content layer.
    """

    style: Mapping[str, Values]
    content: Mapping[str, Values]


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """How the cost of the whole changes, with all factors and weights.

    Attributes:
        style: ∂J/∂G, or that of moments, (batch · regions, side, side), symmetric, by style layer.
        content: what differences from targets are multiplied with to be the gradient, (batch), by content layer.
    """

    style: Mapping[str, NDArray[np.float64]]
    content: Mapping[str, NDArray[np.float64]]

    def times(self, factor: float) -> "Slopes":
        """Return them multiplied by a factor."""
        style, content = (
            {name: factor * values for name, values in of.items()}
            for of in (self.style, self.content)
        )
        return Slopes(style, content)


class TilePasses(ABC):
    """A network's two passes over a tile, for an objective.

    Attributes:
        has_seed: whether the network's untiled backend may scale gradients.
        first_seed: what slopes are best multiplied by at first, so that gradients are within the precision; 1 where they are
            as they are.
    """

    objective: Objective
    has_seed: bool = False
    first_seed: float = 1.0

    @abstractmethod
    def sums(self, task: TileTask) -> TileSums:
        """Return what a tile adds to the statistics and content costs of the whole."""

    @abstractmethod
    def gradient(self, task: TileTask, slopes: Slopes) -> Values:
        """Return the gradient (batch, height, width, 3) that the tile's inner positions have at its outer pixels."""

    def rest(self) -> None:  # noqa: B027  (most have nothing to give back)
        """Give back memory that the next pass has no use for; called after each."""
