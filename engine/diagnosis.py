"""What this machine can do: measured where it can be, never taken from a list.

`onnxruntime` lists providers that it was built with, whether or not they load; PyTorch's build may
lack a device that the machine has. So they are tried, one by one.
"""

import contextlib
import os
from typing import TYPE_CHECKING, Any

from nstx.export.runtime.providers import import_onnxruntime, named_provider_loads
from nstx.export.runtime.session import physical_cores
from nstx.models.errors import DeviceError, NstxError
from nstx.models.storage.cache import cache_folder
from nstx.models.storage.files import write_atomically
from nstx.models.weights.load import load_weights
from nstx.models.weights.sources import EMBEDDED

from .devices.device import Device
from .devices.machine import Processor, describe_machine, package_versions

if TYPE_CHECKING:
    from .kernels.support import KernelSupport


def diagnose() -> dict[str, Any]:
    """Return what this machine has, as plain data.

    ``problems`` is a list of sentences, empty if `nstx optimize` can run as it should.
    """
    packages = package_versions()
    report: dict[str, Any] = {
        "machine": describe_machine(),
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
    errors = {part: report[part]["error"] for part in ("weights", "cache")}
    problems += [f"{part}: {error}" for part, error in errors.items() if error]
    if not any(provider["loads"] for provider in report["providers"]):
        problems.append("no ONNX Runtime provider loads")
    report["problems"] = problems
    return report


def _devices() -> list[dict[str, Any]]:
    try:
        import torch
    except ImportError:  # an installation for --backend onnx alone
        return [{"name": "cpu", "precisions": ("fp32",), "threads": physical_cores()}]

    from .devices.precisions import settle_bf16, supported_precisions
    from .kernels.support import describe_kernels

    processor = Processor()
    devices: list[dict[str, Any]] = [
        {
            "name": "cpu",
            "precisions": supported_precisions(Device("cpu"), processor),
            "bf16_units": processor.bf16_units,
            "bf16": settle_bf16(processor),
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
                "precisions": supported_precisions(Device("cuda", index)),
                "kernels": describe_kernels(_kernels(index)),
            }
        )
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "precisions": supported_precisions(Device("mps"))})
    return devices


def _kernels(index: int) -> "KernelSupport":
    import torch

    from .kernels.availability import kernel_support
    from .kernels.support import KernelSupport

    try:
        return kernel_support(index)
    except torch.OutOfMemoryError:
        # Another process has it all; the kernels are not at fault.
        return KernelSupport("unknown", "the device's memory is taken")


def _providers() -> list[dict[str, Any]]:
    try:
        runtime = import_onnxruntime()
    except DeviceError:
        return []  # that nothing loads is the answer
    return [
        {"name": name, "loads": named_provider_loads(name)}
        for name in runtime.get_available_providers()
    ]


def _weights() -> dict[str, Any]:
    try:
        weights = load_weights(EMBEDDED)
    except NstxError as error:
        return {"source": EMBEDDED, "sha256": None, "error": str(error)}
    return {"source": EMBEDDED, "sha256": weights.sha256, "error": None}


def _cache() -> dict[str, Any]:
    try:
        folder = cache_folder()
    except NstxError as error:
        return {"folder": None, "bytes": 0, "error": str(error)}
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
