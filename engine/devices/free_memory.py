"""Free memory: what this process may still take, by the machine, by its containers and by its own limits.

What tools report in a container is often the host's. A process is in a control group, which is in another one, up to
the root; each may have a limit, and what the kernel can take back at once of its files' pages is free.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_STATUS = Path("/proc/self/status")

_UNUSED, _UNUSED_BY_THREAD, _MOST_THREADS, _UNUSED_BY_TORCH = 496 << 20, 72 << 20, 16, 340 << 20
"""Bytes of address space that libraries, and each thread with its stack and its heap, hold at a run's peak and do not use, beyond
what is predicted for them: by trying, on two cores."""

_NO_LIMIT = 1 << 60  # bytes; the first version of control groups writes 2⁶³ less a page


def free_memory(*, swap: bool = True) -> int:
    """Return the bytes of main memory that this process may still take: the least of all limits.

    ``swap`` says whether the machine's swap counts, which is slow.
    """
    import psutil

    machine = int(psutil.virtual_memory().available)
    if swap:
        with contextlib.suppress(OSError, RuntimeError):
            machine += int(psutil.swap_memory().free)
    return max(0, min([machine, *_left_in_groups(), *_left_of_limits()]))


def _left_in_groups() -> Iterator[int]:
    """Yield what is left in each of this process's control groups that has a limit."""
    for kind, path in _own_groups():
        top = _GROUPS / kind
        # In a container the path may be the host's, which is not there.
        for folder in (top / path, *(top / path).parents):
            if folder == top.parent:
                break
            yield from _left_in_group(folder)


def _own_groups() -> Iterator[tuple[str, Path]]:
    """Yield the hierarchies that limit memory, with this process's path in each; and their roots."""
    yield from (("", Path()), ("memory", Path()))
    with contextlib.suppress(OSError, ValueError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds:
                yield "", Path(path.lstrip("/"))
            elif "memory" in kinds.split(","):
                yield "memory", Path(path.lstrip("/"))


def _left_in_group(folder: Path) -> Iterator[int]:
    """Yield what is left of a group's limits, in either version's files."""
    for limits, usage, reclaimable in (
        (("memory.max", "memory.high"), "memory.current", ("inactive_file", "slab_reclaimable")),
        (("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file",)),
    ):
        for name in limits:
            with contextlib.suppress(OSError, ValueError):
                limit = int((folder / name).read_text())  # "max" is none
                if limit < _NO_LIMIT:
                    used = int((folder / usage).read_text())
                    yield limit - used + _sum_of(folder / "memory.stat", reclaimable)


def _sum_of(statistics: Path, names: tuple[str, ...]) -> int:
    """Return the sum of some lines of a group's statistics; 0 if they cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        lines = dict(line.split() for line in statistics.read_text().splitlines())
        return sum(int(lines.get(name, 0)) for name in names)
    return 0


def _left_of_limits() -> Iterator[int]:
    """Yield what is left of the limits of this process's address space and data (`ulimit`)."""
    if sys.platform == "win32":
        return
    import resource

    usage: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in _STATUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmSize", "VmRSS", "VmData"):
                usage[name] = int(value.split()[0]) * 1024
    held = usage.get("VmSize", 0) - usage.get("VmRSS", 0)
    for name, kind, unused in (
        ("VmSize", resource.RLIMIT_AS, max(0, _unused_space() - held)), ("VmData", resource.RLIMIT_DATA, 0)
    ):  # fmt: skip
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            yield limit - usage.get(name, 0) - unused


def _unused_space() -> int:
    """Return the bytes of address space that this process will hold and not use."""
    by_torch = _UNUSED_BY_TORCH if "torch" in sys.modules else 0
    return _UNUSED + _UNUSED_BY_THREAD * min(os.cpu_count() or 1, _MOST_THREADS) + by_torch
