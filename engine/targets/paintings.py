"""Style pictures at the sizes that go with a result, and the grain that they have there."""

from collections.abc import Sequence

from ..artefacts.grain import Grain, combine_grains, measure_grain
from ..pictures.picture import Pixels, WeightedPicture
from ..pictures.resizing import resize_alpha, resize_picture
from ..settings import Settings
from ..sizes import style_size


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
