"""What solvers do with pictures, in PyTorch: pictures and gradients stay on the device."""

from collections.abc import Sequence

import numpy as np
import torch

from ..pictures.picture import Pixels
from .arrays import Array


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
        pixels: Pixels = as_tensor(array).cpu().numpy()
        return pixels

    def stack(self, pictures: Sequence[Array]) -> torch.Tensor:
        """See `Arrays`."""
        return torch.stack([as_tensor(picture) for picture in pictures])

    def dot(self, a: Array, b: Array) -> torch.Tensor:
        """See `Arrays`; it stays on the device, as a number would have to be waited for."""
        return torch.dot(as_tensor(a).reshape(-1), as_tensor(b).reshape(-1))

    def rfft2(self, picture: Array) -> torch.Tensor:
        """See `Arrays`."""
        spectrum: torch.Tensor = torch.fft.rfft2(as_tensor(picture), dim=(0, 1))
        return spectrum

    def irfft2(self, spectrum: Array, height: int, width: int) -> torch.Tensor:
        """See `Arrays`."""
        picture: torch.Tensor = torch.fft.irfft2(as_tensor(spectrum), s=(height, width), dim=(0, 1))
        return picture.contiguous()


def as_tensor(array: Array) -> torch.Tensor:
    """Return an array that is a tensor, as what it is."""
    assert isinstance(array, torch.Tensor)
    return array
