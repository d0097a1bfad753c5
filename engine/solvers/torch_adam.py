"""Adam on a device, ahead of its host: steps follow one another, and costs come back every few."""

from collections.abc import Callable
from functools import partial

import torch

from ..devices.arrays import Array
from ..devices.cuda_graph import CudaGraph
from ..devices.torch_arrays import as_tensor
from ..gradients.backend import GradientBackend
from ..gradients.torch_gradient import TorchGradient
from .adam import AdamState, adam_rate, adam_update
from .solver import Watcher

STEPS_AHEAD = 10
"""Steps after which the host waits for costs; as many pictures lie on the device meanwhile."""


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

    Args:
        backend: a `TorchGradient` of one picture; not of fp16, whose seeds depend on each step's result.
        start: a tensor (height, width, 3), float32, on the backend's device; not changed.
        steps: 1 or more.
        learning_rate: in pixel values.
        clip: whether pixels are brought back into 0–255 after each step.
        watcher: asked before each evaluation; takes the start's cost, and each step some steps later. If
            it stops the run, it still takes the steps that were begun.
    """
    assert isinstance(backend, TorchGradient)
    advance = _make_advance(backend, clip)
    pixels = as_tensor(start)
    zeros = torch.zeros_like(pixels)
    # The scale of the gradient, the first of these, is computed in the first step.
    state = [pixels.new_zeros(()), pixels, zeros, zeros]
    waiting = _Waiting(backend, watcher)
    with backend.computing():
        for step in range(1, steps + 2):
            try:
                watcher.before_evaluation()
            except BaseException:
                waiting.report()
                raise
            rate = torch.full_like(state[0], adam_rate(learning_rate, step))
            picture = state[1]
            rows, *state = advance(rate, *state)
            waiting.add(picture, rows)
        waiting.report()


class _Waiting:
    """Pictures whose costs are still on the device."""

    def __init__(self, backend: TorchGradient, watcher: Watcher) -> None:
        self._backend, self._watcher = backend, watcher
        self._pictures: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._reported = 0

    def add(self, picture: torch.Tensor, rows: torch.Tensor) -> None:
        """Add a picture and its evaluation; wait for the costs if there are enough of them."""
        self._pictures.append((picture, rows))
        # The first step is reported at once: people look whether a run has begun.
        if len(self._pictures) == (STEPS_AHEAD if self._reported else 2):
            self.report()

    def report(self) -> None:
        """Wait for the costs, and hand them to the watcher."""
        pictures, self._pictures = self._pictures, []
        if not pictures:
            return
        costs = self._backend.read_costs(torch.stack([rows for _, rows in pictures]))
        for (picture, _), (cost,) in zip(pictures, costs, strict=True):
            self._reported += 1
            if self._reported == 1:
                self._watcher.after_evaluation(cost, ())
            else:
                self._watcher.after_step(picture, cost)


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
