"""The transfer: from pictures and settings to a stylised picture."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nstx.models.cost import Cost

from ..devices.arrays import Array
from ..devices.memory import memory_errors
from ..gradients.backend import BatchBackend, PrecisionCheck
from ..gradients.choice import runs_ahead
from ..pictures.picture import Picture, WeightedPicture
from ..pictures.pixels import Pixels
from ..pictures.resizing import resize_pixels
from ..settings import Settings
from ..sizes import split_steps
from ..solvers.adam import adam_steps
from ..solvers.lbfgs import lbfgs_steps
from ..solvers.solver import Solver, StopSolving, run_solver
from .job import Job, prepare_job
from .progress import Progress, Step, StopReason


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Result:
    """What a transfer led to.

    Attributes:
        pixels: the picture, float32 (height, width, 3), RGB, not rounded; 0–255 unless the
            settings say not to clip.
        cost: of ``pixels``, at the result's size.
        initial_cost: of the start, at the result's size, within 0–255 if the settings clip.
        steps: solver iterations that were made, over all scales.
        evaluations: of the cost, with or without gradient, that the solver needed.
        seconds: that the optimisation took.
        stopped: ``steps`` (all were made), ``no_progress`` or ``interrupted``.
        checks: of the gradient's precision; empty unless it is chosen as the run goes.
    """

    pixels: Pixels
    cost: Cost
    initial_cost: Cost
    steps: int
    evaluations: int
    seconds: float
    stopped: StopReason
    checks: tuple[PrecisionCheck, ...] = ()


def stylize(
    content: Picture,
    styles: Sequence[WeightedPicture],
    settings: Settings,
    *,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Stylise a picture: `prepare_job`, then `run_job`."""
    job = prepare_job(content, styles, settings)
    return run_job(job, on_step=on_step, should_stop=should_stop)


def run_job(
    job: Job,
    *,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Optimise the picture, coarse to fine.

    Args:
        job: from `prepare_job`.
        on_step: is told of each step.
        should_stop: asked before each evaluation; True ends the run, and the result is the last
            finished step's picture, brought to the final size.

    Raises:
        NumericalError: a cost or gradient stopped being finite.
        DeviceError: the device ran out of memory.
    """
    with memory_errors(job.sizes[-1]):
        began = time.perf_counter()
        initial_cost = _try_memory(job)
        final = job.backend(len(job.sizes) - 1)
        progress = Progress(job.settings, len(job.sizes), on_step, should_stop)
        shares = split_steps(job.settings.steps, len(job.sizes))
        for scale, steps in enumerate(shares):
            last = scale == len(job.sizes) - 1
            if last and scale > 0 and initial_cost is None:
                initial_cost = final.cost(job.start(scale))
            progress.begin_scale()
            if steps > 0:
                backend = final if last else job.backend(scale)
                _run_scale(job, scale, steps, progress, backend)
            if progress.interrupted:
                break
        return make_result(job, final, progress, initial_cost, time.perf_counter() - began)


def make_result(
    job: Job,
    final: BatchBackend,
    progress: Progress,
    initial_cost: Cost | None,
    seconds: float,
) -> Result:
    """Return the result of a run that has ended; evaluates the costs that are not known yet."""
    pixels, cost = _finish(job, final, progress)
    if initial_cost is None and len(job.sizes) == 1:
        # The solver's first evaluation was the start's.
        initial_cost = progress.first_cost
    return Result(
        pixels=pixels,
        cost=cost,
        initial_cost=initial_cost or final.cost(job.start(-1)),
        steps=progress.step,
        evaluations=progress.evaluations,
        seconds=seconds,
        stopped=progress.stopped,
        checks=tuple(progress.checks),
    )


def _try_memory(job: Job) -> Cost | None:
    """Evaluate the start at the result's size where a device tells that its memory is exhausted.

    So that it does so now and not after hours; by a backend of its own, whose memory is free afterwards, and
    twice, as a checked one computes otherwise the second time. A CPU's memory is compared with the
    size before (`check_memory`), and the evaluation would keep the first step waiting: None.
    """
    if job.opened.choice.device.is_cpu or len(job.sizes) == 1:
        return None
    trial, start = job.backend(-1), job.start(-1)
    cost, _ = trial.cost_and_gradient(start)
    trial.cost_and_gradient(start)
    return cost


def _run_scale(job: Job, scale: int, steps: int, progress: Progress, backend: BatchBackend) -> None:
    """Run the solver of a scale; Adam on CUDA, unless its gradient is checked, ahead of its host."""
    if job.settings.solver != "adam" or not runs_ahead(job.opened.choice):
        run_solver(make_solver(job, scale, steps, progress), progress.count(backend))
        return
    from ..gradients.torch_gradient import TorchGradient
    from ..solvers.torch_adam import run_adam

    assert isinstance(backend, TorchGradient)
    with contextlib.suppress(StopSolving):
        run_adam(
            backend,
            _place_start(job, scale, progress),
            steps=steps,
            learning_rate=job.settings.learning_rate,
            clip=job.settings.clip,
            before_evaluation=progress.count_evaluation,
            on_first_cost=lambda cost: progress.note(cost, ()),
            on_step=partial(progress.after_step, arrays=job.opened.arrays),
        )


def _place_start(job: Job, scale: int, progress: Progress) -> Array:
    """Return what a scale's solver begins with: where the scale before it ended."""
    reached = progress.pixels
    if reached is None:
        pixels = job.start(scale)
    else:
        pixels = resize_pixels(reached, *job.sizes[scale])
        pixels = pixels.clip(0, 255) if job.settings.clip else pixels
    return job.opened.arrays.place(pixels)


def make_solver(job: Job, scale: int, steps: int, progress: Progress) -> Solver:
    """Return the solver of a scale, which begins where the scale before it ended."""
    settings, clip, arrays = job.settings, job.settings.clip, job.opened.arrays
    start = _place_start(job, scale, progress)
    on_step = partial(progress.after_step, arrays=arrays)
    if settings.solver == "lbfgs":
        return lbfgs_steps(start, steps=steps, clip=clip, on_step=on_step, arrays=arrays)
    rate = settings.learning_rate
    return adam_steps(start, steps=steps, learning_rate=rate, clip=clip, on_step=on_step)


def _finish(job: Job, final: BatchBackend, progress: Progress) -> tuple[Pixels, Cost]:
    """Return the last picture at the result's size, and its cost there."""
    size = job.sizes[-1]
    reached = progress.pixels
    if reached is None:
        pixels = job.start(-1)
        return pixels, final.cost(pixels)
    pixels = reached
    if pixels.shape[:2] != size:
        pixels = resize_pixels(pixels, *size)
        if job.settings.clip:
            pixels = pixels.clip(0, 255)
    elif progress.cost is not None and not final.approximate:
        return pixels, progress.cost
    return pixels, final.cost(pixels)
