"""The gradient by PyTorch's autograd, on CPU or MPS."""

from collections.abc import Sequence

import torch

from nstx.models.objective import Objective

from ..devices.cuda_graph import Capture
from ..features.torch_network import TorchNetwork, gram_matrices
from ..targets.targets import Targets
from .torch_gradient import TorchGradient
from .torch_problem import Part, total_variation


class AutogradBackend(TorchGradient):
    """Costs and gradients by autograd.

    Args:
        network: of the objectives' layers and pooling, with contiguous kernels.
        problems: an objective and targets for each picture of a batch.
        capture: what captures evaluations in a CUDA graph, as `TorchGradient` takes it.

    Raises:
        UsageError: the pictures are no batch (`nstx.engine.gradients.backend.check_batch`).
    """

    def __init__(
        self,
        network: TorchNetwork,
        problems: Sequence[tuple[Objective, Targets]],
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
        for kind, layer in problem.targets:
            x = features[layer]
            statistic = x.to(dtype) if kind == "content" else gram_matrices(x, dtype)
            part = kind, layer
            parts[part] = problem.cost(part, problem.difference(part, statistic))
        if ("tv", "") in problem.weights:
            parts["tv", ""] = total_variation(pixels)
        return parts
