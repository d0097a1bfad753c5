"""Labelled grids of pictures: the contact sheet of a comparison, a gallery of contents and styles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..pictures.resizing import fit_box
from .lettering import FAINT, PAPER, draw_line, line_height, line_width

NARROWEST = 220
"""Width of a cell, in pixels, that holds most labels in a line or two."""

TITLE = 22  # sizes of type, in pixels
_LABEL, _DETAIL = 16, 14
MARGIN = 24
_GAP, _LABEL_GAP = 16, 4
_MOST_LINES = 4
_WIDEST_SHEET = 2400


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A picture in a grid: uint8 (height, width, 3), of any size, shown as large as its cell allows.

    Below it stands the label, and below that the detail, smaller.
    """

    pixels: NDArray[np.uint8]
    label: str = ""
    detail: str = ""


TileRow = Sequence[Tile | None]


@dataclass(frozen=True, slots=True)
class Grid:
    """The layout of a sheet, in pixels.

    Attributes:
        tile: largest width and height of a picture.
        lines: height of the labels below the pictures, in lines; see `count_lines`.
        details: whether there is a line of detail below the labels.
        title: whether there is a line at the top.
        column_labels: whether there is a line above the columns.
        row_labels: width of the labels left of the rows; 0 without them.
        narrowest: least width of a cell, so that its label can be read.
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
        """Width and height of a picture with its label."""
        type_height = self.lines * line_height(_LABEL) + self.details * line_height(_DETAIL)
        return max(self.tile[0], self.narrowest), self.tile[1] + _LABEL_GAP + type_height

    @property
    def top(self) -> int:
        """Upper edge of the first row."""
        above = line_height(TITLE) + _GAP // 2 if self.title else 0
        return MARGIN + above + (line_height(_LABEL) if self.column_labels else 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole sheet."""
        width, height = self.cell
        across = self.columns * (width + _GAP) - _GAP
        down = self.rows * (height + _GAP) - _GAP
        return 2 * MARGIN + self.row_labels + across, self.top + down + MARGIN

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the left and upper edge of a cell."""
        width, height = self.cell
        left = MARGIN + self.row_labels + column * (width + _GAP)
        return left, self.top + row * (height + _GAP)


def fit_tile(picture: tuple[int, int], columns: int, longest: int = 320) -> tuple[int, int]:
    """Return the width and height of a tile for pictures of a height and width.

    The tile is at most ``longest`` pixels a side, and the sheet about 2400 pixels wide.
    """
    room = max(NARROWEST, (_WIDEST_SHEET - 2 * MARGIN) // max(1, columns) - _GAP)
    height, width = fit_box(picture, (longest, min(longest, room)))
    return width, height


def split_rows(tiles: Sequence[Tile], columns: int) -> list[TileRow]:
    """Return tiles in rows; the last row may be shorter."""
    return [tiles[start : start + columns] for start in range(0, len(tiles), columns)]


def label_width(labels: Sequence[str]) -> int:
    """Return the width of labels left of the rows, with the gap to the rows."""
    return max((round(line_width(text, _LABEL)) for text in labels), default=-_GAP) + _GAP


def draw_grid(
    grid: Grid,
    rows: Sequence[TileRow],
    *,
    title: str = "",
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
) -> Image.Image:
    """Return a sheet; cells stay empty where a row has None or ends early."""
    sheet = Image.new("RGB", grid.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw_line(draw, (MARGIN, MARGIN), title, TITLE, grid.size[0] - 2 * MARGIN)
    for column, text in enumerate(column_labels):
        corner = grid.corner(0, column)[0], grid.top - line_height(_LABEL)
        draw_line(draw, corner, text, _LABEL, grid.cell[0])
    for row, text in enumerate(row_labels):
        top = grid.corner(row, 0)[1] + (grid.tile[1] - _LABEL) // 2
        draw_line(draw, (MARGIN, top), text, _LABEL, grid.row_labels)
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
    top = corner[1] + grid.tile[1] + _LABEL_GAP
    for line in _wrap(tile.label, grid.cell[0])[: grid.lines]:
        draw_line(draw, (corner[0], top), line, _LABEL, grid.cell[0])
        top += line_height(_LABEL)
    draw_line(draw, (corner[0], top), tile.detail, _DETAIL, grid.cell[0], FAINT)


def count_lines(labels: Sequence[str], width: int) -> int:
    """Return the lines of the longest of some labels in a cell of a width, in pixels."""
    return max((len(_wrap(label, width)) for label in labels), default=0)


def _wrap(label: str, room: int) -> list[str]:
    """Break a label after its commas, into at most four lines; the last takes all the rest."""
    lines: list[str] = []
    for part in label.split(", ") if label else ():
        joined = f"{lines[-1]}, {part}" if lines else part
        if lines and (len(lines) == _MOST_LINES or line_width(joined, _LABEL) <= room):
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def fit_picture(pixels: NDArray[np.uint8], room: tuple[int, int]) -> Image.Image:
    """Return a picture as large as fits into a room of a width and height."""
    image = Image.fromarray(pixels)
    size = fit_box(image.size, room)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def stack_sheets(sheets: Sequence[Image.Image]) -> Image.Image:
    """Return one sheet with others below one another."""
    width = max(sheet.width for sheet in sheets)
    whole = Image.new("RGB", (width, sum(sheet.height for sheet in sheets)), PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def draw_gallery(
    contents: Sequence[Tile], styles: Sequence[Tile], results: Sequence[TileRow], title: str = ""
) -> Image.Image:
    """Return a table of results: the contents at its left, the styles at its top.

    There is a row of results for each content and a column for each style.
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
