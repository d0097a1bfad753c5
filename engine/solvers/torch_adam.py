"""Adam on a device, ahead of its host: steps follow one another, and costs come back every few."""

from collections.abc import Callable
from functools import partial

import torch

from nstx.models.cost import Cost

from ..devices.cuda_graph import CapturedFunction
from ..gradients.torch_gradient import TorchGradient
from .adam import AdamState, adam_rate, adam_update
from .solver import StepCallback

STEPS_AHEAD = 10
"""Steps after which the host waits for costs; as many pictures lie on the device meanwhile."""


def run_adam(
    backend: TorchGradient,
    start: torch.Tensor,
    *,
    steps: int,
    learning_rate: float,
    clip: bool,
    before_evaluation: Callable[[], None],
    on_first_cost: Callable[[Cost], None],
    on_step: StepCallback,
) -> None:
    """Run Adam to its end, or until `StopSolving` is raised by a callback.

    Args:
        backend: of one picture; not of fp16, whose seeds depend on each step's result.
        start: float32 (height, width, 3), on the backend's device; not changed.
        steps: 1 or more.
        learning_rate: in pixel values.
        clip: whether pixels are brought back into 0–255 after each step.
        before_evaluation: called before each one; may raise `StopSolving`, after which the steps that
            were begun are still told.
        on_first_cost: takes the start's cost.
        on_step: takes the picture and its cost after each step, some steps later.

    Raises:
        StopSolving: by a callback.
        NumericalError: a cost or gradient is not finite.
    """
    advance = _make_advance(backend, clip)
    nothing, told = torch.zeros_like(start), 0
    # The picture, the gradient's mean and square, and its scale, which is found in the first step.
    state: tuple[torch.Tensor, ...] = (start, nothing, nothing, start.new_zeros(()))
    waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def tell() -> None:
        nonlocal told
        begun = waiting.copy()
        waiting.clear()
        if not begun:
            return
        costs = backend.read_costs(torch.stack([rows for _, rows in begun]))
        for (picture, _), (cost,) in zip(begun, costs, strict=True):
            told += 1
            on_first_cost(cost) if told == 1 else on_step(picture, cost)

    with backend.computing():
        for step in range(1, steps + 2):
            try:
                before_evaluation()
            except BaseException:
                tell()
                raise
            rate = torch.full_like(state[-1], adam_rate(learning_rate, step))
            rows, *after = advance(*state, rate)
            waiting.append((state[0], rows))
            state = tuple(after)
            # The first step is told at once: people look whether a run has begun.
            if len(waiting) == (STEPS_AHEAD if told else 2) or step == steps + 1:
                tell()


def _make_advance(backend: TorchGradient, clip: bool) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Return what evaluates a picture and makes a step; captured in a CUDA graph, if the backend is."""

    def advance(
        picture: torch.Tensor,
        mean: torch.Tensor,
        square: torch.Tensor,
        scale: torch.Tensor,
        rate: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        rows, gradients = backend.evaluate(picture[None], torch.ones_like(rate))
        # The largest value stands in the last row.
        scale = torch.where(scale == 0, 1 / rows[-1, 0].clamp(min=1e-34), scale)
        state = AdamState(picture, mean, square)
        return rows, *adam_update(state, gradients[0] * scale, rate, clip=clip), scale

    return partial(CapturedFunction(), advance) if backend.captures else advance
