"""What ``nstx optimize`` does with its options: check, load, optimise, save, report."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from nstx.engine.checkpoints.keeper import Checkpoints
from nstx.engine.devices.memory import process_seconds
from nstx.engine.manifests.places import note_inputs
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.srgb import choose_profile
from nstx.engine.pictures.writing import check_output_size, warn_of_lost_alpha
from nstx.engine.planning.memory_model import load_of, memory_needed
from nstx.engine.preparation.inputs import take_content
from nstx.engine.streaming.reduced import Fit
from nstx.engine.targets.paintings import take_painting
from nstx.engine.transfer.costs import BoundCosts
from nstx.engine.transfer.job import Job, prepare_job
from nstx.engine.transfer.progress import Step
from nstx.engine.transfer.report import describe_fallbacks
from nstx.engine.transfer.result import Result
from nstx.engine.transfer.run import run_job
from nstx.models.cost import Cost
from nstx.models.errors import NstxError, NumericalError
from nstx.models.printable import printable
from nstx.models.storage.cache import keeps_cache
from nstx.models.storage.locks import locked

from ..choices import split_style, split_styles_for, style_file
from ..console import Console
from ..errors.exits import DescribedFailure, describe_failure
from ..progress import show_steps
from .ending import RunEnding
from .garbage import uncollected
from .interrupt import Interrupt
from .keeping import earlier_steps, keep_if_long, keeping, stamp_of_own
from .pipes import PIPE
from .recorder import Recorder
from .request import OptimizeRequest


def run_optimize(request: OptimizeRequest, console: Console, interrupt: Interrupt) -> None:
    """Do the whole job, and exit with 128 plus the signal's number if one, which ``interrupt`` takes, ended it early."""
    with locked(request.outputs), keeping(request) as kept:
        _run(request, console, interrupt, kept)


def _run(
    request: OptimizeRequest, console: Console, interrupt: Interrupt, kept: Checkpoints | None
) -> None:
    with console.working("loading weights, computing targets"), uncollected():
        job = _load(request)
    if request.repeats is not None:
        from .repeating import tell_differences

        tell_differences(console, request.repeats, job)
    if keeps_cache(job.settings.use_cache):
        note_inputs(job)
    _check_outputs(request, job)
    earlier = earlier_steps(job, kept.begin(job) if kept else None)
    if earlier:
        place = printable(request.output.absolute())
        console.log(f"going on from step {len(earlier)} of {job.settings.most_steps}, to {place}")
    recorder = Recorder(request, console)
    ending = RunEnding(
        request, job, recorder=recorder, console=console, interrupt=interrupt, kept=kept
    )
    if earlier:
        ending.own = stamp_of_own(job, request.output)
    ending.seconds["load"] = time.perf_counter() - request.began - job.target_seconds
    ending.seconds["targets"] = job.target_seconds
    costs = BoundCosts(job)
    on_step = _Steps(request, ending, interrupt, earlier)
    on_forecast = keep_if_long(kept, console, interrupt)
    result = _optimise(job, costs, ending, recorder, on_step, on_forecast)
    if result.stopped == "failed":
        costs = BoundCosts(job)  # what the failed one holds may be memory that saving needs
    saving = time.perf_counter()
    try:
        output = ending.save(result)
        if kept and result.is_complete:
            kept.remove()
    finally:
        recorder.show_last(result)
        recorder.save_animation(result)
    saved_cost = None
    if result.stopped != "failed":
        saved_cost = _measure_saved(costs, output, result, console)
    ending.seconds["save"] = time.perf_counter() - saving
    ending.report(saved_cost)
    if ending.failure is not None:
        raise DescribedFailure(ending.failure)
    if interrupt.requested():
        raise typer.Exit(interrupt.exit_code)


def _optimise(
    job: Job,
    costs: BoundCosts,
    ending: RunEnding,
    recorder: Recorder,
    on_step: "_Steps",
    on_forecast: Callable[[float], None],
) -> Result:
    """Return what a run has led to; `ending` is told how it failed, if it did after its first step."""
    console, result = recorder.console, None
    earlier, sizes = on_step.earlier, job.sizes
    settings, choice = job.settings, job.opened.choice
    memory = memory_needed(load_of(settings, sizes[-1], choice))
    bar = show_steps(
        console, sizes, settings.most_steps, choice, earlier=earlier, memory=memory,
        on_forecast=on_forecast,
    )  # fmt: skip
    with recorder, bar as show:
        recorder.begin(job, earlier)
        on_step.takers = (show, recorder.take)
        try:
            result = run_job(
                job, costs=costs, on_step=on_step, should_stop=on_step.should_stop, checkpoint=ending.kept
            )  # fmt: skip
        except NumericalError as error:
            if (error.evaluation or 0) < 2:
                raise  # the start has no finite cost or gradient itself
            ending.last = ending.last or _before_steps(job, costs)
            ending.fail(describe_failure(error), "diverged")
        except Exception as error:
            if ending.last is None:
                raise
            ending.fail(describe_failure(error), "failed")
    # Only now, when the error is gone, with all that its traceback held.
    if result is None:
        result = _unfinished(ending)
    for text in describe_fallbacks(result.checks):
        console.warn(text)
    if job.settings.most_steps and on_step.is_still(result):
        console.warn(
            "no pixel was moved: the gradient of the cost is 0, or too small for float32; "
            "try larger weights, or another --init"
        )
    return result


