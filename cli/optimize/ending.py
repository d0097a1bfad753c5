"""How a run ends: its picture is saved, and its result is printed, once.

By the main thread; or, where a signal asked it to end and it did not come to that in time, by the thread that
sees signals, without what takes long. Whichever is first to save decides what, and where.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nstx.engine.checkpoints.keeper import Checkpoints
from nstx.engine.devices.memory import process_seconds
from nstx.engine.pictures.rescue import rescue, write_or_rescue
from nstx.engine.transfer.job import Job
from nstx.engine.transfer.progress import Step, StopReason
from nstx.engine.transfer.result import Result, unfinished_result
from nstx.models.cost import Cost
from nstx.models.errors import OutputError
from nstx.models.printable import printable
from nstx.models.storage.files import write_output
from nstx.models.storage.unfinished import beside

from ..console import Console
from ..errors.exits import DescribedFailure, Failure, failure_json, report_failure
from ..interrupts import say, within
from .interrupt import Interrupt
from .keeping import Stamp, stamp_of
from .pipes import PIPE, send
from .recorder import Recorder
from .report import SECONDS, describe_result, result_json
from .request import OptimizeRequest

# On a CPU no evaluation of a larger picture ends before patience does, and time is needed to save it.
_LARGE_PIXELS, _LARGE_PATIENCE = 1_000_000, 0.1  # seconds
_WRITING = 0.3  # seconds that the main thread has to end a write that it has begun
_DELIVERY = 0.5  # seconds that standard output has to take what is printed
_FOR_EVER = 3600.0  # seconds, in which the process ends


def _wait_for_the_end() -> None:
    """Wait, as the other thread ends the process."""
    time.sleep(_FOR_EVER)


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """What is saved, and where; there is one of a run, whichever thread comes to save it.

    Attributes:
        failure: why the result is not complete, if the run failed, and where the picture is.
    """

    result: Result
    output: Path
    failure: Failure | None


class RunEnding:
    """What a run leaves when it ends.

    Args:
        request: what was asked for.
        job: that was made of it.
        recorder: of the run.
        console: prints the result.
        interrupt: of the run.
        kept: the run's checkpoint, if there is to be one.

    Attributes:
        last: the last step that was made; its picture is finite.
        own: of the unfinished picture at the output, if the run left it there before.
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
        kept: Checkpoints | None = None,
    ) -> None:
        self._request, self._job, self.kept = request, job, kept
        if kept is not None and kept.is_kept:
            interrupt.keep = kept.write
        self._recorder, self._console, self._interrupt = recorder, console, interrupt
        self.last: Step | None = None
        self.own: Stamp | None = None
        self.seconds: dict[str, float | None] = dict.fromkeys(SECONDS)
        if job.opened.choice.device.is_cpu and math.prod(job.sizes[-1]) > _LARGE_PIXELS:
            interrupt.most_patience = _LARGE_PATIENCE
        self._failure: Failure | None = None
        self._stopped: StopReason = "interrupted"
        self._outcome: _Outcome | None = None
        self._problem: Exception | None = None
        self._is_sent = self._is_rescued = False
        locks = (threading.Lock() for _ in range(4))
        self._deciding, self._sending, self._rescuing, self._reporting = locks
        self._has_ended, self._is_written, self._is_reported = (threading.Event() for _ in range(3))

    def fail(self, failure: Failure, stopped: StopReason) -> None:
        """Take note that the run has failed, before anything is saved."""
        self._failure, self._stopped = failure, stopped

    @property
    def failure(self) -> Failure | None:
        """How the run failed, if it did; with where the picture is, once that is decided."""
        return self._failure if self._outcome is None else self._outcome.failure

    def unfinished(self) -> Result:
        """Return what the last step has led to."""
        assert self.last is not None  # else there is nothing to end
        return unfinished_result(self._job, self.last, self._stopped)

    def name_of(self, output: Path) -> Path:
        """Return what a user calls the output: ``-`` in place of the file that goes to standard output."""
        return PIPE if self._request.to_stdout else output

    def save(self, result: Result) -> Path:
        """Save the picture, of an unfinished run where it replaces none; return where.

        It does not return where the other thread saves another picture, as that ends the process.
        `OutputError` if it could not be written there; the message says where it is.
        """
        outcome = self._decide(result)
        self._has_ended.set()
        if outcome.result is not result:
            _wait_for_the_end()
            return outcome.output
        self._announce(outcome)
        self._write(outcome)
        self._send(outcome)
        return outcome.output

    def report(self, saved_cost: Cost | None) -> None:
        """Print the result, unless the other thread does; then the process ends meanwhile.

        Args:
            saved_cost: that of the file, or None if it was not measured.
        """
        if not self._reporting.acquire(blocking=False):
            _wait_for_the_end()
            return
        try:
            self._print(saved_cost)
        finally:
            self._is_reported.set()

    def leave(self) -> int | None:
        """Save and print in the place of the main thread; see `Interrupt.defer`."""
        if not self._job.opened.choice.device.is_cpu:
            # A picture must not be fetched while the main thread captures kernels; steps are short there.
            self._has_ended.wait()
        try:
            self._save_in_haste()
        except Exception as error:  # noqa: BLE001  (the last line of defence, as of `run_app`)
            self._problem = self._problem or error
        self._interrupt.wait_until_kept()
        codes = list[int | None]()
        if within(_DELIVERY, lambda: codes.append(self._deliver())):
            return codes[0]
        self.rescue()
        return self._interrupt.exit_code

    def rescue(self) -> None:
        """Keep a picture that standard output does not take, and say where the picture is."""
        with self._rescuing:
            is_saved = self._is_written.is_set() and self._problem is None
            if self._outcome is None or not is_saved or self._is_rescued:
                return
            self._is_rescued = True
            output = self._outcome.output
            if not self._request.to_stdout:
                say(f"the picture is saved as {printable(output)}")
            elif not self._is_sent:
                unread = OutputError(
                    "expected standard output to be read, got nobody who does; try -o out.png"
                )
                kept = rescue(
                    unread, output.name, lambda place: write_output(place, output.read_bytes())
                )
                say(str(kept))

    def _decide(self, result: Result) -> _Outcome:
        """Return what is saved: this result, if none is yet."""
        with self._deciding:
            if self._outcome is None:
                output = self._request.output
                if not self._replaces(result) and os.path.lexists(output):
                    output = beside(output)
                self._outcome = _Outcome(result, output, self._describe(result, output))
            return self._outcome

    def _replaces(self, result: Result) -> bool:
        """Whether the picture takes the place of what lies at the output: a whole one, or its own predecessor's."""
        if result.is_complete or self._request.recording.force:
            return True
        return self.own is not None and stamp_of(self._request.output) == self.own

    def _describe(self, result: Result, output: Path) -> Failure | None:
        """Return the failure, if there was one, with where the picture is."""
        if self._failure is None:
            return None
        picture = f"picture after step {result.steps}" if result.steps else "start"
        finite = ", the last that is finite," if result.stopped == "diverged" else ""
        place = printable(self.name_of(output))
        return self._failure.followed_by(f"the {picture}{finite} was saved as {place}")

    def _announce(self, outcome: _Outcome) -> None:
        """Warn that the picture is not where it was to be, if it is not."""
        asked, place = self._request.output, printable(outcome.output)
        if outcome.output != asked:
            self._console.warn(
                f"{printable(asked)} stands there and stays; the unfinished picture is {place}"
            )

    def _write(self, outcome: _Outcome, *, in_haste: bool = False) -> None:
        name = f"{PIPE}, if that is read" if self._request.to_stdout else outcome.output
        try:
            with self._noting_problem(), self._interrupt.saving(name):
                write_or_rescue(
                    outcome.output, outcome.result.picture, in_haste=in_haste,
                    **self._request.saving(outcome.output),
                )  # fmt: skip
        finally:
            if outcome.result.is_complete:
                self._recorder.complete()
            self._is_written.set()

    def _send(self, outcome: _Outcome) -> None:
        """Write the picture to standard output, if it goes there, once."""
        with self._sending:
            if self._request.to_stdout and not self._is_sent and self._problem is None:
                with self._noting_problem():
                    send(outcome.output)
                self._is_sent = True

    @contextlib.contextmanager
    def _noting_problem(self) -> Iterator[None]:
        """Keep an error for the other thread; that of an output has the run's failure before it."""
        try:
            yield
        except Exception as error:
            self._problem = error
            if self._failure is None or not isinstance(error, OutputError):
                raise
            self._problem = DescribedFailure(self._failure.followed_by(str(error)))
            raise self._problem from error

    def _save_in_haste(self) -> None:
        """Save the last step's picture, or what the main thread has begun to save and does not come to the end of."""
        outcome = self._outcome
        is_ours = outcome is None
        if outcome is None:
            result = self.unfinished()
            outcome = self._decide(result)
            is_ours = outcome.result is result
        if is_ours or not self._is_written.wait(_WRITING):
            self._write(outcome, in_haste=True)

    def _deliver(self) -> int | None:
        """Print what there is to print, and return the exit code; None if the main thread has done so."""
        try:
            with contextlib.suppress(OSError):
                self._console.end_bar()
            if self._problem is not None:
                raise self._problem
            assert self._outcome is not None  # else there was a problem
            self._announce(self._outcome)
            self._send(self._outcome)
            if self._problem is not None:
                raise self._problem
            if not self._reporting.acquire(blocking=False):
                self._is_reported.wait()
                return None
            if self._request.recording.animate and "animation" not in self._recorder.files:
                self._console.warn("the animation was not written, as the run was to end at once")
            self._print(None)
            if self._outcome.failure is not None:
                raise DescribedFailure(self._outcome.failure)
        except Exception as error:  # noqa: BLE001  (the last line of defence, as of `run_app`)
            return report_failure(error)
        return self._interrupt.exit_code

    def _print(self, saved_cost: Cost | None) -> None:
        outcome = self._outcome
        assert outcome is not None  # it is saved
        seconds = {**self.seconds, "optimize": outcome.result.seconds, "total": process_seconds()}
        data = result_json(
            self._request, self._job, outcome.result, output=self.name_of(outcome.output),
            saved_cost=saved_cost, seconds=seconds, files=self._recorder.files, kept=self.kept,
        )  # fmt: skip
        self._console.result(data | failure_json(outcome.failure), describe_result)
