"""What a run would take, before it is begun: memory by a model, time by a short calibration on this machine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nstx.models.errors import DeviceError

from ..choices import choose_settings
from ..gradients.choice import BackendChoice, choose_backend
from ..planning.fitting import Plan, choose_plan, largest_side, memory_limit, plan_load
from ..planning.memory_model import Load, Way, load_of
from ..preparation.backends import spare_memory
from ..settings import Settings
from ..sizes import choose_sizes, split_steps
from ..targets.store import TargetMemory
from ..tiles.layout import SIDES
from .job import prepare_job

_SIDE, _TIMES, _SECONDS = 256, 3, 1.0
"""Of a calibration: the side of its picture, how often that is timed at most, and seconds of evaluations, the first
included, from which no more are."""

_BY_TILES: dict[Way, float] = {"onnx": 1.6, "autograd": 2.0, "bf16": 1.6, "checked": 1.6}
"""A tile's two passes forward and one back beside one and one. Were the one back as long as two forward, it were 4/3; measured
are 1.6 by ONNX Runtime and 2.0 by autograd, with what is cut, summed and put together; others are taken to be as the first."""

_EVALUATIONS = {"adam": 1.0, "lbfgs": 1.1}
"""For each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One way to evaluate a picture.

    Attributes:
        plan: its tile, and memory at the peak.
        seconds: of the steps at each scale, coarse first.
        chosen: whether a run would take it.
    """

    plan: Plan
    seconds: tuple[float, ...]
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run would take, by the ways to evaluate its picture.

    Attributes:
        sizes: height and width of each scale, coarse first.
        steps: at each scale.
        choice: the backend.
        limit: bytes of memory that there are.
        rows: the whole picture first, then smaller and smaller tiles.
        seconds_per_megapixel: of an evaluation, of 2²⁰ pixels.
        largest: long side of the largest result that fits where this one does not; else None.
    """

    sizes: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    choice: BackendChoice
    limit: int
    rows: tuple[PlanRow, ...]
    seconds_per_megapixel: float
    largest: int | None


def plan_run(
    content: tuple[int, int], styles: Sequence[tuple[int, int]], settings: Settings
) -> RunPlan:
    """Return what a run would take, of pictures of these heights and widths.

    `UsageError` if a picture would be too small, `DeviceError` if it would not run on the CPU: other memory is not
    predicted.
    """
    sizes = choose_sizes(content, styles, settings)
    steps = split_steps(settings.most_steps, len(sizes))
    choice = choose_backend(settings, sizes[-1])
    if not choice.device.is_cpu:
        raise DeviceError(
            f"expected the CPU, whose memory is predicted, got {choice.device}; try --device cpu",
            setting="device",
        )
    limit, load = memory_limit(settings), load_of(settings, sizes[-1], choice)
    try:
        chosen, largest = choose_plan(load, limit), None
    except DeviceError:
        sparing = spare_memory(settings, choice)
        if sparing is not None:
            return plan_run(content, styles, sparing)
        chosen, largest = None, largest_side(replace(load, tile=None), limit)
    pace = calibrate(settings, choice)
    per_step = pace * _EVALUATIONS[settings.solver] / 2**20
    rows = [
        PlanRow(
            plan=plan,
            seconds=tuple(
                count * per_step * evaluated_pixels(replace(load, size=size, tile=plan.tile))
                for size, count in zip(sizes, steps, strict=True)
            ),
            chosen=plan == chosen,
        )
        for plan in plan_load(load, limit)
        if plan == chosen or plan.tile in (None, *SIDES) or load.tile is not None
    ]
    return RunPlan(
        sizes=sizes, steps=steps, choice=choice, limit=limit, rows=tuple(rows),
        seconds_per_megapixel=pace, largest=largest,
    )  # fmt: skip


def evaluated_pixels(load: Load) -> float:
    """Return the pixels whose evaluation takes as long as one of a load's: halos and the second pass included."""
    layout = load.layout
    if layout is None:
        return load.size[0] * load.size[1]
    return _BY_TILES[load.way] * layout.evaluated_pixels


def calibrate(settings: Settings, choice: BackendChoice) -> float:
    """Return the seconds of an evaluation by a backend for each 2²⁰ pixels: the shortest of a few at 256×256."""
    noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    quick = choose_settings(
        settings, size=_SIDE, scales=1, steps=1, backend=choice.name, precision=choice.precision,
        init="content", colors="style", clean=False,
    )  # fmt: skip
    quick = replace(quick, tile=None, max_memory=None, style_scale=1.0)
    job = prepare_job(noise, noise[::-1], quick, store=TargetMemory())
    backend, start = job.backend(-1), job.opened.arrays.place(job.start(-1))
    ready = time.perf_counter()
    backend.cost_and_gradient(start)  # the first is slower
    seconds = list[float]()
    for _ in range(_TIMES):
        began = time.perf_counter()
        backend.cost_and_gradient(start)
        seconds.append(time.perf_counter() - began)
        if began >= ready + _SECONDS:
            break
    return min(seconds) * 2**20 / _SIDE**2