def _unfinished(ending: RunEnding) -> Result:
    try:
        return ending.unfinished()
    except (RuntimeError, MemoryError) as error:  # PyTorch's, of a device that is gone
        assert ending.failure is not None  # else the run has a result
        text = f"the picture so far could not be had from the device, so it is lost: {error}"
        raise DescribedFailure(ending.failure.followed_by(text)) from error


class _Steps:
    """Takes the steps of a run.

    Args:
        request: what was asked for.
        ending: of the run, which is told the last step.
        interrupt: of the run, which is deferred from the first step on.
        earlier: steps that the run goes on from.

    Attributes:
        takers: that take each step, too.
    """

    def __init__(
        self,
        request: OptimizeRequest,
        ending: RunEnding,
        interrupt: Interrupt,
        earlier: Sequence[Step] = (),
    ) -> None:
        self._request, self._ending, self._interrupt = request, ending, interrupt
        self.takers: Sequence[Callable[[Step], None]] = ()
        self._costs: dict[int, set[float]] = {}
        self.earlier, self._is_first = earlier, True
        for step in earlier:
            ending.last = step
            self._costs.setdefault(step.scale, set()).add(step.cost.total)

    def should_stop(self) -> bool:
        """Return whether the run is to stop."""
        return self._interrupt.requested()

    def __call__(self, step: Step) -> None:
        # Only now is there something to save.
        self._ending.last = step
        self._interrupt.defer(self._ending.leave, self._ending.rescue)
        if self._is_first:
            self._is_first = False
            started, seconds = process_seconds(), self._ending.seconds
            seconds["start"] = started - (time.perf_counter() - self._request.began)
            before = self.earlier[-1].seconds if self.earlier else 0.0
            seconds["until_first_step"] = started - (step.seconds - before)
        self._costs.setdefault(step.scale, set()).add(step.cost.total)
        for take in self.takers:
            take(step)

    def is_still(self, result: Result) -> bool:
        """Whether no step changed a cost: L-BFGS made none, or Adam went nowhere."""
        return result.is_complete and (
            result.steps == 0
            or (
                result.steps > len(self._costs) and all(len(of) == 1 for of in self._costs.values())
            )
        )


def _before_steps(job: Job, costs: BoundCosts) -> Step:
    """Return the start, as if a step had led to it; `NumericalError` if its cost is not finite."""
    start = job.start(-1)
    return Step(
        step=0,
        steps=job.settings.steps,
        scale=len(job.sizes),
        scales=len(job.sizes),
        cost=costs.measure(start),
        evaluations=1,
        seconds=0.0,
        picture=start,
    )


def _load(request: OptimizeRequest) -> Job:
    """Read the pictures, or the targets file, and prepare the job."""
    if request.saved is not None:
        from nstx.engine.transfer.saved import prepare_job_from_targets

        return prepare_job_from_targets(request.saved, request.settings)
    assert request.content is not None  # checked by the command
    styles = [split_style(style) for style in request.styles]
    return prepare_job(
        _named(request.content, request, wide=request.recording.keep_profile),
        [(_named_style(path, request), weight) for path, weight in styles],
        request.settings,
        mask=request.mask,
        regions=request.regions,
        style_for=split_styles_for(request.style_for) or None,
    )


def _named(path: Path, request: OptimizeRequest, *, wide: bool = False) -> Path | Picture:
    """Return a path, or the picture from standard input by the name that it was called by; a wide one, read."""
    if path != request.stdin:
        return take_content(path, request.settings, wide=True) if wide else path
    picture = take_content(path, request.settings, wide=wide, name="standard input")
    return replace(picture, path=str(PIPE))


def _named_style(path: Path, request: OptimizeRequest) -> Path | Picture:
    if style_file(path) != request.stdin:
        return path

    def read(file: str, _: Fit) -> Picture:
        return replace(read_image(file, name="standard input"), path=str(PIPE))

    return take_painting(path, read=read)


def _check_outputs(request: OptimizeRequest, job: Job) -> None:
    """Check that the outputs can hold the result, and tell which lose its transparency."""
    for path in (request.output, request.recording.save_init):
        if path is not None:
            check_output_size(path, *job.sizes[-1])
    if request.recording.keep_profile:
        choose_profile(job.encoding.profile)  # which warns
    if job.alpha is not None:
        warn_of_lost_alpha(request.outputs)


def _measure_saved(
    costs: BoundCosts, output: Path, result: Result, console: Console
) -> Cost | None:
    """Return the cost of the saved file, read back; that before rounding, or None, if it cannot be measured."""
    try:
        return costs.measure_file(output)
    except NstxError as error:
        # The picture is safe; only the number is not to be had.
        if result.stopped == "diverged":
            console.warn(f"the cost is not known, as the file cannot be measured: {error}")
            return None
        console.warn(f"the cost is that before rounding, as the file cannot be measured: {error}")
        return result.cost
