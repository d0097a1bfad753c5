"""Labelled grids of pictures: the contact sheet of a comparison, a gallery of contents and styles."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..pictures.resizing import fit_box

_INK, _FAINT, _PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
_GAP, _MARGIN = 16, 24
_TITLE, _LABEL, _DETAIL = 22, 16, 14  # sizes of type, in pixels
_LINE = 1.35
NARROWEST = 220
"""Width of a cell, in pixels, that holds most labels in a line or two."""

_MOST_LINES = 4
_WIDEST_SHEET = 2400

# Letters that are no letter of ASCII with an accent.
_LIKE = str.maketrans(
    {
        "×": "x",
        "–": "-",
        "’": "'",
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A picture in a grid.

    Attributes:
        pixels: uint8 (height, width, 3), of any size; shown as large as its cell allows.
        label: stands below it.
        detail: stands below that, smaller.
    """

    pixels: NDArray[np.uint8]
    label: str = ""
    detail: str = ""


TileRow = Sequence[Tile | None]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where things go on a sheet, in pixels.

    Attributes:
        tile: width and height that a picture is shown with at most.
        rows: how many.
        columns: how many.
        lines: that the labels below the tiles take; see `lines_of`.
        details: whether there is a line of detail below the labels.
        title: whether there is a line at the top.
        column_labels: whether there is a line above the columns.
        row_labels: width of what stands left of the rows; 0 if nothing does.
        narrowest: width of a cell at least, so that its label can be read.
    """

    tile: tuple[int, int]
    rows: int
    columns: int
    lines: int = 1
    details: bool = True
    title: bool = True
    column_labels: bool = False
    row_labels: int = 0
    narrowest: int = NARROWEST

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height of a tile with its label."""
        type_height = self.lines * _height(_LABEL) + self.details * _height(_DETAIL)
        return max(self.tile[0], self.narrowest), self.tile[1] + 4 + type_height

    @property
    def top(self) -> int:
        """Height of what stands above the first row."""
        above = _height(_TITLE) + _GAP // 2 if self.title else 0
        return _MARGIN + above + (_height(_LABEL) if self.column_labels else 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole sheet."""
        width, height = self.cell
        across = self.columns * (width + _GAP) - _GAP
        down = self.rows * (height + _GAP) - _GAP
        return 2 * _MARGIN + self.row_labels + across, self.top + down + _MARGIN

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the left and upper edge of a cell."""
        width, height = self.cell
        left = _MARGIN + self.row_labels + column * (width + _GAP)
        return left, self.top + row * (height + _GAP)


def fit_tile(picture: tuple[int, int], columns: int, longest: int = 320) -> tuple[int, int]:
    """Return the (width, height) to show pictures of one size with in a row of so many.

    Args:
        picture: height and width.
        columns: how many stand side by side.
        longest: side of a tile, in pixels; less where the sheet would be wider than 2400.
    """
    room = max(NARROWEST, (_WIDEST_SHEET - 2 * _MARGIN) // max(1, columns) - _GAP)
    height, width = fit_box(picture, (longest, min(longest, room)))
    return width, height


def split_rows(tiles: Sequence[Tile], columns: int) -> list[TileRow]:
    """Return tiles in rows; the last row may be shorter."""
    return [tiles[start : start + columns] for start in range(0, len(tiles), columns)]


def label_width(labels: Sequence[str]) -> int:
    """Return the width that labels left of the rows take, with the gap to the rows."""
    return max((round(_font(_LABEL).getlength(plain(text))) for text in labels), default=-_GAP) + 16


def draw_grid(
    grid: Grid,
    rows: Sequence[TileRow],
    *,
    title: str = "",
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
) -> Image.Image:
    """Return a sheet. Where a row has None, or ends early, its cells stay empty."""
    sheet = Image.new("RGB", grid.size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw_line(draw, (_MARGIN, _MARGIN), title, _TITLE, grid.size[0] - 2 * _MARGIN)
    for column, text in enumerate(column_labels):
        place = grid.corner(0, column)[0], grid.top - _height(_LABEL)
        draw_line(draw, place, text, _LABEL, grid.cell[0])
    for row, text in enumerate(row_labels):
        top = grid.corner(row, 0)[1] + (grid.tile[1] - _LABEL) // 2
        draw_line(draw, (_MARGIN, top), text, _LABEL, grid.row_labels)
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            if tile is not None:
                _draw_tile(sheet, draw, grid, grid.corner(row, column), tile)
    return sheet


def _draw_tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, grid: Grid, corner: tuple[int, int], tile: Tile
) -> None:
    picture = fit_picture(tile.pixels, grid.tile)
    # A picture of another shape than the cell stands on the line that the labels hang from.
    sheet.paste(picture, (corner[0], corner[1] + grid.tile[1] - picture.height))
    top = corner[1] + grid.tile[1] + 4
    for line in _wrap(tile.label, grid.cell[0])[: grid.lines]:
        draw_line(draw, (corner[0], top), line, _LABEL, grid.cell[0])
        top += _height(_LABEL)
    draw_line(draw, (corner[0], top), tile.detail, _DETAIL, grid.cell[0], _FAINT)


def lines_of(labels: Sequence[str], width: int) -> int:
    """Return how many lines the longest of some labels takes, broken at commas, in a cell's width."""
    return max((len(_wrap(label, width)) for label in labels), default=0)


def _wrap(label: str, room: int) -> list[str]:
    """Break a label after its commas; four lines at most, the last with all that is left."""
    lines: list[str] = []
    for part in label.split(", ") if label else ():
        joined = f"{lines[-1]}, {part}" if lines else part
        if lines and (len(lines) == _MOST_LINES or _font(_LABEL).getlength(plain(joined)) <= room):
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def fit_picture(pixels: NDArray[np.uint8], room: tuple[int, int]) -> Image.Image:
    """Return a picture as large as fits into a width and height."""
    image = Image.fromarray(pixels)
    size = fit_box(image.size, room)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def draw_line(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    room: int,
    ink: tuple[int, int, int] = _INK,
) -> None:
    """Write a line of type; of one that is wider than the room, the middle is left out."""
    font, text = _font(size), plain(text)
    kept = len(text)
    shown = text
    while kept > 2 and font.getlength(shown) > room:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    draw.text(place, shown, ink, font)


def plain(text: str) -> str:
    """Return a text in the characters that Pillow's own font has: those of ASCII.

    Accents go, and what has no like in ASCII becomes a question mark.
    """
    letters = unicodedata.normalize("NFKD", text.translate(_LIKE))
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _height(size: int) -> int:
    return round(size * _LINE)


def stack_sheets(sheets: Sequence[Image.Image]) -> Image.Image:
    """Return sheets one below the other, on one ground."""
    width = max(sheet.width for sheet in sheets)
    whole = Image.new("RGB", (width, sum(sheet.height for sheet in sheets)), _PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def draw_gallery(
    contents: Sequence[Tile], styles: Sequence[Tile], results: Sequence[TileRow], title: str = ""
) -> Image.Image:
    """Return a table of results: the contents at its left, the styles at its top.

    Args:
        contents: one for each row.
        styles: one for each column.
        results: of each content, that of each style; None leaves a cell empty.
        title: above all.
    """
    shapes = [tile.pixels.shape for tile in contents] or [(3, 4)]
    tallest = max(shape[0] / shape[1] for shape in shapes)
    width = fit_tile((300, 400), len(styles) + 1)[0]
    tile = (width, max(1, round(width * min(tallest, 1.5))))
    details = any(cell and cell.detail for row in results for cell in row)
    grid = Grid(tile, len(contents) + 1, len(styles) + 1, details=details, title=bool(title))
    pairs = zip(contents, results, strict=True)
    rows = [[None, *styles], *([content, *row] for content, row in pairs)]
    return draw_grid(grid, rows, title=title)
