"""What ``nstx optimize`` keeps while it runs: snapshots, the trace, the frames of an animation."""

import contextlib
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from nstx.engine.drawing.animation import write_animation
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.writing import write_image
from nstx.engine.transfer.job import Job
from nstx.engine.transfer.progress import FrameCollector, Step, trace_line
from nstx.engine.transfer.result import Result
from nstx.models.errors import OutputError
from nstx.models.storage.unfinished import beside

from ..console import Console
from .request import OptimizeRequest

_EVERY = 20

# Between two writes of the latest picture; a large one that takes long is written more seldom.
_WATCH_SECONDS, _WATCH_TIMES = 2.0, 20


class Recorder:
    """Writes what is asked for of the steps. A failure is a warning and does not end the run.

    What stood at a name before the run is replaced when the run is complete, unless it is forced: until then,
    and if it never is, the new file has a name beside it.

    Attributes:
        console: says what could not be written.
    """

    def __init__(self, request: OptimizeRequest, console: Console) -> None:
        self._request = request
        self.console = console
        self._trace: IO[str] | None = None
        self._trace_failed = False
        self._watch_at = -math.inf
        self._frames: FrameCollector | None = None
        # By kind; and where those are that have not replaced what stood there.
        self._written: dict[str, list[str]] = {}
        self._places: dict[str, Path] = {}

    def __enter__(self) -> Self:
        # The trace is opened at the first step, so that a failed start leaves no file.
        return self

    def __exit__(self, *_: object) -> None:
        if self._trace is not None:
            # What a full disk refused once is refused again on closing; the warning is out already.
            with contextlib.suppress(OSError):
                self._trace.close()

    @property
    def files(self) -> dict[str, list[str]]:
        """What was written, by kind: ``snapshots``, ``trace``, ``animation``, ``init``."""
        return {
            kind: [str(self._places.get(name, name)) for name in names]
            for kind, names in list(self._written.items())  # another thread may ask
        }

    def begin(self, job: Job, earlier: Sequence[Step] = ()) -> None:
        """Write the start at the result's size, if that is asked for, and prepare for the steps.

        Of a run that goes on, the trace has the earlier steps, too; the start lies there already.
        """
        recording, path = self._request.recording, self._request.recording.save_init
        if recording.animate is not None:
            self._frames = FrameCollector(self._request.settings.steps, alpha=job.alpha)
            if earlier:
                self.console.warn(f"the animation begins with step {len(earlier) + 1}")
        if recording.trace is not None:
            for step in earlier:
                self._write_trace(recording.trace, step)
        if path is not None and not (earlier and path.exists()):
            write_image(self._place(path), job.picture(job.start(-1)), **self._request.saving(path))
            self._note("init", path)

    def take(self, step: Step) -> None:
        """Record a step."""
        recording = self._request.recording
        if recording.report == "assignment":
            self._report(step)
        if recording.trace is not None and not self._trace_failed:
            self._write_trace(recording.trace, step)
        if recording.save_every is not None and step.step % recording.save_every == 0:
            self._write_snapshot(step)
        if recording.watch is not None and time.monotonic() >= self._watch_at:
            self._watch(recording.watch, step.to_picture())
        if self._frames is not None:
            self._frames.take(step)

    def show_last(self, result: Result) -> None:
        """Write the result where the latest picture is to be seen."""
        if self._request.recording.watch is not None:
            self._watch(self._request.recording.watch, result.picture)

    def complete(self) -> None:
        """Have what the run wrote replace what stood there before."""
        for name in list(self._places):
            # Two threads may save at a time.
            place = self._places.pop(name, None)
            if place is None:
                continue
            try:
                place.replace(os.path.realpath(name))
            except OSError as error:
                self._places[name] = place
                self.console.warn(f"{place} could not replace {name}: {error.strerror or error}")

    def save_animation(self, result: Result) -> None:
        """Write the animation, ending with the result."""
        path = self._request.recording.animate
        if path is None or self._frames is None:
            return
        try:
            place = path if result.is_complete else self._place(path)
            write_animation(place, self._frames.finish(result.pixels))
            self._note("animation", path)
        except OutputError as error:
            self.console.warn(str(error))

    def _place(self, path: Path) -> Path:
        """Return where an output goes while the run is not complete."""
        if self._request.recording.force or not os.path.lexists(path):
            return path
        return self._places.setdefault(str(path), beside(path))

    def _note(self, kind: str, path: Path) -> None:
        self._written.setdefault(kind, []).append(str(path))

    def _write_trace(self, path: Path, step: Step) -> None:
        try:
            if self._trace is None:
                # Written as the run goes, line by line, so that it can be followed while it does.
                place = self._place(path)
                self._trace = place.open("w", encoding="utf-8", buffering=1)
                self._note("trace", path)
                if place != path:
                    self.console.log(f"the trace is {place} until the run is complete")
            self._trace.write(json.dumps(trace_line(step)) + "\n")
        except OSError as error:
            self._trace_failed = True
            self.console.warn(f"the trace {path} ends at step {step.step - 1}: {error}")

    def _report(self, step: Step) -> None:
        lines = describe_iteration(step)
        if lines is None:
            return
        try:
            self.console.report(lines)
        except OutputError as error:
            self.console.warn(f"the report ends at iteration {step.step - 1}: {error}")

    def _write_snapshot(self, step: Step) -> None:
        path = self._request.snapshot(step.step)
        try:
            step.save(self._place(path), **self._request.saving(path))
            self._note("snapshots", path)
        except OutputError as error:
            self.console.warn(str(error))

    def _watch(self, path: Path, picture: Picture) -> None:
        began = time.monotonic()
        try:
            # A manifest is the result's alone, which lies elsewhere.
            write_image(path, picture, **self._request.saving(path) | {"manifest": False})
        except OutputError as error:
            self.console.warn(str(error))
        ended = time.monotonic()
        self._watch_at = ended + max(_WATCH_SECONDS, _WATCH_TIMES * (ended - began))


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
