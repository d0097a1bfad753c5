"""Features of one picture, and what every extractor of them must offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..pictures.pixels import Pixels

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What an extractor returns for one picture: activations and Gram matrices, by layer."""

    activations: Mapping[str, Array]
    grams: Mapping[str, Array]


class FeatureExtractor(Protocol):
    """Evaluates VGG-19, truncated where the objective needs it, on one picture."""

    def extract(self, pixels: Pixels, activations: Sequence[str], grams: Sequence[str]) -> Features:
        """Return activations of some layers and Gram matrices of others.

        Args:
            pixels: float32 (height, width, 3), any size of 16 pixels or more a side.
            activations: layers whose activations are wanted, float32 (channels, h, w).
            grams: layers whose Gram matrices G = F Fᵀ / N are wanted, float32.

        Returns:
            Both by the table's names of the layers, however they were spelled.
        """
        ...
