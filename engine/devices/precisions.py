"""Which precisions PyTorch offers on a device, and which one a run takes."""

from typing import Literal

import torch

from nstx.models.errors import DeviceError

from ..settings import Precision
from .convolution import try_bf16
from .device import Device
from .machine import Bf16, Processor, this_processor


def choose_precision(
    device: Device, precision: Precision | Literal["auto"], processor: Processor | None = None
) -> Precision:
    """Return the precision of convolutions: ``auto`` is tf32 on CUDA devices that have it, else fp32.

    Args:
        device: that PyTorch has.
        precision: that was asked for.
        processor: what the CPU can do; None asks this machine's.

    Raises:
        DeviceError: the device does not offer the precision.
    """
    if precision == "fp32" or (precision == "auto" and device.is_cpu):
        return "fp32"
    supported = supported_precisions(device, processor)
    if precision == "auto":
        return "tf32" if "tf32" in supported else "fp32"
    if precision not in supported:
        raise DeviceError(
            f"expected {', '.join(supported)} on {device}, got {precision}; try --precision auto"
        )
    return precision


def supported_precisions(
    device: Device, processor: Processor | None = None
) -> tuple[Precision, ...]:
    """Return the precisions that PyTorch offers on a device.

    bf16 on the CPU is tried. fp16 there is left out: PyTorch has it, but slower than fp32.
    """
    if device.is_cuda:
        # Compute capability 8 (Ampere) brought both TF32 and bf16.
        ampere = torch.cuda.get_device_capability(torch.device(str(device))) >= (8, 0)
        return ("fp32", "tf32", "bf16", "fp16") if ampere else ("fp32", "fp16")
    if device.is_mps:
        return ("fp32", "bf16", "fp16")
    has_bf16 = settle_bf16(processor or this_processor()) != "none"
    return ("fp32", "bf16") if has_bf16 else ("fp32",)


def settle_bf16(processor: Processor) -> Bf16:
    """Return how PyTorch convolves in bf16 on a CPU; it is tried unless the processor says it."""
    return try_bf16() if processor.bf16 is None else processor.bf16
