"""The gradient by PyTorch's convolutions, and by kernels of our own for all that is between them.

On a fast GPU a step's convolutions take less time than bias, ReLU, pooling, masks and costs do by PyTorch's
operators, each of which goes through memory once more. Here bias and ReLU are part of the convolution; a pooling's
gradient and the mask before it are one pass, as are the costs' gradients with theirs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from nstx.models.objective import Objective
from nstx.models.vgg19 import Layer, PoolRounding, find_layer
from nstx.models.weights.load import Weights

from ..devices.cuda_graph import Capture
from ..devices.torch_device import TorchDevice
from ..kernels.activation import PoolKind, pool, unpool
from ..kernels.content import add_content_gradient, add_sums, cut_programs, cut_where_zero
from ..kernels.first_layer import (
    arrange_first_kernel,
    first_backward,
    first_forward,
    gather_programs,
)
from ..kernels.gram import add_gram_gradient, compare_gram, compare_programs
from .backend import Problems
from .backprop import BackpropBackend, BackwardPass
from .torch_problem import Part, TorchProblem

_Output = tuple[Layer, torch.Tensor]
"""A layer with its output, (batch, h, w, channels)."""


class FusedPass(BackwardPass):
    """The network for `FusedBackend`, on activations (batch, h, w, channels)."""

    def __init__(self, weights: Weights, objective: Objective, device: TorchDevice) -> None:
        super().__init__(weights, objective, device, "channels_last")
        first, single = self.network.layers[0].name, torch.float32
        self.first_kernel = arrange_first_kernel(device.upload(weights.kernels[first], single))
        self.first_bias = device.upload(weights.biases[first], single)
        self.mean = device.upload(np.asarray(weights.mean), single)
        self.pooling = PoolKind(averages=self.network.averages, rounds_up=self.network.rounds_up)

    def forward(self, pixels: torch.Tensor) -> list[_Output]:
        """Return the outputs of all layers, of pixels float32 (batch, h, w, 3)."""
        first, *others = self.network.layers
        dtype = self.network.device.dtype
        x = first_forward(pixels, self.first_kernel, self.first_bias, self.mean, dtype)
        outputs = [(first, x)]
        for layer in others:
            if layer.kind == "pool":
                x = pool(x, self.pooling)
            else:
                x = _rows(self.network.convolution(layer.name)(_planes(x)))
            outputs.append((layer, x))
        return outputs

    def backward(self, layer: Layer, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient (batch, h, w, channels) before a convolution, of that behind it."""
        return _rows(self._convolutions[layer.name](_planes(gradient)))


class _Layout(NamedTuple):
    """Where the sums of an evaluation stand, of pictures of one size.

    Attributes:
        size: height and width.
        begins: of each part's sums. The total variation's are last, or else would be; those of the largest
            values follow them.
        ends: where all parts' sums begin, in their order, and where the last end, int32 on the device.
        columns: sums per picture.
    """

    size: tuple[int, int]
    begins: Mapping[Part, int]
    ends: torch.Tensor
    columns: int


