"""Targets: what an objective compares a picture with, computed once for a content and its styles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .pixels import Pixels

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Targets:
    """The fixed side of the cost at one size.

    Attributes:
        height: of the picture that they are for.
        width: likewise.
        content: by content layer, float32 (channels, h, w), the activation after the ReLU.
        style: by style layer, float32 (channels, channels), G = F Fᵀ / N, blended over the styles.
    """

    height: int
    width: int
    content: Mapping[str, Array]
    style: Mapping[str, Array]


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


def make_targets(
    size: tuple[int, int], content: Features, styles: Sequence[tuple[Features, float]]
) -> Targets:
    """Put the features of a content picture and its styles together as targets.

    Several styles are blended: G = Σ wᵢ·Gᵢ with the weights scaled to sum to 1. Comparing with the
    blend has the gradient of the weighted sum of the costs of each style,
    Σ wᵢ‖G − Gᵢ‖² = ‖G − Σ wᵢGᵢ‖² + constant, and its cost can reach 0.

    Args:
        size: height and width of the result.
        content: whose activations are the content's targets.
        styles: whose Gram matrices are blended, each with a weight above 0.
    """
    total = sum(weight for _, weight in styles)
    blended: dict[str, Array] = {}
    for features, weight in styles:
        for layer, gram in features.grams.items():
            share = gram if weight == total else gram * (weight / total)
            blended[layer] = blended[layer] + share if layer in blended else share
    height, width = size
    return Targets(height=height, width=width, content=content.activations, style=blended)
