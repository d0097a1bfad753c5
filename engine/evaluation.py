"""The cost of any picture, by the yardstick."""

from collections.abc import Sequence

import numpy as np

from ..models.weights import load_weights
from .cost import Cost
from .images import Picture, resize_picture
from .reference import reference_cost
from .settings import Settings
from .sizes import style_size


def evaluate_picture(
    picture: Picture,
    content: Picture,
    styles: Sequence[tuple[Picture, float]],
    settings: Settings,
) -> Cost:
    """Return the cost of a picture under the settings' objective, in float64.

    Args:
        picture: of any size; it is not resized.
        content: the content picture; brought to the size of ``picture``.
        styles: style pictures, brought to the size that goes with it, each with a weight above 0.
        settings: whose objective, style scale and weights are used.

    Raises:
        UsageError: the picture is under 16 pixels on a side.
        WeightsError: the weights cannot be loaded.
    """
    size = (picture.height, picture.width)
    weights = load_weights(settings.weights, use_cache=settings.use_cache)
    resized = []
    for style, weight in styles:
        fitted = style_size((style.height, style.width), size, settings.style_scale)
        resized.append((resize_picture(style, *fitted), weight))
    return reference_cost(
        settings.objective,
        weights,
        picture.pixels.astype(np.float32),
        resize_picture(content, *size),
        resized,
    )
