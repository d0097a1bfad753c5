"""What ``nstx optimize`` does with its options: check, load, optimise, save, report."""

import time
from pathlib import Path

import typer

from nstx.engine.devices.memory import process_seconds
from nstx.engine.pictures.writing import check_output_size, write_or_rescue
from nstx.engine.transfer.costs import BoundCosts, read_back
from nstx.engine.transfer.job import Job, load_job, prepare_job_from_targets
from nstx.engine.transfer.progress import Step
from nstx.engine.transfer.report import describe_fallbacks
from nstx.engine.transfer.run import Result, run_job
from nstx.models.cost import Cost
from nstx.models.errors import NstxError
from nstx.models.storage.locks import locked

from ..choices import split_style
from ..console import Console
from ..garbage import uncollected
from ..interrupts import Interrupt
from ..progress import show_steps
from .recorder import Recorder
from .report import SECONDS, describe_result, result_json
from .request import OptimizeRequest


def run_optimize(request: OptimizeRequest, console: Console, interrupt: Interrupt) -> None:
    """Do the whole job, and exit with 130 or 143 if a signal ended it early, which ``interrupt`` takes."""
    with locked(request.outputs):
        _run(request, console, interrupt)


def _run(request: OptimizeRequest, console: Console, interrupt: Interrupt) -> None:
    output = request.output
    seconds: dict[str, float | None] = dict.fromkeys(SECONDS)
    with console.working("loading weights, computing targets"), uncollected():
        job = _load(request)
    seconds["load"] = time.perf_counter() - request.began - job.target_seconds
    seconds["targets"] = job.target_seconds
    for path in (output, request.recording.save_init):
        if path is not None:
            check_output_size(path, *job.sizes[-1])
    bar = show_steps(console, job.sizes, job.settings.steps)
    with Recorder(request, console) as recorder, bar as show:
        recorder.begin(job)

        def on_step(step: Step) -> None:
            # Only now is there something to save.
            interrupt.defer()
            if step.step == 1:
                started = process_seconds()
                seconds["start"] = started - (time.perf_counter() - request.began)
                seconds["until_first_step"] = started - step.seconds
            show(step)
            recorder.take(step)

        costs = BoundCosts(job)
        result = run_job(job, costs=costs, on_step=on_step, should_stop=interrupt.requested)
    for text in describe_fallbacks(result.checks):
        console.warn(text)
    saving = time.perf_counter()
    write_or_rescue(output, result.picture)
    recorder.save_animation(result)
    saved_cost = _measure_saved(costs, output, result, console)
    seconds |= {"optimize": result.seconds, "save": time.perf_counter() - saving}
    seconds["total"] = process_seconds()
    data = result_json(request, job, result, saved_cost, seconds, recorder.files)
    console.result(data, describe_result)
    if interrupt.requested():
        raise typer.Exit(interrupt.exit_code)


def _load(request: OptimizeRequest) -> Job:
    """Read the pictures, or the targets file, and prepare the job."""
    if request.saved is not None:
        return prepare_job_from_targets(request.saved, request.settings)
    assert request.content is not None  # checked by the command
    styles = [split_style(style) for style in request.styles]
    return load_job(request.content, styles, request.settings)


def _measure_saved(costs: BoundCosts, output: Path, result: Result, console: Console) -> Cost:
    """Return the cost of the saved file, read back."""
    try:
        return costs.measure(read_back(output, result.picture))
    except NstxError as error:
        # The picture is safe; only the number is not to be had.
        console.warn(f"the cost is that before rounding, as the file cannot be measured: {error}")
        return result.cost
