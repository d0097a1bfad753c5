"""Signals that ask a run to end, which has something to save."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nstx.models.printable import printable

from ..interrupts import ANSWER_SECONDS, Ending, end_process, say

_STOPPING = "stopping after this evaluation"
_IMPATIENCE = "; Ctrl-C after a second leaves without saving"  # of a person at a terminal
_NOTHING_SAVED = "interrupted; nothing was saved"
_SAVING = "the picture is being saved"

_INSISTENCE = 2.0
"""Seconds in which a picture must be saved, and the result printed, after one more Ctrl-C."""

_KEEPING = 1.5  # seconds that a checkpoint has, from the signal on

# With 19, a busy machine takes up to half a minute to let these threads see that the process has ended.
_NICENESS = 5


def _have_helpers_wait(*others: int | None) -> None:
    """Have threads that help the main one to compute come after others, on Linux, which can do that.

    What they compute is not wanted any more. The main thread may hold Python's lock, so it goes on, as do others that
    are named by their native numbers.
    """
    if sys.platform != "linux":
        return
    busy = {threading.get_native_id(), threading.main_thread().native_id, *others}
    with contextlib.suppress(OSError):
        for path in Path("/proc/self/task").iterdir():
            if int(path.name) not in busy:
                os.setpriority(os.PRIO_PROCESS, int(path.name), _NICENESS)


class Interrupt(Ending):
    """An `Ending` of a run, which has something to save once `defer` is called.

    Until then a signal ends the process, and from then on it only asks the run to end.

    Args:
        is_loading: whether threads load libraries at the moment.
        report: as of `Ending`.

    Attributes:
        keep: writes a checkpoint of the run, which begins when a signal comes.
    """

    def __init__(
        self,
        is_loading: Callable[[], bool],
        report: Callable[[BaseException], object] | None = None,
    ) -> None:
        super().__init__(report)
        self._is_loading = is_loading
        self._leave: Callable[[], int | None] | None = None
        self._rescue: Callable[[], None] | None = None
        self._is_saving = False
        self._saved: object = None
        self.keep: Callable[[], None] | None = None
        self._keeping: threading.Thread | None = None
        self._keeping_until = 0.0

    def defer(self, leave: Callable[[], int | None], rescue: Callable[[], None]) -> None:
        """From now on, a signal only asks the run to end.

        Args:
            leave: saves and reports what there is where the main thread does not come to it, and returns
                the exit code; None if the main thread is about to end.
            rescue: keeps what the end of the process would remove, and says where.
        """
        with self._lock:
            # One may have come already, and something may have swallowed the exit that it asked for.
            if self.signal is not None and self._leave is None:
                raise SystemExit(self.exit_code)
            self._leave, self._rescue = leave, rescue

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @contextlib.contextmanager
    def saving(self, output: object) -> Iterator[None]:
        """Say so, for the time of a block and after it, to whoever sends one more signal."""
        self._is_saving = True
        yield
        self._saved = output

    def wait_until_kept(self) -> None:
        """Wait for the checkpoint that a signal has begun, as long as there is time for it."""
        if self._keeping is not None:
            self._keeping.join(max(0.0, self._keeping_until - time.monotonic()))
            if self._keeping.is_alive():
                say("the checkpoint takes too long; the one before stays")

    def _decide(self) -> None:
        if self.keep is not None and self._leave is not None:
            self._keeping = threading.Thread(target=self.keep, daemon=True)
            self._keeping_until = time.monotonic() + _KEEPING
            self._keeping.start()
            _have_helpers_wait(self._keeping.native_id)
        if self._leave is None:
            say(_NOTHING_SAVED)
        elif self._saved is not None:
            say(f"the picture is saved as {printable(self._saved)}")
        else:
            stopping = _STOPPING + (_IMPATIENCE if self.signal == signal.SIGINT else "")
            say(_SAVING if self._is_saving else stopping)

    def _answer(self, is_importing: bool) -> None:
        if self._leave is not None:
            return
        if is_importing or self._is_loading():
            # An exception may be raised within Python's imports, which would swallow it and keep their lock;
            # then this thread and those that load libraries would wait for one another for ever.
            self._end()
        raise SystemExit(self.exit_code)

    def _insist(self) -> None:
        if self._leave is not None and self._saved is None and not self._is_saving:
            say(_NOTHING_SAVED)
        elif self._leave is not None:
            is_saved = self._saved is not None
            say(f"the picture is saved as {printable(self._saved)}" if is_saved else _SAVING)
            if not self.is_watched and not is_saved:
                return  # this is the thread that saves it
            if self.is_watched and self._over.wait(_INSISTENCE):
                return
            if self._saved is None:
                say(_NOTHING_SAVED)
        self._end()

    def _end(self) -> None:
        if self._rescue is not None:
            self._rescue()
        super()._end()

    def _run_out(self) -> None:
        if self._leave is None:
            super()._run_out()
        elif not self._over.is_set():
            if self._keeping is None:
                _have_helpers_wait()
            code = self._leave()
            if code is not None or not self._over.wait(ANSWER_SECONDS):
                end_process(self.exit_code if code is None else code)
