"""Style pictures: the layers that they count in, and their sizes and grain with a result."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nstx.models.errors import UsageError
from nstx.models.objective import Objective
from nstx.models.printable import printable
from nstx.models.values import check_number, describe
from nstx.models.vgg19 import is_layer, split_layers

from ..artefacts.grain import Grain, combine_grains, measure_grain
from ..pictures.picture import Picture, Pixels, WeightedPicture
from ..pictures.reading import Source, take_input
from ..pictures.resizing import resize_alpha, resize_picture
from ..pictures.transparency import fill_transparent
from ..regions.masks import mask_painting
from ..settings import Settings
from ..sizes import result_size, style_size
from ..streaming.reduced import WHOLE, Fit, fit_by, read_input_at

WeightedPaths = tuple[tuple[Path, float], ...]
"""Style pictures with their weights; a path may be one of `split_painting`."""


class PaintingPath(NamedTuple):
    """What the path of a style picture names.

    Attributes:
        file: the picture.
        layers: the style layers that it counts in; empty for all.
        mask: the file of the mask of what of it counts; None for all.
    """

    file: str
    layers: tuple[str, ...] = ()
    mask: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are read."""
        return (self.file,) if self.mask is None else (self.file, self.mask)

    def join(self) -> str:
        """Return the path that names it."""
        parts = [self.file, ",".join(self.layers), self.mask]
        return "@".join(filter(None, parts))


def split_painting(path: str | os.PathLike[str]) -> PaintingPath:
    """Split ``fine.jpg@conv1_1,conv2_1@mask.png`` into a file, layers and a mask, each of which may be left out.

    A file of the whole name is one without. `UsageError` if there is a file before an @, but something behind it that
    is neither layers nor the name of a file with its suffix.
    """
    text = os.fspath(path)
    if "@" not in text or os.path.exists(text):  # noqa: PTH110
        return PaintingPath(text)
    file, _, rest = text.rpartition("@")
    while "@" in file and not _is_file(file):
        file = file.rpartition("@")[0]
    if not _is_file(file):  # one that is missing, or a folder
        file, _, rest = text.rpartition("@")
        is_layered = bool(file) and _are_layers(rest)
        return PaintingPath(file, split_layers(rest)) if is_layered else PaintingPath(text)
    rest = text[len(file) + 1 :]
    layers, sign, mask = rest.partition("@")
    if sign and not mask:
        layers = rest  # which are none
    if not _are_layers(layers) and ("." in rest or os.path.exists(rest)):  # noqa: PTH110
        return PaintingPath(file, mask=rest)
    return PaintingPath(file, split_layers(layers), mask or None)


def _is_file(path: str) -> bool:
    return path == "-" or os.path.isfile(path)  # noqa: PTH113  (standard input, until it is read)


def _are_layers(text: str) -> bool:
    return all(is_layer(name.strip()) for name in text.split(","))


def join_painting(file: str | os.PathLike[str], layers: str | None, mask: str | None = None) -> str:
    """Return a path that names layers, which are separated by commas, and a mask, as `split_painting` splits it."""
    names = () if layers is None else tuple(layers.split(","))
    return PaintingPath(os.fspath(file), names, mask).join()


def move_painting(path: str | os.PathLike[str], move: Callable[[Path], Path]) -> str:
    """Return the path of a style picture whose files are elsewhere."""
    named = split_painting(path)
    mask = None if named.mask is None else str(move(Path(named.mask)))
    return named._replace(file=str(move(Path(named.file))), mask=mask).join()


def absolute_painting(path: str | os.PathLike[str]) -> str:
    """Return the path of a style picture with its files named from the root on."""
    return move_painting(path, Path.absolute)


def weigh_style(item: Any) -> tuple[Any, float]:
    """Return a style that is named by itself or as ``(style, weight)`` with its weight; `UsageError` of another weight."""
    if isinstance(item, list) or (isinstance(item, tuple) and len(item) != 2):
        raise UsageError(
            f"expected a style as a picture or (picture, weight), got a {type(item).__name__} of "
            f"{len(item)}; try ('painting.jpg', 2)"
        )
    source, weight = item if isinstance(item, tuple) else (item, 1.0)
    number = check_number("weight above 0 of a style", weight)
    if number <= 0:
        raise UsageError(
            f"expected styles with weights above 0, got {describe(number)}; try a weight of 1"
        )
    return source, number


