"""Features of one picture, and the interface of their extractors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..pictures.picture import Pixels

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Activations and Gram matrices of a picture, by layer."""

    activations: Mapping[str, Array]
    grams: Mapping[str, Array]


class FeatureExtractor(Protocol):
    """Evaluates VGG-19, truncated where the objective needs it, on one picture."""

    def extract(self, pixels: Pixels, activations: Sequence[str], grams: Sequence[str]) -> Features:
        """Return activations F, float32 (channels, h, w), and Gram matrices G = F Fᵀ / N of layers.

        Pixels are (height, width, 3), of any size of 16 or more a side. The features go by the
        table's names of the layers, however they were spelled.
        """
        ...
