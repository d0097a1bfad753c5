"""Options that are more than a value: several numbers or names, and pictures with weights."""

import math
import os.path
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nstx.models import vgg19
from nstx.models.errors import UsageError, about
from nstx.models.printable import printable
from nstx.models.values import describe

from .sources import setting_of

if TYPE_CHECKING:
    from nstx.engine.pictures.picture import Picture
    from nstx.engine.streaming.reduced import Fit


def split_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read ``256,512`` as whole numbers; `UsageError` if something is none."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(
            f"expected numbers separated by commas for {option}, got {describe(text)}; try {option} 256,512",
            setting=setting_of(option),
        ) from None


def split_names(text: str) -> tuple[str, ...]:
    """Read ``onnx,torch`` as names."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def split_layers(option: str, text: str | None) -> tuple[str, ...]:
    """Read ``conv1_1,relu4_2`` as the names of layers; there may be none."""
    with about(option):
        return vgg19.split_layers(text) if text else ()


def split_style(text: str) -> tuple[Path, float]:
    """Split ``STYLE:weight``, of 1 by default; a file whose very name ends in a number keeps it.

    What is left may name layers and a mask, as in ``STYLE@conv1_1,conv2_1@mask.png``: see `style_files`.
    """
    path, colon, weight = text.rpartition(":")
    if not colon or not path or os.path.exists(text):  # noqa: PTH110
        return Path(text), 1.0
    try:
        value = float(weight)
    except ValueError:
        if not (Path(path).suffix or os.path.exists(path)):  # noqa: PTH110
            return Path(text), 1.0  # behind a drive's letter
        value = 0.0
    if not 0 < value < math.inf:
        raise UsageError(
            f"expected a style weight above 0, as PATH:weight, got {describe(text)}; "
            f"try '{printable(path)}:1'"
        )
    return Path(path), value


def split_styles_for(texts: Iterable[str]) -> dict[str, list[tuple[Path, float]]]:
    """Split ``COLOUR=STYLE:weight`` into styles with their weights, by colours."""
    styles: dict[str, list[tuple[Path, float]]] = {}
    for text in texts:
        colour, equals, style = text.partition("=")
        if not (colour.strip() and equals and style):
            raise UsageError(
                f"expected a colour with its style, as COLOUR=STYLE, got {describe(text)}; "
                "try --style-for '#ff0000=painting.jpg'",
                setting="style_for",
            )
        with about("style_for"):
            styles.setdefault(colour.strip(), []).append(split_style(style))
    return styles


def read_styles(styles: Iterable[str], fit: "Fit") -> "list[tuple[Picture, float]]":
    """Read the style pictures with their weights; large ones at the size that they are used at."""
    return [(_read_style(path, fit), weight) for path, weight in map(split_style, styles)]


def read_styles_for(
    styles: Mapping[str, Sequence[tuple[Path, float]]], fit: "Fit"
) -> "dict[str, list[tuple[Picture, float]]]":
    """Read the style pictures with their weights of each colour."""
    with about("style_for"):
        return {
            colour: [(_read_style(path, fit), weight) for path, weight in blend]
            for colour, blend in styles.items()
        }


def style_file(path: Path) -> Path:
    """Return the file of a style whose path may name layers and a mask; `UsageError` if they are none."""
    return style_files(path)[0]


def style_files(path: Path) -> list[Path]:
    """Return the files that are read of a style: its picture, and the mask that its path may name; errors likewise."""
    if "@" not in str(path):
        return [path]  # without the library, which takes time to load
    from nstx.engine.targets.paintings import split_painting

    return [*map(Path, split_painting(path).files)]


def _read_style(path: Path, fit: "Fit") -> "Picture":
    from nstx.engine.streaming.reduced import read_fitting
    from nstx.engine.targets.paintings import take_painting

    return take_painting(path, fit, read_fitting)
