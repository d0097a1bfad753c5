"""Ctrl-C and SIGTERM: while a picture is being optimised they end the run, and it is saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_STOPPING = b"\nnstx: stopping after this evaluation; once more to leave without saving\n"
_NOTHING_SAVED = b"\nnstx: interrupted; nothing was saved\n"
_SHOW_CURSOR = b"\x1b[?25h"
# A closed terminal (SIGHUP, not on Windows) is a request to end like the others.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def _write(text: bytes) -> None:
    # Whoever read stderr may be gone already: `nstx … 2>&1 | tee log` gets the signal together.
    with contextlib.suppress(OSError):
        os.write(2, text)


@contextlib.contextmanager
def _handling(
    numbers: list[int], handle: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals for the time of a block; outside the main thread, do not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, handle)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def exit_on_terminate() -> contextlib.AbstractContextManager[None]:
    """Turn SIGTERM into an exit for the time of a block, so that what it started is ended with it."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    return _handling([signal.SIGTERM], leave)


class Interrupt:
    """Remembers that the run is to end, and by which signal.

    Until `defer` is called a signal ends the process at once, as there is nothing to save yet.

    Args:
        is_loading: whether threads load libraries at the moment.
    """

    def __init__(self, is_loading: Callable[[], bool]) -> None:
        self._is_loading = is_loading
        self.signal: int | None = None
        self._deferred = False

    def defer(self) -> None:
        """From now on, a signal only asks the run to end."""
        # One may have come already, and something may have swallowed the exit that it asked for.
        if self.signal is not None and not self._deferred:
            raise SystemExit(self.exit_code)
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
            _write(_STOPPING)
            return
        self.signal = number
        _write(_NOTHING_SAVED)
        if self._is_loading():
            # An exception may be raised within Python's imports, which would swallow it and keep their lock;
            # then this thread and those that load libraries would wait for one another for ever.
            if os.isatty(2):
                _write(_SHOW_CURSOR)
            os._exit(128 + number)
        raise SystemExit(128 + number)


@contextlib.contextmanager
def interruptible(is_loading: Callable[[], bool]) -> Iterator[Interrupt]:
    """Handle SIGINT, SIGTERM and SIGHUP for the time of a block, as an `Interrupt` does."""
    interrupt = Interrupt(is_loading)
    present = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    # nohup, or a shell that starts something in the background, has a signal ignored: so do we.
    numbers = [number for number in present if signal.getsignal(number) is not signal.SIG_IGN]
    with _handling(numbers, interrupt.handle):
        yield interrupt
