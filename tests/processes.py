"""Command lines in processes of their own, and signals that come in a phase that is named."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 300.0
"""Seconds until a process that gives no sign counts as stuck; a busy machine is slow, not wrong."""

_SIGNALLED = """\
import os, sys
event, subject, number, *arguments = sys.argv[1:]
def send(name, values):
    global event
    if name == event and subject in str(values[0]).split(os.sep):
        event = None
        os.kill(os.getpid(), int(number))
sys.addaudithook(send)
sys.argv = ["nstx", *arguments]
from nstx.cli import run_process
run_process()
"""


def spawn(*arguments: object) -> subprocess.Popen[str]:
    """Start the command line; its stdout and stderr are pipes."""
    command = [sys.executable, "-m", "nstx", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_signalled(
    event: str, subject: str, number: int, *arguments: object, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line, which gets a signal when it comes to a phase, however long that takes.

    Args:
        event: of Python's audit events, such as ``import`` or ``tempfile.mkstemp``.
        subject: the event's first value, such as a module's name, or a part of it that is a path.
        number: of the signal.
        arguments: of the command line.
        cache: the cache folder; None takes that of the tests.
    """
    command = [sys.executable, "-c", _SIGNALLED, event, subject, int(number), *arguments]
    environment = os.environ if cache is None else {**os.environ, "NSTX_CACHE_DIR": str(cache)}
    return subprocess.run(
        list(map(str, command)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def wait_for(sign: Callable[[], bool], every: float = 0.01) -> None:
    """Wait for a sign that a process gives, which is looked for every so many seconds.

    Raises:
        TimeoutError: it does not come.
    """
    deadline = time.monotonic() + PATIENCE
    while not sign():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(every)
