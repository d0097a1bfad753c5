"""Adam on a device, ahead of its host: steps follow one another, and costs come back every few.

In fp16 each step is waited for, as the next one's seed depends on it; but it is one graph with its evaluation there, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from nstx.export.graphs.gradient_graph import BETA1, BETA2, EPSILON
from nstx.models.cost import Cost

from ..devices.arrays import Array
from ..devices.cuda_graph import CudaGraph, run_by
from ..devices.torch_arrays import Arrival, as_tensor
from ..gradients.backend import GradientBackend
from ..gradients.torch_gradient import TorchGradient
from .adam import adam_rate
from .memory import Saved, SolverMemory, State
from .solver import Watcher

STEPS_AHEAD = 10
"""Steps whose costs the host does not know yet, at most; as many pictures lie on the device meanwhile."""

# Costs come back this many at once, while the next steps are under way.
_AT_ONCE = STEPS_AHEAD // 2

_Take = Callable[[Cost], None]
"""Takes the cost of an evaluation."""


def run_adam(
    backend: GradientBackend,
    start: Array,
    *,
    steps: int,
    learning_rate: float,
    clip: bool,
    watcher: Watcher,
    memory: SolverMemory | None = None,
) -> None:
    """Run Adam to its end; raises what the watcher raises.

    The watcher is asked before each evaluation, and takes the start's cost, and each step some steps
    later, but in fp16 at once. If it stops the run, it still takes the steps that were begun.

    Args:
        backend: a `TorchGradient` of one picture.
        start: a tensor (height, width, 3) on the backend's device; not changed.
        steps: 1 or more.
        learning_rate: in pixel values.
        clip: whether pixels are brought back into 0–255 after each step.
        watcher: follows the run.
        memory: what it goes on from: a state of which the last picture's cost is not known yet.
    """
    assert isinstance(backend, TorchGradient)
    memory = memory or SolverMemory()
    memory.is_ahead = True
    with backend.computing():
        adam, reports = TorchAdam(backend, as_tensor(start), clip=clip), _Reports(backend)
        memory.export, first = adam.export, 1
        take: _Take = lambda cost: watcher.after_evaluation(cost, ())
        if memory.earlier is not None:
            first, pixels = adam.resume(memory.earlier) + 1, adam.pixels
            take = partial(watcher.after_step, pixels)
        for step in range(first, steps + 2):
            # Not before a step of this scale was reported, as its picture is kept, too.
            if step > max(first, 2) and memory.is_due():
                reports.finish()
                memory.keep()
            try:
                watcher.before_evaluation()
            except BaseException:
                reports.finish()
                raise
            rows, pixels = adam.advance(adam_rate(learning_rate, step))
            if backend.has_seeds:
                ((cost,),) = backend.read_costs(rows[None])
                take(cost)
            else:
                reports.add(rows, take)
            take = partial(watcher.after_step, pixels)
            # The first step is reported at once: people look whether a run has begun.
            if step == 2:
                reports.finish()
            elif step % _AT_ONCE == 2:
                reports.exchange()
        reports.finish()


class TorchAdam:
    """The state of `nstx.engine.solvers.adam.adam_update`, which each step changes in place.

    In a CUDA graph with the evaluation, if the backend captures those.

    Args:
        backend: of one picture.
        start: the first picture, (height, width, 3).
        clip: whether pixels are brought back into 0–255.
    """

    def __init__(self, backend: TorchGradient, start: torch.Tensor, *, clip: bool) -> None:
        self._backend, self._clip = backend, clip
        self._pixels = start.clone()
        self._mean, self._square = torch.zeros_like(start), torch.zeros_like(start)
        # Of the gradient; 0 until the first step has computed it.
        self._scale, self._rate = start.new_zeros(()), start.new_zeros(())
        self._made = 0
        # Before a capture, which has its place.
        backend.place_seed(self._rate)
        self._graph = CudaGraph() if backend.captures else None
        if self._graph is not None:
            self._graph.prepare(self._step, self._rate)
            self._pixels.copy_(start)
            for tensor in (self._mean, self._square, self._scale):
                tensor.zero_()

    @property
    def pixels(self) -> torch.Tensor:
        """A copy of the picture that is evaluated next."""
        return self._pixels.clone()

    @property
    def _state(self) -> dict[str, torch.Tensor]:
        """What is exported, by name."""
        tensors = (self._pixels, self._mean, self._square, self._scale)
        return dict(zip(("pixels", "mean", "square", "scale"), tensors, strict=True))

    def export(self) -> State:
        """Return the state on the host; waits for the device."""
        fetched: dict[str, Array | float] = {
            name: tensor.to("cpu", copy=True) for name, tensor in self._state.items()
        }
        return fetched | {"made": float(self._made)}

    def resume(self, earlier: Saved) -> int:
        """Take over a state that was exported; return the number of steps that led to it."""
        for name, tensor in self._state.items():
            tensor.copy_(torch.from_numpy(earlier[name]))
        self._made = int(earlier["made"])
        return self._made

    def advance(self, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate the picture and make a step; return `TorchGradient.evaluate`'s rows, and the next picture.

        Neither is changed by later steps, nor waited for; but rows are, and are on the host, of a backend whose
        seeds depend on them.

        Args:
            rate: `adam_rate`.
        """
        self._made += 1
        self._rate.fill_(rate)
        while True:
            self._backend.place_seed(self._rate)
            (rows,) = run_by(self._graph, self._step, self._rate)
            pixels = self._pixels.clone()
            if not self._backend.has_seeds:
                return rows, pixels
            rows = rows.cpu()
            if not self._backend.adjust_seed(rows[-1].tolist()):
                return rows, pixels

    def _step(self, rate: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seed = self._backend.place_seed(rate)
        rows, gradients = self._backend.evaluate(self._pixels[None], seed)
        if not self._backend.has_seeds:
            self._update(gradients[0], rows[-1, 0], rate)
            return (rows,)
        # A step whose gradient is not finite is made again, from here.
        state = self._state.values()
        before = [tensor.clone() for tensor in state]
        self._update(gradients[0], rows[-1, 0], rate)
        for tensor, earlier in zip(state, before, strict=True):
            torch.where(torch.isfinite(rows[-1, 0]), tensor, earlier, out=tensor)
        return (rows,)

    def _update(self, gradient: torch.Tensor, largest: torch.Tensor, rate: torch.Tensor) -> None:
        inverse = 1 / largest.clamp(min=1e-34)
        torch.where(self._scale == 0, inverse, self._scale, out=self._scale)
        gradient = gradient * self._scale
        self._mean.lerp_(gradient, 1 - BETA1)
        self._square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        root = self._square.sqrt().add_(EPSILON)
        self._pixels.addcdiv_(self._mean * rate, root, value=-1)
        if self._clip:
            self._pixels.clamp_(0.0, 255.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Report:
    """Costs that are on their way to the host, and what takes them."""

    rows: Arrival
    takers: Sequence[_Take]


class _Reports:
    """Hands the costs of evaluations on, in their order: some are waiting on the device, others under way."""

    def __init__(self, backend: TorchGradient) -> None:
        self._backend = backend
        self._waiting: list[tuple[torch.Tensor, _Take]] = []
        self._under_way: _Report | None = None

    def add(self, rows: torch.Tensor, take: _Take) -> None:
        """Add an evaluation's rows."""
        self._waiting.append((rows, take))

    def exchange(self) -> None:
        """Send those that are waiting on their way, and hand those on that were; waits for these."""
        arrived, self._under_way = self._under_way, None
        if self._waiting:
            rows = torch.stack([rows for rows, _ in self._waiting])
            self._under_way = _Report(Arrival(rows), [take for _, take in self._waiting])
            self._waiting.clear()
        if arrived is not None:
            costs = self._backend.read_costs(arrived.rows.wait())
            for take, (cost,) in zip(arrived.takers, costs, strict=True):
                take(cost)

    def finish(self) -> None:
        """Hand all on."""
        self.exchange()
        self.exchange()
