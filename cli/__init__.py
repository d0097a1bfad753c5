"""The command line: one module per command; parse, configure, one library call, render.

Nothing is imported here: `run_process` is what the shell calls, and an interrupt during the imports of a
command is to be as quiet as any other.
"""


def main() -> None:
    """Run the command line and exit with its code."""
    import gc
    import sys

    try:
        from .app import run

        code = run()
    except KeyboardInterrupt:
        code = 130
    # The process ends, and its memory with it: nothing is gained by a search for garbage (`.optimize.garbage`).
    gc.freeze()
    sys.exit(code)


def run_process() -> None:
    """Run the command line as all that a process does, and end the process quickly."""
    try:
        _begin_ahead()
        main()
    except SystemExit as end:
        if isinstance(end.code, int) and _is_outermost():
            if end.code > 128:
                _ignore_signals()
                _end_unread(end.code)
            _leave(end.code)
        raise


def _begin_ahead() -> None:
    """Begin what takes longest, before anything else is imported; only here, as threads may outlast the command."""
    import sys

    try:
        from .configuration.ahead import begin_ahead

        begin_ahead(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)


def _ignore_signals() -> None:
    """Ignore signals from here on: one has ended the command, and another is not to change the code."""
    import signal

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_unread(code: int) -> None:
    """End the process if what it has printed goes to a pipe that nobody reads: no signal would end it any more."""
    from .interrupts import end_process, flush_streams

    if not flush_streams():
        end_process(code)


def _leave(code: int) -> None:
    """End the process with a code rather than let Python take PyTorch to pieces, if that is there.

    That takes longer than to write a picture, and the system frees memory and devices all the same. Nor is it
    safe while threads still load libraries. What Python does before it is done here: threads end, and whoever
    asked for it cleans up.
    """
    import atexit
    import contextlib
    import os
    import sys
    import threading

    with contextlib.suppress(KeyboardInterrupt):
        threading._shutdown()  # type: ignore[attr-defined]
    if "torch" not in sys.modules and threading.active_count() == 1:
        return
    with contextlib.suppress(KeyboardInterrupt):
        atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return  # Python says so, by another code
    os._exit(code)


def _is_outermost() -> bool:
    """Whether nothing stands around `run_process`, which asks, but the program itself: no profiler, for example.

    Other code would have something left to do. A ``try`` at the top of a program cannot be seen: who needs what
    comes after it calls `main`.
    """
    import sys
    import types

    if sys.flags.interactive or sys.flags.inspect:
        return False
    around: list[str] = []
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        around.append(frame.f_code.co_name)
        frame = frame.f_back
    # A script's, or ``python -m nstx``, which Python's own module runs.
    return around in (["<module>"], ["<module>", "_run_code", "_run_module_as_main"])
