"""Which precision a CUDA device is fastest in: measured, because devices differ by more than their names say."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from ..settings import Precision
from .convolution import Convolution, fastest_layout
from .device import Device
from .precisions import supported_precisions
from .torch_device import TorchDevice

# From the one that rounds least among those of 16 bits; fp16 has 11 significant bits, bf16 has 8.
CANDIDATES: tuple[Precision, ...] = ("fp16", "bf16", "tf32", "fp32")

# A precision that is later in `CANDIDATES` must be this much faster to be preferred.
_MARGIN = 0.9

# A convolution of conv3_2's channels, as most of a step's time is spent in such.
_SHAPE, _WARM_UPS, _REPEATS, _CALLS = (1, 256, 256, 256), 3, 5, 10


def choose_fastest(seconds: Sequence[tuple[Precision, float]]) -> Precision:
    """Return the first precision that none of the later ones beats by a tenth.

    Args:
        seconds: that each precision takes, the preferred one first; one or more.
    """
    chosen, least = seconds[0]
    for precision, took in seconds[1:]:
        if took < _MARGIN * least:
            chosen, least = precision, took
    return chosen


@functools.cache
def fastest_precision(device: Device) -> Precision:
    """Return the precision in which a device's convolutions are fastest; measured once in a process."""
    supported = supported_precisions(device)
    candidates = [name for name in CANDIDATES if name in supported]
    seconds = time_convolutions([TorchDevice(device, name) for name in candidates])
    return choose_fastest(list(zip(candidates, seconds, strict=True)))


def time_convolutions(devices: Sequence[TorchDevice]) -> list[float]:
    """Return the seconds that a convolution of 256 by 256 channels takes on each device, at the least.

    Devices clock up under load, so they take turns, and the first turns do not count.
    """
    calls = [_make_call(device) for device in devices]
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


def _make_call(device: TorchDevice) -> Callable[[], torch.Tensor]:
    channels = _SHAPE[1]
    dtype, place = device.dtype, device.torch_device
    kernel = torch.full((channels, channels, 3, 3), 1e-3, dtype=dtype, device=place)
    x = torch.ones(_SHAPE, dtype=dtype, device=place).contiguous(memory_format=torch.channels_last)
    return partial(Convolution(kernel, None, fastest_layout(device), relu=False), x)


def _wait(device: TorchDevice) -> None:
    if device.place.is_cuda:
        torch.cuda.synchronize(device.torch_device)
