"""Which ONNX Runtime provider runs a graph, found out by running one.

`onnxruntime` lists providers that it was built with, whether or not they load. So a provider counts
as there if a small graph runs on it and gives the right numbers.
"""

import contextlib
import ctypes
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Literal

from nstx.models.errors import DeviceError

ProviderKind = Literal["cpu", "cuda", "tensorrt"]

PROVIDER_NAMES: dict[ProviderKind, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

_SILENT, _WARNING = 4, 2  # of ONNX Runtime's log


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a graph runs; ``index`` is that of the CUDA device, and 0 for the CPU."""

    kind: ProviderKind
    index: int = 0

    @property
    def name(self) -> str:
        """The provider as ONNX Runtime names it."""
        return PROVIDER_NAMES[self.kind]

    @property
    def device(self) -> str:
        """The device as ONNX Runtime's bindings name it: ``cpu`` or ``cuda``."""
        return "cpu" if self.kind == "cpu" else "cuda"


CPU = Provider("cpu")


def import_onnxruntime() -> ModuleType:
    """Return ONNX Runtime, without its telemetry; `DeviceError` if it is not installed.

    The telemetry, on by default, keeps a device's id and events in the user's cache folder. If
    ``ORT_DISABLE_TELEMETRY`` is set it stays as it is.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when it is loaded
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"expected ONNX Runtime, got: {error}; try 'pip install onnxruntime-gpu' "
            "(or onnxruntime, never both)"
        ) from error
    # Two packages that overwrote each other leave a module behind that holds nothing.
    if not hasattr(onnxruntime, "InferenceSession"):
        raise DeviceError(
            "expected a working ONNX Runtime, got an empty package; try 'pip uninstall onnxruntime "
            "onnxruntime-gpu', then install one of them"
        )
    runtime: ModuleType = onnxruntime
    return runtime


def choose_provider(device: str, index: int) -> Provider:
    """Return the provider for a device: ``auto`` takes CUDA where it loads, else the CPU."""
    import_onnxruntime()
    if device == "mps":
        raise DeviceError(
            "expected cpu or cuda for ONNX Runtime, got mps; try --device cpu", setting="device"
        )
    if device == "cpu":
        return CPU
    cuda = Provider("cuda", index)
    if device == "auto":
        return cuda if has_driver() and provider_loads(cuda) else CPU
    check_provider(cuda)
    return cuda


def check_provider(provider: Provider) -> None:
    """Raise `DeviceError` if a provider does not load."""
    if not provider_loads(provider):
        is_cuda = provider.kind == "cuda"
        other = "--device cpu" if is_cuda else "--extractor onnx"
        raise DeviceError(
            f"expected ONNX Runtime's {provider.name} on device {provider.index}, got none that "
            f"loads on this machine; try {other}, or 'nstx doctor'",
            setting="device" if is_cuda else "extractor",
        )


@cache
def provider_loads(provider: Provider) -> bool:
    """Whether a small graph runs on a provider here, and gives the right numbers."""
    return named_provider_loads(provider.name, provider.index)


def named_provider_loads(name: str, index: int = 0) -> bool:
    """Whether a provider works, by ONNX Runtime's name for it; see `provider_loads`."""
    from .probe import PROBE_INPUT, probe_answer_is_right, probe_model

    runtime = import_onnxruntime()
    if name not in runtime.get_available_providers():
        return False
    of_nvidia = name in (PROVIDER_NAMES["cuda"], PROVIDER_NAMES["tensorrt"])
    options = [{"device_id": str(index)}] if of_nvidia else None
    if of_nvidia:
        preload_libraries()
    try:
        with quiet_runtime():
            session = runtime.InferenceSession(
                probe_model(), providers=[name], provider_options=options, enable_fallback=0
            )
            answer = session.run(None, PROBE_INPUT)
    except Exception:  # noqa: BLE001
        # Whatever a broken provider raises, the answer is that it does not load.
        return False
    return name in session.get_providers() and probe_answer_is_right(answer)


@contextmanager
def quiet_runtime() -> Iterator[None]:
    """Keep ONNX Runtime from printing about what does not load: the caller reports it."""
    runtime = import_onnxruntime()
    runtime.set_default_logger_severity(_SILENT)
    try:
        yield
    finally:
        runtime.set_default_logger_severity(_WARNING)


def has_driver() -> bool:
    """Whether NVIDIA's driver is there, without which no CUDA library needs to be loaded."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


@cache
def preload_libraries() -> None:
    """Load CUDA's and TensorRT's libraries from their Python packages, where these are installed."""
    if not has_driver():
        return
    preload: Any = getattr(import_onnxruntime(), "preload_dlls", None)
    # It prints about each library that it does not find.
    with contextlib.redirect_stdout(io.StringIO()):
        if preload is not None:
            preload()
        with contextlib.suppress(ImportError, OSError):
            __import__("tensorrt_libs")


def giving_back() -> Any:
    """Return options of a run after which its session keeps no memory on the CPU for the next."""
    options = import_onnxruntime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
