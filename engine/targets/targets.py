"""Targets: what an objective compares a picture with, computed once for its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nstx.models.objective import LAPLACIAN_REACH, Objective
from nstx.models.statistics import covariance_root, style_side
from nstx.models.vgg19 import find_layer

from ..regions.masks import Region
from ..tiles.kept import KeptActivation

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Targets:
    """The fixed side of the cost for a picture of one size.

    Attributes:
        content: by content layer, float32 (channels, h, w), the activation after the ReLU.
        style: by style layer, float32 (channels, channels), G = F Fᵀ / N, or for other statistics moments
            (`nstx.models.statistics`); blended over the styles. Of several regions (regions, …).
        shares: by style layer, float32 (h, w), how much each position counts, summing to 1; of layers in which all
            count alike, none. Of several regions (regions, h, w), of all layers.
        kept: by content layer, what is too large to be in ``content``, which then lacks it.
        region: of the picture, that shares follow from, and within which it may change; None where it has none.
        areas: of each region with styles of its own, summing to 1: by them their costs are weighed.
        laplacian: of the content, float32 (height − 11, width − 11); None where it does not count.
    """

    height: int
    width: int
    content: Mapping[str, Array] = field(repr=False)
    style: Mapping[str, Array] = field(repr=False)
    shares: Mapping[str, Array] = field(default_factory=dict, repr=False)
    region: Region | None = field(default=None, repr=False)
    areas: tuple[float, ...] = (1.0,)
    kept: Mapping[str, KeptActivation] = field(default_factory=dict, repr=False)
    laplacian: Array | None = field(default=None, repr=False)
    _roots: dict[str, NDArray[np.float64]] = field(default_factory=dict, init=False, repr=False)

    def shares_of(self, layer: str, size: tuple[int, int]) -> Array:
        """Return the shares of a style layer's positions, of a size (h, w); where all count alike, equal ones."""
        alike = np.full(size, 1 / (size[0] * size[1]), np.float32)
        return self.shares.get(layer, alike)

    def root(self, layer: str) -> NDArray[np.float64]:
        """Return the root of a style layer's covariance, (channels, channels), computed once; as `style`, of regions."""
        if layer not in self._roots:
            moments = self.style[layer]
            self._roots[layer] = (
                covariance_root(moments)
                if len(self.areas) == 1
                else np.stack([covariance_root(of_region) for of_region in moments])
            )
        return self._roots[layer]


def make_targets(
    size: tuple[int, int],
    content: Mapping[str, Array | KeptActivation],
    styles: Sequence[tuple[Mapping[str, Array], float]],
    shares: Mapping[str, Array] | None = None,
    region: Region | None = None,
    places: Sequence[int] = (),
) -> Targets:
    """Return the targets of a content's activations, and of styles' Gram matrices or moments with weights.

    ``shares`` and ``region`` are `Targets`'; ``places`` are the styles' regions, where there are several.

    Several styles are blended: G = Σ wᵢ·Gᵢ with the weights scaled to sum to 1, in each layer those of the styles that
    count in it. Comparing with the
    blend has the gradient of the weighted sum of the costs of each style,
    Σ wᵢ‖G − Gᵢ‖² = ‖G − Σ wᵢGᵢ‖² + constant, and its cost can reach 0. Moments are blended alike: they are
    then those of positions taken from all styles by their weights, of which other statistics follow.
    """
    areas = (1.0,) if region is None else region.areas
    if len(areas) == 1:
        blended = _blend(styles)
    else:
        blends = [
            _blend([style for style, at in zip(styles, places, strict=True) if at == place])
            for place in range(len(areas))
        ]
        blended = {layer: np.stack([blend[layer] for blend in blends]) for layer in blends[0]}
    height, width = size
    kept = {name: value for name, value in content.items() if isinstance(value, KeptActivation)}
    held = {name: value for name, value in content.items() if not isinstance(value, KeptActivation)}
    return Targets(
        height=height, width=width, content=held, style=blended, shares=shares or {},
        region=region, areas=areas, kept=kept,
    )  # fmt: skip


def _blend(styles: Sequence[tuple[Mapping[str, Array], float]]) -> dict[str, Array]:
    blended: dict[str, Array] = {}
    for grams, weight in styles:
        for layer, gram in grams.items():
            total = sum(other for served, other in styles if layer in served)
            share = gram if weight == total else gram * (weight / total)
            blended[layer] = blended[layer] + share if layer in blended else share
    return blended


def make_zero_targets(objective: Objective, height: int, width: int) -> Targets:
    """Return targets of zeros, which take as long to compare with as any others."""
    content, style = dict[str, Array](), dict[str, Array]()
    for name in objective.content_names:
        layer = find_layer(name)
        size = layer.output_size(height, width, objective.pool_rounding)
        content[name] = np.zeros((layer.channels, *size), np.float32)
    for name, statistic in objective.statistics.items():
        style[name] = np.zeros((style_side(statistic, find_layer(name).channels),) * 2, np.float32)
    laplacian = np.zeros((height - LAPLACIAN_REACH, width - LAPLACIAN_REACH), np.float32)
    return Targets(
        height=height, width=width, content=content, style=style,
        laplacian=laplacian if objective.laplacian_weight > 0 else None,
    )  # fmt: skip
