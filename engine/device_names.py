"""Names of devices as users write them, understood without PyTorch."""

from typing import Literal, cast

from ..models.errors import UsageError

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
