"""The passes over tiles by PyTorch: by autograd, and by the backward pass that is written out.

A tile's pixels and what it is compared with go to the device; its sums, or its gradient, come back.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from nstx.models.objective import Objective

from ..features.torch_network import TorchNetwork, gram_matrices, moment_matrices, split_regions
from ..gradients.backend import first_seed
from ..gradients.backprop import BackwardPass
from .passes import Slopes, TilePasses, TileSums, TileTask, Values

_BAND = 1 << 18
"""Positions whose features are widened or multiplied at once."""


class TorchPasses(TilePasses):
    """What both have in common: the pass forward, which keeps no activation, and tensors of arrays."""

    has_seed = True

    def __init__(self, network: TorchNetwork, objective: Objective) -> None:
        self._network, self.objective = network, objective
        self._sums, self._place = network.device.accumulate_dtype, network.device.torch_device
        self.first_seed = first_seed(network.device.precision)

    def sums(self, task: TileTask) -> TileSums:
        """Implement `TilePasses`."""
        style, content = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
        with self._computing():
            x = self._network.centre(self._upload(task.pixels))
            for layer in self._network.layers:
                x, name = self._network.apply(layer, x).output, layer.name
                if name in self.objective.style_names:
                    style[name] = self._statistic(name, x, task)
                if name in self.objective.content_names:
                    inner = x[:, :, *task.places[name]].to(self._sums)
                    difference = inner - self._tensor(task.content[name])
                    content[name] = difference.square_().flatten(1).sum(1)
            # Only now, as the host would wait for the device at each.
            return TileSums(_fetch_all(style), _fetch_all(content))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with self._network.device.numerics(), torch.no_grad():
            yield

    def _upload(self, pixels: Values) -> torch.Tensor:
        return self._tensor(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).contiguous()

    def _tensor(self, values: NDArray[np.floating]) -> torch.Tensor:
        return self._network.device.upload(values, self._sums)

    def _statistic(self, name: str, features: torch.Tensor, task: TileTask) -> torch.Tensor:
        """Return the part of a Gram matrix, or of moments, that a tile's inner positions make."""
        rows, columns = task.places[name]
        total: torch.Tensor | None = None
        for band in _bands(rows, columns):
            inner = features[:, :, band, columns]
            make = gram_matrices if self._compares_gram(name) else moment_matrices
            if name in task.shares:
                part = make(inner, self._sums, self._shares(name, task, band))
            else:
                part = make(inner, self._sums) * (inner[0, 0].numel() / task.positions[name])
            total = part if total is None else total.add_(part)
        if total is None:  # a tile that ends before a layer's first position
            side = features.shape[1] + (not self._compares_gram(name))
            size = (len(features) * task.regions, side, side)
            total = torch.zeros(size, dtype=self._sums, device=self._place)
        return total

    def _compares_gram(self, name: str) -> bool:
        return self.objective.statistics[name] == "gram"

    def _shares(self, name: str, task: TileTask, band: slice) -> torch.Tensor:
        """Return the shares of some rows of a tile, (batch · regions, h, w)."""
        first = task.places[name][0].start
        return self._tensor(task.shares[name][:, band.start - first : band.stop - first])


class AutogradPasses(TorchPasses):
    """The gradient by autograd: of Σ D ∘ G, in which G is linear in D, and of its like for contents."""

    def gradient(self, task: TileTask, slopes: Slopes) -> Values:
        """Implement `TilePasses`."""
        with self._computing(), torch.enable_grad():
            x = self._upload(task.pixels).requires_grad_()
            features = self._network(x, self.objective.layers)
            total = torch.zeros((), dtype=self._sums, device=self._place)
            for name, slope in slopes.style.items():
                values = self._statistic(name, features[name], task)
                total = total + (values * self._tensor(slope)).sum()
            for name, scale in slopes.content.items():
                inner = features[name][:, :, *task.places[name]].to(self._sums)
                squares = (inner - self._tensor(task.content[name])).square().flatten(1).sum(1)
                total = total + (squares * self._tensor(scale / 2)).sum()
            (gradient,) = torch.autograd.grad(total, x)
        return _fetch(gradient.permute(0, 2, 3, 1))


