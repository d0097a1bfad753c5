"""From options to settings and pictures, for the commands that take them."""

import os.path
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nstx.engine.settings import Settings, choose_settings
from nstx.models.errors import UsageError

if TYPE_CHECKING:
    from nstx.engine.pictures.picture import Picture
    from nstx.models.presets import Preset


def choose(preset: "str | Preset", *, scales: str | None, **choices: Any) -> Settings:
    """Return the settings for what was given on the command line.

    Raises:
        UsageError: something cannot be.
    """
    return choose_settings(preset, **split_scales(scales), **choices)


def split_scales(scales: str | None) -> dict[str, Any]:
    """Return what ``--scales`` chooses, as `nstx.engine.settings.choose_settings` takes it.

    Raises:
        UsageError: it is neither auto nor a number.
    """
    if scales is None:
        return {}
    if scales.strip().lower() == "auto":
        return {"auto_scales": True}
    try:
        return {"scales": int(scales)}
    except ValueError:
        raise UsageError(
            f"expected auto or a number of scales, got {scales!r}; try --scales auto"
        ) from None


def check_count(option: str, value: int, most: int) -> None:
    """Check that a count is 1 or more and not out of all proportion.

    Raises:
        UsageError: it is not.
    """
    if not 1 <= value <= most:
        raise UsageError(f"expected {option} 1 … {most}, got {value}; try {option} 1")


def split_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read ``256,512`` as numbers.

    Raises:
        UsageError: something is no number.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(
            f"expected numbers separated by commas for {option}, got {text!r}; try {option} 256,512"
        ) from None


def split_names(text: str) -> tuple[str, ...]:
    """Read ``onnx,torch`` as names."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


_RANKS = {"COMMANDLINE": 0, "ENVIRONMENT": 1, "DEFAULT_MAP": 2}


def choose_sizes(
    context: typer.Context, size: int | None, width: int | None, height: int | None
) -> dict[str, int | None]:
    """Return the sizes that count: a --size that stands in a configuration gives way to --width.

    Both kinds from one source are left for the library to refuse.
    """

    def rank(name: str) -> int:
        source = context.get_parameter_source(name)
        return _RANKS.get(source.name, 3) if source is not None else 3

    exact = min(rank("width") if width else 3, rank("height") if height else 3)
    long_side = rank("size") if size else 3
    if exact < long_side:
        size = None
    elif long_side < exact:
        width = height = None
    return {"size": size, "width": width, "height": height}


def split_style(text: str) -> tuple[Path, float]:
    """Split ``STYLE:weight``; a file whose very name ends in a number keeps it.

    Raises:
        UsageError: the weight is not above 0.
    """
    path, colon, weight = text.rpartition(":")
    if not colon or not path or os.path.exists(text):  # noqa: PTH110
        return Path(text), 1.0
    try:
        value = float(weight)
    except ValueError:
        return Path(text), 1.0
    if not 0 < value < float("inf"):
        raise UsageError(f"expected a style weight above 0, got {text!r}; try {path}:1")
    return Path(path), value


def read_styles(styles: tuple[str, ...]) -> "list[tuple[Picture, float]]":
    """Read the style pictures with their weights.

    Raises:
        UsageError: a weight is not above 0.
        ImageError: a picture cannot be read.
    """
    from nstx.engine.pictures.reading import read_image

    return [(read_image(path), weight) for path, weight in map(split_style, styles)]
