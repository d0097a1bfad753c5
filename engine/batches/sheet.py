"""The contact sheet of a batch: its results in a table of contents and styles, or one after the other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import NstxError

from ..drawing.contact_sheet import (
    Grid,
    Tile,
    count_lines,
    draw_gallery,
    draw_grid,
    fit_picture,
    split_rows,
)
from ..pictures.reading import read_image
from ..pictures.transparency import on_white, with_alpha
from ..pictures.writing import to_8_bit
from ..targets.paintings import split_painting
from .asked import AskedJob
from .folder import BatchFolder
from .names import style_name

MOST = 400
"""Results on a sheet."""

_TILE = (240, 180)  # the largest width and height of a result
_THUMB = (400, 400)
_COLUMNS = 8
_MOST_STYLES = 12


def draw_sheet(folder: BatchFolder, asked: Sequence[AskedJob]) -> NDArray[np.uint8]:
    """Return a sheet of the first results that are there, uint8 (height, width, 3).

    Where every content has every one of up to twelve styles, there is a row for each content, a column for each style.
    """
    shown = asked[:MOST]
    contents = list(dict.fromkeys(item.content for item in shown))
    styles = list(dict.fromkeys(item.styles for item in shown))
    by_pair = {(item.content, item.styles): item for item in shown}
    is_table = (
        len(by_pair) == len(shown) == len(contents) * len(styles)
        and len(styles) <= _MOST_STYLES
        and all(len(blend) == 1 for blend in styles)
        and None not in contents
    )
    if is_table:
        rows = [
            [_thumb(folder.place(by_pair[content, blend].output)) for blend in styles]
            for content in contents
        ]
        paintings = [
            _thumb(Path(split_painting(path).file), style_name([path])) or _EMPTY
            for ((path, _),) in styles
        ]
        photographs = [_thumb(path, path.stem) or _EMPTY for path in contents if path is not None]
        sheet = draw_gallery(photographs, paintings, rows)
    else:
        seen = [_thumb(folder.place(item.output), item.output) for item in shown]
        tiles = [tile for tile in seen if tile is not None]
        columns = max(1, min(_COLUMNS, len(tiles)))
        lines = count_lines([tile.label for tile in tiles], _TILE[0])
        grid = Grid(
            _TILE, max(1, -(-len(tiles) // columns)), columns,
            lines=lines, details=False, title=None,
        )  # fmt: skip
        sheet = draw_grid(grid, split_rows(tiles, columns))
    return np.asarray(sheet)


def _thumb(path: Path, label: str = "") -> Tile | None:
    """Return a picture as small as it is shown; None of one that cannot be read."""
    try:
        picture = read_image(path)
    except NstxError:
        return None
    pixels = on_white(with_alpha(to_8_bit(picture.pixels), picture.alpha))
    return Tile(np.asarray(fit_picture(pixels, _THUMB)), label)


_EMPTY = Tile(np.full((_TILE[1], _TILE[0], 3), 235, np.uint8))
"""What stands for a picture that cannot be read."""
