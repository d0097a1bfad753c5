"""What ``nstx optimize`` does with its options: check, load, optimise, save, report."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.writing import check_output_size, write_or_rescue
from nstx.engine.sizes import split_steps
from nstx.engine.transfer.progress import Step
from nstx.engine.transfer.report import describe_fallbacks
from nstx.models.errors import NstxError

from ..choices import read_styles
from ..console import Console
from ..interrupts import interruptible
from ..progress import ProgressBar
from .recorder import Recorder
from .report import Timings, describe_result, result_json

if TYPE_CHECKING:
    from nstx.engine.transfer.costs import BoundCosts
    from nstx.engine.transfer.job import Job
    from nstx.engine.transfer.run import Result
    from nstx.models.cost import Cost

    from .request import OptimizeRequest


def run_optimize(request: "OptimizeRequest", console: Console) -> None:
    """Do the whole job, and exit with 130 or 143 if a signal ended it early.

    Raises:
        NstxError: of every kind that its parts raise.
    """
    with interruptible() as interrupt:
        with console.working("loading weights, computing targets"):
            job, timings = _load(request)
        output = request.output
        for path in (output, request.recording.save_init):
            if path is not None:
                check_output_size(path, *job.sizes[-1])
        from nstx.engine.transfer.costs import BoundCosts
        from nstx.engine.transfer.run import run_job

        areas = [height * width for height, width in job.sizes]
        shares = split_steps(job.settings.steps, len(areas))
        with Recorder(request, console) as recorder, ProgressBar(console, areas, shares) as bar:
            recorder.save_init(job)

            def on_step(step: Step) -> None:
                nonlocal timings
                # Only now is there something to save.
                interrupt.defer()
                if step.step == 1:
                    timings = timings.begin_steps(step.seconds)
                bar.show(step)
                recorder.take(step)

            costs = BoundCosts(job)
            result = run_job(job, costs=costs, on_step=on_step, should_stop=interrupt.requested)
        for text in describe_fallbacks(result.checks):
            console.warn(text)
        saving = time.perf_counter()
        write_or_rescue(output, result.picture)
        recorder.save_animation(result)
        saved_cost = _measure_saved(costs, output, result, console)
        timings = timings.finish(result.seconds, time.perf_counter() - saving)
        data = result_json(request, job, result, saved_cost, timings, recorder.files)
        console.result(describe_result(data), data)
    if interrupt.requested():
        raise typer.Exit(interrupt.exit_code)


def _load(request: "OptimizeRequest") -> "tuple[Job, Timings]":
    """Read the pictures, or the targets file, and prepare the job."""
    # PyTorch takes seconds to load, and a wrong path is an error before that.
    if request.saved is not None:
        saved = request.saved
        from nstx.engine.transfer.job import prepare_job_from_targets

        job = prepare_job_from_targets(saved, request.settings)
    else:
        assert request.content is not None  # checked by the request
        content = read_image(request.content)
        styles = read_styles(request.styles)
        from nstx.engine.transfer.job import prepare_job

        job = prepare_job(content, styles, request.settings)
    load = time.perf_counter() - request.began - job.target_seconds
    return job, Timings(request.began, load, job.target_seconds)


def _measure_saved(costs: "BoundCosts", output: Path, result: "Result", console: Console) -> "Cost":
    """Return the cost of the saved file, read back."""
    try:
        return costs.measure(read_image(output, trusted=True).pixels.astype(np.float32))
    except NstxError as error:
        # The picture is safe; only the number is not to be had.
        console.warn(f"the cost is that before rounding, as the file cannot be measured: {error}")
        return result.cost
