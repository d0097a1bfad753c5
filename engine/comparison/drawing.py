"""What is drawn from the runs of a comparison: sheet, animations, cost curves and page."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from nstx.models.storage.seals import digest_json
from nstx.models.version import __version__

from ..drawing.animation import Frame, can_write_video, write_animation
from ..drawing.contact_sheet import (
    NARROWEST,
    Grid,
    Tile,
    TileRow,
    draw_grid,
    fit_tile,
    label_width,
    lines_of,
    stack_sheets,
)
from ..drawing.cost_curves import can_draw_curves, draw_cost_curves
from ..drawing.film_strip import animate_runs, unpack_film
from ..pictures.picture import Picture
from ..pictures.reading import read_image
from ..pictures.resizing import fit_box, resize_picture
from ..pictures.writing import to_8_bit
from .folder import DRAWN, RUNS, Inputs, RunDigests, RunRecord, SweepFolder
from .page import PageRun, make_page
from .sweep import Sweep

_LONGEST_SIDE = 1024  # of a picture while it is drawn
_MOST_COLUMNS = 4  # where the runs simply follow one another, up to 16 of them


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """The pictures of a comparison, reduced; content and results have one size."""

    content: Frame
    styles: tuple[Frame, ...]
    results: tuple[Frame, ...]


def names_to_draw() -> tuple[str, ...]:
    """Return the files that are drawn here: without Matplotlib no curves, without PyAV no MP4."""
    absent = set()
    if not can_draw_curves():
        absent.add("costs.png")
    if not can_write_video():
        absent.add("animation.mp4")
    return tuple(name for name in DRAWN if name not in absent)


def digest_drawing(
    inputs: Inputs, digests: RunDigests, sweep: Sweep, records: Mapping[str, RunRecord]
) -> str:
    """Return the sha256 of all that the drawn files depend on."""
    runs = [
        [run.name, sweep.label(run), records[run.name].digest, dict(records[run.name].files)]
        for run in sweep.runs
    ]
    return digest_json(
        {
            "version": __version__,
            "drawn": names_to_draw(),
            "title": describe_inputs(inputs),
            "pictures": [digests.content, digests.styles],
            "axes": [[axis.name, axis.values] for axis in sweep.axes],
            "runs": runs,
        }
    )


def describe_inputs(inputs: Inputs) -> str:
    """Write what is compared: the content's name and the styles'."""
    styles = [
        path.stem if weight == 1 else f"{path.stem}:{weight:g}" for path, weight in inputs.styles
    ]
    return f"{inputs.content.stem} in the style of {' and '.join(styles)}"


def describe_axes(sweep: Sweep) -> str:
    """Write what differs among the runs."""
    return "; ".join(f"{axis.title} {', '.join(axis.values)}" for axis in sweep.axes)


def draw_comparison(
    inputs: Inputs, sweep: Sweep, folder: SweepFolder, records: Mapping[str, RunRecord]
) -> dict[str, str]:
    """Draw and write everything; return the sha256 of each file.

    Raises:
        ImageError: a picture cannot be read.
        OutputError: a file cannot be written.
    """
    written: dict[str, str] = {}
    shown = _read(inputs, sweep, folder)
    results = [records[run.name].result for run in sweep.runs]
    tiles = [
        Tile(pixels, sweep.label(run), describe_cost(result))
        for pixels, run, result in zip(shown.results, sweep.runs, results, strict=True)
    ]
    title = describe_inputs(inputs)
    given = [Tile(shown.content, inputs.content.name, "content"), *_style_tiles(inputs, shown)]
    sheet = draw_comparison_sheet(sweep, given, tiles, title)
    written["sheet.png"] = folder.write("sheet.png", _encode(sheet, "PNG"))
    written |= _write_animations(sweep, folder, results)
    if can_draw_curves():
        traces = {sweep.label(run): _read_trace(folder, run.name) for run in sweep.runs}
        written["costs.png"] = folder.write("costs.png", draw_cost_curves(traces, title))
    page_runs = [
        PageRun(run.name, tile.label, tile.detail, tile.pixels, result)
        for run, tile, result in zip(sweep.runs, tiles, results, strict=True)
    ]
    page = make_page(title, describe_axes(sweep), shown.content, page_runs, sheet)
    written["index.html"] = folder.write("index.html", page.encode("utf-8", "replace"))
    return written


def _read(inputs: Inputs, sweep: Sweep, folder: SweepFolder) -> _Shown:
    results = tuple(
        _reduce(read_image(folder.path / f"{run.name}.png", trusted=True)) for run in sweep.runs
    )
    height, width = results[0].shape[:2]
    content = to_8_bit(resize_picture(read_image(inputs.content), height, width))
    styles = tuple(_reduce(read_image(path)) for path, _ in inputs.styles)
    return _Shown(content, styles, results)


def _reduce(picture: Picture) -> Frame:
    """Return a picture's pixels at the size at which they are shown, so that memory holds many."""
    size = fit_box(picture.size, (_LONGEST_SIDE, _LONGEST_SIDE), enlarge=False)
    return to_8_bit(resize_picture(picture, *size))


