"""The cost of any picture, by the yardstick."""

import math
from collections.abc import Sequence

import numpy as np

from nstx.models.cost import Cost
from nstx.models.errors import NumericalError, UsageError
from nstx.models.reference.cost import reference_cost
from nstx.models.weights.load import load_weights

from ..devices.memory import memory_errors
from ..pictures.picture import Picture, WeightedPicture
from ..pictures.resizing import resize_picture
from ..settings import Settings
from ..sizes import MIN_SIDE, style_size


def evaluate_picture(
    picture: Picture,
    content: Picture,
    styles: Sequence[WeightedPicture],
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
        NumericalError: the cost is not finite.
    """
    size = (picture.height, picture.width)
    if min(size) < MIN_SIDE:
        raise UsageError(
            f"expected a picture of {MIN_SIDE} or more pixels a side, got {size[1]}×{size[0]}; "
            "try a larger one"
        )
    weights = load_weights(settings.weights, use_cache=settings.use_cache)
    resized = [
        (resize_picture(style, *style_size(style.size, size, settings.style_scale)), weight)
        for style, weight in styles
    ]
    with memory_errors(size):
        cost = reference_cost(
            settings.objective,
            weights,
            picture.pixels.astype(np.float32),
            resize_picture(content, *size),
            resized,
        )
    if not math.isfinite(cost.total):
        raise NumericalError("expected a finite cost, got NaN or infinity; try smaller weights")
    return cost
