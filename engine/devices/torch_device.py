"""Which device and precision a run uses, and what PyTorch must be told for it."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from nstx.models.errors import DeviceError, UsageError

from .machine import Processor, this_processor
from .names import parse_device

Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16"]

_DTYPES: dict[Precision, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
"""What a user may ask for. fp64 is for tests: it is the reference."""


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A device with a precision for the convolutions.

    Attributes:
        name: ``cpu``, ``cuda:0``, ``mps`` …
        precision: of weights and activations. Pixels, Gram matrices and costs are always fp32
            (fp64 with fp64).
        packs: on the CPU, whether the kernels of convolutions are laid out once; None where that works.
    """

    name: str
    precision: Precision
    packs: bool | None = None

    @property
    def torch_device(self) -> torch.device:
        """The device as PyTorch names it."""
        return torch.device(self.name)

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
        if not self.name.startswith("cuda"):
            yield
            return
        cudnn = torch.backends.cudnn
        with contextlib.ExitStack() as stack:
            stack.enter_context(_assigned(cudnn, "benchmark", False))
            stack.enter_context(_assigned(cudnn, "deterministic", True))
            if hasattr(cudnn, "conv"):
                # PyTorch 2.9 and newer; the older switch cannot be read once a host uses these.
                wanted = "tf32" if self.precision == "tf32" else "ieee"
                stack.enter_context(_assigned(cudnn.conv, "fp32_precision", wanted))
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


def resolve_device(device: str, precision: str, processor: Processor | None = None) -> TorchDevice:
    """Return the device and precision for what was asked.

    ``auto`` takes the first CUDA device, else MPS, else the CPU, in fp32 (tf32 on CUDA devices
    that have it).

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: among `PRECISIONS`.
        processor: what the CPU can do; None asks this machine's.

    Raises:
        UsageError: the name is none that is known.
        DeviceError: the device, or the precision on it, is not there.
    """
    name = _resolve_name(device)
    if precision not in PRECISIONS:
        raise UsageError(
            f"expected a precision of {', '.join(PRECISIONS)}, got {precision!r}; try auto"
        )
    if precision == "fp32" or (precision == "auto" and name == "cpu"):
        return TorchDevice(name, "fp32")
    if precision == "auto":
        chosen: Precision = "tf32" if "tf32" in supported_precisions(name) else "fp32"
        return TorchDevice(name, chosen)
    supported = supported_precisions(name, processor)
    if precision not in supported:
        raise DeviceError(
            f"expected {', '.join(supported)} on {name}, got {precision}; try --precision auto"
        )
    return TorchDevice(name, precision)


def _resolve_name(device: str) -> str:
    kind, index = parse_device(device)
    if kind == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("expected an MPS device, got none on this machine; try --device auto")
    return _resolve_cuda(index) if kind == "cuda" else kind


def _resolve_cuda(index: int) -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        build = "" if torch.version.cuda else f" (PyTorch {torch.__version__} is built without it)"
        raise DeviceError(
            f"expected CUDA device {index}, got {count or 'no'} CUDA devices on this machine{build}; "
            "try --device auto, or 'nstx doctor'"
        )
    return f"cuda:{index}"


def supported_precisions(name: str, processor: Processor | None = None) -> tuple[Precision, ...]:
    """Return the precisions that a device offers, by its name as in `TorchDevice`.

    bf16 on the CPU is tried. fp16 there is left out: PyTorch has it, but slower than fp32.
    """
    if name.startswith("cuda"):
        # Compute capability 8 (Ampere) brought both TF32 and bf16.
        ampere = torch.cuda.get_device_capability(torch.device(name)) >= (8, 0)
        return ("fp32", "tf32", "bf16", "fp16") if ampere else ("fp32", "fp16")
    if name == "mps":
        return ("fp32", "bf16", "fp16")
    has_bf16 = (processor or this_processor()).settle_bf16() != "none"
    return ("fp32", "bf16") if has_bf16 else ("fp32",)