class WrittenPasses(TorchPasses):
    """The gradient by `BackwardPass`, to which costs add theirs at inner positions where it passes by."""

    def __init__(self, backward: BackwardPass, objective: Objective) -> None:
        super().__init__(backward.network, objective)
        self._backward = backward

    def gradient(self, task: TileTask, slopes: Slopes) -> Values:
        """Implement `TilePasses`."""
        with self._computing():
            pixels = self._upload(task.pixels)
            activations = self._backward.activate(pixels)
            gradient: torch.Tensor | None = None
            while activations:
                last = activations.pop()
                name = last.layer.name
                if gradient is None:
                    gradient = torch.zeros_like(last.output, memory_format=torch.channels_last)
                if name in slopes.style:
                    self._add_style(name, last.output, gradient, task, slopes)
                if name in slopes.content:
                    self._add_content(name, last.output, gradient, task, slopes)
                before = activations[-1].output if activations else pixels
                gradient = self._backward(last, gradient, before)
            assert gradient is not None
            return _fetch(gradient.to(self._sums).permute(0, 2, 3, 1))

    def _add_style(
        self,
        name: str,
        features: torch.Tensor,
        gradient: torch.Tensor,
        task: TileTask,
        slopes: Slopes,
    ) -> None:
        """Add 2 (S F + b 1ᵀ) diag(s) at inner positions, of a slope that is S bordered by b."""
        channels, dtype = features.shape[1], features.dtype
        rows, columns = task.places[name]
        slope = torch.from_numpy(2 * slopes.style[name]).to(self._place)
        own = task.shares.get(name)
        # Shares over their largest are within what half precision holds; where all are 0, so is what is added.
        peaks = None if own is None else self._tensor(own).amax((1, 2)).clamp_(min=1e-30)
        slope = slope / task.positions[name] if peaks is None else slope * peaks[:, None, None]
        regions = split_regions(slope.to(dtype), len(features))
        for band in _bands(rows, columns):
            place = (slice(None), band, columns)
            inner = features.permute(0, 2, 3, 1)[place]
            flat = inner.flatten(1, 2)
            counts: Sequence[torch.Tensor | None] = [None]
            if peaks is not None:
                shares = self._shares(name, task, band).flatten(1) / peaks[:, None]
                counts = split_regions(shares.to(dtype)[:, :, None], len(features))
            for part, count in zip(regions, counts, strict=True):
                added = flat @ part[:, :channels, :channels]
                if part.shape[1] > channels:
                    added += part[:, channels:, :channels]
                if count is not None:
                    added *= count
                gradient.permute(0, 2, 3, 1)[place] += added.reshape(inner.shape)

    def _add_content(
        self,
        name: str,
        features: torch.Tensor,
        gradient: torch.Tensor,
        task: TileTask,
        slopes: Slopes,
    ) -> None:
        place: tuple[slice, slice, slice, slice] = (slice(None), slice(None), *task.places[name])
        difference = features[place].to(self._sums) - self._tensor(task.content[name])
        difference *= self._tensor(slopes.content[name])[:, None, None, None]
        gradient[place] += difference.to(features.dtype)


def _fetch(tensor: torch.Tensor) -> Values:
    """Return a tensor on the host, where it may share its memory."""
    values: Values = tensor.cpu().numpy()
    return values


def _fetch_all(tensors: Mapping[str, torch.Tensor]) -> dict[str, Values]:
    return {name: _fetch(tensor) for name, tensor in tensors.items()}


def _bands(rows: slice, columns: slice) -> Iterator[slice]:
    """Yield the rows of a tile, a few at a time."""
    count = max(1, _BAND // max(1, columns.stop - columns.start))
    for first in range(rows.start, rows.stop, count):
        yield slice(first, min(first + count, rows.stop))
