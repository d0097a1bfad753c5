"""Adam, of Kingma and Ba 2015, on pictures: its rule, and the solver that repeats it.

`nstx.export.graphs.build_gradient` has the same rule as ONNX nodes.
"""

from typing import Generic, NamedTuple

import numpy as np

from nstx.export.graphs.gradient_graph import BETA1, BETA2, EPSILON

from ..devices.arrays import NUMPY, Array, Arrays, ArrayT
from .memory import SolverMemory
from .solver import StepCallback, Steps


class AdamState(NamedTuple, Generic[ArrayT]):
    """What one step of Adam hands to the next, float32 (height, width, 3) each.

    Attributes:
        pixels: the picture.
        mean: the decaying mean of the gradients; 0 at first.
        square: the decaying mean of their squares; 0 at first.
    """

    pixels: ArrayT
    mean: ArrayT
    square: ArrayT


def adam_update(
    state: AdamState[ArrayT], gradient: ArrayT, rate: float | ArrayT, *, clip: bool
) -> AdamState[ArrayT]:
    """Return the state after a step; NumPy arrays and PyTorch tensors alike, none of which is changed.

    Args:
        state: before the step.
        gradient: at its pixels, scaled so that the first one's largest value is 1.
        rate: `adam_rate`, as a number or an array ().
        clip: whether pixels are brought back into 0–255.
    """
    mean = state.mean + (1 - BETA1) * (gradient - state.mean)
    square = state.square + (1 - BETA2) * (gradient * gradient - state.square)
    pixels = state.pixels - rate * mean / (square**0.5 + EPSILON)
    return AdamState(pixels.clip(0.0, 255.0) if clip else pixels, mean, square)


def adam_rate(learning_rate: float, step: int) -> float:
    """Return the learning rate of a step, counted from 1, which corrects the bias of both means."""
    return float(learning_rate * (1 - BETA2**step) ** 0.5 / (1 - BETA1**step))


def adam_steps(
    start: Array,
    *,
    steps: int,
    learning_rate: float,
    clip: bool,
    on_step: StepCallback,
    arrays: Arrays = NUMPY,
    memory: SolverMemory | None = None,
) -> Steps:
    """Return Adam, ready to run from a picture, which is not changed; its rate is in pixel values.

    Where ``memory`` has a state, it goes on from that.
    """
    memory = memory or SolverMemory()
    earlier, made = memory.earlier, 0
    if earlier is None:
        state = AdamState(start, start * 0, start * 0)
        _, gradient = yield start
        # Adam does not depend on the cost's scale but for ε, which must not exceed the gradient:
        # costs of 10⁹ and of 0.1 are both usual.
        scale = 1 / max(float(abs(gradient).max()), 1e-34)
    else:
        made, scale, gradient = (
            int(earlier["made"]),
            float(earlier["scale"]),
            arrays.place(earlier["gradient"]),
        )
        state = AdamState(*(arrays.place(earlier[name]) for name in AdamState._fields))
    memory.export = lambda: {
        "made": float(made), "scale": scale, "gradient": gradient, **state._asdict()
    }  # fmt: skip
    for step in range(made + 1, steps + 1):
        # Learning rates that leave float32 lead to costs that are not finite, which are errors of their own.
        with np.errstate(over="ignore", invalid="ignore"):
            state = adam_update(state, gradient * scale, adam_rate(learning_rate, step), clip=clip)
        cost, gradient = yield state.pixels
        made = step
        on_step(state.pixels, cost)
