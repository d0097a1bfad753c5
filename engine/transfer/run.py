"""The transfer: from pictures and settings to a stylised picture."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from nstx.models.arguments import check_arguments
from nstx.models.cost import Cost
from nstx.models.presets import Preset

from ..artefacts.cleaning import clean_pixels
from ..checkpoints.contents import Contents
from ..checkpoints.keeper import MINUTES, Checkpoints, check_minutes
from ..choices import ChoicesButInit
from ..devices.memory import memory_errors
from ..gradients.backend import PrecisionCheck
from ..gradients.gated import gated
from ..manifests.pictures import describe_picture
from ..pictures.picture import Picture, Pixels
from ..pictures.reading import Source
from ..pictures.resizing import resize_8_bit
from ..pictures.writing import Saving, encode_image, to_8_bit, write_image
from ..settings import Init, PresetName, Settings
from ..sizes import split_steps
from ..solvers.choice import solve
from .costs import BoundCosts, try_memory
from .inputs import Styles
from .job import Job, prepare_job
from .progress import Progress, Step, StopReason


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Result:
    """What a transfer led to.

    Attributes:
        picture: with the content's transparency; 0–255 unless the settings say not to clip.
        cost: of the picture, at the result's size; in grey, if ``colors`` is ``luminance``.
        initial_cost: of the start, at the result's size, within 0–255 if the settings clip; None if it was not
            measured.
        steps: solver iterations that were made, over all scales.
        evaluations: of the cost, with or without gradient, that the solver needed.
        seconds: that the optimisation took.
        stopped: ``steps`` (all were made), ``no_progress`` or ``interrupted``; ``diverged`` or ``failed`` of
            what `unfinished_result` made of such a run.
        checks: of the gradient's precision; empty unless it is chosen as the run goes.
        cleaned: whether flat areas and the rim were cleaned after the last step (`Settings.clean`); a run that
            was interrupted is not, nor one that moved no pixel.
        last_step: whose cost, at its scale, stands for the result's, which was not measured; None if it was.
    """

    picture: Picture
    cost: Cost
    initial_cost: Cost | None
    steps: int
    evaluations: int
    seconds: float
    stopped: StopReason
    checks: tuple[PrecisionCheck, ...] = ()
    cleaned: bool = False
    last_step: Step | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        share, start = "", self.initial_cost
        if start is not None and start.total > 0:
            share = f", {self.cost.total / start.total:.2%} of the start's"
        return (
            f"<Result {self.picture.width}×{self.picture.height} after {self.steps} "
            f"{'step' if self.steps == 1 else 'steps'} in {self.seconds:.1f} s ({self.stopped}): cost {self.cost.total:.6g}{share}>"
        )

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        return encode_image(self.pixels, ".png", self.picture.alpha)

    def save(self, path: str | Path, **saving: Unpack[Saving]) -> None:
        """Write the picture, with its transparency, in the format of the suffix: see `write_image`, `Saving`."""
        write_image(path, self.picture, **saving)

    @property
    def is_complete(self) -> bool:
        """Whether the run ended by itself, after all of its steps or where there was no progress."""
        return self.stopped in ("steps", "no_progress")

    @property
    def pixels(self) -> Pixels:
        """The picture's pixels, float32 (height, width, 3), RGB, not rounded."""
        return self.picture.pixels.astype(np.float32, copy=False)


@check_arguments
def stylize(
    content: Source,
    styles: Styles,
    settings: Settings | None = None,
    *,
    preset: PresetName | Preset | str = "default",
    init: Init | Source | None = None,
    mask: Source | None = None,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = MINUTES,
    **choices: Unpack[ChoicesButInit],
) -> Result:
    """Stylise a picture: `prepare_job`, then `run_job`, whose errors it raises.

    Args:
        content: the content picture, as a path, a `Picture`, an array or an image of Pillow's.
        styles: a style picture, or several, each by itself or as ``(picture, weight)``.
        settings: of the run, in place of the preset and choices.
        preset: that the settings start from.
        init: the start, in place of the settings': its name, or a picture.
        mask: where the styles apply: a picture that is white there, or ``alpha``; see `prepare_job`.
        on_step: called after each step.
        should_stop: called before each evaluation; True ends the run at its last finished step.
        checkpoint: the folder of its checkpoint, as of `run_job`.
        checkpoint_every: minutes from one to the next.
        choices: what differs from the preset, such as ``size=1024``; see `choose_settings`.
    """
    check_minutes(checkpoint_every)
    job = prepare_job(content, styles, settings, preset=preset, init=init, mask=mask, **choices)
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
        should_stop: called before each evaluation; True ends the run, and the result is the last
            finished step's picture, brought to the final size.
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
        pixels, cost = job.start(-1, pixels), None
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


def unfinished_result(job: Job, last: Step, stopped: StopReason) -> Result:
    """Return what a run that did not end has led to, without evaluating anything.

    Its cost is that of the last step, at that step's size, in place of that at the result's.
    """
    pixels: Pixels | NDArray[np.uint8] = last.pixels
    if pixels.shape[:2] != job.sizes[-1]:
        # In 8 bits, as whoever sent a signal is waiting: that takes a tenth of the time.
        pixels = resize_8_bit(to_8_bit(pixels), *job.sizes[-1])
    if job.colouring.finishes:
        pixels = job.colouring.finish(pixels.astype(np.float32))
    return Result(
        picture=job.picture(pixels, describe_picture(job, is_complete=False)),
        cost=last.cost,
        initial_cost=None,
        steps=last.step,
        evaluations=last.evaluations,
        seconds=last.seconds,
        stopped=stopped,
        checks=last.checks,
        last_step=last,
    )
