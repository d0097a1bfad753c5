"""Style pictures: the layers that they count in, and their sizes and grain with a result."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from nstx.models.errors import UsageError
from nstx.models.objective import Objective
from nstx.models.printable import printable
from nstx.models.vgg19 import is_layer, split_layers

from ..artefacts.grain import Grain, combine_grains, measure_grain
from ..pictures.picture import Picture, Pixels, WeightedPicture
from ..pictures.reading import Source, take_input
from ..pictures.resizing import resize_alpha, resize_picture
from ..settings import Settings
from ..sizes import style_size


def split_painting(path: str | os.PathLike[str]) -> tuple[str, tuple[str, ...]]:
    """Split ``fine.jpg@conv1_1,conv2_1`` into a file and layers; a file of the whole name has no layers.

    `UsageError` if there is a file before the @, but something that is no layer behind it.
    """
    text = os.fspath(path)
    file, sign, layers = text.rpartition("@")
    if not (sign and file) or os.path.exists(text):  # noqa: PTH110
        return text, ()
    names = [name.strip() for name in layers.split(",")]
    if os.path.isfile(file) or all(map(is_layer, names)):  # noqa: PTH113
        return file, split_layers(layers)
    return text, ()


def join_painting(path: str | os.PathLike[str], layers: str | None) -> str:
    """Return a path that names layers, which are separated by commas, as `split_painting` splits it."""
    text = os.fspath(path)
    return text if layers is None else f"{text}@{layers}"


def take_painting(source: Source, read: Callable[[str], Picture] = take_input) -> Picture:
    """Return a style picture, with the layers that its path may name; errors as of ``read`` and `split_painting`."""
    if not isinstance(source, str | os.PathLike):
        return take_input(source)
    file, layers = split_painting(source)
    picture = read(file)
    return replace(picture, layers=layers) if layers else picture


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
    paintings: Sequence[WeightedPicture], size: tuple[int, int], settings: Settings
) -> Grain | None:
    """Return the grain of a result's paintings, at the sizes that go with it; None if all are too small."""
    fitted = fit_styles(paintings, size, settings)
    return combine_grains(
        [
            (measure_grain(pixels, resize_alpha(style, *pixels.shape[:2])), weight)
            for pixels, (style, weight) in zip(fitted, paintings, strict=True)
        ]
    )
