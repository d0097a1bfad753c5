"""Memory: how much this process has needed so far, and what to say when there is too little."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..models.errors import DeviceError


def peak_memory_bytes(device: str) -> int:
    """Return the peak of allocated memory: of the CUDA device if it is one, else of the process.

    The process's peak is that of its resident set, libraries included, since it was started.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(torch.device(device)))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def memory_errors(size: tuple[int, int]) -> Iterator[None]:
    """Turn a library's report of exhausted memory into a `DeviceError` that says what to do."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _too_large(size) from error
    except RuntimeError as error:
        # PyTorch's CPU allocator has no class of its own.
        if "can't allocate memory" not in str(error):
            raise
        raise _too_large(size) from error


def _too_large(size: tuple[int, int]) -> DeviceError:
    return DeviceError(
        f"expected enough memory for {size[1]}×{size[0]} pixels, got less; "
        "try a smaller --size, or --precision bf16"
    )
