"""Which precision a CUDA device is fastest in: measured, because devices differ by more than their names say."""

import functools
import statistics
import time
from collections.abc import Sequence

import torch

from .devices import Precision, TorchDevice, supported_precisions
from .torch_convolution import Convolution

# From the one that rounds least among those of 16 bits; fp16 has 11 significant bits, bf16 has 8.
CANDIDATES: tuple[Precision, ...] = ("fp16", "bf16", "tf32", "fp32")

# A precision that is later in `CANDIDATES` must be this much faster to be preferred.
_MARGIN = 0.9

# A convolution of conv3_2's channels, as most of a step's time is spent in such.
_SHAPE, _WARM_UPS, _REPEATS, _CALLS = (1, 256, 128, 128), 3, 5, 10


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
def fastest_precision(name: str) -> Precision:
    """Return the precision in which a device's convolutions are fastest; measured once in a process.

    Args:
        name: of the device, as in `TorchDevice`.
    """
    supported = supported_precisions(name)
    return choose_fastest(
        [
            (each, time_convolution(TorchDevice(name, each)))
            for each in CANDIDATES
            if each in supported
        ]
    )


def time_convolution(device: TorchDevice) -> float:
    """Return the seconds that a convolution of 256 by 256 channels takes; the median of five."""
    channels = _SHAPE[1]
    dtype, place = device.dtype, device.torch_device
    kernel = torch.full((channels, channels, 3, 3), 1e-3, dtype=dtype, device=place)
    x = torch.ones(_SHAPE, dtype=dtype, device=place).contiguous(memory_format=torch.channels_last)
    convolve = Convolution(kernel, None, device, relu=False)
    times = []
    with device.numerics(), torch.no_grad():
        for _ in range(_WARM_UPS):
            convolve(x)
        for _ in range(_REPEATS):
            _wait(device)
            began = time.perf_counter()
            for _ in range(_CALLS):
                convolve(x)
            _wait(device)
            times.append((time.perf_counter() - began) / _CALLS)
    return statistics.median(times)


def _wait(device: TorchDevice) -> None:
    if device.name.startswith("cuda"):
        torch.cuda.synchronize(device.name)
