"""Layers with their weights within a cost, and how they are written as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import UsageError
from .printable import printable
from .values import describe
from .vgg19 import find_layer


@dataclass(frozen=True, slots=True)
class LayerWeight:
    """A layer and its weight (≥ 0) within the content or the style cost."""

    layer: str
    weight: float


def parse_layers(text: str | Sequence[str], weigh: "LayerWeighting") -> tuple[LayerWeight, ...]:
    """Read ``conv1_1:0.5,conv2_1``, or a list of such, as layers with weights.

    ``weigh`` weights those without.
    """
    parts = [text] if isinstance(text, str) else text
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise UsageError(
            f"expected layers as a string or a list of names, got {describe(text)}; "
            "try 'conv1_1,conv4_2:0.5'"
        )
    items = [
        item.strip().partition(":") for part in parts for item in part.split(",") if item.strip()
    ]
    if not items:
        raise UsageError(
            f"expected layers such as conv1_1,conv4_2:0.5, got {describe(text)}; try conv4_2"
        )
    defaults = weigh_layers([name for name, _, _ in items], weigh)
    return tuple(
        LayerWeight(default.layer, _parse_weight(name, weight) if colon else default.weight)
        for (name, colon, weight), default in zip(items, defaults, strict=True)
    )


def _parse_weight(layer: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"expected a number after the colon, got {printable(f'{layer}:{text}')}; "
            f"try '{printable(layer)}:0.5'"
        ) from None


LayerWeighting = Literal["equal", "inverse_channels_squared"]
"""How layers that carry no weight of their own are weighted: 1/n each, or 10³/C² (Gatys)."""


def weigh_layers(names: Iterable[str], weigh: LayerWeighting) -> tuple[LayerWeight, ...]:
    """Return the layers with the weights that a rule gives them."""
    layers = [find_layer(name) for name in names]
    if weigh == "equal":
        return tuple(LayerWeight(layer.name, 1 / len(layers)) for layer in layers)
    return tuple(LayerWeight(layer.name, 1e3 / layer.channels**2) for layer in layers)
