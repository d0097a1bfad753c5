"""What solvers do with pictures, in PyTorch: pictures and gradients stay on the device."""

from collections.abc import Sequence

import numpy as np
import torch

from ..pictures.pixels import Pixels
from .arrays import Array, Smoother, frequency_weights


class TorchArrays:
    """`nstx.engine.devices.arrays.Arrays` of PyTorch.

    Args:
        device: where they lie.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def place(self, pixels: Pixels) -> torch.Tensor:
        """See `Arrays`."""
        array = np.ascontiguousarray(pixels, np.float32)
        return torch.from_numpy(array).to(self._device)

    def fetch(self, array: Array) -> Pixels:
        """See `Arrays`."""
        found: Pixels = array.cpu().numpy()
        return found

    def stack(self, pictures: Sequence[Array]) -> torch.Tensor:
        """See `Arrays`."""
        return torch.stack(list(pictures))

    def dot(self, a: Array, b: Array) -> torch.Tensor:
        """See `Arrays`; it stays on the device, as a number would have to be waited for."""
        return torch.dot(a.reshape(-1), b.reshape(-1))

    def make_smoother(self, height: int, width: int) -> Smoother:
        """See `Arrays`."""
        weights = torch.from_numpy(frequency_weights(height, width)).to(self._device)

        def smooth(picture: Array) -> torch.Tensor:
            spectrum = torch.fft.rfft2(picture, dim=(0, 1)) * weights
            found: torch.Tensor = torch.fft.irfft2(spectrum, s=(height, width), dim=(0, 1))
            return found.contiguous()

        return smooth
