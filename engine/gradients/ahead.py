"""What a run on CUDA needs of libraries and weights, loaded on threads while the host reads its pictures.

In an unhurried process PyTorch's import, CUDA's context, cuDNN and the weights' checksums follow one another,
and take longer than a run at 512 pixels. None of them needs another but for the order in each thread below. An
error there is no error of the run: what failed is done again where it is needed, and reported from there.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.export.runtime.providers import has_driver

from ..devices.torch_import import postpone_unused
from ..kernels.support import load_triton

if TYPE_CHECKING:
    # Its import would take as long as all else before PyTorch's begins.
    import torch

    from nstx.models.weights.load import Weights

    from ..settings import Settings

_QUICK_TURNS, _USUAL_TURNS = 0.0005, sys.getswitchinterval()
"""Seconds that a thread keeps Python's lock while others wait for it."""

_OPENED_FIRST = (
    "array", "binascii", "csv", "hashlib", "socket", "numpy", "PIL.ImageCms", "safetensors",
    "triton.backends.nvidia.driver",
)  # fmt: skip
"""Modules with compiled parts that a run needs beside PyTorch's.

Such parts are opened one at a time, and an import that waits for its turn keeps Python's lock. PyTorch's take long;
so these come before, as otherwise all threads would wait.
"""

_begun: list["Future[Any]"] = []
_weights: dict[tuple[str, bool, str], "Future[Weights]"] = {}


def begin_loading(settings: "Settings") -> None:
    """Begin to load what a run may need if it comes to be one of PyTorch's on CUDA; else do nothing.

    Whether it does is only known once PyTorch is there, so the driver alone decides. Threads do not keep the
    process alive: one that is interrupted ends at once, whatever is being loaded (`nstx.cli.interrupts`).
    """
    kind, _, index = settings.device.partition(":")
    if settings.backend == "onnx" or kind not in ("auto", "cuda"):
        return
    opened = begin_libraries(int(index) if index.isdecimal() else 0)
    if opened is not None:
        (weights,) = _start(partial(_load_weights_after, opened, settings))
        _weights[_weights_key(settings)] = weights


def begin_libraries(index: int = 0) -> "Future[Any] | None":
    """Begin to load PyTorch and a CUDA device, once; return the context to come, or None without a driver.

    May be called before settings are there, where a run is most likely to be one on that device.
    """
    if _begun:
        return _begun[-1]
    if not has_driver() or importlib.util.find_spec("torch") is None:
        return None
    postpone_unused()
    # As PyTorch would set it; the driver reads it when it is opened.
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    # Whoever reads a file gives up Python's lock, and would wait for 5 ms to have it back.
    sys.setswitchinterval(_QUICK_TURNS)
    for load in (load_torch, open_context):
        _begun.extend(_start(partial(load, index)))
    return _begun[-1]


def take_weights(settings: "Settings") -> "Weights":
    """Return the weights that were begun to be loaded, once; else load them. Errors as `load_weights`."""
    begun = _weights.pop(_weights_key(settings), None)
    return _load_weights(settings) if begun is None else begun.result()


def is_needed() -> bool:
    """Whether the process still goes on, and is not ending: nothing more is begun then."""
    return threading.main_thread().is_alive()


def is_loading() -> bool:
    """Whether something was begun that nobody has waited for yet."""
    return bool(_begun)


def finish_loading() -> None:
    """Wait until all that was begun is there, so that nothing else uses the device any more.

    Weights that nobody has taken are dropped: the run was none of PyTorch's.
    """
    if _begun:
        wait(_begun)
        _begun.clear()
        _weights.clear()
        sys.setswitchinterval(_USUAL_TURNS)


def open_context(index: int) -> bool:
    """Make the context of a CUDA device that all libraries share, by the driver; return whether it is there.

    It takes as long as PyTorch's import, which so far has had it wait.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        # All return 0 for success. The context is retained for as long as the process lives.
        return not (
            driver.cuInit(0)
            or driver.cuDeviceGet(ctypes.byref(device), index)
            or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
        )
    except (OSError, AttributeError):
        return False


def load_torch(index: int) -> bool:
    """Import PyTorch, and use CUDA's libraries on a device; return whether it has it."""
    # Whatever goes wrong here goes wrong again where the run needs it.
    with contextlib.suppress(Exception):
        for name in _OPENED_FIRST:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        if not is_needed():
            return False
        beside = threading.Thread(target=load_triton, name="nstx-triton", daemon=True)
        # Triton's checksum of itself is computed while PyTorch's libraries are opened.
        beside.start()
        preload_torch()
        try:
            return is_needed() and _use_cuda(index)
        finally:
            beside.join()
    return False