def take_painting(
    source: Source, fit: Fit = WHOLE, read: Callable[[str, Fit], Picture] = read_input_at
) -> Picture:
    """Return a style picture, with the layers and the mask that its path may name.

    Of a path, large files are read at the size that the picture is used at. Errors as of ``read``, `split_painting` and `nstx.engine.regions.masks.mask_painting`.
    """
    if not isinstance(source, str | os.PathLike):
        return take_input(source)
    named = split_painting(source)
    picture = read(named.file, fit)
    if named.mask is not None:
        picture = fill_transparent(mask_painting(picture, named.mask, large=fit.allowed))
    return replace(picture, layers=named.layers) if named.layers else picture


def serves(painting: Picture, layer: str) -> bool:
    """Whether a style picture counts in a style layer."""
    return not painting.layers or layer in painting.layers


def check_served(
    paintings: Sequence[WeightedPicture], places: Sequence[int], objective: Objective
) -> None:
    """Raise `UsageError` if a style names a layer that is none of the objective's, or none counts in one of them.

    ``places`` are the styles' regions, where there are several; in each of them all layers need a style.
    """
    names = objective.style_names
    for painting, _ in paintings if names else ():
        if others := [name for name in painting.layers if name not in names]:
            raise UsageError(
                f"expected a style in style layers, {', '.join(names)}, got {printable(painting.path)} in "
                f"{', '.join(others)}; try --style-layers {','.join([*names, *others])}"
            )
    places = places or [0] * len(paintings)
    for place in dict.fromkeys(places):
        own = [painting for (painting, _), at in zip(paintings, places, strict=True) if at == place]
        for name in names:
            if not any(serves(painting, name) for painting in own):
                raise UsageError(
                    f"expected a style in each style layer, got none in {name}; "
                    f"try STYLE@{name}, or a style without layers"
                )


def content_fit(settings: Settings) -> Fit:
    """Return the size that a content picture is used at: that of the result."""
    return fit_by(settings, partial(result_size, settings=settings))


def fit_to_result(size: tuple[int, int], settings: Settings) -> Fit:
    """Return the size that masks, maps and starts of a result of this (height, width) are used at."""
    return fit_by(settings, lambda _: size)


def fit_beside(result: tuple[int, int], settings: Settings) -> Fit:
    """Return the size that style pictures are used at beside a result of this (height, width)."""
    scale, stretch = settings.style_scale, settings.stretch
    return fit_by(settings, lambda source: style_size(source, result, scale, stretch=stretch))


def fit_styles(
    paintings: Sequence[WeightedPicture], size: tuple[int, int], settings: Settings
) -> list[Pixels]:
    """Return style pictures at the sizes that go with a result; `UsageError` as `style_size`."""
    scale, stretch = settings.style_scale, settings.stretch
    sizes = [style_size(style.size, size, scale, stretch=stretch) for style, _ in paintings]
    return [
        resize_picture(style, *own, settings.resampling)
        for own, (style, _) in zip(sizes, paintings, strict=True)
    ]


def measure_grains(
    paintings: Sequence[WeightedPicture],
    size: tuple[int, int],
    settings: Settings,
    grains: Sequence[Grain | None] | None = None,
) -> Grain | None:
    """Return the grain of a result's paintings, at the sizes that go with it; None if all are too small.

    ``grains`` are those of `single_grains`, where somebody has them already.
    """
    if grains is None:
        grains = single_grains(paintings, size, settings)
    weights = [weight for _, weight in paintings]
    return combine_grains(list(zip(grains, weights, strict=True)))


def single_grains(
    paintings: Sequence[WeightedPicture], size: tuple[int, int], settings: Settings
) -> list[Grain | None]:
    """Return the grain of each of a result's paintings, whatever its weight; None of one that is too small."""
    fitted = fit_styles(paintings, size, settings)
    return [
        measure_grain(pixels, resize_alpha(style, *pixels.shape[:2]))
        for pixels, (style, _) in zip(fitted, paintings, strict=True)
    ]
