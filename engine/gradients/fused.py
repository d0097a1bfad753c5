"""The gradient by PyTorch's convolutions, and by kernels of our own for all that is between them.

On a fast GPU a step's convolutions take less time than bias, ReLU, pooling, masks and costs would by PyTorch's
operators, each of which goes through memory once more. Here each activation is written once and each gradient
twice: bias, ReLU and pooling are one pass, as are a pooling's gradient and the mask before it, and the costs'
gradients with theirs.
"""

from dataclasses import dataclass

import numpy as np
import torch

from nstx.models.objective import Objective
from nstx.models.vgg19 import Layer, PoolRounding, find_layer
from nstx.models.weights.load import Weights

from ..devices.convolution import Convolution
from ..devices.cuda_graph import Capture
from ..devices.torch_device import TorchDevice
from ..kernels.activation import PoolKind, bias_relu, bias_relu_pool, unpool
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
from .torch_problem import Part


class FusedPass(BackwardPass):
    """The network for `FusedBackend`: convolutions without bias and ReLU, in both directions."""

    def __init__(self, weights: Weights, objective: Objective, device: TorchDevice) -> None:
        super().__init__(weights, objective, device, "channels_last")
        single = torch.float32
        self.mean = device.upload(np.asarray(weights.mean), single)
        self.biases: dict[str, torch.Tensor] = {}
        self._linear: dict[str, Convolution] = {}
        for name in (layer.name for layer in self.network.layers if layer.kind == "conv"):
            self.biases[name] = device.upload(weights.biases[name], single)
            self._linear[name] = self.network.convolution(name).linear()
        first = self.network.layers[0].name
        self.first_kernel = arrange_first_kernel(device.upload(weights.kernels[first], single))
        self.pooling = PoolKind(averages=self.network.averages, rounds_up=self.network.rounds_up)

    def forward(self, layer: Layer, x: torch.Tensor) -> torch.Tensor:
        """Return a convolution of x (batch, h, w, channels), without bias and ReLU."""
        return _rows(self._linear[layer.name](_planes(x)))

    def backward(self, layer: Layer, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient (batch, h, w, channels) before a convolution, of that behind it."""
        return _rows(self._convolutions[layer.name](_planes(gradient)))


@dataclass(slots=True)
class _Output:
    """A layer's output, (batch, h, w, channels); ``raw`` if it lacks bias and ReLU."""

    layer: Layer
    values: torch.Tensor
    raw: bool = False


class FusedBackend(BackpropBackend):
    """Costs and gradients by `FusedPass`; costs alone by PyTorch's operators."""

    def __init__(
        self, fused: FusedPass, problems: Problems, *, capture: Capture | bool | None = None
    ) -> None:
        super().__init__(fused, problems, capture=capture)
        self._fused = fused
        problem, device = self.problem, self._device.torch_device
        for part, aim in problem.aims.items():
            if part[0] == "content":
                problem.aims[part] = aim.contiguous(memory_format=torch.channels_last)
        batch = len(next(iter(problem.weights.values())))
        self._variation = problem.weights.get(("tv", ""))
        scales = [problem.factors[part] / problem.aims[part][0].numel() for part in problem.aims]
        ones = torch.ones(batch, dtype=torch.float32, device=device)
        #: Of each part's sum of squares, and of the gradient's largest values.
        extra = [ones] * (2 if self._variation is not None else 1)
        self._scales = torch.stack([*scales, *extra], 1)
        self._slopes = {
            part: 2 * problem.weights[part] * scale
            for part, scale in zip(problem.aims, scales, strict=True)
        }
        self._layout: tuple[tuple[int, int], torch.Tensor, dict[Part, int], int] | None = None

    def evaluate(self, x: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Implement `TorchGradient`."""
        begins, columns = self._arrange_sums(x.shape[1], x.shape[2])
        sums = torch.empty(len(x), columns, dtype=torch.float32, device=x.device)
        x = x.contiguous()
        outputs = self._outputs(x)
        gradient: torch.Tensor | None = None
        is_cut = False
        while len(outputs) > 1:
            output = outputs.pop()
            if output.layer.kind == "pool":
                before = outputs[-1]
                is_cut = not self._has_parts(before.layer)
                assert gradient is not None
                bias = self._fused.biases[before.layer.name]
                gradient = unpool(
                    gradient, before.values, bias, self._fused.pooling, raw=before.raw, cuts=is_cut
                )
                continue
            if not is_cut:
                gradient = self._add_parts_and_cut(output, gradient, seed, sums)
            assert gradient is not None
            gradient, is_cut = self._fused.backward(output.layer, gradient), False
        return self._finish(x, outputs[0], gradient, seed, sums, begins)

    def _outputs(self, x: torch.Tensor) -> list[_Output]:
        """Return the outputs of all layers, of pixels (batch, h, w, 3)."""
        fused, layers = self._fused, self._fused.network.layers
        first = layers[0]
        values = first_forward(
            x, fused.first_kernel, fused.biases[first.name], fused.mean, self._dtype
        )
        outputs = [_Output(first, values)]
        pooled: torch.Tensor | None = None
        for index, layer in enumerate(layers[1:], start=1):
            if layer.kind == "pool":
                assert pooled is not None
                outputs.append(_Output(layer, pooled))
                continue
            values, bias = fused.forward(layer, outputs[-1].values), fused.biases[layer.name]
            is_last = index + 1 < len(layers) and layers[index + 1].kind == "pool"
            keeps = self._has_parts(layer)
            if is_last:
                pooled = bias_relu_pool(values, bias, fused.pooling, keeps=keeps)
            else:
                bias_relu(values, bias)
            outputs.append(_Output(layer, values, raw=is_last and not keeps))
        return outputs

    def _has_parts(self, layer: Layer) -> bool:
        return any((kind, layer.name) in self.problem.aims for kind in ("style", "content"))

    def _add_parts_and_cut(
        self,
        output: _Output,
        gradient: torch.Tensor | None,
        seed: torch.Tensor,
        sums: torch.Tensor,
    ) -> torch.Tensor:
        """Return a gradient plus that of a layer's own costs, cut where its ReLU was."""
        name, features = output.layer.name, output.values
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
        place = sums[:, self._begin(part) :]
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
        place = sums[:, self._begin(part) :]
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
        begins: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `evaluate` does, of the gradient at the output of conv1_1."""
        name, features = first.layer.name, first.values
        if ("content", name) in self.problem.aims:
            gradient = self._add_content(name, features, gradient, seed, sums, cuts=False)
        slope = None
        if ("style", name) in self.problem.aims:
            slope = self._gram_slope(name, features, seed, sums)
        if gradient is None:
            gradient = torch.zeros_like(features)
        pixels = first_backward(
            gradient, features, slope, self._fused.first_kernel, pixels=x, seed=seed,
            variation=self._variation, sums=sums[:, self._begin(("tv", "")) :],
        )  # fmt: skip
        self._order = tuple(self.problem.aims)
        if self._variation is not None:
            self._order += (("tv", ""),)
        return add_sums(sums, begins, self._scales), pixels

    def _begin(self, part: Part) -> int:
        """Return where a part's sums begin; those of the largest values follow the variation's."""
        assert self._layout is not None
        return self._layout[2][part]

    def _arrange_sums(self, height: int, width: int) -> tuple[torch.Tensor, int]:
        """Return where each part's sums begin and the last end, and their number per picture."""
        if self._layout is None or self._layout[0] != (height, width):
            programs = {part: self._programs(part, height, width) for part in self.problem.aims}
            pixels = gather_programs(height * width)
            counts = [*programs.values(), *[pixels] * (1 if self._variation is None else 2)]
            ends = np.cumsum([0, *counts])
            begins = {part: int(end) for part, end in zip(programs, ends, strict=False)}
            begins["tv", ""] = int(ends[len(programs)])
            device = self._device.torch_device
            on_device = torch.tensor(ends, dtype=torch.int32, device=device)
            self._layout = ((height, width), on_device, begins, int(ends[-1]))
        return self._layout[1], self._layout[3]

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
