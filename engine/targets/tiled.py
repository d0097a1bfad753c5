"""Targets of pictures that are too large to be evaluated whole: their features, tile by tile."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import NumericalError

from ..features.activations import FeatureExtractor
from ..pictures.picture import Pixels
from ..regions.positions import Values, weigh_statistics
from ..tiles.kept import KeptActivation
from ..tiles.layout import TileLayout

_SIDE = 256
"""Of tiles at most, as all layers' activations are in memory where statistics are made of them."""


def extract_content(
    extractor: FeatureExtractor,
    pixels: Pixels,
    layout: TileLayout,
    layers: Sequence[str],
    folder: Path | None,
) -> dict[str, KeptActivation]:
    """Return a picture's activations, which are kept in a file of a folder; `NumericalError` if one is not finite."""
    kept = {name: KeptActivation(layout, name, folder) for name in layers}
    for tile in layout.tiles:
        features = extractor.extract(pixels[tile.window], layers, []).activations
        for name, values in features.items():
            inner = values[:, *layout.within(tile, name)]
            if not np.isfinite(inner).all():
                raise NumericalError(
                    f"expected finite targets, got NaN or infinity in {name}; try pixels of 0–255, or other weights"
                )
            kept[name].add(inner)
    return kept


def extract_statistics(
    extractor: FeatureExtractor,
    pixels: Pixels,
    layout: TileLayout,
    layers: Sequence[str],
    moments: Sequence[str],
    shares: dict[str, Values],
) -> dict[str, NDArray[np.float32]]:
    """Return a picture's Gram matrices, or moments of those layers, summed over tiles in float64.

    Positions count by shares (h, w), or all alike where a layer has none.
    """
    small = TileLayout(
        layout.height, layout.width, layout.layers, layout.rounding, min(layout.side, _SIDE)
    )
    totals: dict[str, NDArray[np.float64]] = {}
    for tile in small.tiles:
        activations = extractor.extract(pixels[tile.window], layers, []).activations
        inner = {name: values[:, *small.within(tile, name)] for name, values in activations.items()}
        counts = {
            name: shares[name][small.positions(tile, name)]
            if name in shares
            else np.full(values.shape[1:], 1 / small.count(name), np.float32)
            for name, values in inner.items()
        }
        for name, part in weigh_statistics(inner, counts, moments).items():
            totals[name] = totals[name] + part if name in totals else part.astype(np.float64)
    return {name: total.astype(np.float32) for name, total in totals.items()}
