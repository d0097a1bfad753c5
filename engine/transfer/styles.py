"""Style pictures as callers name them: one or several, with or without weights."""

from collections.abc import Sequence
from typing import Any

from nstx.models.errors import UsageError
from nstx.models.values import check_number, describe

from ..pictures.picture import WeightedPicture
from ..pictures.reading import Source, as_picture
from ..pictures.transparency import fill_transparent

Styles = Source | Sequence[Source | tuple[Source, float]]
"""A style picture, or several, each by itself or with its weight among them."""


def take_styles(styles: Styles) -> list[WeightedPicture]:
    """Return the style pictures, filled where they are transparent, with their weights, of 1 where none is named.

    Raises:
        UsageError: there is none, one is no picture, or a weight is not above 0.
        ImageError: a picture cannot be used.
    """
    # A list or tuple is several pictures; everything else is one.
    listed: list[Any] = list(styles) if isinstance(styles, list | tuple) else [styles]
    if not listed:
        raise UsageError("expected one or more styles, got none; try ['painting.jpg']")
    return [_take_style(item) for item in listed]


def _take_style(item: "Source | tuple[Source, float]") -> WeightedPicture:
    source, weight = item if isinstance(item, tuple) and len(item) == 2 else (item, 1.0)
    number = check_number("weight above 0 of a style", weight)
    if number <= 0:
        raise UsageError(
            f"expected styles with weights above 0, got {describe(number)}; try a weight of 1"
        )
    return fill_transparent(as_picture(source)), number
