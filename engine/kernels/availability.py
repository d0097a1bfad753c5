"""Whether the kernels run on a device, found out by running some."""

import functools
import importlib.util
import sys

import torch

from .support import KernelSupport, triton_lock

_LEAST_CAPABILITY = (8, 0)
"""Of Ampere, from which matrix units multiply bf16 and TF32."""

_LARGEST_ERROR = 0.02
"""Of bf16, whose rounding is up to 0.004 of a value."""


def kernel_support(index: int) -> KernelSupport:
    """Return whether Triton's kernels run on a CUDA device, by running some, once in a process.

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
    if not sys.platform.startswith("linux") and importlib.util.find_spec("triton") is None:
        # PyTorch brings it on Linux alone.
        return KernelSupport("torch", "Triton is not installed")
    try:
        import triton

        with torch.cuda.device(device):
            distance = _error_of_kernels(device)
    except torch.OutOfMemoryError:
        raise  # which says nothing of Triton
    except (ImportError, AttributeError) as error:
        return _fault(f"does not load: {_first_line(error)}")
    except Exception as error:  # noqa: BLE001
        # Compilers, drivers and full disks fail in many ways, which have no common base.
        return _fault(f"does not work: {_first_line(error)}")
    if not distance < _LARGEST_ERROR:
        return _fault(f"computes wrongly, by {distance:.2g} of the whole")
    return KernelSupport(f"triton {triton.__version__}")


def _error_of_kernels(device: torch.device) -> float:
    """Return the largest relative error of a pooling and of a Gram matrix with its gradient, in bf16.

    The host computes what they are compared with, as the device would have to load products of float64.
    """
    from .activation import PoolKind, pool
    from .gram import add_gram_gradient, compare_gram

    values = torch.arange(8 * 8 * 64, dtype=torch.float32) % 23 - 7
    on_host = values.relu().reshape(1, 8, 8, 64).bfloat16()
    x, rows = on_host.to(device), on_host.double().flatten(1, 2)
    one, none = torch.ones((), device=device), torch.zeros(1, 64, 64, device=device)
    sums = torch.empty(1, 4096, device=device)
    slope, _ = compare_gram(x, none, one.reshape(1), one, sums, keeps=False)
    answers = [
        (slope, rows.transpose(1, 2) @ rows / rows.shape[1]),
        (add_gram_gradient(x, slope, None, cuts=False).flatten(1, 2), rows @ slope.cpu().double()),
        (
            pool(x, PoolKind(averages=True, rounds_up=True)),
            on_host.double().reshape(1, 4, 2, 4, 2, 64).mean((2, 4)),
        ),
    ]
    errors = [(ours.cpu() - exact).norm() / exact.norm() for ours, exact in answers]
    return float(torch.stack(errors).max())


def _fault(reason: str) -> KernelSupport:
    return KernelSupport("torch", f"Triton {reason}", is_fault=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
