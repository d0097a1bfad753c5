"""Has files of strangers looked at by a process of its own, which may hang or die of them."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from nstx.models.storage.plain_data import parse_json

from ..batches.asked import AskedJob
from ..jobs.records import NewJob
from .refusals import Refusal

Chosen = Mapping[str, Any] | None
"""What is chosen differently from a preset, by the names of `choose_settings`."""

READY = "ready\n"
"""The first line of an inspector."""

_PATIENCE = 30.0
"""Seconds for one job's files."""

_START = 60.0
"""Seconds until it asks for the first."""

_MOST_JOBS = 500
"""Of one process, after which another takes its place."""


class Inspection:
    """Asks the process of `nstx.engine.service.inspector`, which is started when it is needed; by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._asked, self._is_ready = 0, False

    def plan(
        self, asked: AskedJob, most_pixels: int, chosen: Chosen = None
    ) -> tuple[NewJob, tuple[int, int]]:
        """Return a job for the ledger, and width and height of its result; `Refusal` if its files cannot be used.

        Of targets, its settings are those of their preset but for what is ``chosen``; None stands for its own.
        """
        question = write_question(asked, most_pixels, chosen)
        with self._lock:
            answer = self._ask(question)
        return read_answer(answer)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def warm(self) -> None:
        """Start the process, so that the first job need not wait for it."""
        with self._lock, contextlib.suppress(OSError):
            self._start()

    def _ask(self, line: str) -> dict[str, Any]:
        process = self._begin()
        assert process.stdin is not None
        reply = None
        with contextlib.suppress(OSError, queue.Empty):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            reply = self._lines.get(timeout=_PATIENCE)
        self._asked += 1
        if reply is None or self._asked >= _MOST_JOBS:
            self._end()
        if reply is None:
            raise Refusal(
                "unprocessable",
                "expected pictures whose headers can be read, got some that took too long or too much memory; "
                "try to save them again",
            )
        answer: dict[str, Any] = parse_json(reply)
        return answer

    def _begin(self) -> "subprocess.Popen[str]":
        """Return the process, once it asks for jobs; `Refusal` if there cannot be one."""
        with contextlib.suppress(OSError, queue.Empty):
            process = self._start()
            if self._is_ready or self._lines.get(timeout=_START) == READY:
                self._is_ready = True
                return process
        self._end()
        raise Refusal(
            "unavailable",
            "expected a server that can look at pictures, got one that cannot start what does; try again later",
            retry_after=10,
        )

    def _start(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nstx.engine.service.inspector"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
                start_new_session=True,
            )  # fmt: skip
            self._lines, self._asked, self._is_ready = queue.SimpleQueue(), 0, False
            threading.Thread(
                target=_listen,
                args=(self._process, self._lines),
                name="nstx-inspector",
                daemon=True,
            ).start()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.kill()
        process.wait()


def write_question(asked: AskedJob, most_pixels: int, chosen: Chosen = None) -> str:
    """Return the line by which an inspector is asked for a job."""
    chosen = None if chosen is None else dict(chosen)
    question = {"asked": asked.to_json(), "output": asked.output, "most_pixels": most_pixels}
    return json.dumps({**question, "chosen": chosen})


def read_answer(answer: Mapping[str, Any]) -> tuple[NewJob, tuple[int, int]]:
    """Return the job that an inspector answers with, and width and height of its result; `Refusal` if it refuses."""
    if "reason" in answer:
        raise Refusal(answer["reason"], answer["message"], setting=answer["setting"])
    names = ("id", "kind", "fingerprint", "request", "attempts")
    return NewJob(**{name: answer[name] for name in names}), (answer["width"], answer["height"])


def _listen(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    assert process.stdout is not None
    with process.stdout, contextlib.suppress(ValueError, OSError):
        for line in process.stdout:
            lines.put(line)
    lines.put(None)
