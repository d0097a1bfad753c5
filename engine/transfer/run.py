"""The transfer: from pictures and settings to a stylised picture."""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Unpack

import numpy as np

from nstx.models.arguments import check_arguments
from nstx.models.cost import Cost
from nstx.models.errors import NumericalError
from nstx.models.presets import Preset

from ..artefacts.cleaning import clean_pixels
from ..checkpoints.contents import Contents
from ..checkpoints.keeper import MINUTES, Checkpoints, check_minutes
from ..choices import ChoicesButInit
from ..devices.memory import memory_errors
from ..gradients.gated import gated
from ..manifests.pictures import describe_picture
from ..pictures.picture import Pixels
from ..pictures.reading import Source
from ..preparation.inputs import Styles
from ..settings import Init, PresetName, Settings
from ..sizes import split_steps
from ..solvers.choice import solve
from .costs import BoundCosts, try_memory
from .job import Job, prepare_job
from .progress import Progress, Step
from .result import Result


@check_arguments
def stylize(
    content: Source,
    styles: Styles = (),
    settings: Settings | None = None,
    *,
    preset: PresetName | Preset | str = "default",
    init: Init | Source | None = None,
    mask: Source | None = None,
    regions: Source | None = None,
    style_for: Mapping[str, Styles] | None = None,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = MINUTES,
    **choices: Unpack[ChoicesButInit],
) -> Result:
    """Stylise a picture: `prepare_job`, then `run_job`, whose errors it raises.

    Args:
        content: the content picture, as a path, a `Picture`, an array or an image of Pillow's.
        styles: a style picture, or several, each by itself or as ``(picture, weight)``; with ``regions`` of all that
            ``style_for`` does not name, and there may be none.
        settings: of the run, in place of the preset and choices.
        preset: that the settings start from.
        init: the start, in place of the settings': its name, or a picture.
        mask: where the styles apply: a picture that is white there, or ``alpha``; see `prepare_job`.
        regions: a map of the content in which each region has a colour of its own.
        style_for: styles by colours of the map, as ``{"#ff0000": "painting.jpg"}``.
        on_step: called after each step.
        should_stop: called before each evaluation, and between its tiles; True ends the run at its last finished step.
        checkpoint: the folder of its checkpoint, as of `run_job`.
        checkpoint_every: minutes from one to the next.
        choices: what differs from the preset, such as ``size=1024``; see `choose_settings`.
    """
    check_minutes(checkpoint_every)
    job = prepare_job(
        content, styles, settings, preset=preset, init=init, mask=mask, regions=regions,
        style_for=style_for, **choices,
    )  # fmt: skip
    return run_job(
        job, on_step=on_step, should_stop=should_stop, checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
    )  # fmt: skip


@check_arguments
def run_job(
    job: Job,
    *,
    costs: BoundCosts | None = None,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
    checkpoint_every: float = MINUTES,
) -> Result:
    """Optimise the picture, coarse to fine.

    Args:
        job: from `prepare_job`.
        costs: of the job, where the caller needs them, too; afterwards they are those of the result.
        on_step: called after each step.
        should_stop: called before each evaluation, and between the tiles of one that has some; True ends the run,
            and the result is the last finished step's picture, brought to the final size.
        checkpoint: a folder, made if need be, in which the run is kept as it goes, and when it is interrupted. If it
            has been kept there before, it goes on from there, and ends in the same bytes as if it had not
            stopped. The folder stays, and belongs to whoever saves the result.
        checkpoint_every: minutes from one checkpoint to the next.

    Raises:
        UsageError: the checkpoint is of another run, which the message tells apart, or damaged.
        OutputError: the folder cannot be written, or another run has it.
        NumericalError: a cost or gradient stopped being finite.
        DeviceError: the device ran out of memory.
    """
    costs = costs or BoundCosts(job)
    with contextlib.ExitStack() as stack:
        if checkpoint is not None and not isinstance(checkpoint, Checkpoints):
            checkpoint = stack.enter_context(Checkpoints(checkpoint, checkpoint_every))
        earlier = checkpoint.begin(job) if checkpoint else None
        stack.enter_context(memory_errors(job.sizes[-1]))
        initial_cost = try_memory(job)
        progress = follow(job, on_step=on_step, should_stop=should_stop, checkpoints=checkpoint)
        if earlier is not None:
            progress.resume(earlier)
        try:
            _run_scales(job, costs, progress, earlier)
        except NumericalError as error:
            error.evaluation = progress.evaluations
            raise
        except (KeyboardInterrupt, SystemExit):
            progress.interrupted = True
            raise
        finally:
            if checkpoint and progress.interrupted:
                checkpoint.write()
        return make_result(job, costs, progress, progress.seconds, initial_cost)


