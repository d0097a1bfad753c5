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

TorchPrecision = Precision | Literal["fp64"]
"""fp64 is the reference that tests compare with; users have no need of it."""

_DTYPES: dict[TorchPrecision, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A device with a precision for the convolutions.

    Attributes:
        place: the CPU or an accelerator.
        precision: of weights and activations. Pixels, Gram matrices and costs are always fp32
            (fp64 with fp64).
    """

    place: Device
    precision: TorchPrecision

    def __str__(self) -> str:
        return f"{self.place} {self.precision}"

    @property
    def torch_device(self) -> torch.device:
        """The device as PyTorch names it."""
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
        # In this order, because MPS has no float64 to convert from.
        return torch.from_numpy(np.ascontiguousarray(array)).to(dtype).to(self.torch_device)

    @contextmanager
    def numerics(self, *, products: bool = False) -> Iterator[None]:
        """Set what the precision needs, and repeatable convolutions, for the time of a block.

        On CUDA, PyTorch lets float32 convolutions run in TF32 unless it is told otherwise.

        Args:
            products: whether tf32 is for matrix products as well; Gram matrices are to be exact.
        """
        if not self.place.is_cuda:
            yield
            return
        cudnn = torch.backends.cudnn
        with contextlib.ExitStack() as stack:
            stack.enter_context(_assigned(cudnn, "benchmark", False))
            stack.enter_context(_assigned(cudnn, "deterministic", True))
            if hasattr(cudnn, "conv"):
                # PyTorch 2.9 and newer; the older switch cannot be read once a host uses these.
                rounding = "tf32" if self.precision == "tf32" else "ieee"
                stack.enter_context(_assigned(cudnn.conv, "fp32_precision", rounding))
                matmul = torch.backends.cuda.matmul
                exact = "tf32" if products and self.precision == "tf32" else "ieee"
                stack.enter_context(_assigned(matmul, "fp32_precision", exact))
            else:
                if products and self.precision == "tf32":
                    matmul = torch.backends.cuda.matmul
                    stack.enter_context(_assigned(matmul, "allow_tf32", True))
                stack.enter_context(_assigned(cudnn, "allow_tf32", self.precision == "tf32"))
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
