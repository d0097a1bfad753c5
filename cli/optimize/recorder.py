"""What ``nstx optimize`` keeps while it runs: snapshots, the trace, the frames of an animation."""

import contextlib
import json
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from nstx.engine.drawing.animation import write_animation
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.resizing import resize_channel
from nstx.engine.pictures.writing import write_image
from nstx.engine.transfer.job import Job
from nstx.engine.transfer.progress import FrameCollector, Step, trace_line
from nstx.engine.transfer.run import Result
from nstx.models.errors import OutputError

from ..console import Console
from .request import OptimizeRequest

_EVERY = 20


class Recorder:
    """Writes what is asked for of the steps. A failure is a warning and does not end the run.

    Attributes:
        files: what was written, by kind: ``snapshots``, ``trace``, ``animation``, ``init``.
    """

    def __init__(self, request: OptimizeRequest, console: Console) -> None:
        self._request = request
        self._console = console
        self._trace: IO[str] | None = None
        self._trace_failed = False
        self._frames: FrameCollector | None = None
        self._alpha: NDArray[np.uint8] | None = None
        self.files: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        # The trace is opened at the first step, so that a failed start leaves no file.
        return self

    def __exit__(self, *_: object) -> None:
        if self._trace is not None:
            # What a full disk refused once is refused again on closing; the warning is out already.
            with contextlib.suppress(OSError):
                self._trace.close()

    def begin(self, job: Job) -> None:
        """Write the start at the result's size, if that is asked for, and prepare for the steps.

        The start is opaque, as a run that begins with it reads it.
        """
        self._alpha = job.alpha
        if self._request.recording.animate is not None:
            self._frames = FrameCollector(self._request.settings.steps, alpha=job.alpha)
        path = self._request.recording.save_init
        if path is not None:
            write_image(path, job.start(-1))
            self.files["init"] = [str(path)]

    def take(self, step: Step) -> None:
        """Record a step."""
        recording = self._request.recording
        if recording.report == "assignment":
            self._report(step)
        if recording.trace is not None and not self._trace_failed:
            self._write_trace(recording.trace, step)
        if recording.save_every is not None and step.step % recording.save_every == 0:
            self._write_snapshot(step)
        if self._frames is not None:
            self._frames.take(step)

    def save_animation(self, result: Result) -> None:
        """Write the animation, ending with the result."""
        path = self._request.recording.animate
        if path is None or self._frames is None:
            return
        try:
            write_animation(path, self._frames.finish(result.pixels))
            self.files["animation"] = [str(path)]
        except OutputError as error:
            self._console.warn(str(error))

    def _write_trace(self, path: Path, step: Step) -> None:
        try:
            if self._trace is None:
                # Written as the run goes, line by line, so that it can be followed while it does.
                self._trace = path.open("w", encoding="utf-8", buffering=1)
                self.files["trace"] = [str(path)]
            self._trace.write(json.dumps(trace_line(step)) + "\n")
        except OSError as error:
            self._trace_failed = True
            self._console.warn(f"the trace {path} ends at step {step.step - 1}: {error}")

    def _report(self, step: Step) -> None:
        lines = describe_iteration(step)
        if lines is None:
            return
        try:
            self._console.report(lines)
        except OutputError as error:
            self._console.warn(f"the report ends at iteration {step.step - 1}: {error}")

    def _write_snapshot(self, step: Step) -> None:
        path, pixels = self._request.snapshot(step.step), step.pixels
        alpha = None if self._alpha is None else resize_channel(self._alpha, *pixels.shape[:2])
        try:
            write_image(path, Picture(pixels, alpha))
            self.files.setdefault("snapshots", []).append(str(path))
        except OutputError as error:
            self._console.warn(str(error))


def describe_iteration(step: Step) -> str | None:
    """Return the four lines that the deeplearning.ai assignment prints after every twentieth step.

    None after the others. The first step is iteration 0; the costs are those of the picture that
    the step led to.
    """
    iteration = step.step - 1
    if iteration % _EVERY:
        return None
    return (
        f"Iteration {iteration} :\n"
        f"total cost = {_format(step.cost.total)}\n"
        f"content cost = {_format(step.cost.content)}\n"
        f"style cost = {_format(step.cost.style)}"
    )


def _format(value: float) -> str:
    """Write a number as NumPy wrote a float32 at the time: ``5.05035e+09``, ``18026.0``."""
    text = f"{value:.6g}"
    return text if "." in text or "e" in text else f"{text}.0"
