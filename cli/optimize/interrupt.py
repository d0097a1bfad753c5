"""Signals that ask a run to end, which has something to save."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from nstx.models.printable import printable

from ..interrupts import Ending, end_process, say

_STOPPING = "stopping after this evaluation; Ctrl-C after a second leaves without saving"
_NOTHING_SAVED = "interrupted; nothing was saved"
_SAVING = "the picture is being saved"

# With 19, a busy machine takes up to half a minute to let these threads see that the process has ended.
_NICENESS = 5


def _have_helpers_wait() -> None:
    """Have threads that help the main one to compute come after others, on Linux, which can do that.

    What they compute is not wanted any more. The main thread may hold Python's lock, so it goes on.
    """
    if sys.platform != "linux":
        return
    busy = {threading.get_native_id(), threading.main_thread().native_id}
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
    """

    def __init__(
        self,
        is_loading: Callable[[], bool],
        report: Callable[[BaseException], object] | None = None,
    ) -> None:
        super().__init__(report)
        self._is_loading = is_loading
        self._leave: Callable[[], int | None] | None = None
        self._is_saving = False
        self._saved: object = None

    def defer(self, leave: Callable[[], int | None]) -> None:
        """From now on, a signal only asks the run to end.

        Args:
            leave: saves and reports what there is where the main thread does not come to it, and returns
                the exit code; None if the main thread is about to end.
        """
        with self._lock:
            # One may have come already, and something may have swallowed the exit that it asked for.
            if self.signal is not None and self._leave is None:
                raise SystemExit(self.exit_code)
            self._leave = leave

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def has_saved(self) -> bool:
        """Whether a block of `saving` has ended well."""
        return self._saved is not None

    @contextlib.contextmanager
    def saving(self, output: object) -> Iterator[None]:
        """Say so, for the time of a block and after it, to whoever sends one more signal."""
        self._is_saving = True
        yield
        self._saved = output

    def _decide(self) -> None:
        if self._leave is None:
            say(_NOTHING_SAVED)
        elif self._saved is not None:
            say(f"the picture is saved as {printable(self._saved)}")
        else:
            say(_SAVING if self._is_saving else _STOPPING)

    def _answer(self, is_importing: bool) -> None:
        if self._leave is not None:
            return
        if is_importing or self._is_loading():
            # An exception may be raised within Python's imports, which would swallow it and keep their lock;
            # then this thread and those that load libraries would wait for one another for ever.
            self._end()
        raise SystemExit(self.exit_code)

    def _insist(self) -> None:
        if self._leave is not None and self._saved is not None:
            say(f"the picture is saved as {printable(self._saved)}")
            if self.is_watched:
                return  # the result is printed at the latest when patience runs out
        elif self._leave is not None and self._is_saving:
            say(_SAVING)
            return
        elif self._leave is not None:
            say(_NOTHING_SAVED)
        self._end()

    def _run_out(self) -> None:
        if self._over.is_set():
            return
        if self._leave is None:
            self._end()
            return
        _have_helpers_wait()
        if (code := self._leave()) is not None:
            end_process(code)
