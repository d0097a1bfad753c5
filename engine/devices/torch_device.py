"""A device as PyTorch uses it: with a precision of convolutions, and switches that follow from it."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..settings import Precision
from .device import Device

TorchPrecision = Precision | Literal["fp64", "tf32x3"]
"""fp64 is the reference that tests compare with; users have no need of it.

tf32x3 is TF32 with error compensation (`nstx.engine.devices.convolution.CompensatedConvolution`), for
CUDA devices with TF32: products are as right as fp32's, sums nearly. Checks of a precision use it.
"""

_DTYPES: dict[TorchPrecision, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "tf32x3": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A device with a precision of weights and activations.

    Pixels, Gram matrices and costs are always fp32 (fp64 with fp64).
    """

    place: Device
    precision: TorchPrecision

    def __str__(self) -> str:
        return f"{self.place} {self.precision}"

    @property
    def torch_device(self) -> torch.device:
        """The place as PyTorch names it."""
        return torch.device(str(self.place))

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return _DTYPES[self.precision]

    @property
    def accumulate_dtype(self) -> torch.dtype:
        """Of pixels, Gram matrices and costs."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def upload(self, array: NDArray[np.floating], dtype: torch.dtype) -> torch.Tensor:
        """Return an array as a tensor on the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.place.is_cuda:
            # The device converts faster than the host; both round to the nearest.
            return tensor.to(self.torch_device).to(dtype)
        # In this order, because MPS has no float64 to convert from.
        return tensor.to(dtype).to(self.torch_device)

    @contextmanager
    def numerics(self, *, products: bool = False) -> Iterator[None]:
        """Set what the precision needs, and repeatable convolutions, for the time of a block.

        On CUDA, PyTorch's default lets float32 convolutions run in TF32. Matrix products do with
        ``products`` alone, as Gram matrices are to be exact.
        """
        if not self.place.is_cuda:
            yield
            return
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        rounds = self.precision in ("tf32", "tf32x3")
        switches: list[tuple[Any, str, object]] = [
            (cudnn, "benchmark", False),
            (cudnn, "deterministic", True),
        ]
        if hasattr(cudnn, "conv"):
            # PyTorch 2.9 and newer; the older switch cannot be read once a host uses these.
            switches.append((cudnn.conv, "fp32_precision", "tf32" if rounds else "ieee"))
            exact = "tf32" if rounds and products else "ieee"
            switches.append((matmul, "fp32_precision", exact))
        else:
            switches.append((cudnn, "allow_tf32", rounds))
            if rounds and products:
                switches.append((matmul, "allow_tf32", True))
        with contextlib.ExitStack() as stack:
            for holder, name, value in switches:
                stack.enter_context(_assigned(holder, name, value))
            yield


@contextmanager
def exact_products() -> Iterator[None]:
    """Let float32 matrix products on CUDA be exact for the time of a block, whatever the host has set."""
    matmul = torch.backends.cuda.matmul
    newer = hasattr(torch.backends.cudnn, "conv")
    name, value = ("fp32_precision", "ieee") if newer else ("allow_tf32", False)
    with _assigned(matmul, name, value):
        yield


@contextmanager
def _assigned(holder: Any, name: str, value: object) -> Iterator[None]:
    """Assign one of PyTorch's global switches for the time of a block."""
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)
