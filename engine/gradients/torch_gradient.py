"""What PyTorch's gradient backends have in common, and the plain one of them, by autograd.

Pictures are tensors, whose gradients are where they are, best on the device, or NumPy arrays. An evaluation waits
for the device once: its costs and the gradient's largest value come back in one transfer.
"""

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from nstx.models.cost import Cost

from ..devices.arrays import Array, ArrayT
from ..devices.cuda_graph import Capture, CudaGraph, captures_graphs
from ..devices.torch_device import TorchDevice
from ..features.torch_network import TorchNetwork, gram_matrices, moment_matrices
from ..statistics.moments import compare_by_autograd
from .backend import (
    GradientBackend,
    PrecisionCheck,
    Problems,
    first_seed,
    gradient_error,
    lower_seed,
    raise_seed,
)
from .torch_problem import Part, TorchProblem


class TorchGradient(GradientBackend):
    """Costs and gradients by PyTorch.

    Args:
        device: where, and at what precision.
        problems: of the batch; `UsageError` if they are no batch (`check_batch`). Those of another
            backend share its targets on the device.
        capture: what captures evaluations, or whether a CUDA graph does; None lets it on CUDA, unless
            the environment variable ``NSTX_CUDA_GRAPHS`` is 0.

    Attributes:
        problem: the targets, on the device.
        seed: that the next cost is multiplied by before it is differentiated; 1 but in fp16.
    """

    def __init__(
        self,
        device: TorchDevice,
        problems: Problems | TorchProblem,
        *,
        capture: Capture | bool | None = None,
    ) -> None:
        if isinstance(problems, TorchProblem):
            self.problem = problems.share()
        else:
            self.problem = TorchProblem(device, problems)
        self._device = device
        self.seed = first_seed(device.precision)
        self._seed_on_device: tuple[float, torch.Tensor] | None = None
        self._order: tuple[Part, ...] = ()
        if capture is None:
            capture = captures_graphs(device)
        self._capture: Capture | None = CudaGraph() if capture is True else capture or None

    @abstractmethod
    def _differentiate(
        self, pixels: torch.Tensor, seed: torch.Tensor
    ) -> tuple[dict[Part, torch.Tensor], torch.Tensor]:
        """Return the parts of the cost, (batch) each, and its gradient times a seed ().

        Pixels are (batch, 3, height, width), and channels_last. Nothing in it may wait for the device.
        """

    @abstractmethod
    def _parts(self, pixels: torch.Tensor) -> dict[Part, torch.Tensor]:
        """Return the parts of the cost, (batch) each, before their weights."""

    @property
    def captures(self) -> bool:
        """Whether evaluations are captured in a CUDA graph."""
        return self._capture is not None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Set what the device's precision needs, and no autograd, for the time of a block."""
        place = self._device.torch_device
        # Kernels of our own are launched on the current device.
        here = torch.cuda.device(place) if place.type == "cuda" else contextlib.nullcontext()
        with here, self._device.numerics(), torch.no_grad():
            yield

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Implement `GradientBackend`."""
        with torch.no_grad():
            x = self._place(pixels)
            while True:
                rows, gradient = self._run(x)
                if self._follower is not None and isinstance(pixels, torch.Tensor):
                    self._follower(pixels, gradient)
                *parts, largest = rows.tolist()
                costs = self.problem.report(self._order, parts)
                if not self.adjust_seed(largest):
                    break
            _check_finite(largest)
        if isinstance(pixels, torch.Tensor):
            return costs, cast(ArrayT, gradient.to(pixels.device))
        same_kind = gradient.cpu().numpy()
        return costs, cast(ArrayT, same_kind)

    @property
    def has_seeds(self) -> bool:
        """Whether the seed of an evaluation depends on the results of those before."""
        return self._device.precision == "fp16"

    def adjust_seed(self, largest: Sequence[float]) -> bool:
        """Choose the next seed by a gradient's largest values; return whether it must be computed again, by that."""
        if not self.has_seeds:
            return False
        if not _are_finite(largest):
            lower = lower_seed(self.seed)
            self.seed = lower or self.seed
            return lower is not None
        self.seed = raise_seed(self.seed, max(largest) * self.seed)
        return False

    def export(self) -> Mapping[str, NDArray[Any]]:
        """Implement `GradientBackend`."""
        return {"seed": np.asarray(self.seed, np.float64)}

    def resume(self, earlier: Mapping[str, NDArray[Any]], checks: Sequence[PrecisionCheck]) -> None:
        """Implement `GradientBackend`."""
        self.seed = float(earlier["seed"])

    def read_costs(self, rows: torch.Tensor) -> Iterator[list[Cost]]:
        """Yield the costs of several evaluations, each of a batch; waits for the device, once.

        Rows are `evaluate`'s, (evaluations, parts + 1, batch). `NumericalError` as in `GradientBackend`.
        """
        for *parts, largest in rows.tolist():
            costs = self.problem.report(self._order, parts)
            _check_finite(largest)
            yield costs

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Implement `GradientBackend`."""
        with self.computing():
            x = self._place(pixels).permute(0, 3, 1, 2)
            parts = self._parts(x)
            return self.problem.report(list(parts), torch.stack(list(parts.values())).tolist())

    def _place(self, pixels: Array) -> torch.Tensor:
        dtype = self._device.accumulate_dtype
        if isinstance(pixels, torch.Tensor):
            return pixels.to(self._device.torch_device, dtype)
        return self._device.upload(np.asarray(pixels), dtype)

    def _run(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `evaluate` does, with the backend's seed."""
        self.place_seed(x)
        if self._capture is None or self.problem.noted is not None:
            return self._evaluate_here(x)
        rows, gradient = self._capture(self._evaluate_here, x)
        return rows, gradient

    def place_seed(self, like: torch.Tensor) -> torch.Tensor:
        """Return the seed (), on the device and in the precision of pictures."""
        # One tensor, changed in place: a number from the host would have to be sent in each step.
        if self._seed_on_device is None:
            seed = torch.full((), self.seed, dtype=like.dtype, device=like.device)
            self._seed_on_device = (self.seed, seed)
        value, seed = self._seed_on_device
        if value != self.seed:
            self._seed_on_device = (self.seed, seed.fill_(self.seed))
        return seed

    def _evaluate_here(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._seed_on_device is not None
        # A graph that was captured before needs none of these settings.
        with self.computing():
            return self.evaluate(x, self._seed_on_device[1])

    def evaluate(self, x: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the parts with the gradient's largest values, (parts + 1, batch), and the gradient.

        Without waiting for the device; in a block of `computing`. Pictures and their gradient, which is
        computed with the seed (), are (batch, height, width, 3), in the precision of sums.
        """
        parts, gradient = self._differentiate(x.permute(0, 3, 1, 2), seed)
        self._order = tuple(parts)
        gradient = (gradient / seed).permute(0, 2, 3, 1).contiguous()
        largest = gradient.abs().flatten(1).amax(1)
        return torch.stack([*parts.values(), largest]), gradient


class AutogradBackend(TorchGradient):
    """Costs and gradients by autograd; the network's kernels are contiguous."""

    def __init__(
        self,
        network: TorchNetwork,
        problems: Problems | TorchProblem,
        *,
        capture: Capture | bool | None = None,
    ) -> None:
        super().__init__(network.device, problems, capture=capture)
        self._network = network

    def _differentiate(
        self, pixels: torch.Tensor, seed: torch.Tensor
    ) -> tuple[dict[Part, torch.Tensor], torch.Tensor]:
        with torch.enable_grad():
            x = pixels.detach().contiguous().requires_grad_()
            parts = self._parts(x)
            (gradient,) = torch.autograd.grad(self.problem.total(parts) * seed, x)
        return {part: cost.detach() for part, cost in parts.items()}, gradient

    def _parts(self, pixels: torch.Tensor) -> dict[Part, torch.Tensor]:
        problem, dtype = self.problem, self._device.accumulate_dtype
        parts: dict[Part, torch.Tensor] = {}
        features = self._network(pixels.contiguous(), problem.layers)
        for part in problem.targets:
            x = features[part[1]]
            if part in problem.moments:
                compare = partial(problem.compare_moments, part)
                values = moment_matrices(x, dtype, problem.shares.get(part))
                parts[part] = compare_by_autograd(compare, values)
                continue
            if part[0] == "style":
                x = gram_matrices(x, dtype, problem.shares.get(part))
            parts[part] = problem.cost(part, problem.difference(part, x.to(dtype)))
        return parts | problem.pixel_costs(pixels)


def _are_finite(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values))


def _check_finite(largest: Sequence[float]) -> None:
    if not _are_finite(largest):
        raise gradient_error()
