"""Ctrl-C and SIGTERM: while a picture is being optimised they end the run, and it is saved."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = b"\nnstx: stopping after this evaluation; once more to leave without saving\n"


class Interrupt:
    """Remembers that the run is to end, and by which signal.

    Until `defer` is called a signal ends the process at once, as there is nothing to save yet.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._deferred = False

    def defer(self) -> None:
        """From now on, a signal only asks the run to end."""
        self._deferred = True

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it; 0 if there was none."""
        return 0 if self.signal is None else 128 + self.signal

    def handle(self, number: int, _: FrameType | None) -> None:
        """Take a signal. A second Ctrl-C does not wait for the picture."""
        if self._deferred and self.signal is None:
            self.signal = number
            # Not through sys.stderr: the signal may have come in the middle of a write to it.
            os.write(2, _STOPPING)
            return
        if number == signal.SIGTERM:
            raise SystemExit(128 + number)
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Handle SIGINT and SIGTERM for the time of a block."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt.handle) for number in numbers]
    try:
        yield interrupt
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
