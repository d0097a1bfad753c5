"""How much memory this process has needed so far."""

import sys


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
