"""Maps: pictures of a content in which each region has a colour of its own, told apart however they were saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from nstx.models.errors import UsageError, about
from nstx.models.printable import printable
from nstx.models.statistics import MOST_REGIONS
from nstx.models.values import describe

from ..pictures.picture import InputFile, Picture
from ..pictures.reading import Source
from ..streaming.reduced import WHOLE, Fit, read_source
from .masks import check_proportions, checked_first

Colour = tuple[int, int, int]
"""Red, green and blue, 0–255."""

Labels = NDArray[np.uint8]
"""uint8, (height, width): which of several each pixel belongs to, `NONE` if to none."""

NONE = 255

_NEAR = 24.0
"""Of 255 a channel, Euclidean: what is nearer to a colour is that colour, blurred or as JPEG has left it."""

_FLAT = 4
"""By how much a channel may differ from its eight neighbours' where a colour fills an area."""

_MOST_COLOURS, _LISTED = MOST_REGIONS - 1, 8

_MOST_PIXELS = 2**24
"""That are kept of a large map, as those of millions of colours take some seconds, and 100 bytes each."""


def read_colour(text: str) -> Colour:
    """Return a colour by its name, or by ``#rgb`` or ``#rrggbb``, with or without #; `UsageError` if it is none."""
    for form in (text, f"#{text}"):
        try:
            red, green, blue, *_ = ImageColor.getrgb(form)
        except ValueError:
            continue
        return red, green, blue
    raise UsageError(
        f"expected a colour as a name or #rrggbb, got {describe(text)}; try '#ff0000' or red"
    )


def write_colour(colour: Colour) -> str:
    """Return a colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


@dataclass(frozen=True, slots=True, eq=False)
class ColourMap:
    """A map as it was read.

    Attributes:
        labels: at the map's own size, places in ``colours``; `NONE` where it is transparent.
        colours: those that were asked for, in their order, then others that fill an area, the largest first.
        file: what a report says of it.
    """

    labels: Labels = field(repr=False)
    colours: tuple[Colour, ...]
    file: InputFile


@about("regions")
def take_map(
    source: Source, content: Picture, named: Mapping[Colour, str], fit: Fit = WHOLE
) -> ColourMap:
    """Return a map of a content.

    Its colours are those that are named, and others that fill an area: all of 3 × 3 pixels somewhere. Every pixel has
    the nearest of them, so that blurred edges belong to one side or the other. A large map is read at the size that it
    is used at, of which each pixel is one of its own.

    Args:
        source: a picture.
        content: whose proportions it must have, to a hundredth or a pixel.
        named: colours that are asked for, as they were written.
        fit: the size that it is used at.

    Raises:
        UsageError: it has other proportions, lacks a named colour, or has more than 63 colours.
        ImageError: it cannot be used.
    """
    picture = read_source(source, checked_first(_fit_map(fit), source, content, "map"))
    check_proportions(picture, content, "map")
    pixels = np.rint(picture.pixels).clip(0, 255).astype(np.uint8)
    packed = _pack(pixels)
    seen = np.ones(packed.shape, bool) if picture.alpha is None else picture.alpha >= 128
    values, places, counts = np.unique(packed[seen], return_inverse=True, return_counts=True)
    in_area = _is_flat(pixels)[seen].astype(np.float64)
    flat = np.bincount(places, in_area, len(values)).astype(np.float64)
    palette = np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.float64)
    colours = [colour for colour in named if _is_there(colour, palette, flat)]
    colours += _find_others(colours, palette, flat)
    nearest = _nearest(palette, colours)
    sizes = np.bincount(nearest, counts, max(1, len(colours))) / packed.size
    lacks = {
        colour for colour in named if colour not in colours or not sizes[colours.index(colour)]
    }
    if missing := [text for colour, text in named.items() if colour in lacks]:
        raise UsageError(
            f"expected colours that are in the map {printable(picture.path)}, got {printable(missing[0])}, "
            f"where there {_list(colours, sizes)}"
        )
    labels = np.full(packed.shape, NONE, np.uint8)
    labels[seen] = nearest.astype(np.uint8)[places]
    return ColourMap(labels, tuple(colours), picture.as_input("regions"))


def _fit_map(fit: Fit) -> Fit:
    """Return the size that a large map is read at, bounded, with no mixed colours."""

    def size(own: tuple[int, int]) -> tuple[int, int]:
        height, width = fit.size(own)
        shrink = min(1.0, (_MOST_PIXELS / (height * width)) ** 0.5)
        return max(1, int(height * shrink)), max(1, int(width * shrink))

    return replace(fit, size=size, resampling="nearest")


def _pack(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    wide = pixels.astype(np.int64)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _is_flat(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where all of 3 × 3 pixels have one colour, nearly."""
    low = high = pixels
    for axis in (0, 1):
        pads = [(1, 1) if index == axis else (0, 0) for index in range(3)]
        shifted = [
            [
                np.moveaxis(np.pad(side, pads, mode="edge"), axis, 0)[
                    start : start + pixels.shape[axis]
                ]
                for start in range(3)
            ]
            for side in (low, high)
        ]
        low = np.moveaxis(np.minimum.reduce(shifted[0]), 0, axis)
        high = np.moveaxis(np.maximum.reduce(shifted[1]), 0, axis)
    return np.asarray((high - low <= _FLAT).all(2))


def _is_there(colour: Colour, palette: NDArray[np.float64], flat: NDArray[np.floating]) -> bool:
    """Whether a colour is in a map as it is, or fills an area nearly."""
    away = np.linalg.norm(palette - colour, axis=1)
    return bool((away == 0).any() or (flat[away < _NEAR] > 0).any())


def _find_others(
    colours: Sequence[Colour], palette: NDArray[np.float64], flat: NDArray[np.floating]
) -> list[Colour]:
    """Return colours that fill an area, the largest first, and are not near to those before them."""
    others: list[Colour] = []
    left = flat.copy()
    for colour in colours:
        left[np.linalg.norm(palette - colour, axis=1) < _NEAR] = 0
    while left.any():
        if len(colours) + len(others) >= _MOST_COLOURS:
            raise UsageError(
                f"expected a map of at most {_MOST_COLOURS} flat colours, got more; try a picture in which each "
                "region is painted in one"
            )
        place = int(left.argmax())
        red, green, blue = map(int, palette[place])
        others.append((red, green, blue))
        left[np.linalg.norm(palette - palette[place], axis=1) < _NEAR] = 0
    return others


def _nearest(palette: NDArray[np.float64], colours: Sequence[Colour]) -> NDArray[np.intp]:
    """Return the place of the nearest of some colours, for each in a palette; 0 where there are none."""
    best = np.full(len(palette), np.inf)
    places = np.zeros(len(palette), np.intp)
    # Between two that are as near, it does not depend on their order.
    for colour in sorted(colours):
        away = np.linalg.norm(palette - colour, axis=1)
        places[away < best] = colours.index(colour)
        best = np.minimum(best, away)
    return places


def _list(colours: Sequence[Colour], sizes: NDArray[np.floating]) -> str:
    """Say which colours a map has, with their parts of it, the largest first."""
    order = np.argsort(-sizes[: len(colours)])[:_LISTED]
    texts = [f"{write_colour(colours[place])} ({sizes[place]:.1%})" for place in order]
    more = " …" if len(colours) > len(order) else ""
    if not texts:
        return "are none that fill an area; try a map in which each region is painted in one colour"
    return f"are {', '.join(texts)}{more}; try one of these"
