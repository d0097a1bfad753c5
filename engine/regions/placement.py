"""Which style applies where in a content: of one region, or of several by a map of colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import UsageError

from ..pictures.picture import InputFile, Picture, WeightedPicture
from ..pictures.reading import Source
from ..streaming.reduced import WHOLE, Fit
from .maps import NONE, Colour, ColourMap, Labels, read_colour, take_map, write_colour
from .masks import Mask, fit_mask, take_mask


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Placement:
    """Where styles apply.

    Attributes:
        paintings: all of them with their weights, region by region.
        places: the region of each.
        colours: of each region, those of the map that are it; without a map there are none.
        mask: what of the content may change; None if all of it.
        parts: how much each pixel belongs to each region, uint8, of one size; of one region there are none.
        files: what a report says of mask and map.
    """

    paintings: tuple[WeightedPicture, ...]
    places: tuple[int, ...]
    colours: tuple[tuple[str, ...], ...] = ((),)
    mask: Mask | None = field(default=None, repr=False)
    parts: tuple[Mask, ...] = field(default=(), repr=False)
    files: tuple[InputFile, ...] = ()

    @property
    def count(self) -> int:
        """How many regions with styles of their own there are."""
        return len(self.colours)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each painting."""
        return [painting.size for painting, _ in self.paintings]

    def describe(self) -> list[InputFile]:
        """Return what a report says of the paintings."""
        return [
            style.as_input("style", weight, ",".join(self.colours[place]) or None)
            for (style, weight), place in zip(self.paintings, self.places, strict=True)
        ]

    def weigh(
        self, paintings: Sequence[WeightedPicture], areas: Sequence[float]
    ) -> list[WeightedPicture]:
        """Return paintings as one blend, in which each region has the weight of its area."""
        if self.count == 1:
            return list(paintings)
        totals = [0.0] * self.count
        for (_, weight), place in zip(paintings, self.places, strict=True):
            totals[place] += weight
        return [
            (style, areas[place] * weight / totals[place])
            for (style, weight), place in zip(paintings, self.places, strict=True)
        ]


def place_styles(
    content: Picture,
    styles: Sequence[WeightedPicture],
    *,
    mask: Source | None = None,
    regions: Source | None = None,
    style_for: Mapping[str, Sequence[WeightedPicture]] | None = None,
    fit: Fit = WHOLE,
) -> Placement:
    """Return where styles apply in a content.

    Args:
        content: that mask and map are of.
        styles: of all that ``style_for`` does not name; there may be none, if it names some.
        mask: see `nstx.engine.regions.masks.take_mask`; what is left of regions.
        regions: a map; see `nstx.engine.regions.maps.take_map`.
        style_for: by colours of the map, styles that apply there. Regions whose styles and weights are the same are
            one region. What has no style stays as it is.
        fit: the size of the result, at which a large mask or map is read.

    Raises:
        UsageError: map and colours do not go together, or a mask leaves nothing of a region.
        ImageError: a picture cannot be used.
    """
    taken = None if mask is None else take_mask(mask, content, fit)
    files = () if taken is None else (taken.file,)
    cover = None if taken is None else taken.values
    if regions is None:
        if style_for:
            raise UsageError(
                "expected a map for styles by colour, got none; try --regions map.png",
                setting="style_for",
            )
        places = (0,) * len(styles)
        return Placement(paintings=tuple(styles), places=places, mask=cover, files=files)
    by_colour, names = _by_colour(style_for or {})
    if not by_colour:
        raise UsageError(
            "expected a style for a colour of the map, got none; try --style-for '#ff0000=painting.jpg'",
            setting="style_for",
        )
    colour_map = take_map(regions, content, names, fit)
    blends = [by_colour.get(colour, list(styles)) for colour in colour_map.colours]
    labels, merged, colours = _merge(colour_map, blends)
    if cover is not None and (len(merged) > 1 or (labels == NONE).any()):
        cover = fit_mask(cover, *labels.shape)
    return Placement(
        paintings=tuple(style for blend in merged for style in blend),
        places=tuple(place for place, blend in enumerate(merged) for _ in blend),
        colours=colours,
        mask=cover if (labels != NONE).all() else _within(cover, labels != NONE),
        parts=_split(labels, colours, cover) if len(merged) > 1 else (),
        files=(*files, colour_map.file),
    )


def _by_colour(
    style_for: Mapping[str, Sequence[WeightedPicture]],
) -> tuple[dict[Colour, list[WeightedPicture]], dict[Colour, str]]:
    """Return styles by colour, and the colours as they were first written."""
    styles: dict[Colour, list[WeightedPicture]] = {}
    names: dict[Colour, str] = {}
    for text, blend in style_for.items():
        colour = read_colour(text)
        names.setdefault(colour, text)
        styles.setdefault(colour, []).extend(blend)
    return styles, names


def _merge(
    colour_map: ColourMap, blends: Sequence[Sequence[WeightedPicture]]
) -> tuple[Labels, list[Sequence[WeightedPicture]], tuple[tuple[str, ...], ...]]:
    """Return labels of regions, `NONE` where there is no style, and the styles and colours of each region."""
    merged: dict[tuple[tuple[str, tuple[str, ...], float], ...], int] = {}
    styles: list[Sequence[WeightedPicture]] = []
    names: list[list[str]] = []
    regions = np.full(256, NONE, np.uint8)
    # What is transparent in the map has no colour, and no style.
    for place, (colour, blend) in enumerate(zip(colour_map.colours, blends, strict=True)):
        if not blend or not (colour_map.labels == place).any():
            continue
        total = sum(weight for _, weight in blend)
        key = tuple(sorted((style.digest, style.layers, weight / total) for style, weight in blend))
        if key not in merged:
            merged[key] = len(styles)
            styles.append(blend)
            names.append([])
        regions[place] = merged[key]
        names[merged[key]].append(write_colour(colour))
    return regions[colour_map.labels], styles, tuple(map(tuple, names))


def _within(cover: Mask | None, inside: NDArray[np.bool_]) -> Mask:
    """Return a mask that is what of another lies within, or all that does."""
    return np.where(inside, np.uint8(255) if cover is None else cover, np.uint8(0))


def _split(
    labels: Labels, colours: Sequence[Sequence[str]], cover: Mask | None
) -> tuple[Mask, ...]:
    parts = []
    for place, names in enumerate(colours):
        part = _within(cover, labels == place)
        if not part.any():
            raise UsageError(
                f"expected a mask that leaves something of each region, got one that leaves nothing of "
                f"{', '.join(names)}; try another, or no style for it",
                setting="mask",
            )
        parts.append(part)
    return tuple(parts)
