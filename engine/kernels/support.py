"""What computes a step on CUDA, as data; and Triton, made ready without PyTorch."""

import contextlib
import threading
from dataclasses import dataclass

triton_lock = threading.Lock()
"""Held by whoever uses Triton for the first time."""


@dataclass(frozen=True, slots=True)
class KernelSupport:
    """What computes a step: ``triton`` with its version or ``torch``, or ``onnxruntime`` with its own and how.

    Of PyTorch's backend it computes what lies between the convolutions.

    Attributes:
        reason: why it is not Triton, or not captured in a CUDA graph; empty where it is.
        is_fault: whether it should be Triton, but that fails on this machine.
    """

    name: str
    reason: str = ""
    is_fault: bool = False

    @property
    def works(self) -> bool:
        """Whether it is as fast as it could be."""
        return not self.reason


def describe_kernels(kernels: KernelSupport | None) -> dict[str, object] | None:
    """Return what every report says of a step on CUDA, as plain data; an empty reason is None."""
    return None if kernels is None else {"name": kernels.name, "reason": kernels.reason or None}


def load_triton() -> bool:
    """Import Triton and let it go through its own files; return whether it did.

    Before it finds what it compiled earlier, it computes a checksum of itself, half a gigabyte. That takes as long
    as PyTorch's import, does not need it, and leaves Python's lock to others. It also asks the system where
    the driver's libraries lie. Where a release does either elsewhere it is left to the first kernel, as are errors.
    """
    with triton_lock, contextlib.suppress(Exception):
        from triton.runtime.cache import triton_key

        triton_key()  # it remembers the result, as it does where the driver's libraries lie
        with contextlib.suppress(Exception):
            from triton.backends.nvidia.driver import library_dirs

            library_dirs()
        return True
    return False