def _style_tiles(inputs: Inputs, shown: _Shown) -> list[Tile]:
    weights = [weight for _, weight in inputs.styles]
    return [
        Tile(pixels, path.name, "style" if len(set(weights)) == 1 else f"style, weight {weight:g}")
        for pixels, (path, weight) in zip(shown.styles, inputs.styles, strict=True)
    ]


def describe_cost(result: Mapping[str, Any]) -> str:
    """Write a run's cost, and what share of the start's it is."""
    cost, initial = result["cost"]["total"], result["initial_cost"]
    share = f", {cost / initial:.1%} of the start's" if initial else ""
    return f"cost {cost:.3g}{share}"


def columns_of(sweep: Sweep) -> int:
    """Return how many runs stand side by side."""
    count = len(sweep.runs)
    if sweep.grid is not None:
        return len(sweep.grid[0])
    return min(count, max(_MOST_COLUMNS, math.isqrt(count)))


def draw_comparison_sheet(
    sweep: Sweep, given: Sequence[Tile], results: Sequence[Tile], title: str
) -> Image.Image:
    """Return the contact sheet: the pictures that were given, below them the results.

    Args:
        sweep: of the results; one with two axes is laid out as a table.
        given: content and styles, of any size.
        results: of one size, in the order of the runs.
        title: above all.
    """
    columns = columns_of(sweep)
    height, width = results[0].pixels.shape[:2]
    tile = fit_tile((height, width), columns)
    across = max(columns, 2)
    rows: list[TileRow] = [given[at : at + across] for at in range(0, len(given), across)]
    top = draw_grid(Grid(tile, len(rows), across), rows, title=title)
    rows = [results[at : at + columns] for at in range(0, len(results), columns)]
    lines = lines_of([each.label for each in results], max(tile[0], NARROWEST))
    if sweep.grid is None:
        grid = Grid(tile, len(rows), columns, lines=lines, title=False)
        return stack_sheets([top, draw_grid(grid, rows)])
    down, right = sweep.axes
    row_labels = [f"{down.title} {value}" for value in down.values]
    grid = Grid(
        tile,
        len(rows),
        columns,
        lines=lines,
        title=False,
        column_labels=True,
        row_labels=label_width(row_labels),
    )
    column_labels = [f"{right.title} {value}" for value in right.values]
    table = draw_grid(grid, rows, column_labels=column_labels, row_labels=row_labels)
    return stack_sheets([top, table])


def _write_animations(
    sweep: Sweep, folder: SweepFolder, results: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    films = [
        unpack_film((folder.path / RUNS / f"{run.name}.jpg").read_bytes(), result["film_steps"])
        for run, result in zip(sweep.runs, results, strict=True)
    ]
    labels = [sweep.label(run) for run in sweep.runs]
    frames = animate_runs(films, labels, columns_of(sweep))
    names = [name for name in names_to_draw() if Path(name).stem == "animation"]
    for name in names:
        write_animation(folder.path / name, frames)
    return {name: folder.digest(name) for name in names}


def _read_trace(folder: SweepFolder, name: str) -> list[dict[str, Any]]:
    text = (folder.path / RUNS / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _encode(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()
