"""Names of devices as users write them, understood without PyTorch."""

import sys
from typing import Literal, cast

from nstx.export.runtime.providers import Provider, has_driver, provider_loads
from nstx.models.errors import UsageError

DeviceKind = Literal["auto", "cpu", "cuda", "mps"]


def parse_device(device: str) -> tuple[DeviceKind, int]:
    """Return the kind of a device and its index, 0 where there is none.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        UsageError: it is none of these.
    """
    kind, colon, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and kind != "cuda"):
        raise UsageError(f"expected a device of auto, cpu, cuda[:N], mps, got {device!r}; try auto")
    if colon and not index.isdecimal():
        raise UsageError(f"expected a number after 'cuda:', got {device!r}; try cuda:0")
    return cast(DeviceKind, kind), int(index) if colon else 0


def settle_device(device: str) -> str:
    """Return the device that a run takes for ``auto``; others as they are.

    PyTorch, whose import takes a second or two, is asked only where there may be an accelerator.

    Raises:
        UsageError: it is no device.
    """
    if parse_device(device)[0] != "auto":
        return device
    if not has_driver() and sys.platform != "darwin":
        return "cpu"
    try:
        from .torch_device import resolve_device
    except ImportError:  # an installation without PyTorch
        return "cuda:0" if provider_loads(Provider("cuda")) else "cpu"
    return resolve_device("auto", "fp32").name
