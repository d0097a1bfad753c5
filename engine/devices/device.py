"""A device: what users write, and which one ``auto`` is. PyTorch is asked only where it must be."""

import sys
from dataclasses import dataclass
from typing import Literal, cast

from nstx.export.runtime.providers import Provider, choose_provider, has_driver, provider_loads
from nstx.models.errors import DeviceError, about

from ..settings import split_device

DeviceKind = Literal["cpu", "cuda", "mps"]


@dataclass(frozen=True, slots=True)
class Device:
    """A processor that pictures are computed on; as text ``cpu``, ``cuda:0`` or ``mps``.

    Only CUDA devices have an index other than 0.
    """

    kind: DeviceKind
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "Device | None":
        """Return the device of ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; None for ``auto``."""
        kind, index = split_device(text)
        return None if kind == "auto" else cls(cast(DeviceKind, kind), index)

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.is_cuda else self.kind

    @property
    def is_cpu(self) -> bool:
        """Whether it is the CPU."""
        return self.kind == "cpu"

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU of NVIDIA's."""
        return self.kind == "cuda"

    @property
    def is_mps(self) -> bool:
        """Whether it is a GPU of Apple's."""
        return self.kind == "mps"


def settle(text: str, *, by_torch: bool = False) -> Device:
    """Return the device that a run takes: ``auto`` is the first CUDA device, else MPS, else the CPU.

    The import of PyTorch takes a second or two, so ``auto`` asks it only where there may be an accelerator.

    Args:
        text: ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.
        by_torch: whether PyTorch is to use the device: `DeviceError` if it does not have it,
            `ImportError` if it is not installed.
    """
    device = Device.parse(text)
    if device is not None:
        if by_torch:
            _check_torch_has(device)
        return device
    if not by_torch and not has_driver() and sys.platform != "darwin":
        return Device("cpu")
    try:
        import torch
    except ImportError:
        if by_torch:
            raise
        return Device("cuda" if provider_loads(Provider("cuda")) else "cpu")
    if torch.cuda.is_available():
        return Device("cuda")
    return Device("mps" if torch.backends.mps.is_available() else "cpu")


def torch_has(device: Device) -> bool:
    """Whether PyTorch, if it is installed, can use a device."""
    from .machine import is_there

    if not is_there("torch"):
        return False
    try:
        _check_torch_has(device)
    except (DeviceError, ImportError):
        return False
    return True


def choose_provider_on(device: Device | None) -> Provider:
    """Return ONNX Runtime's provider on a device; None takes CUDA where it loads, else the CPU.

    `DeviceError` if ONNX Runtime is not installed, or cannot use the device.
    """
    if device is None:
        return choose_provider("auto", 0)
    return choose_provider(device.kind, device.index)


@about("device")
def _check_torch_has(device: Device) -> None:
    import torch

    if device.is_mps and not torch.backends.mps.is_available():
        raise DeviceError("expected an MPS device, got none on this machine; try --device auto")
    count = 0
    if device.is_cuda and torch.cuda.is_available():
        # There is a first one; the others are counted by another library, which has to be loaded.
        count = torch.cuda.device_count() if device.index else 1
    if device.is_cuda and device.index >= count:
        build = "" if torch.version.cuda else f" (PyTorch {torch.__version__} is built without it)"
        raise DeviceError(
            f"expected CUDA device {device.index}, got {count or 'no'} CUDA devices on this "
            f"machine{build}; try --device auto, or 'nstx doctor'"
        )
