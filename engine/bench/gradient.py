"""Gradient backends to be measured, on targets of any size."""

from typing import TYPE_CHECKING

import numpy as np

from nstx.models.objective import Objective
from nstx.models.vgg19 import find_layer

from ..gradients.choice import choose_backend
from ..gradients.opening import open_backend
from ..settings import choose_settings
from ..targets.targets import Targets
from .tasks import OPTIMIZE_VARIANTS, Task

if TYPE_CHECKING:
    from .tasks import Compute


def open_gradient(task: Task) -> "tuple[Compute, str]":
    """Open a backend; return what computes the gradients of a batch, and what it runs on.

    Raises:
        NstxError: the backend, device or precision is missing, or the weights cannot be read.
    """
    backend, precision = OPTIMIZE_VARIANTS[task.variant]
    settings = choose_settings(
        task.preset, pooling=task.pooling, backend=backend, precision=precision,
        device=task.device, threads=task.threads, weights=task.weights,
    )  # fmt: skip
    choice = choose_backend(settings)
    problem = (settings.objective, make_zero_targets(settings.objective, task.size, task.size))
    evaluate = open_backend(settings, choice).make([problem] * task.batch).costs_and_gradients
    return (lambda pixels: list(evaluate(pixels)[1])), f"{choice.name} {choice.device}"


def make_zero_targets(objective: Objective, height: int, width: int) -> Targets:
    """Return targets of zeros, which take as long to compare with as any others.

    Args:
        objective: names the layers.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
    """
    content, style = {}, {}
    for name in objective.content_names:
        layer = find_layer(name)
        size = layer.output_size(height, width, objective.pool_rounding)
        content[name] = np.zeros((layer.channels, *size), np.float32)
    for name in objective.style_names:
        style[name] = np.zeros((find_layer(name).channels,) * 2, np.float32)
    return Targets(height=height, width=width, content=content, style=style)
