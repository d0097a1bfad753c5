"""Memory: the process's peak, an accelerator's room, the error when there is none, and Python's garbage."""

import contextlib
import ctypes
import gc
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nstx.models.errors import DeviceError

from .device import Device


def peak_memory_bytes(device: Device, *, by_torch: bool = True) -> int:
    """Return the peak of what PyTorch allocated on a CUDA device, else of the process.

    The process's peak is that of its resident set, libraries included, since it was started. PyTorch
    knows of its own memory only, so ``by_torch`` says whether it does the work.
    """
    if device.is_cuda and by_torch:
        import torch

        return int(torch.cuda.max_memory_allocated(torch.device(str(device))))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    with contextlib.suppress(OSError):
        # getrusage includes the process that this one was started from, on Linux.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024


# Of mallopt(3): what is kept at the top of the heap, and from what size, and how many, blocks are mapped one by one.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_LARGE_BLOCK = 1 << 20


def keep_freed_memory() -> None:
    """Let the C library keep freed memory in place of giving it back.

    glibc gives large blocks back to the system, which clears each page of the next one: at 1024×1024
    that is a quarter of a bf16 step's time. Elsewhere than on Linux with glibc nothing is changed.
    """
    _set_malloc({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1})


def give_back_freed_memory() -> None:
    """Let the C library give each block of a MiB or more back when it is freed.

    Of itself glibc soon takes blocks of up to 32 MiB from its heap, where what stays between them holds what was freed:
    0.5 of the 1.2 GiB of a run at 1000 pixels by tiles of 320. Elsewhere than on Linux with glibc nothing is changed.
    """
    _set_malloc({_M_MMAP_THRESHOLD: _LARGE_BLOCK})


def _set_malloc(values: Mapping[int, int]) -> None:
    if sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "mallopt"):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in values.items():
            mallopt(name, value)


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep Python from looking for garbage for the time of a block."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def process_seconds() -> float:
    """Return the seconds since this process was started."""
    with contextlib.suppress(OSError, AttributeError):
        # psutil adds the time of the boot, which Linux gives in whole seconds.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    import psutil

    return time.time() - float(psutil.Process().create_time())


# In the messages of PyTorch's allocators, and of CUDA's libraries; not all of their errors have a class.
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
_BARE_SIGNS = ("could not create a primitive", "could not create a memory object")
"""Of oneDNN, which says no more where it has no memory; where it knows no kernel, it goes on with the kind of primitive."""


def is_exhausted(error: Exception) -> bool:
    """Whether an error is a library's report that there is no more memory."""
    message = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in message for sign in _SIGNS):
        return True
    return message.partition("\n")[0].strip() in _BARE_SIGNS


def give_back_cached() -> None:
    """Let PyTorch give back what it keeps of a CUDA device's memory, if it has used one in this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def free_on(device: Device) -> int:
    """Return the bytes that are free on an accelerator, which PyTorch knows of CUDA alone; else 0.

    What PyTorch keeps there of memory that was freed is free, too.
    """
    if not device.is_cuda:
        return 0
    import torch

    place = torch.device(str(device))
    cached = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
    return int(torch.cuda.mem_get_info(place)[0]) + cached


@contextmanager
def memory_errors(size: Sequence[int]) -> Iterator[None]:
    """Turn a library's report of exhausted memory at (height, width) into a `DeviceError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_exhausted(error):
            raise
        raise DeviceError(
            f"expected enough memory for {size[1]}×{size[0]} pixels, got less; try a smaller --size, or more memory"
        ) from error
