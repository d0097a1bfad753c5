"""What a service takes from strangers, and how long it keeps what it made of that."""

import math
from dataclasses import dataclass
from typing import Any

from nstx.models.values import check_bytes, check_number, check_whole, refuse

MOST_STYLES = 8
MOST_PARTS = 16
"""Of a form."""

SPARE_DISK = 256 << 20
"""Bytes of the disk that no job may take."""

MOST_OPTIONS = 64 << 10
"""Bytes of the options of a job."""

UPLOAD_SECONDS = 120.0
MOST_UPLOADS = 16
"""At a time."""

MOST_STREAMS = 256
"""Of events, at a time."""

MOST_CONNECTIONS = 512
HEAD_SECONDS = 10.0
"""For the head of a request, from the moment that there could be one."""

_WHOLE = {"max_queue": 100_000, "max_pixels": 2**31, "max_steps": 1_000_000}
_BYTES = {"max_upload": 1 << 20, "max_disk": 64 << 20, "keep_bytes": 64 << 20}
_LONGEST = {"max_seconds": 1e7, "keep_hours": 1e6}

# A state of L-BFGS, twice, as a checkpoint is written beside the one before; the result and what it is read from.
_BYTES_A_PIXEL = 2 * 264 + 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """Limits of a service.

    Attributes:
        max_queue: jobs that wait.
        max_upload: bytes of a form.
        max_pixels: of a picture that comes in, and of a result.
        max_steps: of a job.
        max_seconds: that a job may run from one start to its end.
        max_disk: bytes that a job may take.
        keep_hours: after which a job that has ended is forgotten, with its pictures.
        keep_bytes: of all that is kept of jobs that have ended.

    `UsageError` if one is out of its range.
    """

    max_queue: int = 100
    max_upload: int = 64 << 20
    max_pixels: int = 40_000_000
    max_steps: int = 2000
    max_seconds: float = 3600.0
    max_disk: int = 16 << 30
    keep_hours: float = 24.0
    keep_bytes: int = 10 << 30

    def __post_init__(self) -> None:
        for name, most in _WHOLE.items():
            count = check_whole(name, getattr(self, name))
            if not 1 <= count <= most:
                raise refuse(f"1 … {most}", name, count, _usual(name))
        for name, least in _BYTES.items():
            self._set(name, check_bytes(name, getattr(self, name), least))
        for name, longest in _LONGEST.items():
            number = check_number(name, getattr(self, name))
            if not 0 < number <= longest:
                raise refuse(f"a number above 0, up to {longest:g}", name, number, _usual(name))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _usual(name: str) -> Any:
    """Return the default of a limit, of which a class with slots has a descriptor in its place."""
    return ServiceLimits.__dataclass_fields__[name].default


def disk_needed(uploaded: int, pixels: int) -> int:
    """Return the bytes that a job may take on the disk while it is made, of so many that were sent."""
    return math.ceil(uploaded + _BYTES_A_PIXEL * pixels)
