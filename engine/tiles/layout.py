"""Where tiles lie: parts of a picture that are evaluated one at a time, so that sums over them are those of the whole.

Every position of every layer belongs to one tile, within its inner rectangle. Around it the tile has a halo, as wide
as what the inner positions of the deepest layer see: there and at the picture's border all is as in the whole
picture, zero padding and rounding of odd sides included, and what a cut between tiles makes wrong stays outside the
inner positions. A gradient that begins at inner positions alone ends within the tile, as each of them depends on
nothing beyond.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from nstx.models.vgg19 import PoolRounding, find_layer, truncate

from ..settings import Settings

Span = tuple[int, int]
"""The first and the end of some rows or columns."""

_Spans = tuple[Span, Span]
"""Inner and outer ones."""

SIDES = (2048, 1536, 1024, 768, 512, 384, 256, 128, 64)
"""Of tiles, of which one is taken where memory does not hold the one before; larger ones save no more time."""

EXTRACTED_SIDE = 256
"""Of tiles at most whose activations of all layers are in memory together, where targets are made of them."""

_DEEPEST_STRIDE = 16
"""Of VGG-19's convolutions: tiles begin at its multiples, so that no pooling's window is cut."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a picture.

    Attributes:
        index: of the tile among those of its layout.
        inner: rows and columns of its pixels, which no other tile has.
        outer: the same with the halo.
    """

    index: int
    inner: tuple[Span, Span]
    outer: tuple[Span, Span]

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the outer rectangle."""
        return slice(*self.outer[0]), slice(*self.outer[1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the outer rectangle."""
        (top, bottom), (left, right) = self.outer
        return bottom - top, right - left


@dataclass(frozen=True, slots=True)
class TileLayout:
    """The tiles of a picture.

    Attributes:
        layers: whose activations are evaluated.
        side: of a tile's inner rectangle, at most; a multiple of 16.
    """

    height: int
    width: int
    layers: tuple[str, ...]
    rounding: PoolRounding
    side: int

    @property
    def halo(self) -> int:
        """How far a tile reaches beyond its inner rectangle: 80 pixels where the deepest layer is conv5_1."""
        network = truncate(self.layers)
        reach = sum(layer.stride for layer in network if layer.kind == "conv")
        return _round_up(reach, network[-1].stride)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All tiles, row by row; they are as equal as multiples of 16 allow."""
        rows, columns = self._spans
        places = itertools.product(rows, columns)
        return tuple(_lay(index, *spans) for index, spans in enumerate(places))

    def tile(self, index: int) -> Tile:
        """Return one of the tiles, without laying the others, which may be a million."""
        rows, columns = self._spans
        row, column = divmod(index, len(columns))
        return _lay(index, rows[row], columns[column])

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width that the outer rectangle of a tile has at most."""
        height, width = (max(map(_outer_length, spans)) for spans in self._spans)
        return height, width

    @property
    def evaluated_pixels(self) -> int:
        """Pixels of all outer rectangles."""
        height, width = (sum(map(_outer_length, spans)) for spans in self._spans)
        return height * width

    @property
    def _spans(self) -> tuple[list[_Spans], list[_Spans]]:
        """Of rows of tiles and of columns, the inner and the outer spans; the tiles are their product."""
        halo = self.halo
        rows, columns = (
            [((first, end), (max(0, first - halo), min(side, end + halo))) for first, end in spans]
            for side, spans in (
                (side, _split(side, self.side)) for side in (self.height, self.width)
            )
        )
        return rows, columns

    def count(self, layer: str) -> int:
        """Return how many positions a layer has in the whole picture."""
        height, width = self._size(layer)
        return height * width

    def whole(self, layer: str) -> tuple[slice, slice]:
        """Return all rows and columns of a layer."""
        height, width = self._size(layer)
        return slice(0, height), slice(0, width)

    def positions(self, tile: Tile, layer: str) -> tuple[slice, slice]:
        """Return a tile's rows and columns of a layer of the whole picture."""
        stride, sizes = find_layer(layer).stride, self._size(layer)
        spans = zip(tile.inner, (self.height, self.width), sizes, strict=True)
        rows, columns = (
            slice(first // stride, size if end == side else end // stride)
            for (first, end), side, size in spans
        )
        return rows, columns

    def within(self, tile: Tile, layer: str) -> tuple[slice, slice]:
        """Return the same rows and columns as they lie in that layer of the tile's outer rectangle."""
        stride = find_layer(layer).stride
        shifts = [first // stride for first, _ in tile.outer]
        rows, columns = (
            slice(part.start - shift, part.stop - shift)
            for part, shift in zip(self.positions(tile, layer), shifts, strict=True)
        )
        return rows, columns

    def _size(self, layer: str) -> tuple[int, int]:
        return find_layer(layer).output_size(self.height, self.width, self.rounding)


def lay_tiles(
    size: Sequence[int], layers: Sequence[str], rounding: PoolRounding, side: int
) -> TileLayout | None:
    """Return the tiles of a picture (height, width) for these layers; None where it fits in one."""
    if max(size) <= side:
        return None
    return TileLayout(size[0], size[1], tuple(layers), rounding, side)


def tiles_of(settings: Settings, size: Sequence[int]) -> TileLayout | None:
    """Return the tiles that a picture (height, width) is evaluated by; None if it is evaluated whole.

    This is where the size of tiles is decided.
    """
    if settings.tile is None:
        return None
    objective = settings.objective
    return lay_tiles(size, objective.layers, objective.pool_rounding, settings.tile)


def _lay(index: int, row: _Spans, column: _Spans) -> Tile:
    return Tile(index, inner=(row[0], column[0]), outer=(row[1], column[1]))


def _outer_length(spans: _Spans) -> int:
    first, end = spans[1]
    return end - first


def _split(length: int, most: int) -> list[Span]:
    """Return the spans of a side that are no longer than ``most``, and of few lengths."""
    count = -(-length // most)
    step = _round_up(-(-length // count), _DEEPEST_STRIDE)
    return [(first, min(first + step, length)) for first in range(0, length, step)]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
