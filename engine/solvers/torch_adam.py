"""Adam on a device, ahead of its host: steps follow one another, and costs come back every few."""

from collections.abc import Callable
from functools import partial

import torch

from nstx.models.cost import Cost

from ..devices.arrays import Array
from ..devices.cuda_graph import CudaGraph
from ..devices.torch_arrays import as_tensor
from ..gradients.backend import GradientBackend
from ..gradients.torch_gradient import TorchGradient
from .adam import AdamState, adam_rate, adam_update
from .solver import Watcher

STEPS_AHEAD = 10
"""Steps after which the host waits for costs; as many pictures lie on the device meanwhile."""

_Waiting = tuple[torch.Tensor, Callable[[Cost], None]]
"""An evaluation that is still on the device, and what takes its cost."""


def run_adam(
    backend: GradientBackend,
    start: Array,
    *,
    steps: int,
    learning_rate: float,
    clip: bool,
    watcher: Watcher,
) -> None:
    """Run Adam to its end; raises what the watcher raises.

    The watcher is asked before each evaluation, and takes the start's cost, and each step some steps
    later. If it stops the run, it still takes the steps that were begun.

    Args:
        backend: a `TorchGradient` of one picture; not of fp16, whose seeds depend on each step's result.
        start: a tensor (height, width, 3) on the backend's device; not changed.
        steps: 1 or more.
        learning_rate: in pixel values.
        clip: whether pixels are brought back into 0–255 after each step.
        watcher: follows the run.
    """
    assert isinstance(backend, TorchGradient)
    advance = _make_advance(backend, clip)
    pixels = as_tensor(start)
    zeros = torch.zeros_like(pixels)
    # The scale of the gradient, the first of these, is computed in the first step.
    state = [pixels.new_zeros(()), pixels, zeros, zeros]
    waiting: list[_Waiting] = []
    take: Callable[[Cost], None] = lambda cost: watcher.after_evaluation(cost, ())
    with backend.computing():
        for step in range(1, steps + 2):
            try:
                watcher.before_evaluation()
            except BaseException:
                _report(backend, waiting)
                raise
            rate = torch.full_like(state[0], adam_rate(learning_rate, step))
            rows, *state = advance(rate, *state)
            waiting.append((rows, take))
            take = partial(watcher.after_step, state[1])
            # The first step is reported at once: people look whether a run has begun.
            if step % STEPS_AHEAD == 2:
                _report(backend, waiting)
        _report(backend, waiting)


def _report(backend: TorchGradient, waiting: list[_Waiting]) -> None:
    """Wait for the costs of all that are waiting, and hand them over."""
    if waiting:
        costs = backend.read_costs(torch.stack([rows for rows, _ in waiting]))
        for (_, take), (cost,) in zip(waiting, costs, strict=True):
            take(cost)
        waiting.clear()


def _make_advance(backend: TorchGradient, clip: bool) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Return what evaluates a picture and makes a step; captured in a CUDA graph, if the backend is."""

    def advance(
        rate: torch.Tensor, scale: torch.Tensor, *arrays: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        state = AdamState(*arrays)
        rows, gradients = backend.evaluate(state.pixels[None], torch.ones_like(rate))
        # The largest value stands in the last row.
        scale = torch.where(scale == 0, 1 / rows[-1, 0].clamp(min=1e-34), scale)
        return rows, scale, *adam_update(state, gradients[0] * scale, rate, clip=clip)

    return partial(CudaGraph(), advance) if backend.captures else advance
