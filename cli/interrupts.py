"""Signals that ask a command to end: Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed.

Python calls their handlers in the main thread, between two instructions; and to evaluate a network is one
instruction, of many seconds where pictures are large. So a thread sees each signal when it arrives. It says at
once what comes of it, and ends the process where the main thread does not. All computing stays in the main
thread, so that no number depends on this.
"""

import contextlib
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

from nstx.models.storage.leftovers import remove_leftovers

PATIENCE = 0.5
"""Seconds that the main thread has to end by itself."""

DEAF_SECONDS = 1.0
"""After the first signal, in which others are the same wish: some terminals send two, and people press twice."""

ANSWER_SECONDS = 5.0
"""Seconds that the main thread has for what it must clean up, once it has an exception of a signal's."""

_FLUSH_SECONDS = 0.5  # that a pipe which nobody reads can keep a process
_SHOW_CURSOR = b"\x1b[?25h"
# Not all of them are there on Windows.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def say(text: str) -> None:
    """Write a line on stderr, past Python's streams: a signal may come in the middle of a write to them."""
    # Whoever read stderr may be gone already: `nstx … 2>&1 | tee log` gets the signal together.
    with contextlib.suppress(OSError):
        # Nor need anybody read it who still has it open.
        if sys.platform == "win32" or select.select([], [2], [], _FLUSH_SECONDS)[1]:
            os.write(2, f"\nnstx: {text}\n".encode(errors="replace"))


def within(seconds: float, work: Callable[[], object]) -> bool:
    """Do what may never be done, as a write to a pipe that nobody reads; return whether it was in this time."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def flush_streams() -> bool:
    """Write what standard output and error hold; return whether they have taken it."""
    return within(_FLUSH_SECONDS, _flush)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()


def end_process(code: int) -> None:
    """End the process at once, without what it was writing and without what it holds."""
    remove_leftovers()
    flush_streams()
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR)
    os._exit(code)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a frame of the main thread is within the import of a module."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class Ending:
    """What a signal asks of a command: to end, which the main thread does by an exception.

    Where it cannot within `PATIENCE`, or does not within `ANSWER_SECONDS`, the process ends without it.

    Args:
        report: takes the exception that the main thread was not asked to raise any more.

    Attributes:
        signal: the first that has come, or None.
        most_patience: seconds, where it is no use to wait for `PATIENCE`.
    """

    def __init__(self, report: Callable[[BaseException], object] | None = None) -> None:
        self._report = report
        self.signal: int | None = None
        self._deaf_until = math.inf
        self.most_patience = math.inf
        # Whether a thread sees signals; else the handler is the first to know.
        self.is_watched = False
        self._lock = threading.RLock()
        self._seen, self._answered, self._over = (threading.Event() for _ in range(3))
        self._is_done = False

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it; 0 if there was none."""
        return 0 if self.signal is None else 128 + self.signal

    def arrive(self, number: int) -> None:
        """Take note of a signal, in whichever thread sees it first."""
        with self._lock:
            is_first = self.signal is None
            if is_first:
                self.signal = number
                self._deaf_until = time.monotonic() + DEAF_SECONDS
                self._decide()
            is_heard = not is_first and time.monotonic() >= self._deaf_until
        self._seen.set()
        if is_first and self.is_watched:
            timer = threading.Timer(min(PATIENCE, self.most_patience), self._run_out)
            timer.daemon = True
            timer.start()
        elif is_heard and number == signal.SIGINT:
            # Who closes a terminal or ends a service may send several; only Ctrl-C is impatient.
            self._insist()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Answer a signal, in the main thread."""
        if not self.is_watched or not self._seen.wait(PATIENCE):
            self.arrive(number)
        if self._answered.is_set() or self._is_done:
            return  # another exception would end what the first one has to clean up, or what is done
        self._answered.set()
        # Of several that were pending, Python handles the one of the smallest number first.
        self._answer(_is_importing(frame))

    def finish(self) -> None:
        """Take note that the main thread has ended what was to be ended."""
        self._over.set()

    def follow(self, inner: "Ending", *, is_done: bool) -> None:
        """Take over what came of a signal within an inner block, so that another one does not begin anew.

        Or that the block has done what was asked: a signal that comes now changes that no more.
        """
        with self._lock:
            self._is_done = is_done and inner.signal is None
            if self.signal is None and inner.signal is not None:
                self.signal, self._deaf_until = inner.signal, inner._deaf_until
                self._seen.set()
                self._answered.set()

    def _decide(self) -> None:
        """Decide what comes of the first signal, and say so."""

    def _answer(self, is_importing: bool) -> None:
        if is_importing:
            # Compiled modules swallow an exception, and the command would go on without them.
            self._end()
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(self.exit_code)

    def _insist(self) -> None:
        say("interrupted")
        self._end()

    def _run_out(self) -> None:
        if self._over.is_set():
            return
        # What is raised within a callback of C's, or a __del__, goes no further, and the command goes on.
        if not self._answered.is_set() or not self._over.wait(ANSWER_SECONDS):
            self._insist()

    def _end(self) -> None:
        """End the process without a result."""
        if self._report is not None:
            within(_FLUSH_SECONDS, partial(self._report, SystemExit(self.exit_code)))
        end_process(self.exit_code)


@contextlib.contextmanager
def handling(ending: Ending) -> Iterator[None]:
    """Have signals go to an `Ending` for the time of a block; outside the main thread, do not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    present = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    # nohup, or a shell that starts something in the background, has a signal ignored: so do we.
    numbers = [number for number in present if signal.getsignal(number) is not signal.SIG_IGN]
    with _watching(ending, numbers):
        before = [(number, signal.signal(number, ending.handle)) for number in numbers]
        is_done = False
        try:
            yield
            is_done = True
        finally:
            ending.finish()
            for number, handler in before:
                outer = getattr(handler, "__self__", None)
                if isinstance(outer, Ending):
                    outer.follow(ending, is_done=is_done)
                signal.signal(number, handler)


@contextlib.contextmanager
def _watching(ending: Ending, numbers: list[int]) -> Iterator[None]:
    """Have a thread call `Ending.arrive` when a signal arrives; not on Windows, which knows no such pipes."""
    if sys.platform == "win32":
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while number := os.read(reader, 1)[0]:
            if number in numbers:
                ending.arrive(number)

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="nstx-signals", daemon=True)
    thread.start()
    ending.is_watched = True
    try:
        yield
    finally:
        ending.is_watched = False
        signal.set_wakeup_fd(before)
        os.write(writer, b"\0")
        thread.join()
        os.close(reader)
        os.close(writer)