def follow(
    job: Job,
    *,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Progress:
    """Return the progress of a job that begins now; see `run_job`."""
    return Progress(
        settings=job.settings,
        scales=len(job.sizes),
        arrays=job.opened.arrays,
        on_step=on_step,
        should_stop=should_stop,
        alpha=job.alpha,
        encoding=job.encoding,
        colouring=job.colouring,
        checkpoints=checkpoints,
    )


def _run_scales(job: Job, costs: BoundCosts, progress: Progress, earlier: Contents | None) -> None:
    """Run the solver of each scale; of those that a run has ended before, of none."""
    arrays, kept = job.opened.arrays, progress.checkpoints
    for scale, steps in enumerate(split_steps(job.settings.most_steps, len(job.sizes))):
        state = earlier if earlier is not None and earlier.reached.scale == scale + 1 else None
        if earlier is not None and scale + 1 < earlier.reached.scale:
            continue
        if state is None:
            progress.begin_scale()
        if steps > 0 and not (state is not None and state.reached.is_over):
            pixels = job.start(scale, progress.pixels) if state is None else state.solver["pixels"]
            # No name holds the backend, so that it is freed before the next is bound.
            solve(
                job.settings,
                steps,
                job.opened,
                arrays.place(pixels),
                backend=gated(costs.at(scale), [job.gate(scale)], arrays),
                watcher=progress,
                memory=None if kept is None else kept.watch(costs.at(scale), progress, state),
                enlarged=scale > 0,
            )
            if kept:
                kept.leave()
        if progress.interrupted:
            break


def make_result(
    job: Job,
    costs: BoundCosts,
    progress: Progress,
    seconds: float,
    initial_cost: Cost | None = None,
) -> Result:
    """Return the result of a run that has ended; evaluates the costs that are not there yet."""
    final = costs.at(-1)
    pixels, cost = progress.pixels, progress.cost
    if pixels is None or pixels.shape[:2] != job.sizes[-1]:
        pixels, cost = job.start(-1) if pixels is None else job.enlarge(pixels), None
    before = pixels
    if job.grain is not None and _has_moved(job, progress, pixels):
        region = job.targets[-1].region
        seen = job.alpha if region is None or region.mask is None else region.counts
        pixels = clean_pixels(pixels, job.contents[-1], job.grain, seen)
    finished = job.colouring.finish(pixels)
    compared = job.colouring.compare(finished)
    if cost is None or compared is not before or final.approximate:
        cost = final.cost(compared)
    if len(job.sizes) == 1:
        # The solver's first evaluation was the start's.
        initial_cost = progress.first_cost
    return Result(
        picture=job.picture(finished, describe_picture(job, is_complete=not progress.interrupted)),
        cost=cost,
        initial_cost=initial_cost or final.cost(job.start(-1)),
        steps=progress.step,
        evaluations=progress.evaluations,
        seconds=seconds,
        stopped=progress.stopped,
        checks=tuple(progress.checks),
        cleaned=pixels is not before,
    )


def _has_moved(job: Job, progress: Progress, pixels: Pixels) -> bool:
    """Whether a run that was not interrupted has changed its picture: else there is nothing of its making in it."""
    if progress.step == 0 or progress.stopped == "interrupted":
        return False
    return progress.cost != progress.first_cost or not np.array_equal(pixels, job.start(-1))
