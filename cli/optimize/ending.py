"""How a run ends: its picture is saved, and its result is printed, once.

By the main thread; or, where a signal asked it to end and it did not come to that in time, by the thread that
sees signals, without what takes long.
"""

import math
import os
import threading
import time
from pathlib import Path

from nstx.engine.devices.memory import process_seconds
from nstx.engine.pictures.writing import write_or_rescue
from nstx.engine.transfer.job import Job
from nstx.engine.transfer.progress import Step, StopReason
from nstx.engine.transfer.run import Result, unfinished_result
from nstx.models.cost import Cost
from nstx.models.printable import printable
from nstx.models.storage.unfinished import beside

from ..console import Console
from ..errors.exits import Failure, failure_json, report_failure
from .interrupt import Interrupt
from .pipes import PIPE, send
from .recorder import Recorder
from .report import SECONDS, describe_result, result_json
from .request import OptimizeRequest

# On a CPU no evaluation of a larger picture ends before patience does, and time is needed to save it.
_LARGE_PIXELS, _LARGE_PATIENCE = 1_000_000, 0.1  # seconds
_FOR_EVER = 3600.0  # seconds, in which the process ends


class RunEnding:
    """What a run leaves when it ends.

    Args:
        request: what was asked for.
        job: that was made of it.
        recorder: of the run.
        console: prints the result.
        interrupt: of the run.

    Attributes:
        last: the last step that was made; its picture is finite.
        seconds: what took how long, by the names of `SECONDS`.
    """

    def __init__(
        self,
        request: OptimizeRequest,
        job: Job,
        *,
        recorder: Recorder,
        console: Console,
        interrupt: Interrupt,
    ) -> None:
        self._request, self._job = request, job
        self._recorder, self._console, self._interrupt = recorder, console, interrupt
        self.last: Step | None = None
        self.seconds: dict[str, float | None] = dict.fromkeys(SECONDS)
        self._result: Result | None = None
        self._has_ended = threading.Event()
        self._output: Path | None = None
        if job.opened.choice.device.is_cpu and math.prod(job.sizes[-1]) > _LARGE_PIXELS:
            interrupt.most_patience = _LARGE_PATIENCE
        self._choosing, self._reporting = threading.Lock(), threading.Lock()
        self._sending, self._is_sent = threading.Lock(), False

    def save(self, result: Result, *, in_haste: bool = False) -> Path:
        """Save the picture, of an unfinished run where it replaces none; return where.

        `OutputError` if it could not be written there; the message says where it is.
        """
        self._result = result
        self._has_ended.set()
        output = self._choose_output(is_complete=result.is_complete)
        try:
            with self._interrupt.saving(self.name_of(output)):
                write_or_rescue(output, result.picture, in_haste=in_haste)
                self._send(output)
        finally:
            if result.is_complete:
                self._recorder.complete()
        return output

    def name_of(self, output: Path) -> Path:
        """Return what a user calls the output: ``-`` in place of the file that goes to standard output."""
        return PIPE if self._request.to_stdout else output

    def _send(self, output: Path) -> None:
        """Write the picture to standard output, if it goes there, once."""
        with self._sending:  # else the process might end while the main thread is writing
            if self._request.to_stdout and not self._is_sent:
                self._is_sent = True
                send(output)

    def report(
        self,
        result: Result,
        output: Path,
        saved_cost: Cost | None,
        failure: Failure | None = None,
    ) -> None:
        """Print the result, unless the other thread does; then the process ends meanwhile.

        Args:
            result: of the run.
            output: where its picture is.
            saved_cost: that of the file, or None if it was not measured.
            failure: why it is not complete, if it failed.
        """
        if not self._reporting.acquire(blocking=False):
            time.sleep(_FOR_EVER)
        self._print(result, output, saved_cost, failure)

    def leave(self) -> int | None:
        """Save and print in the place of the main thread; see `Interrupt.defer`."""
        if not self._job.opened.choice.device.is_cpu:
            # A picture must not be fetched while the main thread captures kernels; steps are short there.
            self._has_ended.wait()
        try:
            self._console.end_bar()
            result = self._result or self.unfinished("interrupted")
            output = self._output if self._interrupt.has_saved else None
            output = output or self.save(result, in_haste=True)
            if not self._reporting.acquire(blocking=False):
                return None
            if self._request.recording.animate and "animation" not in self._recorder.files:
                self._console.warn("the animation was not written, as the run was to end at once")
            self._print(result, output)
        except Exception as error:  # noqa: BLE001  (the last line of defence, as of `run_app`)
            return report_failure(error)
        return self._interrupt.exit_code

    def unfinished(self, stopped: StopReason) -> Result:
        """Return what the last step has led to."""
        assert self.last is not None  # else there is nothing to end
        return unfinished_result(self._job, self.last, stopped)

    def _choose_output(self, *, is_complete: bool) -> Path:
        output = self._request.output
        with self._choosing:
            if self._output is None:
                replaces = is_complete or self._request.recording.force
                self._output = output if replaces or not os.path.lexists(output) else beside(output)
                if self._output != output:
                    self._console.warn(
                        f"{printable(output)} stands there and stays; the unfinished picture is "
                        f"{printable(self._output)}"
                    )
            return self._output

    def _print(
        self,
        result: Result,
        output: Path,
        saved_cost: Cost | None = None,
        failure: Failure | None = None,
    ) -> None:
        seconds = {**self.seconds, "optimize": result.seconds, "total": process_seconds()}
        data = result_json(
            self._request,
            self._job,
            result,
            output=self.name_of(output),
            saved_cost=saved_cost,
            seconds=seconds,
            files=self._recorder.files,
        )
        self._console.result(data | failure_json(failure), describe_result)
