"""The page of a comparison: one HTML file that holds its pictures and needs no other file.

``page.html`` beside this module has names in doubled braces for what is filled in, among it
``page.css`` and ``page.js``; pictures are filled in as data URIs.
"""

import base64
import io
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

from PIL import Image

from nstx.models.version import __version__

from ..drawing.animation import Frame
from ..drawing.contact_sheet import Tile
from ..pictures.resizing import fit_box

_LONGEST_SIDE, _LONGEST_OF_MANY = 1024, 512
_MANY = 12
_WIDEST_SHEET = 1600


def make_page(
    title: str,
    axes: str,
    content: Frame,
    tiles: Mapping[str, Tile],
    results: Mapping[str, Mapping[str, Any]],
    sheet: Image.Image,
) -> str:
    """Return the page's HTML: a slider between content and result, the runs, costs, and sheet.

    ``axes`` describes the settings that differ among the runs, and the content has the size of the
    results. Tiles, with label and cost, and results, as in `RunRecord`, go by the run's name, which
    follows the ``#`` in the page's address; the first run is shown first.
    """
    longest = _LONGEST_SIDE if len(tiles) <= _MANY else _LONGEST_OF_MANY
    height, width = content.shape[:2]
    first = next(iter(tiles))
    size = f"{results[first]['width']}×{results[first]['height']}"
    count = "1 run" if len(tiles) == 1 else f"{len(tiles)} runs"
    choices = [_choice(name, tile, longest, name == first) for name, tile in tiles.items()]
    parts = {
        "title": escape(title),
        "subtitle": escape(f"{count}, {size}" + (f"; {axes}" if axes else "")),
        "width": str(width),
        "height": str(height),
        "content": _data_uri(Image.fromarray(content), longest),
        "choices": "\n".join(choices),
        "rows": "\n".join(_row(tile.label, results[name]) for name, tile in tiles.items()),
        "sheet": _data_uri(sheet, _WIDEST_SHEET),
        "version": escape(__version__),
        "style": _read("page.css"),
        "script": _read("page.js"),
    }
    # In one pass, so that what is filled in is never taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def _read(name: str) -> str:
    return resources.files("nstx.engine.comparison").joinpath(name).read_text(encoding="utf-8")


def _choice(name: str, tile: Tile, longest: int, is_first: bool) -> str:
    name, label, detail = map(escape, (name, tile.label, tile.detail))
    checked = " checked" if is_first else ""
    return (
        f'<label class="choice"><input type="radio" name="run" value="{name}"'
        f' data-label="{label}" data-detail="{detail}"{checked}>'
        f'<img src="{_data_uri(Image.fromarray(tile.pixels), longest)}" alt="">'
        f'<span class="name">{label}</span><span class="detail">{detail}</span></label>'
    )


def _row(label: str, result: Mapping[str, Any]) -> str:
    cost, initial = result["cost"], result["initial_cost"]
    cells = [
        f"{cost['total']:.4g}",
        f"{cost['total'] / initial:.2%}" if initial else "",
        f"{cost['content']:.4g}",
        f"{cost['style']:.4g}",
        f"{result['steps']:d}",
        f"{result['seconds']['optimize']:.1f}",
    ]
    numbers = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(label)}</th>{numbers}</tr>'


def _data_uri(image: Image.Image, longest: int) -> str:
    size = fit_box(image.size, (longest, longest), enlarge=False)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=86)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
