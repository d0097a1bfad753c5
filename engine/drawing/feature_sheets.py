"""Pictures of activations: a contact sheet of a layer's strongest channels, and single channels."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nstx.models.arguments import check_arguments
from nstx.models.errors import UsageError
from nstx.models.storage.files import make_folder, write_output
from nstx.models.vgg19 import find_layer

from ..features.activations import LayerSummary, summarise_layer
from ..pictures.resizing import fit_box
from .contact_sheet import FAINT, INK, PAPER, plain

# Nine points of the colour map viridis (Smith and van der Walt 2015, CC0): 0 is dark, and equal
# steps of the activation look like equal steps.
_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
        (31, 158, 137), (53, 183, 121), (110, 206, 88), (253, 231, 37),
    ],
    np.float64,
)  # fmt: skip

_TILE = 200
_GAP, _LABEL, _CAPTION = 8, 22, 56
_THINNEST, _LABEL_WIDTH = 40, 180
_COLUMNS = 4
_SMALLEST_SIDE = 256


@dataclass(frozen=True, slots=True)
class LayerPictures:
    """The files of a layer's contact sheet and, if they were asked for, of its channels."""

    summary: LayerSummary
    sheet: Path
    channels: tuple[Path, ...]


@check_arguments
def write_feature_sheets(
    folder: str | Path,
    activations: Mapping[str, NDArray[np.float32]],
    *,
    strongest: int = 16,
    channels: bool = False,
    on_layer: Callable[[str], None] | None = None,
) -> tuple[LayerPictures, ...]:
    """Write ``LAYER.png`` for each layer, and on demand ``LAYER/channel_000.png`` ….

    Args:
        folder: is made if need be.
        activations: by layer, (channels, height, width), as `extract_features` returns them.
        strongest: most channels that a sheet shows.
        channels: whether a picture of each channel is written too.
        on_layer: called with the name of a layer when its pictures are written.

    Raises:
        UsageError: a layer is unknown, or an activation has another shape.
        OutputError: a file cannot be written.
    """
    folder = Path(folder)
    if strongest < 1:
        raise UsageError(f"expected 1 or more strongest channels, got {strongest}; try 16")
    for name, activation in activations.items():
        # The name becomes a file's.
        find_layer(name)
        if activation.ndim != 3 or not activation.size:
            raise UsageError(
                f"expected an activation (channels, height, width) of {name}, got {activation.shape}; "
                "try those that extract_features returns"
            )
    make_folder(folder)
    written = []
    for name, activation in activations.items():
        summary = summarise_layer(name, activation, strongest)
        sheet = _write(folder / f"{name}.png", draw_sheet(activation, summary))
        singles = []
        if channels:
            make_folder(folder / name)
            for index, channel in enumerate(activation):
                path = folder / name / f"channel_{index:03d}.png"
                singles.append(_write(path, enlarge_channel(draw_channel(channel))))
        written.append(LayerPictures(summary, sheet, tuple(singles)))
        if on_layer is not None:
            on_layer(name)
    return tuple(written)


def _write(path: Path, picture: Image.Image) -> Path:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_output(path, buffer.getvalue())
    return path


def draw_channel(values: NDArray[np.float32], largest: float | None = None) -> Image.Image:
    """Return a channel, pixel by pixel, in colours from dark (0) to yellow (``largest``).

    Values are 0 or more, (height, width); None takes the largest of them.
    """
    top = float(values.max()) if largest is None else largest
    share = values.astype(np.float64) / top if top > 0 else np.zeros(values.shape)
    points = np.linspace(0, 1, len(_VIRIDIS))
    planes = [np.interp(share, points, _VIRIDIS[:, plane]) for plane in range(3)]
    return Image.fromarray(np.rint(np.stack(planes, axis=2)).astype(np.uint8))


def enlarge_channel(image: Image.Image) -> Image.Image:
    """Return the picture of a channel, enlarged by a whole factor to 256 pixels or more."""
    factor = max(1, -(-_SMALLEST_SIDE // max(image.size)))
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.NEAREST)


def draw_sheet(activation: NDArray[np.float32], summary: LayerSummary) -> Image.Image:
    """Return a contact sheet of a layer's strongest channels, each scaled to its largest value.

    The activation is (channels, height, width). The caption has the layer's name and the shape and
    range of its activation; the labels have the numbers and largest values of the channels.
    """
    _, height, width = activation.shape
    tile = _tile_size(height, width)
    # A label is wider than a tall picture, and a row of wide ones would be wider than a screen.
    cell = max(tile[0], _LABEL_WIDTH)
    columns = max(1, min(_COLUMNS * _TILE // cell, _COLUMNS, len(summary.strongest)))
    rows = -(-len(summary.strongest) // columns)
    # Wide enough for the caption, however few channels there are.
    sheet_width = max(columns * (cell + _GAP) + _GAP, 560)
    sheet_height = _CAPTION + rows * (tile[1] + _LABEL + _GAP) + _GAP
    sheet = Image.new("RGB", (sheet_width, sheet_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    title, text = ImageFont.load_default(18), ImageFont.load_default(13)
    draw.text((_GAP, _GAP), summary.name, INK, title)
    draw.text((_GAP, _GAP + 26), plain(describe_summary(summary)), FAINT, text)
    for index, shown in enumerate(summary.strongest):
        row, column = divmod(index, columns)
        corner = (_GAP + column * (cell + _GAP), _CAPTION + row * (tile[1] + _LABEL + _GAP))
        sheet.paste(_fit(draw_channel(activation[shown.channel]), tile), corner)
        label = f"channel {shown.channel}   max {shown.largest:.4g}"
        draw.text((corner[0], corner[1] + tile[1] + 3), label, FAINT, text)
    return sheet


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """Return the width and height of a tile: 200 pixels long, longer if it would be too thin."""
    thin = min(height, width) / max(height, width)
    long_side = min(_COLUMNS * _TILE, max(_TILE, round(_THINNEST / thin)))
    return fit_box((width, height), (long_side, long_side))


def describe_summary(summary: LayerSummary) -> str:
    """Return the shape and range of an activation in one line."""
    _, height, width, channels = summary.shape
    return (
        f"{height} × {width}, {channels} channels   {summary.smallest:.4g} to {summary.largest:.4g}, "
        f"mean {summary.mean:.4g}, {summary.zero_share:.0%} zero"
    )


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize a channel to a tile: by averages if it shrinks, in plain squares if it grows."""
    grows = size[0] >= image.width
    return image.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.BOX)
