"""What solvers do with pictures, in PyTorch: pictures and gradients stay on the device."""

from collections.abc import Sequence

import numpy as np
import torch

from ..pictures.picture import Pixels
from .arrays import Array


class TorchArrays:
    """`nstx.engine.devices.arrays.Arrays` of PyTorch, on a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.must_be_awaited = device.type == "cuda"

    def place(self, pixels: Pixels) -> torch.Tensor:
        """Implement `Arrays`."""
        return torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(self._device)

    def fetch(self, array: Array) -> Pixels:
        """Implement `Arrays`."""
        pixels: Pixels = as_tensor(array).cpu().numpy()
        return pixels

    def stack(self, pictures: Sequence[Array]) -> torch.Tensor:
        """Implement `Arrays`."""
        return torch.stack([as_tensor(picture) for picture in pictures])

    def dot(self, a: Array, b: Array) -> torch.Tensor:
        """Implement `Arrays`; the sum stays on the device, as a number would have to be waited for."""
        return torch.dot(as_tensor(a).reshape(-1), as_tensor(b).reshape(-1))

    def to_grey(self, picture: Array) -> torch.Tensor:
        """Implement `Arrays`."""
        values = as_tensor(picture)
        return values.mean(-1, keepdim=True).expand_as(values).contiguous()

    def filter_frequencies(self, picture: Array, weights: Array) -> torch.Tensor:
        """Implement `Arrays`."""
        spectrum = torch.fft.rfft2(as_tensor(picture), dim=(0, 1)) * as_tensor(weights)
        pixels: torch.Tensor = torch.fft.irfft2(spectrum, s=picture.shape[:2], dim=(0, 1))
        return pixels.contiguous()


def arrays_on(place: str) -> TorchArrays:
    """Return the arrays of a device, such as ``cpu`` or ``cuda:0``."""
    return TorchArrays(torch.device(place))


def as_tensor(array: Array) -> torch.Tensor:
    """Return an array that is a tensor, typed as one."""
    assert isinstance(array, torch.Tensor)
    return array


class Arrival:
    """A tensor on its way to the host, which need not wait for it yet."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        self._host.copy_(tensor, non_blocking=True)
        if tensor.is_cuda:
            with torch.cuda.device(tensor.device):
                self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._event.record()

    def wait(self) -> torch.Tensor:
        """Return the tensor on the host, when it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._host
