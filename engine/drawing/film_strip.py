"""The frames of a run in one JPEG, and runs side by side as an animation."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nstx.models.errors import ImageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input

from ..pictures.decoding import DECODER_ERRORS, load_image, quiet_decoder
from ..pictures.resizing import fit_box
from .animation import Frame
from .contact_sheet import (
    MARGIN,
    TITLE,
    Grid,
    Tile,
    count_lines,
    draw_grid,
    draw_line,
    fit_picture,
    split_rows,
)

FRAME_SIDE = 320
"""The long side of a frame, in pixels, at most."""

_COLUMNS = 8
_MOST_BYTES, _MOST_PIXELS = 1 << 28, 1 << 26
_MOST_FRAMES = 30
_NARROWEST = 120  # of a cell
_LARGEST_CANVAS = 450_000  # pixels; a GIF of more has tens of megabytes


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """How the picture of a run developed.

    Attributes:
        frames: uint8 (height, width, 3), all of one size; the last is the result.
        steps: number of the step that led to each frame, in ascending order.
    """

    frames: tuple[Frame, ...]
    steps: tuple[int, ...]

    def at(self, step: int) -> Frame:
        """Return the picture after a step: the last frame that is not later, or the first."""
        index = int(np.searchsorted(self.steps, step, side="right")) - 1
        return self.frames[max(0, index)]


def pack_film(film: Film) -> bytes:
    """Return the frames as a JPEG, eight in a row."""
    height, width = film.frames[0].shape[:2]
    rows = -(-len(film.frames) // _COLUMNS)
    strip = Image.new("RGB", (width * min(_COLUMNS, len(film.frames)), height * rows))
    for index, frame in enumerate(film.frames):
        row, column = divmod(index, _COLUMNS)
        strip.paste(Image.fromarray(frame), (column * width, row * height))
    buffer = io.BytesIO()
    strip.save(buffer, format="JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def check_film(file: BinaryIO, count: int) -> None:
    """Check that an open JPEG has the size of a film of so many frames; `ImageError` if not."""
    columns, rows = min(_COLUMNS, count), -(-count // _COLUMNS)
    try:
        with quiet_decoder(), Image.open(file, formats=["JPEG"]) as image:
            width, height = image.size
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise ImageError(
            f"expected a film, got none ({printable(error)}); try to make it again"
        ) from error
    if width % columns or height % rows or max(width // columns, height // rows) > FRAME_SIDE:
        raise ImageError(
            f"expected a film of {count} frames, got {width}×{height} pixels; try to make it again"
        )


def unpack_film(path: Path, steps: Sequence[int]) -> Film:
    """Return the film in a JPEG of `pack_film`, which does not hold the frames' steps.

    `ImageError` if it is damaged, or has another size.
    """
    data = read_input(path, kind="a film", most_bytes=_MOST_BYTES, error=ImageError)
    check_film(io.BytesIO(data), len(steps))
    image = load_image(data, "JPEG", path, _MOST_PIXELS).image
    strip: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
    columns, rows = min(_COLUMNS, len(steps)), -(-len(steps) // _COLUMNS)
    height, width = strip.shape[0] // rows, strip.shape[1] // columns
    frames = []
    for index in range(len(steps)):
        row, column = divmod(index, _COLUMNS)
        top, left = row * height, column * width
        frames.append(strip[top : top + height, left : left + width])
    return Film(tuple(frames), tuple(steps))


def animate_runs(films: Sequence[Film], labels: Sequence[str], columns: int) -> list[Frame]:
    """Return the frames of runs that develop side by side, all at the same step.

    There are at most 30, uint8 (height, width, 3); the last shows all results. A run that ends
    early keeps its last frame. ``columns`` is the number of runs side by side.
    """
    grid = _canvas_grid(films[0].frames[0].shape, labels, columns)
    empty = [Tile(np.full((*grid.tile[::-1], 3), 255, np.uint8), label) for label in labels]
    ground = draw_grid(grid, split_rows(empty, columns))
    last = max(film.steps[-1] for film in films)
    count = max(1, min(_MOST_FRAMES, last))
    timeline = np.unique(np.rint(np.linspace(min(1, last), last, count)).astype(int))
    frames = []
    for step in timeline.tolist():
        canvas = ground.copy()
        draw = ImageDraw.Draw(canvas)
        draw_line(draw, (MARGIN, MARGIN), f"step {step} of {last}", TITLE, grid.size[0])
        for index, film in enumerate(films):
            corner = grid.corner(*divmod(index, columns))
            canvas.paste(fit_picture(film.at(step), grid.tile), corner)
        frames.append(np.asarray(canvas))
    return frames


def _canvas_grid(shape: tuple[int, ...], labels: Sequence[str], columns: int) -> Grid:
    """Return the grid with the largest tiles that the canvas has room for."""
    rows = -(-len(labels) // columns)
    height, width = shape[:2]
    for longest in range(320, 60, -20):
        tile = fit_box((width, height), (longest, longest))
        lines = count_lines(labels, max(tile[0], _NARROWEST))
        grid = Grid(tile, rows, columns, lines=lines, details=False, narrowest=_NARROWEST)
        if grid.size[0] * grid.size[1] <= _LARGEST_CANVAS:
            break
    return grid
