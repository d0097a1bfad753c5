"""What ``nstx optimize`` does with its options: check, load, optimise, save, report."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer
from numpy.typing import NDArray

from nstx.engine.drawing.animation import check_animation
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.resizing import resize_alpha
from nstx.engine.pictures.writing import SUFFIXES, check_output_size, write_or_rescue
from nstx.engine.settings import Settings
from nstx.engine.sizes import split_steps
from nstx.engine.transfer.progress import Step
from nstx.engine.transfer.report import describe_fallbacks
from nstx.models.errors import NstxError, UsageError
from nstx.models.storage.files import check_distinct, check_output

from ..choices import read_styles, split_style
from ..console import Console, ProgressBar
from ..interrupts import interruptible
from .assignment import check_report
from .recorder import Recorder
from .report import Timings, describe_result, result_json

if TYPE_CHECKING:
    from nstx.engine.targets.files import SavedTargets
    from nstx.engine.transfer.job import Job
    from nstx.engine.transfer.run import Result
    from nstx.models.cost import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeRequest:
    """The command's options, checked for what can be checked without reading anything.

    Raises:
        UsageError: arguments are missing or contradict each other.
        OutputError: a result cannot be written where it is asked for.
    """

    content: Path | None
    styles: tuple[str, ...]
    output: Path | None
    targets: Path | None
    saved: "SavedTargets | None"
    save_every: int | None
    animate: Path | None
    trace: Path | None
    save_init: Path | None
    report: str
    settings: Settings
    began: float

    def __post_init__(self) -> None:
        if self.targets is not None and (self.content or self.styles):
            raise UsageError(
                "expected CONTENT and STYLE, or --targets alone, got both; try without CONTENT"
            )
        if self.targets is None and (self.content is None or not self.styles):
            raise UsageError(
                "expected CONTENT and STYLE, got less; try 'nstx optimize photo.jpg painting.jpg "
                "-o out.png'"
            )
        if self.output is None:
            raise UsageError("expected an output, got none; try -o out.png")
        if self.save_every is not None and self.save_every < 1:
            raise UsageError(f"expected --save-every 1 or more, got {self.save_every}")
        check_report(self.report)
        self._check_outputs(self.output)

    @property
    def checked_output(self) -> Path:
        """The output, which a request always has."""
        assert self.output is not None
        return self.output

    def _check_outputs(self, output: Path) -> None:
        check_output(output, SUFFIXES)
        if self.animate is not None:
            check_animation(self.animate)
        if self.trace is not None:
            check_output(self.trace, (".jsonl", ".json", ".txt"))
        if self.save_init is not None:
            check_output(self.save_init, SUFFIXES)
        check_distinct(self._all_outputs(output), self._all_inputs())

    def _all_outputs(self, output: Path) -> list[Path]:
        every, steps = self.save_every or 0, self.settings.steps
        snapshots = (
            [self.snapshot(step) for step in range(every, steps + 1, every)] if every else []
        )
        files = (output, self.animate, self.trace, self.save_init, *snapshots)
        return [path for path in files if path is not None]

    def _all_inputs(self) -> list[Path]:
        styles = [split_style(style)[0] for style in self.styles]
        files = [Path(self.settings.init), Path(self.settings.weights)]
        return [path for path in (self.content, self.targets, *styles, *files) if path is not None]

    def snapshot(self, step: int) -> Path:
        """Return where the picture after a step goes."""
        output = self.checked_output
        return output.with_name(f"{output.stem}_{step:04d}{output.suffix}")


def run_optimize(request: OptimizeRequest, console: Console) -> None:
    """Do the whole job, and exit with 130 or 143 if a signal ended it early.

    Raises:
        NstxError: of every kind that its parts raise.
    """
    with interruptible() as interrupt:
        with console.working("loading weights, computing targets"):
            job, alpha, timings = _load(request)
        output = request.checked_output
        for path in (output, request.save_init):
            if path is not None:
                check_output_size(path, *job.sizes[-1])
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

            result = run_job(job, on_step=on_step, should_stop=interrupt.requested)
        for text in describe_fallbacks(result.checks):
            console.warn(text)
        saving = time.perf_counter()
        write_or_rescue(output, result.pixels, alpha)
        recorder.save_animation(result)
        saved_cost = _measure_saved(job, output, result, console)
        timings = timings.finish(result.seconds, time.perf_counter() - saving)
        data = result_json(request, job, result, saved_cost, timings, recorder.files)
        console.result(describe_result(data), data)
    if interrupt.requested():
        raise typer.Exit(interrupt.exit_code)


def _load(request: OptimizeRequest) -> "tuple[Job, NDArray[np.uint8] | None, Timings]":
    """Read the pictures, or the targets file, and prepare the job."""
    # PyTorch takes seconds to load, and a wrong path is told before that.
    if request.saved is not None:
        saved = request.saved
        from nstx.engine.transfer.job import prepare_job_from_targets

        job = prepare_job_from_targets(saved, request.settings)
        alpha = saved.alpha
    else:
        assert request.content is not None  # checked by the request
        content = read_image(request.content)
        styles = read_styles(request.styles)
        from nstx.engine.transfer.job import prepare_job

        job = prepare_job(content, styles, request.settings)
        alpha = resize_alpha(content, *job.sizes[-1])
    load = time.perf_counter() - request.began - job.target_seconds
    return job, alpha, Timings(request.began, load, job.target_seconds)


def _measure_saved(job: "Job", output: Path, result: "Result", console: Console) -> "Cost":
    """Return the cost of the saved file, read back."""
    try:
        return job.measure_cost(read_image(output, trusted=True).pixels.astype(np.float32))
    except NstxError as error:
        # The picture is safe; only the number is not to be had.
        console.warn(f"the cost is that before rounding, as the file cannot be measured: {error}")
        return result.cost
