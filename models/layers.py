"""Layers with their weights within a cost, and how they are written as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .errors import UsageError
from .printable import printable
from .statistics import STATISTICS, Statistic
from .values import describe, suggest
from .vgg19 import find_layer


@dataclass(frozen=True, slots=True)
class LayerWeight:
    """A layer, its weight (≥ 0) within the content or the style cost, and of a style what is compared.

    Attributes:
        statistic: ``gram``, ``covariance``, ``mean-std`` or ``wasserstein``; see `nstx.models.statistics`.
    """

    layer: str
    weight: float
    statistic: Statistic = "gram"


def parse_layers(
    text: str | Sequence[str], weigh: "LayerWeighting", statistic: Statistic = "gram"
) -> tuple[LayerWeight, ...]:
    """Read ``conv1_1:0.5,conv2_1``, or a list of such, as layers with weights.

    A statistic may follow, as in ``conv1_1:0.5:wasserstein`` or ``conv1_1:wasserstein``. ``weigh`` weights
    layers without a weight, and those without a statistic have the one here.
    """
    parts = [text] if isinstance(text, str) else text
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise UsageError(
            f"expected layers as a string or a list of names, got {describe(text)}; "
            "try 'conv1_1,conv4_2:0.5'"
        )
    items = [item.strip().split(":") for part in parts for item in part.split(",") if item.strip()]
    if not items:
        raise UsageError(
            f"expected layers such as conv1_1,conv4_2:0.5, got {describe(text)}; try conv4_2"
        )
    defaults = weigh_layers([name for name, *_ in items], weigh)
    return tuple(
        _parse_layer(item, replace(default, statistic=statistic))
        for item, default in zip(items, defaults, strict=True)
    )


def _parse_layer(parts: Sequence[str], default: LayerWeight) -> LayerWeight:
    """Return a layer with the weight and the statistic that follow its name, each if it does."""
    layer, rest = default, [part.strip() for part in parts[1:]]
    names = [part for part in rest[-1:] if part in STATISTICS]
    if names:
        layer = replace(layer, statistic=check_statistic(rest.pop()))
    if not rest:
        return layer
    try:
        (weight,) = map(float, rest)
    except ValueError:
        name, text = printable(parts[0]), printable(":".join(parts))
        raise UsageError(
            f"expected a number after the colon, or a statistic of {', '.join(STATISTICS)}, got {text}; "
            f"try '{name}:0.5' or '{name}:0.5:wasserstein'"
        ) from None
    return replace(layer, weight=weight)


def check_statistic(name: object) -> Statistic:
    """Return the statistic of a style layer; `UsageError` if there is none of this name."""
    for statistic in STATISTICS:
        if isinstance(name, str) and statistic == name:
            return statistic
    raise UsageError(
        f"expected a statistic of {', '.join(STATISTICS)}, got {describe(name)}; "
        f"try {suggest(name, STATISTICS, 'wasserstein')}"
    )


LayerWeighting = Literal["equal", "inverse_channels_squared"]
"""How layers that carry no weight of their own are weighted: 1/n each, or 10³/C² (Gatys)."""


def weigh_layers(names: Iterable[str], weigh: LayerWeighting) -> tuple[LayerWeight, ...]:
    """Return the layers with the weights that a rule gives them."""
    layers = [find_layer(name) for name in names]
    if weigh == "equal":
        return tuple(LayerWeight(layer.name, 1 / len(layers)) for layer in layers)
    return tuple(LayerWeight(layer.name, 1e3 / layer.channels**2) for layer in layers)