def _use_cuda(index: int) -> bool:
    """Import PyTorch, and use each of CUDA's libraries once; return whether PyTorch has the device."""
    import torch

    # Others than the first are counted by another library, which has to be loaded.
    if (
        not is_needed()
        or not torch.cuda.is_available()
        or (index and index >= torch.cuda.device_count())
    ):
        return False
    from ..kernels.availability import kernel_support

    device = torch.device("cuda", index)
    loads: tuple[tuple[Callable[..., object], object], ...] = (
        (kernel_support, index), (_warm_convolutions, device), (_warm_products, device), (_warm_arithmetic, device),
    )  # fmt: skip
    threads = [threading.Thread(target=_quietly, args=load, daemon=True) for load in loads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return True


def _start(*loads: Callable[[], Any]) -> "list[Future[Any]]":
    """Let a thread do several things, one after another; return what will come of each.

    It is no executor's, as a process waits for those at its end. It ends with its work, and what libraries keep
    for each thread goes to the next that asks.
    """
    futures: list[Future[Any]] = [Future() for _ in loads]

    def work() -> None:
        for future, load in zip(futures, loads, strict=True):
            if not is_needed():
                return
            try:
                future.set_result(load())
            except Exception as error:  # noqa: BLE001  (whoever asks for the result has it)
                future.set_exception(error)

    threading.Thread(target=work, name="nstx-ahead", daemon=True).start()
    return futures


def _quietly(load: Callable[..., object], argument: object) -> None:
    """Load something, without an error."""
    with contextlib.suppress(Exception):
        load(argument)


def preload_torch() -> bool:
    """Load PyTorch's shared libraries, on Linux, without Python's lock; return whether they are there.

    An import holds that lock all the while, and other threads wait.
    """
    spec = importlib.util.find_spec("torch")
    if not sys.platform.startswith("linux") or spec is None or not spec.submodule_search_locations:
        return False
    folder = Path(spec.submodule_search_locations[0], "lib")
    # Python's own way to load a library keeps its lock; a foreign function is called without it.
    load = ctypes.CDLL(None).dlopen
    load.argtypes, load.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    # In the order and with the flags of PyTorch's import, which goes its own ways if one fails.
    libraries = ("libtorch_global_deps.so", os.RTLD_GLOBAL), ("libtorch.so", os.RTLD_LOCAL)
    return all(load(os.fsencode(folder / name), flag | os.RTLD_NOW) for name, flag in libraries)


def _warm_convolutions(device: "torch.device") -> None:
    """Use cuDNN once, in 16 bits and as checks do; results and memory are dropped."""
    import torch

    half = torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    kernel, x = torch.ones((64, 64, 3, 3)), torch.ones((1, 64, 32, 32))
    for dtype in (half, torch.float32):
        x, kernel = (
            tensor.to(device, dtype).contiguous(memory_format=torch.channels_last)
            for tensor in (x, kernel)
        )
        torch.conv2d(x, kernel, padding=1)
        torch.cudnn_convolution_relu(x, kernel, None, [1, 1], [1, 1], [1, 1], 1)
    torch.cuda.synchronize(device)


def _warm_products(device: "torch.device") -> None:
    """Use cuBLAS and cuFFT once, in fp32, as kernels of our own have the products of 16 bits."""
    import torch

    rows = torch.ones((1, 1024, 64), device=device)
    torch.fft.irfft2(torch.fft.rfft2(rows.reshape(64, 32, 32)))
    rows @ (rows.transpose(1, 2) @ rows)
    torch.cuda.synchronize(device)


def _warm_arithmetic(device: "torch.device") -> None:
    """Use what targets, a solver and a check begin with: each takes some 10 ms for the first time."""
    import torch

    from ..devices.convolution import split_to_tf32

    x = torch.ones((1, 32, 32, 3), device=device)
    split_to_tf32(x)
    slope = 2 * x.square().flatten(1).mean(1).clamp(min=1) / 3
    torch.stack([slope, slope], 1)
    abs(x.clip(0, 255)).max()
    torch.cuda.synchronize(device)


def _load_weights_after(opened: "Future[Any]", settings: "Settings") -> "Weights":
    # The context does not need Python's lock: until it is there the host has it for its own imports.
    wait([opened])
    return _load_weights(settings)


def _load_weights(settings: "Settings") -> "Weights":
    from nstx.models.weights.load import load_weights

    return load_weights(
        settings.weights, settings.objective.preprocessing, use_cache=settings.use_cache
    )


def _weights_key(settings: "Settings") -> tuple[str, bool, str]:
    return settings.weights, settings.use_cache, settings.objective.preprocessing
