"""What a run is made of, as callers name it: style pictures, a start, and settings."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

from nstx.models.errors import ImageError, UsageError, about
from nstx.models.presets import Preset
from nstx.models.printable import printable
from nstx.models.values import check_number, suggest

from ..choices import choose_settings
from ..colours.modes import as_compared
from ..pictures.picture import Picture, Pixels, WeightedPicture
from ..pictures.reading import Source, as_picture, take_input
from ..pictures.resizing import resize_picture
from ..regions.placement import Placement, place_styles
from ..settings import INITS, MIN_SIDE, Settings
from ..sizes import result_size
from ..streaming.reduced import WHOLE, Fit, read_fitting, read_input_at
from ..targets.paintings import (
    content_fit,
    fit_beside,
    fit_styles,
    fit_to_result,
    take_painting,
    weigh_style,
)

Styles = Source | Sequence[Source | tuple[Source, float]]
"""A style picture, or several, each by itself or with its weight among them.

A path as ``fine.jpg@conv1_1,conv2_1`` has it count in these style layers alone.
"""


_MAKE_SCALES = ("scales", "width", "height")
"""Choices beside which a picture to start from leaves the scales as they are."""


def take_styles(styles: Styles, fit: Fit = WHOLE) -> list[WeightedPicture]:
    """Return the style pictures, filled where they are transparent, with their weights, of 1 where none is named.

    Large ones that are named by paths are read at the size that they are used at.

    Raises:
        UsageError: there is none, one is no picture, or a weight is not above 0.
        ImageError: a picture cannot be used.
    """
    # A list is several pictures, a tuple or another sequence, too; everything else is one.
    listed: list[Any] = [styles]
    if isinstance(styles, Sequence) and not isinstance(styles, str | bytes):
        listed = list(styles)
    if not listed:
        raise UsageError("expected one or more styles, got none; try ['painting.jpg']")
    for weight in (item for item in listed[1:] if isinstance(item, Real)):
        number = f"{check_number('weight above 0 of a style', weight):g}"
        raise UsageError(
            f"expected styles with their weights in a list, got {number} beside them; "
            f"try [('painting.jpg', {number})]"
        )
    return [_take_style(item, fit) for item in listed]


def _take_style(item: "Source | tuple[Source, float]", fit: Fit) -> WeightedPicture:
    source, number = weigh_style(item)
    return take_painting(source, fit), number


def take_placement(
    content: Picture,
    styles: Styles,
    mask: Source | None = None,
    regions: Source | None = None,
    style_for: Mapping[str, Styles] | None = None,
    *,
    size: tuple[int, int],
    settings: Settings,
) -> Placement:
    """Return where styles apply in a content of `take_input`; errors as `take_styles` and `place_styles`.

    Settings may allow large pictures, which are read at what goes with a result of this (height, width).
    """
    fit = fit_beside(size, settings)
    # None are asked for beside styles by colour.
    is_empty = isinstance(styles, Sequence) and not styles
    paintings = [] if is_empty and style_for else take_styles(styles, fit)
    by_colour = {colour: take_styles(blend, fit) for colour, blend in (style_for or {}).items()}
    return place_styles(
        content, paintings, mask=mask, regions=regions, style_for=by_colour, fit=fit_to_result(size, settings)
    )  # fmt: skip


def take_content(
    source: Source, settings: Settings, *, wide: bool = False, name: str = ""
) -> Picture:
    """Return the content picture of a run: a large one, which settings may allow, at the size of the result.

    Of a path, for ``wide`` and ``name`` see `nstx.engine.pictures.reading.read_image`.
    """
    if not isinstance(source, str | os.PathLike):
        return take_input(source)
    return read_input_at(source, content_fit(settings), wide=wide, name=name)


def style_fit(content: tuple[int, int], settings: Settings) -> Fit:
    """Return the size that style pictures are used at beside a content of this (height, width)."""
    return fit_beside(result_size(content, settings), settings)


def check_one_region(settings: Settings, placement: Placement) -> None:
    """Raise `UsageError` if settings have no meaning for several regions with styles of their own."""
    if settings.colors == "only" and placement.count > 1:
        raise UsageError(
            "expected one region for colours alone, got several with styles of their own; try --colors style",
            setting="colors",
        )


def fit_to(
    picture: Picture,
    photograph: Picture,
    paintings: Sequence[WeightedPicture],
    settings: Settings,
) -> tuple[Pixels, Pixels, list[tuple[Pixels, float]]]:
    """Return a picture with its photograph and paintings at the sizes that go with it, as they are compared.

    `UsageError` if the picture is under 16 pixels on a side.
    """
    size = picture.size
    if min(size) < MIN_SIDE:
        raise UsageError(
            f"expected a picture of {MIN_SIDE} or more pixels a side, got {size[1]}×{size[0]}; "
            "try a larger one"
        )
    photograph, paintings = as_compared(settings.colors, photograph, paintings)
    fitted = fit_styles(paintings, size, settings)
    weights = [weight for _, weight in paintings]
    # As the photograph is: in grey, or as it is.
    own = Picture(picture.pixels, None, recolouring=photograph.recolouring)
    return (
        resize_picture(own, *size),
        resize_picture(photograph, *size, settings.resampling),
        list(zip(fitted, weights, strict=True)),
    )


def take_settings(
    settings: Settings | None,
    preset: Preset | str,
    choices: Mapping[str, Any],
    init: Source | None = None,
) -> tuple[Settings, Picture | None]:
    """Return the settings of a call, and the picture to start from where it is named by no path.

    They are those that the call names whole, or a preset with choices; `UsageError` if it names both,
    or a choice cannot be. A start may stand beside either; of such a picture the settings say nothing.
    """
    start = None
    if init is not None and not isinstance(init, str | os.PathLike):
        with about("init"):
            start = as_picture(init)
        init = None
    if settings is None:
        if start is not None and all(choices.get(name) is None for name in _MAKE_SCALES):
            choices = {**choices, "scales": 1}  # as with the path of one
        return choose_settings(preset, **{**choices, "init": init}), start
    if choices or preset != "default":
        raise UsageError(
            f"expected settings or {', '.join(choices) or 'a preset'}, got both; "
            "try choose_settings(preset, …) with all of them"
        )
    return settings if init is None else replace(settings, init=os.fspath(init)), start


def check_start(init: str) -> None:
    """Check that a picture's path is not the mistyped name of a start; `ImageError` if it is."""
    if near := not os.path.lexists(init) and suggest(init, INITS, ""):
        raise ImageError(
            f"expected a start of {', '.join(INITS)}, or a picture, got {printable(init)!r}; try {near}"
        )


@about("init")
def read_start(settings: Settings, size: tuple[int, int]) -> Picture | None:
    """Return the picture to start from, if the settings name one; a large one at the (height, width) of the result."""
    init = settings.init
    if init in INITS:
        return None
    check_start(init)
    return read_start_at(init, settings, size)


def read_start_at(path: str, settings: Settings, size: tuple[int, int]) -> Picture:
    """Return a picture to start from: a large one, which settings may allow, at the (height, width) of the result."""
    return read_fitting(path, replace(fit_to_result(size, settings), resampling="lanczos"))


def check_needs_no_styles(settings: Settings, start: Picture | None) -> None:
    """Raise `UsageError` if a run has to have the style pictures beside their targets."""
    for name, value, other in (("colors", "only", "style"), ("init", "matched", "content")):
        if getattr(settings, name) == value and (start is None or name == "colors"):
            raise UsageError(
                f"expected the style pictures to match colours with, got targets alone; try --{name} {other}",
                setting=name,
            )
