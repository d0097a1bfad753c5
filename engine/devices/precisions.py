"""Which precisions PyTorch offers on a device, and which one a run takes.

Which one a CUDA device is fastest in is measured, because devices differ by more than their names say.
"""

import functools
import math
import time
from collections.abc import Sequence
from functools import partial

import torch

from nstx.models.errors import DeviceError

from ..settings import Auto, Precision
from .convolution import Convolution, fastest_layout, try_bf16
from .device import Device
from .machine import Bf16, Processor
from .torch_device import TorchDevice

# From the one that rounds least among those of 16 bits; fp16 has 11 significant bits, bf16 has 8.
CANDIDATES: tuple[Precision, ...] = ("fp16", "bf16", "tf32", "fp32")

# A precision that is later in `CANDIDATES` must be this much faster to be preferred.
_MARGIN = 0.9

_WARM_UPS, _REPEATS, _CALLS = 3, 5, 10


def choose_precision(
    device: Device, precision: Precision | Auto, processor: Processor | None = None
) -> Precision:
    """Return the precision of convolutions: ``auto`` is tf32 on CUDA devices that have it, else fp32.

    `DeviceError` if the device does not offer the precision.
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
    has_bf16 = settle_bf16(processor or Processor()) != "none"
    return ("fp32", "bf16") if has_bf16 else ("fp32",)


def settle_bf16(processor: Processor) -> Bf16:
    """Return how PyTorch convolves in bf16 on a CPU; it is tried if the processor leaves it open."""
    return try_bf16() if processor.bf16 is None else processor.bf16


@functools.cache
def fastest_precision(device: Device) -> Precision:
    """Return the precision in which a device's convolutions are fastest; measured once in a process."""
    supported = supported_precisions(device)
    candidates = [name for name in CANDIDATES if name in supported]
    seconds = time_convolutions([TorchDevice(device, name) for name in candidates])
    return choose_fastest(list(zip(candidates, seconds, strict=True)))


def choose_fastest(seconds: Sequence[tuple[Precision, float]]) -> Precision:
    """Return the first precision that none of the later ones beats by a tenth of its seconds."""
    chosen, least = seconds[0]
    for precision, took in seconds[1:]:
        if took < _MARGIN * least:
            chosen, least = precision, took
    return chosen


def time_convolutions(
    devices: Sequence[TorchDevice], shape: tuple[int, int, int, int] = (1, 256, 256, 256)
) -> list[float]:
    """Return the least seconds that a convolution (batch, channels, h, w) takes on each device.

    The channels are conv3_2's, as most of a step's time is spent in such. Devices clock up under load,
    so they take turns, and the first turns do not count.
    """
    calls = []
    for device in devices:
        dtype, place = device.dtype, device.torch_device
        kernel = torch.full((shape[1], shape[1], 3, 3), 1e-3, dtype=dtype, device=place)
        x = torch.ones(shape, dtype=dtype, device=place)
        x = x.contiguous(memory_format=torch.channels_last)
        layout = fastest_layout(device)
        calls.append(partial(Convolution(kernel, None, layout, relu=False), x))
    least = [math.inf] * len(devices)
    for turn in range(_WARM_UPS + _REPEATS):
        for index, (device, call) in enumerate(zip(devices, calls, strict=True)):
            with device.numerics(), torch.no_grad():
                _wait(device)
                began = time.perf_counter()
                for _ in range(_CALLS):
                    call()
                _wait(device)
                took = (time.perf_counter() - began) / _CALLS
            if turn >= _WARM_UPS:
                least[index] = min(least[index], took)
    return least


def _wait(device: TorchDevice) -> None:
    if device.place.is_cuda:
        torch.cuda.synchronize(device.torch_device)