class FusedBackend(BackpropBackend):
    """Costs and gradients by `FusedPass`; costs alone by PyTorch's operators."""

    def __init__(
        self,
        fused: FusedPass,
        problems: Problems | TorchProblem,
        *,
        capture: Capture | bool | None = None,
    ) -> None:
        super().__init__(fused, problems, capture=capture)
        self._fused = fused
        # What opens a run with regions or a Laplacian takes another backend (`choose_kernels`).
        assert not self.problem.shares
        assert self.problem.laplacian is None
        problem, device = self.problem, self._device.torch_device
        for part, aim in problem.aims.items():
            if part[0] == "content":
                problem.aims[part] = aim.contiguous(memory_format=torch.channels_last)
        batch = len(next(iter(problem.weights.values())))
        self._variation = problem.weights.get(("tv", ""))
        scales = [problem.factors[part] / problem.aims[part][0].numel() for part in problem.aims]
        ones = torch.ones(batch, dtype=torch.float32, device=device)
        # Of each part's sum of squares; the last, of the gradient's largest values, is not used.
        extra = [ones] * (2 if self._variation is not None else 1)
        self._scales = torch.stack([*scales, *extra], 1)
        self._slopes = {
            part: 2 * problem.weights[part] * scale
            for part, scale in zip(problem.aims, scales, strict=True)
        }
        self._order = (*problem.aims, *[("tv", "")] * (self._variation is not None))
        self._layout: _Layout | None = None

    def evaluate(self, x: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Implement `TorchGradient`."""
        size = x.shape[1], x.shape[2]
        if self._layout is None or self._layout.size != size:
            # Once, as a graph that is captured may not wait for what the host has.
            self._layout = self._arrange_sums(size)
        sums = torch.empty(len(x), self._layout.columns, dtype=torch.float32, device=x.device)
        x = x.contiguous()
        outputs = self._fused.forward(x)
        gradient: torch.Tensor | None = None
        is_cut = False
        while len(outputs) > 1:
            layer, features = outputs.pop()
            if layer.kind == "pool":
                assert gradient is not None
                before, features = outputs[-1]
                is_cut = not self._has_parts(before)
                gradient = unpool(gradient, features, self._fused.pooling, cuts=is_cut)
                continue
            if not is_cut:
                gradient = self._add_parts_and_cut(layer, features, gradient, seed, sums)
            assert gradient is not None
            gradient, is_cut = self._fused.backward(layer, gradient), False
        pixels = self._finish(x, outputs[0], gradient, seed, sums)
        return add_sums(sums, self._layout.ends, self._scales), pixels

    def _has_parts(self, layer: Layer) -> bool:
        return any((kind, layer.name) in self.problem.aims for kind in ("style", "content"))

    def _add_parts_and_cut(
        self,
        layer: Layer,
        features: torch.Tensor,
        gradient: torch.Tensor | None,
        seed: torch.Tensor,
        sums: torch.Tensor,
    ) -> torch.Tensor:
        """Return a gradient plus that of a layer's own costs, cut where its ReLU was."""
        name = layer.name
        if ("style", name) in self.problem.aims:
            slope = self._gram_slope(name, features, seed, sums)
            cuts = ("content", name) not in self.problem.aims
            gradient = add_gram_gradient(features, slope, gradient, cuts=cuts)
            if cuts:
                return gradient
        if ("content", name) in self.problem.aims:
            return self._add_content(name, features, gradient, seed, sums, cuts=True)
        assert gradient is not None
        return cut_where_zero(features, gradient)

    def _gram_slope(
        self, name: str, features: torch.Tensor, seed: torch.Tensor, sums: torch.Tensor
    ) -> torch.Tensor:
        """Return what features are multiplied with to be the gradient of their style cost."""
        part, positions = ("style", name), features.shape[1] * features.shape[2]
        # G is symmetric, and F stands in it twice: ∂J/∂F = 2 F ∂J/∂G / N.
        factor = self._slopes[part] * (2 / positions)
        aim = self.problem.aims[part]
        place = self._sums_of(part, sums)
        keeps = self.problem.noted is not None
        slope, difference = compare_gram(features, aim, factor, seed, place, keeps=keeps)
        if difference is not None:
            self.problem.note(part, aim + difference)
        return slope

    def _add_content(
        self,
        name: str,
        features: torch.Tensor,
        gradient: torch.Tensor | None,
        seed: torch.Tensor,
        sums: torch.Tensor,
        *,
        cuts: bool,
    ) -> torch.Tensor:
        part = ("content", name)
        if self.problem.noted is not None:
            self.problem.note(part, _planes(features).to(self._sums))
        aim = _rows(self.problem.aims[part])
        place = self._sums_of(part, sums)
        return add_content_gradient(
            features, gradient, aim, self._slopes[part], seed, place, cuts=cuts
        )

    def _finish(
        self,
        x: torch.Tensor,
        first: _Output,
        gradient: torch.Tensor | None,
        seed: torch.Tensor,
        sums: torch.Tensor,
    ) -> torch.Tensor:
        """Return the gradient at the pixels, of that at the output of conv1_1."""
        name, features = first[0].name, first[1]
        if ("content", name) in self.problem.aims:
            gradient = self._add_content(name, features, gradient, seed, sums, cuts=False)
        slope = None
        if ("style", name) in self.problem.aims:
            slope = self._gram_slope(name, features, seed, sums)
        if gradient is None:
            gradient = torch.zeros_like(features)
        return first_backward(
            gradient, features, slope, self._fused.first_kernel, pixels=x, seed=seed,
            variation=self._variation, sums=self._sums_of(("tv", ""), sums),
        )  # fmt: skip

    def _sums_of(self, part: Part, sums: torch.Tensor) -> torch.Tensor:
        """Return the sums from those of a part on."""
        assert self._layout is not None
        return sums[:, self._layout.begins[part] :]

    def _arrange_sums(self, size: tuple[int, int]) -> _Layout:
        aims = list(self.problem.aims)
        pixels = gather_programs(size[0] * size[1])
        counts = [self._programs(part, *size) for part in aims]
        counts += [pixels] * (1 if self._variation is None else 2)
        *places, columns = np.cumsum([0, *counts]).tolist()
        begins = dict(zip([*aims, ("tv", "")], places, strict=False))
        ends = torch.tensor([*places, columns], dtype=torch.int32)
        return _Layout(size, begins, ends.to(self._device.torch_device), columns)

    def _programs(self, part: Part, height: int, width: int) -> int:
        """Return how many sums of squares a part of the cost has per picture."""
        aim = self.problem.aims[part]
        if part[0] == "content":
            return cut_programs(aim[0].numel())
        rounding: PoolRounding = "ceil" if self._fused.pooling.rounds_up else "floor"
        h, w = find_layer(part[1]).output_size(height, width, rounding)
        return compare_programs(len(aim), h * w, aim.shape[1])


def _rows(planes: torch.Tensor) -> torch.Tensor:
    """Return channels_last activations (batch, channels, h, w) as (batch, h, w, channels)."""
    return planes.permute(0, 2, 3, 1).contiguous()


def _planes(rows: torch.Tensor) -> torch.Tensor:
    """Return activations (batch, h, w, channels) as (batch, channels, h, w), without a copy."""
    return rows.permute(0, 3, 1, 2)
