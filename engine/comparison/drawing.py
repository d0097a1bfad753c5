"""What is drawn from the runs of a comparison: sheet, animations, cost curves and page."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nstx.models.errors import OutputError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input
from nstx.models.storage.seals import digest_json
from nstx.models.version import __version__

from ..drawing.animation import Frame, can_write_video, encode_animation
from ..drawing.contact_sheet import (
    NARROWEST,
    Grid,
    Tile,
    count_lines,
    draw_grid,
    fit_tile,
    split_rows,
    stack_sheets,
)
from ..drawing.cost_curves import can_draw_curves, draw_cost_curves
from ..drawing.film_strip import animate_runs, unpack_film
from ..pictures.picture import Picture
from ..pictures.reading import read_image
from ..pictures.resizing import fit_box, resize_picture
from ..pictures.transparency import on_white, with_alpha
from ..pictures.writing import to_8_bit
from ..settings import Settings
from ..streaming.reduced import Fit, read_fitting
from ..targets.paintings import split_painting, take_painting
from .digests import Inputs, RunDigests
from .folder import DRAWN, ComparisonFolder
from .page import make_page
from .plan import ComparisonPlan
from .records import MOST_BYTES, RunRecord, name_files, read_trace

_LONGEST_SIDE = 1024  # of a picture while it is drawn, so that memory holds many

_SHOWN = Fit(
    size=lambda own: fit_box(own, (_LONGEST_SIDE, _LONGEST_SIDE), enlarge=False), allowed=True
)
"""At which large pictures are read to be looked at; runs have read them."""


def names_to_draw() -> tuple[str, ...]:
    """Return the files that can be drawn: without Matplotlib no curves, without PyAV no MP4."""
    can_draw = {"costs.png": can_draw_curves(), "animation.mp4": can_write_video()}
    return tuple(name for name in DRAWN if can_draw.get(name, True))


def digest_drawing(
    inputs: Inputs,
    digests: RunDigests,
    plan: ComparisonPlan,
    records: Mapping[str, RunRecord],
) -> str:
    """Return the sha256 of everything that the drawn files depend on."""
    runs = [
        [run.name, run.label, records[run.name].digest, dict(records[run.name].files)]
        for run in plan.runs
    ]
    return digest_json(
        {
            "version": __version__,
            "drawn": names_to_draw(),
            "title": inputs.title,
            "pictures": [digests.content, digests.styles, *digests.regions],
            "axes": [[axis.name, axis.values] for axis in plan.axes],
            "runs": runs,
        }
    )


def draw_comparison(
    inputs: Inputs,
    plan: ComparisonPlan,
    folder: ComparisonFolder,
    records: Mapping[str, RunRecord],
) -> Iterator[tuple[str, bytes]]:
    """Draw everything; yield the name and bytes of one file after the other."""
    tiles, films, traces = {}, [], {}
    results = {run.name: records[run.name].result for run in plan.runs}
    for run in plan.runs:
        picture, _, trace, film = (folder.path / name for name in name_files(run.name))
        result = results[run.name]
        pixels = _shrink(_on_white(read_image(picture, trusted=True)))
        tiles[run.name] = Tile(pixels, run.label, describe_cost(result))
        films.append(unpack_film(film, result["film_steps"]))
        traces[run.label] = _read_trace(trace)
    first = plan.runs[0]
    content = content_as_seen(inputs, first.settings, results[first.name])
    originals = _draw_originals(inputs, content, tiles[first.name].pixels.shape)
    sheet = draw_comparison_sheet(plan, originals, list(tiles.values()), inputs.title)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    yield "sheet.png", buffer.getvalue()
    frames = animate_runs(films, [run.label for run in plan.runs], plan.columns)
    for name in names_to_draw():
        if name.startswith("animation"):
            yield name, encode_animation(frames, Path(name).suffix)
    if can_draw_curves():
        yield "costs.png", draw_cost_curves(traces, inputs.title)
    axes = "; ".join(f"{axis.title} {', '.join(axis.values)}" for axis in plan.axes)
    page = make_page(inputs.title, axes, originals[0].pixels, tiles, results, sheet)
    yield "index.html", page.encode("utf-8", "replace")


def _read_trace(path: Path) -> list[dict[str, Any]]:
    data = read_input(path, kind="a trace", most_bytes=MOST_BYTES, error=OutputError)
    try:
        return read_trace(data)
    except ValueError as error:  # it has changed since it was checked
        raise OutputError(
            f"expected a trace at {printable(path)}, got: {printable(error)}; try again"
        ) from error


def _shrink(picture: Picture) -> Frame:
    return to_8_bit(resize_picture(picture, *_SHOWN.size(picture.size)))


def _on_white(picture: Picture) -> Picture:
    """Return a picture to be looked at."""
    if picture.alpha is None:
        return picture
    eight = to_8_bit(picture.pixels.astype(np.float32))
    return Picture(on_white(with_alpha(eight, picture.alpha)), None)


def content_as_seen(inputs: Inputs, settings: Settings, result: Mapping[str, Any]) -> Picture:
    """Return the content picture; where runs stretch it, as they see it."""
    size = result["height"], result["width"]
    fit = Fit(size=lambda _: size, resampling=settings.resampling, allowed=True)
    content = _on_white(read_fitting(inputs.content, fit))
    if not settings.stretch:
        return content
    seen = resize_picture(content, *size, settings.resampling)
    return replace(content, pixels=seen)


def _draw_originals(inputs: Inputs, content: Picture, shape: Sequence[int]) -> list[Tile]:
    """Return the tiles of content and styles; the content has the shape of the results."""
    pixels = to_8_bit(resize_picture(content, shape[0], shape[1]))
    tiles = [Tile(pixels, printable(inputs.content.name), "content")]
    if inputs.regions is not None:
        seen = _on_white(read_fitting(inputs.regions, _SHOWN))
        tiles.append(Tile(_shrink(seen), printable(inputs.regions.name), "regions"))
    differ = len({weight for _, _, weight in inputs.paintings}) > 1
    for colour, path, weight in inputs.paintings:
        detail = "style" if colour is None else f"style for {printable(colour)}"
        seen = _on_white(take_painting(path, _SHOWN, read_fitting))
        name = printable(Path(split_painting(path).file).name)
        tiles.append(
            Tile(_shrink(seen), name, f"{detail}, weight {weight:g}" if differ else detail)
        )
    return tiles


def describe_cost(result: Mapping[str, Any]) -> str:
    """Return a run's cost, and its share of the start's, in words."""
    cost, initial = result["cost"]["total"], result["initial_cost"]
    share = f", {cost / initial:.1%} of the start's" if initial else ""
    return f"cost {cost:.3g}{share}"


def draw_comparison_sheet(
    plan: ComparisonPlan, originals: Sequence[Tile], results: Sequence[Tile], title: str
) -> Image.Image:
    """Return the contact sheet: content and styles, and below them the results.

    The originals may have any size. The results have one size and the order of the runs; they form
    a table if the plan has two axes.
    """
    columns = plan.columns
    height, width = results[0].pixels.shape[:2]
    tile = fit_tile((height, width), columns)
    across = max(columns, 2)
    rows = split_rows(originals, across)
    top = draw_grid(Grid(tile, len(rows), across), rows)
    rows = split_rows(results, columns)
    grid = Grid(
        tile,
        len(rows),
        columns,
        lines=count_lines([result.label for result in results], max(tile[0], NARROWEST)),
        title=None,
    )
    if plan.is_table:
        down, beside = plan.axes
        grid = replace(grid, row_labels=down.labels, column_labels=beside.labels)
    return stack_sheets(top, draw_grid(grid, rows), title)
