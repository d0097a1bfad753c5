"""What targets depend on besides pictures, and the shapes that they and their regions have."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.objective import Objective
from nstx.models.statistics import MOST_REGIONS, style_side
from nstx.models.vgg19 import find_layer

from ..regions.masks import Region
from .targets import Targets

SIZES = ("size", "width", "height", "scales", "style_scale", "stretch")
"""Settings that targets follow from, so that nothing else can be chosen beside them."""


def describe_basis(objective: Objective, weights_sha256: str) -> dict[str, Any]:
    """Return what targets depend on besides the pictures, as plain data."""
    statistics = {item.layer: item.statistic for item in objective.style_layers}
    others = sorted(name for name, statistic in statistics.items() if statistic != "gram")
    return {
        "content_layers": sorted(item.layer for item in objective.content_layers),
        "style_layers": sorted(item.layer for item in objective.style_layers),
        "pooling": objective.pooling,
        "pool_rounding": objective.pool_rounding,
        "weights_sha256": weights_sha256,
        # Their targets are moments: of all such statistics the same.
        **({"moments_layers": others} if others else {}),
    }


def wrong_shapes(target: Targets, objective: Objective) -> Iterator[str]:
    """Yield a description of each target that is missing, or whose shape is not the layer's."""
    for kind, names in (("content", objective.content_names), ("style", objective.style_names)):
        for layer in map(find_layer, names):
            size = layer.output_size(target.height, target.width, objective.pool_rounding)
            shape: tuple[int, ...] = (layer.channels, *size)
            if kind == "style":
                shape = (style_side(objective.statistics[layer.name], layer.channels),) * 2
                shape = (len(target.areas), *shape) if len(target.areas) > 1 else shape
            array = getattr(target, kind).get(layer.name)
            if array is None:
                yield f"no {kind} {layer.name}"
            elif array.shape != shape:
                yield f"{kind} {layer.name} of shape {array.shape} instead of {shape}"


def take_region(
    scale: int, size: tuple[int, int], arrays: dict[str, NDArray[Any]]
) -> Region | None:
    """Take the region of a scale, of a size (height, width), out of a file's arrays; `ValueError` if it is of none."""
    counts, mask = arrays.pop(f"{scale}/region", None), arrays.pop(f"{scale}/mask", None)
    parts = arrays.pop(f"{scale}/parts", None)
    several = [] if parts is None else list(parts)
    if parts is not None and (parts.ndim != 3 or not 2 <= len(parts) <= MOST_REGIONS):
        raise ValueError("its regions are none")
    for values in (counts, mask, *several):
        if values is not None and (
            counts is None or values.dtype != np.uint8 or values.shape != size or not values.any()
        ):
            raise ValueError("its region is none of its picture")
    return None if counts is None else Region(counts, mask, parts)
