"""Targets of pictures that are too large to be evaluated whole: their features, tile by tile."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import NumericalError
from nstx.models.objective import Objective

from ..devices.memory import give_back_cached, is_exhausted
from ..features.activations import FeatureExtractor
from ..pictures.picture import Pixels
from ..regions.positions import Values, weigh_statistics
from ..tiles.kept import KeptActivation
from ..tiles.layout import EXTRACTED_SIDE, SIDES, TileLayout
from .store import Kept

_log = logging.getLogger("nstx")


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
        layout.height,
        layout.width,
        layout.layers,
        layout.rounding,
        min(layout.side, EXTRACTED_SIDE),
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


def smaller_tiles(
    size: tuple[int, int], layout: TileLayout | None, objective: Objective
) -> list[TileLayout]:
    """Return the tiles by which features of a picture (height, width) take less memory than by these, or whole."""
    most = max(size) - 1 if layout is None else min(layout.side, EXTRACTED_SIDE) - 1
    return [
        TileLayout(*size, tuple(objective.layers), objective.pool_rounding, side)
        for side in SIDES
        if side <= min(most, EXTRACTED_SIDE)
    ]


def extract_by_first(
    extractor: FeatureExtractor,
    pixels: Pixels,
    layouts: Sequence[TileLayout | None],
    kinds: Mapping[str, Kept],
    shares: dict[str, Values] | None,
) -> dict[str, NDArray[np.float32]]:
    """Return what is kept of a picture's layers, by the first of some tiles that memory holds; None are the whole.

    All positions count alike where there are no shares.
    """
    for index, layout in enumerate(layouts):
        if index:
            give_back_cached()
        try:
            values = _extract(extractor, pixels, layout, kinds, shares)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error) or index == len(layouts) - 1:
                raise
            continue
        if index and layout is not None:
            _log.warning(
                "memory did not hold the features of %d×%d pixels; they are made by tiles of %d",
                layout.width, layout.height, layout.side,
            )  # fmt: skip
        return values
    raise AssertionError


def _extract(
    extractor: FeatureExtractor,
    pixels: Pixels,
    layout: TileLayout | None,
    kinds: Mapping[str, Kept],
    shares: dict[str, Values] | None,
) -> dict[str, NDArray[np.float32]]:
    layers = list(kinds)
    moments = [name for name in layers if kinds[name] == "moments"]
    if layout is not None and "activation" in kinds.values():
        kept = extract_content(extractor, pixels, layout, layers, None)
        return {name: kept[name].read(*layout.whole(name)) for name in layers}
    if layout is not None:
        return extract_statistics(extractor, pixels, layout, layers, moments, shares or {})
    if shares is not None:
        activations = extractor.extract(pixels, layers, []).activations
        return weigh_statistics(activations, shares, moments)
    of_kind = {of: [name for name in layers if kinds[name] == of] for of in get_args(Kept)}
    features = extractor.extract(pixels, *of_kind.values())
    return {**features.activations, **features.grams, **features.moments}
