"""Fitting a run into memory: whole where it fits, else by the largest tiles that do, else not at all."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from nstx.models.errors import DeviceError

from ..devices.device import Device
from ..devices.free_memory import free_memory
from ..devices.memory import free_on
from ..settings import MIN_SIDE, Settings
from ..tiles.layout import TileLayout
from .device_memory import device_needed
from .memory_model import (
    Choice,
    Load,
    features_needed,
    gradient_needed,
    load_of,
    memory_needed,
)

MARGIN = 1.1
"""What is predicted is taken this many times, as it is right to some percent."""

_TILES = range(2048, 63, -16)
"""Sides of tiles that are tried: larger ones save no more time."""

_LARGE = 512
"""Of tiles from which on pairs are rather in memory."""

_ALWAYS_THERE = 2 << 30
"""Bytes that a device is taken to have without being asked, which would begin PyTorch's work there sooner."""

_LOADED = 250 << 20
"""Bytes at most of libraries that are loaded already, which what is predicted has, too."""

_log = logging.getLogger("nstx")


class PlacedChoice(Choice, Protocol):
    """A backend's choice, with its device."""

    @property
    def device(self) -> Device:
        """That it computes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a run fits into memory.

    Attributes:
        tile: side of the tiles that the result is evaluated by; None where it is evaluated whole.
        on_disk: whether L-BFGS keeps its pairs there.
        needed: bytes at the peak, about.
        limit: bytes that there are.
    """

    tile: int | None
    on_disk: bool
    needed: int
    limit: int

    @property
    def fits(self) -> bool:
        """Whether there are enough."""
        return MARGIN * self.needed <= self.limit


def memory_limit(settings: Settings) -> int:
    """Return the bytes that this process may have at its peak: as settings say, else with all that is free."""
    if settings.max_memory is not None:
        return settings.max_memory
    import psutil

    return free_memory() + min(int(psutil.Process().memory_info().rss), _LOADED)


def plan_load(
    load: Load, limit: int, count_bytes: Callable[[Load], int] = memory_needed
) -> Iterator[Plan]:
    """Yield plans of a load, those that take less time first; what is named leaves no other.

    ``count_bytes`` returns what a load needs of the memory that ``limit`` is of, by default main memory. Where pairs can be
    on disk, that comes before small tiles, which take more time.
    """
    tiles: Sequence[int | None] = [load.tile]
    if load.tile is None:
        tiles = [None, *(tile for tile in _TILES if tile < max(load.size))]
    by_memory = (
        [tile for tile in tiles if tile is None or tile >= _LARGE] if load.may_use_disk else tiles
    )
    places = [(tile, load.on_disk) for tile in by_memory or tiles]
    if load.may_use_disk:
        places += [(tile, True) for tile in tiles]
    for tile, on_disk in places:
        needed = count_bytes(replace(load, tile=tile, on_disk=on_disk))
        yield Plan(tile=tile, on_disk=on_disk, needed=needed, limit=limit)


def fit_settings(settings: Settings, size: Sequence[int], choice: PlacedChoice) -> Settings:
    """Return settings by which a result (height, width) fits into memory: with tiles, where it must be.

    So they have on CUDA by PyTorch, with the solver on the host; elsewhere on an accelerator, which reports by itself that its
    memory is exhausted, they stay as they are. `DeviceError` if nothing fits on the CPU, the memory of an accelerator's
    host is to be limited, or steps are to be on disk that are on the device.
    """
    if not choice.device.is_cpu:
        if settings.max_memory is not None:
            raise DeviceError(
                f"expected the CPU for a limit of memory, got {choice.device}; try --device cpu, or without "
                "--max-memory",
                setting="max_memory",
            )
        if settings.history == "disk" and settings.tile is None:
            raise DeviceError(
                f"expected the CPU, or tiles, for steps on disk, got {choice.device}; try --device cpu, or --history memory",
                setting="history",
            )
        return _fit_device(settings, size, choice)
    load = load_of(settings, size, choice)
    plan = choose_plan(load, memory_limit(settings))
    if (plan.tile, plan.on_disk) == (load.tile, load.on_disk):
        return settings
    return _take(settings, plan, size, memory_needed(load), "memory")


def _fit_device(settings: Settings, size: Sequence[int], choice: PlacedChoice) -> Settings:
    """Return settings with the largest tiles that a device's free memory holds, where it does not hold the whole.

    They stay as they are where that is not predicted, or so little that the device is not asked; or where no tiles fit,
    which it reports by itself.
    """
    load = load_of(settings, size, choice)
    if not choice.device.is_cuda or choice.name != "torch" or load.tile is not None:
        return settings
    whole = device_needed(load, choice)
    if whole < _ALWAYS_THERE:
        return settings
    # Its pairs are on the host or on the device, and their place is not chosen by this.
    in_place = replace(load, may_use_disk=False)
    plans = plan_load(in_place, free_on(choice.device), partial(device_needed, choice=choice))
    plan = next((plan for plan in plans if plan.fits), None)
    if plan is None or plan.tile is None:
        return settings
    return _take(settings, plan, size, whole, f"{choice.device}'s memory")


