"""Features of a picture: activations of named layers, and what there is to say about them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import NumericalError, UsageError
from nstx.models.vgg19 import PoolRounding, canonical_name, find_layer, split_layers

from ..devices.memory import memory_errors
from ..pictures.picture import Picture
from ..pictures.resizing import resize_picture
from ..sizes import fit_size
from .extractor import Features
from .onnx_extractor import model_activations
from .opening import Extraction, open_extractor

FEATURE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv4_2", "conv5_1")
"""Shown unless others are asked for: the style layers and the content layer of every preset."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExtractedFeatures:
    """The features of one picture.

    Attributes:
        height: of the picture as it was evaluated, in pixels.
        width: of the picture as it was evaluated, in pixels.
        features: activations, float32 (channels, h, w), and Gram matrices, by layer.
        extractor: ``onnx``, ``tensorrt`` or ``torch``.
        runs_on: ONNX Runtime's provider, or PyTorch's device with its precision.
    """

    height: int
    width: int
    features: Features
    extractor: str
    runs_on: str


def extract_features(
    picture: Picture,
    layers: str | Sequence[str] | None = None,
    grams: str | Sequence[str] = (),
    *,
    size: int | None = None,
    extraction: Extraction | None = None,
) -> ExtractedFeatures:
    """Evaluate VGG-19 on a picture.

    Args:
        picture: of any size of 16 pixels or more a side.
        layers: of the activations, as ``conv4_2``, ``relu4_2`` or ``pool4``, in a list or separated
            by commas; None takes `FEATURE_LAYERS`, or all that a model file has.
        grams: layers of the Gram matrices G = F Fᵀ / N.
        size: long side in pixels that the picture is brought to; None leaves it as it is.
        extraction: how; None takes ONNX Runtime where it is fastest.

    Raises:
        UsageError: a layer or size is not known, or the picture is too small.
        NumericalError: a feature is not finite.
        WeightsError, ModelError, DeviceError: as `nstx.engine.features.opening.open_extractor`.
    """
    choices = extraction or Extraction()
    if layers is None:
        layers = FEATURE_LAYERS if choices.model is None else model_activations(choices.model)
    names, gram_names = [
        split_layers(names) if isinstance(names, str) else tuple(map(canonical_name, names))
        for names in (layers, grams)
    ]
    height, width = fit_size(picture.size, size=max(picture.size) if size is None else size)
    _check_positions([*names, *gram_names], height, width, choices.poolings[1])
    opened = open_extractor(choices, [*names, *gram_names])
    with memory_errors((height, width)):
        pixels = resize_picture(picture, height, width)
        features = opened.extractor.extract(pixels, names, gram_names)
    for name, values in {**features.activations, **features.grams}.items():
        if not np.isfinite(values).all():
            raise NumericalError(
                f"expected finite features, got NaN or infinity in {name}; try other weights"
            )
    return ExtractedFeatures(
        height=height,
        width=width,
        features=features,
        extractor=opened.name,
        runs_on=opened.runs_on,
    )


def _check_positions(
    layers: Sequence[str], height: int, width: int, rounding: PoolRounding
) -> None:
    """Check that every layer has a position left; a fifth pooling that rounds down may have none."""
    for name in layers:
        if min(find_layer(name).output_size(height, width, rounding)) < 1:
            raise UsageError(
                f"expected a picture that leaves {name} a position, got {width}×{height}; "
                "try a larger --size"
            )


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
