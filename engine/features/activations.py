"""Features of one picture: the interface of their extractors, and activations in numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..pictures.picture import Pixels

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Activations, Gram matrices and moments (`nstx.models.statistics`) of a picture, by layer."""

    activations: Mapping[str, Array] = field(repr=False)
    grams: Mapping[str, Array] = field(repr=False)
    moments: Mapping[str, Array] = field(default_factory=dict, repr=False)


class FeatureExtractor(Protocol):
    """Evaluates VGG-19, truncated where the objective needs it, on one picture."""

    def extract(
        self,
        pixels: Pixels,
        activations: Sequence[str],
        grams: Sequence[str],
        moments: Sequence[str] = (),
    ) -> Features:
        """Return activations F, float32 (channels, h, w), Gram matrices G = F Fᵀ / N and moments of layers.

        Pixels are (height, width, 3), of any size of 16 or more a side. The features go by the
        table's names of the layers, however they were spelled.
        """


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """One channel of an activation, counted from 0."""

    channel: int
    mean: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSummary:
    """An activation in numbers.

    Attributes:
        shape: (1, height, width, channels), as the assignment writes it.
        smallest: of all values; 0 after a ReLU that was active anywhere.
        zero_share: share of the values that are 0.
        strongest: channels by their mean, the strongest first.
    """

    name: str
    shape: tuple[int, int, int, int]
    smallest: float
    largest: float
    mean: float
    zero_share: float
    strongest: tuple[ChannelSummary, ...]


def summarise_layer(name: str, activation: NDArray[np.float32], strongest: int) -> LayerSummary:
    """Return an activation (channels, height, width) in numbers, with its strongest channels."""
    channels, height, width = activation.shape
    flat = activation.reshape(channels, -1)
    means, peaks = flat.mean(axis=1, dtype=np.float64), flat.max(axis=1)
    order = np.argsort(-means, kind="stable")[:strongest]
    return LayerSummary(
        name=name,
        shape=(1, height, width, channels),
        smallest=float(flat.min()),
        largest=float(peaks.max()),
        mean=float(means.mean()),
        zero_share=float(np.mean(flat == 0)),
        strongest=tuple(
            ChannelSummary(int(index), float(means[index]), float(peaks[index])) for index in order
        ),
    )
