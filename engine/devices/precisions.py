"""Which precisions PyTorch offers on a device, and which one a run takes: by rule, so that equal runs are equal."""

import torch

from nstx.models.errors import DeviceError

from ..settings import Auto, Precision
from .convolution import try_bf16
from .device import Device
from .machine import Bf16, Capability, Processor


def choose_precision(
    device: Device,
    precision: Precision | Auto,
    processor: Processor | None = None,
    capability: Capability | None = None,
) -> Precision:
    """Return the precision of convolutions: ``auto`` is tf32 on CUDA devices that have it, else fp32.

    `DeviceError` if the device does not offer the precision.
    """
    if precision == "fp32" or (precision == "auto" and device.is_cpu):
        return "fp32"
    supported = supported_precisions(device, processor, capability)
    if precision == "auto":
        return "tf32" if "tf32" in supported else "fp32"
    if precision not in supported:
        raise DeviceError(
            f"expected {', '.join(supported)} on {device}, got {precision}; try --precision auto",
            setting="precision",
        )
    return precision


def supported_precisions(
    device: Device, processor: Processor | None = None, capability: Capability | None = None
) -> tuple[Precision, ...]:
    """Return the precisions that PyTorch offers on a device.

    bf16 on the CPU is tried. fp16 there is left out: PyTorch has it, but slower than fp32.
    """
    if device.is_cuda:
        # Compute capability 8 (Ampere) brought both TF32 and bf16.
        ampere = (capability or cuda_capability(device)) >= (8, 0)
        return ("fp32", "tf32", "bf16", "fp16") if ampere else ("fp32", "fp16")
    if device.is_mps:
        return ("fp32", "bf16", "fp16")
    has_bf16 = settle_bf16(processor or Processor()) != "none"
    return ("fp32", "bf16") if has_bf16 else ("fp32",)


def settle_bf16(processor: Processor) -> Bf16:
    """Return how PyTorch convolves in bf16 on a CPU; it is tried if the processor leaves it open."""
    return try_bf16() if processor.bf16 is None else processor.bf16


def cuda_capability(device: Device) -> Capability:
    """Return the compute capability of a CUDA device, such as (9, 0)."""
    return torch.cuda.get_device_capability(torch.device(str(device)))


def fast_precision(capability: Capability) -> Precision:
    """Return the precision of a CUDA device that is worth its checks: see docs/precision.md.

    Volta and Turing (7.x) have matrix units for fp16, Ampere (8.0) brought them for bf16. Where a device
    has both they are equally fast (within 3 % on an H100), and bf16, whose checks suffice, has fp32's range:
    no gradient overflows, so no evaluation is repeated with a smaller seed. Older devices have no matrix
    units, and nearly all of them compute fp16 slower than fp32.
    """
    if capability >= (8, 0):
        return "bf16"
    return "fp16" if capability >= (7, 0) else "fp32"
