"""What ``nstx optimize`` does with its options: check, load, optimise, save, report."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from nstx.engine.devices.memory import process_seconds
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.writing import check_output_size
from nstx.engine.transfer.costs import BoundCosts, read_back
from nstx.engine.transfer.job import Job, prepare_job, prepare_job_from_targets
from nstx.engine.transfer.progress import Step
from nstx.engine.transfer.report import describe_fallbacks
from nstx.engine.transfer.run import Result, run_job
from nstx.models.cost import Cost
from nstx.models.errors import NstxError, NumericalError
from nstx.models.printable import printable
from nstx.models.storage.locks import locked

from ..choices import split_style
from ..console import Console
from ..progress import show_steps
from .ending import RunEnding
from .garbage import uncollected
from .interrupt import Interrupt
from .pipes import PIPE
from .recorder import Recorder
from .request import OptimizeRequest


def run_optimize(request: OptimizeRequest, console: Console, interrupt: Interrupt) -> None:
    """Do the whole job, and exit with 128 plus the signal's number if one, which ``interrupt`` takes, ended it early."""
    with locked(request.outputs):
        _run(request, console, interrupt)


def _run(request: OptimizeRequest, console: Console, interrupt: Interrupt) -> None:
    with console.working("loading weights, computing targets"), uncollected():
        job = _load(request)
    for path in (request.output, request.recording.save_init):
        if path is not None:
            check_output_size(path, *job.sizes[-1])
    recorder = Recorder(request, console)
    ending = RunEnding(request, job, recorder=recorder, console=console, interrupt=interrupt)
    ending.seconds["load"] = time.perf_counter() - request.began - job.target_seconds
    ending.seconds["targets"] = job.target_seconds
    costs = BoundCosts(job)
    failure: NumericalError | None = None
    bar = show_steps(console, job.sizes, job.settings.steps, job.opened.choice)
    with recorder, bar as show:
        recorder.begin(job)
        on_step = _Steps(request, ending, interrupt, (show, recorder.take))
        try:
            result = run_job(job, costs=costs, on_step=on_step, should_stop=on_step.should_stop)
        except NumericalError as error:
            if on_step.evaluations < 2:
                raise  # the start has no finite cost or gradient itself
            ending.last = ending.last or _before_steps(job, costs)
            result, failure = ending.unfinished("diverged"), error
    for text in describe_fallbacks(result.checks):
        console.warn(text)
    if on_step.is_still(result):
        console.warn(
            "no pixel was moved: the gradient of the cost is 0, or too small for float32; "
            "try larger weights, or another --init"
        )
    saving = time.perf_counter()
    try:
        output = ending.save(result)
    finally:
        recorder.show_last(result)
        recorder.save_animation(result)
    saved_cost = _measure_saved(costs, output, result, console)
    ending.seconds["save"] = time.perf_counter() - saving
    if failure is not None:
        finite = f"picture after step {result.steps}" if result.steps else "start"
        failure = NumericalError(
            f"{failure}; the {finite}, the last that is finite, was saved as {printable(ending.name_of(output))}"
        )
    ending.report(result, output, saved_cost, failure)
    if failure is not None:
        raise failure
    if interrupt.requested():
        raise typer.Exit(interrupt.exit_code)


class _Steps:
    """Takes the steps of a run.

    Args:
        request: what was asked for.
        ending: of the run, which is told the last step.
        interrupt: of the run, which is deferred from the first step on.
        takers: that take each step, too.

    Attributes:
        evaluations: that were begun.
    """

    def __init__(
        self,
        request: OptimizeRequest,
        ending: RunEnding,
        interrupt: Interrupt,
        takers: Sequence[Callable[[Step], None]],
    ) -> None:
        self._request, self._ending, self._interrupt = request, ending, interrupt
        self._takers = takers
        self._costs: dict[int, set[float]] = {}
        self.evaluations = 0

    def should_stop(self) -> bool:
        """Count an evaluation that may come, and return whether the run is to stop instead."""
        self.evaluations += 1
        return self._interrupt.requested()

    def __call__(self, step: Step) -> None:
        # Only now is there something to save.
        self._ending.last = step
        self._interrupt.defer(self._ending.leave)
        if step.step == 1:
            started, seconds = process_seconds(), self._ending.seconds
            seconds["start"] = started - (time.perf_counter() - self._request.began)
            seconds["until_first_step"] = started - step.seconds
        self._costs.setdefault(step.scale, set()).add(step.cost.total)
        for take in self._takers:
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
        return prepare_job_from_targets(request.saved, request.settings)
    assert request.content is not None  # checked by the command
    styles = [split_style(style) for style in request.styles]
    return prepare_job(
        _named(request.content, request),
        [(_named(path, request), weight) for path, weight in styles],
        request.settings,
    )


def _named(path: Path, request: OptimizeRequest) -> Path | Picture:
    """Return a path, or the picture from standard input by the name that it was called by."""
    return replace(read_image(path), path=str(PIPE)) if path == request.stdin else path


def _measure_saved(
    costs: BoundCosts, output: Path, result: Result, console: Console
) -> Cost | None:
    """Return the cost of the saved file, read back; that before rounding, or None, if it cannot be measured."""
    try:
        return costs.measure(read_back(output, result.picture))
    except NstxError as error:
        # The picture is safe; only the number is not to be had.
        if result.stopped == "diverged":
            console.warn(f"the cost is not known, as the file cannot be measured: {error}")
            return None
        console.warn(f"the cost is that before rounding, as the file cannot be measured: {error}")
        return result.cost
