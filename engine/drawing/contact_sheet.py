"""Labelled grids of pictures, and the type on them: a comparison's sheet, a gallery of styles."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont
from PIL.ImageFont import ImageFont as BitmapFont

from ..pictures.resizing import fit_box

NARROWEST = 220
"""Width of a cell, in pixels, that holds most labels in a line or two."""

TITLE = 22  # sizes of type, in pixels
_LABEL, _DETAIL = 16, 14
MARGIN = 24
_GAP, _LABEL_GAP = 16, 4
_MOST_LINES = 4
_WIDEST_SHEET = 2400
_LONGEST_TILE = 320

INK, FAINT, PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)

_LEADING = 1.35
# Letters that are no letter of ASCII with an accent.
_LIKE = str.maketrans("×–’øØłŁ", "x-'oOlL") | str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe"})


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A picture in a grid: uint8 (height, width, 3), shown as large as its cell allows.

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
        title: in a line at the top, which stays empty for ""; None leaves it out.
        column_labels: above the columns.
        row_labels: left of the rows.
        narrowest: least width of a cell, so that its label can be read.
    """

    tile: tuple[int, int]
    rows: int
    columns: int
    lines: int = 1
    details: bool = True
    title: str | None = ""
    column_labels: Sequence[str] = ()
    row_labels: Sequence[str] = ()
    narrowest: int = NARROWEST

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height of a picture with its label."""
        type_height = self.lines * line_height(_LABEL) + self.details * line_height(_DETAIL)
        return max(self.tile[0], self.narrowest), self.tile[1] + _LABEL_GAP + type_height

    @property
    def top(self) -> int:
        """Upper edge of the first row."""
        above = line_height(TITLE) + _GAP // 2 if self.title is not None else 0
        return MARGIN + above + (line_height(_LABEL) if self.column_labels else 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole sheet."""
        width, height = self.cell
        across = self.columns * (width + _GAP) - _GAP
        down = self.rows * (height + _GAP) - _GAP
        return 2 * MARGIN + self.labels_width + across, self.top + down + MARGIN

    @property
    def labels_width(self) -> int:
        """Width of the labels left of the rows, with the gap to the rows; 0 without labels."""
        widths = [round(line_width(text, _LABEL)) for text in self.row_labels]
        return max(widths, default=-_GAP) + _GAP

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the left and upper edge of a cell."""
        width, height = self.cell
        left = MARGIN + self.labels_width + column * (width + _GAP)
        return left, self.top + row * (height + _GAP)


def fit_tile(picture: tuple[int, int], columns: int) -> tuple[int, int]:
    """Return the width and height of a tile for pictures of a height and width.

    The tile is at most 320 pixels a side, and the sheet about 2400 pixels wide.
    """
    room = max(NARROWEST, (_WIDEST_SHEET - 2 * MARGIN) // max(1, columns) - _GAP)
    height, width = fit_box(picture, (_LONGEST_TILE, min(_LONGEST_TILE, room)))
    return width, height


def split_rows(tiles: Sequence[Tile], columns: int) -> list[TileRow]:
    """Return tiles in rows; the last row may be shorter."""
    return [tiles[start : start + columns] for start in range(0, len(tiles), columns)]


def draw_grid(grid: Grid, rows: Sequence[TileRow]) -> Image.Image:
    """Return a sheet; cells stay empty where a row has None or ends early."""
    sheet = Image.new("RGB", grid.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    if grid.title:
        draw_line(draw, (MARGIN, MARGIN), grid.title, TITLE, grid.size[0] - 2 * MARGIN)
    for column, text in enumerate(grid.column_labels):
        corner = grid.corner(0, column)[0], grid.top - line_height(_LABEL)
        draw_line(draw, corner, text, _LABEL, grid.cell[0])
    for row, text in enumerate(grid.row_labels):
        top = grid.corner(row, 0)[1] + (grid.tile[1] - _LABEL) // 2
        draw_line(draw, (MARGIN, top), text, _LABEL, grid.labels_width)
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


def stack_sheets(upper: Image.Image, lower: Image.Image, title: str) -> Image.Image:
    """Return one sheet with two below one another; in the room that the upper has for it, a title as wide as both."""
    size = max(upper.width, lower.width), upper.height + lower.height
    whole = Image.new("RGB", size, PAPER)
    whole.paste(upper, (0, 0))
    whole.paste(lower, (0, upper.height))
    if title:
        draw_line(ImageDraw.Draw(whole), (MARGIN, MARGIN), title, TITLE, whole.width - 2 * MARGIN)
    return whole


def draw_gallery(
    contents: Sequence[Tile], styles: Sequence[Tile], results: Sequence[TileRow]
) -> Image.Image:
    """Return a table of results: the contents at its left, the styles at its top.

    There is a row of results for each content and a column for each style.
    """
    shapes = [tile.pixels.shape for tile in contents] or [(3, 4)]
    tallest = max(shape[0] / shape[1] for shape in shapes)
    width = fit_tile((300, 400), len(styles) + 1)[0]
    tile = (width, max(1, round(width * min(tallest, 1.5))))
    details = any(cell and cell.detail for row in results for cell in row)
    grid = Grid(tile, len(contents) + 1, len(styles) + 1, details=details)
    pairs = zip(contents, results, strict=True)
    rows = [[None, *styles], *([content, *row] for content, row in pairs)]
    return draw_grid(grid, rows)


def plain(text: str) -> str:
    """Return a text in the characters that Pillow's own font has: those of ASCII.

    Accents are dropped, and a character without an equivalent becomes a question mark.
    """
    letters = unicodedata.normalize("NFKD", text.translate(_LIKE))
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()


def line_height(size: int) -> int:
    """Return the height of a line of type of a size, both in pixels."""
    return round(size * _LEADING)


def line_width(text: str, size: int) -> float:
    """Return the width of a text in type of a size, both in pixels."""
    return _font(size).getlength(plain(text))


@cache
def _font(size: int) -> FreeTypeFont | BitmapFont:
    return ImageFont.load_default(size)


def draw_line(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    size: int,
    room: int,
    ink: tuple[int, int, int] = INK,
) -> None:
    """Draw a line of type, without its middle if it is wider than the room.

    Corner (left, upper), size and room are in pixels, the ink is RGB, and the text is `plain`.
    """
    text = shown = plain(text)
    font, length = _font(size), len(text)
    while length > 2 and font.getlength(shown) > room:
        length -= 1
        shown = f"{text[: (length + 1) // 2]}…{text[len(text) - length // 2 :]}"
    draw.text(corner, shown, ink, font)
