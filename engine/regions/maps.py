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

from ..pictures.picture import InputFile, Picture, row_bands
from ..pictures.reading import Source
from ..streaming.reduced import WHOLE, Fit, read_source
from .masks import check_proportions, checked_first

Colour = tuple[int, int, int]
"""Red, green and blue, 0–255."""

Palette = NDArray[np.float32]
"""float32, (colours, 3): whole numbers."""

Labels = NDArray[np.uint8]
"""uint8, (height, width): which of several each pixel belongs to, `NONE` if to none."""

NONE = 255

_NEAR = 24.0
"""Of 255 a channel, Euclidean: what is nearer to a colour is that colour, blurred or as JPEG has left it."""

_FLAT = 4
"""By how much a channel may differ from its eight neighbours' where a colour fills an area."""

_MOST_COLOURS, _LISTED = MOST_REGIONS - 1, 8
_COLOURS = 2**24
_SEEN = 128  # of 255, from which on a pixel of a map belongs to a region

_MOST_PIXELS = 2**24
"""That are kept of a large map, as those of millions of colours take some seconds."""


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
    values, counts, flat = _count_colours(picture)
    palette = np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.float32)
    colours = [colour for colour in named if _is_there(colour, palette, flat)]
    colours += _find_others(colours, palette, flat)
    nearest = _nearest(palette, colours)
    sizes = np.bincount(nearest, counts, max(1, len(colours))) / np.prod(picture.size)
    lacks = {
        colour for colour in named if colour not in colours or not sizes[colours.index(colour)]
    }
    if missing := [text for colour, text in named.items() if colour in lacks]:
        raise UsageError(
            f"expected colours that are in the map {printable(picture.path)}, got {printable(missing[0])}, "
            f"where there {_list(colours, sizes)}"
        )
    table = np.zeros(_COLOURS, np.uint8)
    table[values] = nearest
    labels = np.full(picture.size, NONE, np.uint8)
    for rows in row_bands(*picture.size):
        packed, seen = _pack(picture, rows)
        labels[rows][seen] = table[packed[seen]]
    return ColourMap(labels, tuple(colours), picture.as_input("regions"))


def _count_colours(
    picture: Picture,
) -> tuple[NDArray[np.intp], NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the colours, packed, that are seen; of each how many pixels, and how many of them lie in a flat area."""
    # Of memory that is never touched there is none, so that few colours take little of these.
    seen_at_all, counts = np.zeros(_COLOURS, bool), np.zeros((2, _COLOURS), np.uint32)
    for rows in row_bands(*picture.size):
        packed, seen = _pack(picture, rows)
        seen_at_all[packed[seen]] = True
        np.add.at(counts[0], packed[seen], np.uint32(1))
        np.add.at(counts[1], packed[seen & _is_flat(picture, rows)], np.uint32(1))
    values = np.flatnonzero(seen_at_all)
    return values, counts[0, values], counts[1, values]


def _take_rows(picture: Picture, rows: slice) -> NDArray[np.uint8]:
    pixels = picture.pixels[rows]
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels).clip(0, 255)
    return pixels.astype(np.uint8, copy=False)


def _pack(picture: Picture, rows: slice) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the colours of rows as one number each, and which of their pixels are seen."""
    wide = _take_rows(picture, rows).astype(np.intp)
    packed = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    if picture.alpha is None:
        return packed, np.ones(packed.shape, bool)
    return packed, picture.alpha[rows] >= _SEEN


def _is_flat(picture: Picture, rows: slice) -> NDArray[np.bool_]:
    """Return where in rows all of 3 × 3 pixels have one colour, nearly."""
    around = slice(max(0, rows.start - 1), rows.stop + 1)
    below = picture.height - rows.stop
    edges = ((int(rows.start == 0), int(below == 0)), (1, 1), (0, 0))
    low = high = np.pad(_take_rows(picture, around), edges, mode="edge")
    for axis in (0, 1):
        low, high = (
            bound(bound(*(_shift(side, axis, start) for start in (0, 1))), _shift(side, axis, 2))
            for bound, side in ((np.minimum, low), (np.maximum, high))
        )
    return np.asarray((high - low <= _FLAT).all(2))


def _shift(values: NDArray[np.uint8], axis: int, start: int) -> NDArray[np.uint8]:
    """Return all but two of the rows or columns."""
    kept = slice(start, start + values.shape[axis] - 2)
    return values[kept] if axis == 0 else values[:, kept]


def _fit_map(fit: Fit) -> Fit:
    """Return the size that a large map is read at, bounded, with no mixed colours."""

    def size(own: tuple[int, int]) -> tuple[int, int]:
        height, width = fit.size(own)
        shrink = min(1.0, (_MOST_PIXELS / (height * width)) ** 0.5)
        return max(1, int(height * shrink)), max(1, int(width * shrink))

    return replace(fit, size=size, resampling="nearest")


def _away(palette: Palette, colour: Colour) -> NDArray[np.float32]:
    """Return the squared distances of a palette from a colour: whole numbers, which float32 holds."""
    away = np.zeros(len(palette), np.float32)
    for channel in range(3):
        away += np.square(palette[:, channel] - np.float32(colour[channel]))
    return away


def _is_there(colour: Colour, palette: Palette, flat: NDArray[np.uint32]) -> bool:
    """Whether a colour is in a map as it is, or fills an area nearly."""
    away = _away(palette, colour)
    return bool((away == 0).any() or (flat[away < _NEAR**2] > 0).any())


def _find_others(
    colours: Sequence[Colour], palette: Palette, flat: NDArray[np.uint32]
) -> list[Colour]:
    """Return colours that fill an area, the largest first, and are not near to those before them."""
    others: list[Colour] = []
    palette, left = palette[flat > 0], flat[flat > 0]
    for colour in colours:
        left[_away(palette, colour) < _NEAR**2] = 0
    while left.any():
        if len(colours) + len(others) >= _MOST_COLOURS:
            raise UsageError(
                f"expected a map of at most {_MOST_COLOURS} flat colours, got more; try a picture in which each "
                "region is painted in one"
            )
        red, green, blue = map(int, palette[int(left.argmax())])
        others.append((red, green, blue))
        left[_away(palette, others[-1]) < _NEAR**2] = 0
    return others


def _nearest(palette: Palette, colours: Sequence[Colour]) -> NDArray[np.uint8]:
    """Return the place of the nearest of some colours, for each in a palette; 0 where there are none."""
    best = np.full(len(palette), np.inf, np.float32)
    places = np.zeros(len(palette), np.uint8)
    # Between two that are as near, it does not depend on their order.
    for colour in sorted(colours):
        away = _away(palette, colour)
        places[away < best] = colours.index(colour)
        np.minimum(best, away, out=best)
    return places


def _list(colours: Sequence[Colour], sizes: NDArray[np.floating]) -> str:
    """Say which colours a map has, with their parts of it, the largest first."""
    order = np.argsort(-sizes[: len(colours)])[:_LISTED]
    texts = [f"{write_colour(colours[place])} ({sizes[place]:.1%})" for place in order]
    more = " …" if len(colours) > len(order) else ""
    if not texts:
        return "are none that fill an area; try a map in which each region is painted in one colour"
    return f"are {', '.join(texts)}{more}; try one of these"
