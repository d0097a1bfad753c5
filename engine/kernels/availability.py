"""Whether the kernels run on a device, found out by running one."""

import functools

import torch

from .support import KernelSupport, triton_lock

_LEAST_CAPABILITY = (8, 0)
"""Of Ampere, from which matrix units multiply bf16 and TF32."""


def kernel_support(index: int) -> KernelSupport:
    """Return whether Triton's kernels run on a CUDA device, by running one, once in a process.

    Triton comes with PyTorch on Linux. It needs a C compiler when a kernel runs for the first time on a
    machine, and keeps what it compiles in a folder of its own.
    """
    with triton_lock:
        return _try_kernels(index)


@functools.cache
def _try_kernels(index: int) -> KernelSupport:
    device = torch.device("cuda", index)
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        return KernelSupport("torch", f"compute capability {capability[0]}.{capability[1]}")
    try:
        import triton

        from .activation import PoolKind, pool
    except (ImportError, OSError, AttributeError) as error:
        return KernelSupport("torch", f"Triton does not load: {_first_line(error)}")
    x = torch.arange(4 * 64, dtype=torch.float32, device=device).reshape(1, 2, 2, 64)
    try:
        with torch.cuda.device(device):
            pooled = pool(x, PoolKind(averages=True, rounds_up=True))
        answer = pooled.flatten().tolist()
    except Exception as error:  # noqa: BLE001
        # Compilers, drivers and full disks fail in many ways, which have no common base.
        return KernelSupport("torch", f"Triton does not work: {_first_line(error)}")
    if answer != [channel + 96.0 for channel in range(64)]:
        return KernelSupport("torch", f"Triton computes wrongly: {answer[:3]} …")
    return KernelSupport(f"triton {triton.__version__}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