def _take(settings: Settings, plan: Plan, size: Sequence[int], whole: int, memory: str) -> Settings:
    """Return settings as a plan has them, and say so."""
    _log.warning(
        "%d×%d pixels are evaluated %s%s, with some %.1f GiB of %s: else they would take %.1f GiB, and there are %.1f",
        size[1], size[0], "whole" if plan.tile is None else f"by tiles of {plan.tile}",
        ", with the last steps on disk" if plan.on_disk else "",
        plan.needed / 2**30, memory, whole / 2**30, plan.limit / 2**30,
    )  # fmt: skip
    return replace(settings, tile=plan.tile, history="disk" if plan.on_disk else settings.history)


def choose_plan(load: Load, limit: int) -> Plan:
    """Return the first plan that fits; `DeviceError`, with the size that would, if none does."""
    plans = list(plan_load(load, limit))
    for plan in plans:
        if plan.fits:
            return plan
    raise refuse_load(load, limit, min(plan.needed for plan in plans))


def check_batch_memory(
    settings: Settings, size: Sequence[int], choice: PlacedChoice, batch: int
) -> None:
    """Raise `DeviceError` if memory does not hold several pictures of settings that `fit_settings` returned."""
    if choice.device.is_cpu:
        load, limit = load_of(settings, size, choice, batch=batch), memory_limit(settings)
        if MARGIN * (needed := memory_needed(load)) > limit:
            raise refuse_load(load, limit, needed)


def most_together(settings: Settings, size: Sequence[int], choice: PlacedChoice, most: int) -> int:
    """Return how many pictures of settings that `fit_settings` returned memory holds at a time, ``most`` at most.

    By tiles it is 1; else, on an accelerator, whose memory is not predicted, ``most``.
    """
    if settings.tile is not None:
        return 1
    if not choice.device.is_cpu:
        return most
    limit, count = memory_limit(settings), most
    while (
        count > 1 and MARGIN * memory_needed(load_of(settings, size, choice, batch=count)) > limit
    ):
        count -= 1
    return count


def has_room(load: Load, device: Device, free_bytes: int | None = None) -> bool:
    """Whether an accelerator has several times the memory free that evaluations of a load take.

    Beside a gradient that is a second one in fp32, which checks it, both of them kept: at most four times what
    autograd takes on a CPU. ``free_bytes`` is what is free; None asks PyTorch, which knows it of CUDA alone.
    """
    if free_bytes is None:
        free_bytes = free_on(device)
    return free_bytes > 4 * gradient_needed(replace(load, way="autograd"))


def check_features(settings: Settings, size: Sequence[int], layout: TileLayout | None) -> None:
    """Raise `DeviceError` if main memory does not hold the features of a picture (height, width)."""
    needed, limit = MARGIN * features_needed(settings, size, layout), memory_limit(settings)
    if needed > limit:
        raise DeviceError(
            f"expected a picture whose features fit into {limit / 2**30:.1f} GiB of memory, got "
            f"{size[1]}×{size[0]}, which needs about {needed / 2**30:.1f} GiB; try a smaller --size"
        )


def refuse_load(load: Load, limit: int, needed: int) -> DeviceError:
    """Return the error of what does not fit."""
    height, width = load.size
    several = f"{load.batch} of " if load.batch > 1 else ""
    suggestion = "more memory"
    if load.batch > 1:
        suggestion = "fewer pictures at once"
    elif load.tile is not None and any(p.fits for p in plan_load(replace(load, tile=None), limit)):
        suggestion = "a smaller --tile, or none, by which one is chosen"
    elif side := largest_side(load, limit):
        suggestion = f"--size {side}"
    return DeviceError(
        f"expected a size that fits into {limit / 2**30:.1f} GiB of memory, got {several}{width}×{height}, which "
        f"needs {needed * MARGIN / 2**30:.1f} GiB at least; try {suggestion}"
    )


def largest_side(load: Load, limit: int) -> int:
    """Return the long side, in steps of a hundredth of it or so, of the largest size that fits; 0 if none does."""
    long_side = max(load.size)
    for percent in range(99, 0, -1):
        side = long_side * percent // 100
        side -= side % (10 if side > 100 else 1)
        height, width = (max(1, round(length * side / long_side)) for length in load.size)
        if min(height, width) < MIN_SIDE:
            return 0
        styles = round(load.style_side * side / long_side)
        smaller = replace(load, size=(height, width), style_side=styles)
        smaller = replace(smaller, on_disk=load.on_disk or load.may_use_disk)
        least = min(memory_needed(replace(smaller, tile=tile)) for tile in (None, _TILES[-1]))
        if MARGIN * least <= limit:
            return side
    return 0
