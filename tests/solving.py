"""A problem whose answer is known, and tensors that solvers take for those of a device."""

import numpy as np
import torch
from numpy.typing import NDArray

from nstx.engine.devices.arrays import NUMPY, Array
from nstx.engine.devices.torch_arrays import TorchArrays
from nstx.engine.pictures.picture import Pixels
from nstx.models.cost import Cost


class Quadratic:
    """½ Σ s (x − c)², badly scaled, with an optimum partly outside 0–255."""

    def __init__(self, factor: float = 1.0) -> None:
        generator = np.random.default_rng(3)
        self.scale: NDArray[np.float64] = factor * generator.uniform(0.1, 10, (9, 7, 3))
        self.centre: NDArray[np.float64] = generator.uniform(-60, 320, (9, 7, 3))
        self.evaluations = 0

    def cost(self, pixels: Array) -> Cost:
        total = float(0.5 * np.sum(self.scale * (NUMPY.fetch(pixels) - self.centre) ** 2))
        return Cost(total=total, content=total, style=0.0, total_variation=0.0)

    def cost_and_gradient(self, pixels: Array) -> tuple[Cost, Pixels]:
        self.evaluations += 1
        gradient = self.scale * (NUMPY.fetch(pixels) - self.centre)
        return self.cost(pixels), gradient.astype(np.float32)


class DeviceLike(TorchArrays):
    """Tensors of the CPU that are handled as those of a device."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.must_be_awaited = True
