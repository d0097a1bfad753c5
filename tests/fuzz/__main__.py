"""Runs many inputs in processes that are watched, counts what goes wrong and keeps such inputs."""

import argparse
import contextlib
import json
import os
import random
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from .inputs import Kind, make_input
from .kinds import KINDS

LONGEST_SECONDS = 20.0
_LONGEST_START = 120.0  # seconds until a process has begun, and has made an input
_MOST_RESIDENT = 6 << 30  # a process beyond it is ended, before the machine is
_KEPT_OF_A_CAUSE = 3
_TESTS = Path(__file__).resolve().parents[1]
_MOST_FAILED_STARTS = 3  # one after another, before a first input was read
_FAULTS = (
    "traceback", "accepted", "hang", "crash", "memory", "connection", "child", "wrote outside",
    "escape", "noise", "litter",
)  # fmt: skip


@dataclass(slots=True)
class Count:
    """What came of the inputs of a kind."""

    inputs: int = 0
    accepted: int = 0
    slowest: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


class StartError(Exception):
    """Processes that try inputs do not come to the first of them."""


class Worker:
    """A process that tries inputs, started again when it has died."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed, self._folder = seed, folder
        self.begun: tuple[str, int, float] | None = None
        self.is_reading = False
        self._rest = b""
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = os.environ | {
            "NSTX_CACHE_DIR": str(self._folder / "cache"),
            "XDG_CONFIG_HOME": str(self._folder / "config"),
            "TMPDIR": str(self._folder),
            "OMP_NUM_THREADS": "1",
            # It starts in another folder.
            "PYTHONPATH": os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")]),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker", str(self._seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=self._folder,
        )  # fmt: skip

    def send(self, kind: str, index: int) -> None:
        """Give it an input to try."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead, which reading will tell
            self.process.stdin.write(f"{kind} {index}\n".encode())
            self.process.stdin.flush()
        self.begun = (kind, index, time.monotonic())
        self.is_reading = False

    @property
    def output(self) -> int:
        """What it writes comes from here."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def lines(self) -> list[bytes] | None:
        """Return the whole lines that have come; None if it has ended."""
        if not (data := os.read(self.output, 1 << 16)):
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def restart(self) -> None:
        """End the process, and start another."""
        self.process.kill()
        self.process.communicate()
        self.process, self.begun, self._rest = self._start(), None, b""


class Run:
    """Inputs in turn for some workers, and what came of them."""

    def __init__(self, arguments: argparse.Namespace, kinds: list[Kind]) -> None:
        self.counts = {kind.name: Count() for kind in kinds}
        self.causes: Counter[tuple[str, str, str]] = Counter()
        self._kinds = {kind.name: kind for kind in kinds}
        self._arguments = arguments
        self._todo = self._draw(kinds)
        self._deadline = time.monotonic() + 60 * arguments.minutes
        self._selector = selectors.DefaultSelector()
        self._failed_starts = 0

    def _draw(self, kinds: list[Kind]) -> Iterator[tuple[str, int]]:
        if self._arguments.only is not None:
            yield from ((kind.name, self._arguments.only) for kind in kinds)
            return
        generator, indices = random.Random(self._arguments.seed), Counter[str]()
        for _ in range(self._arguments.inputs):
            (kind,) = generator.choices(kinds, [kind.share for kind in kinds])
            indices[kind.name] += 1
            yield kind.name, indices[kind.name]

    def go(self) -> None:
        """Try all inputs, or those that the time allows; `StartError` if none can be tried."""
        with tempfile.TemporaryDirectory(prefix="fuzz", ignore_cleanup_errors=True) as name:
            workers = [
                Worker(self._arguments.seed, Path(name)) for _ in range(self._arguments.workers)
            ]
            try:
                active = {worker for worker in workers if self._next(worker)}
                while active:
                    for key, _ in self._selector.select(timeout=0.2):
                        self._take(key.data, active)
                    for worker in tuple(active):
                        self._watch(worker, active)
            finally:
                for worker in workers:
                    worker.process.kill()
                    worker.process.communicate()

    def _next(self, worker: Worker) -> bool:
        item = next(self._todo, None) if time.monotonic() < self._deadline else None
        if item is None:
            return False
        worker.send(*item)
        if worker.output not in self._selector.get_map():
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
        return True

    def _take(self, worker: Worker, active: set[Worker]) -> None:
        lines = worker.lines()
        if lines is None:
            code = worker.process.wait()
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            self._lost(worker, active, "crash", name)
            return
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "begin":
                assert worker.begun is not None
                worker.begun, worker.is_reading = (*worker.begun[:2], time.monotonic()), True
                self._failed_starts = 0
                continue
            self._count(worker, event["accepted"], event["faults"], event["details"])
            if not self._next(worker):
                active.discard(worker)

    def _watch(self, worker: Worker, active: set[Worker]) -> None:
        longest = LONGEST_SECONDS if worker.is_reading else _LONGEST_START
        if worker.begun and time.monotonic() - worker.begun[2] > longest:
            self._lost(worker, active, "hang", f"over {longest:g} s")
            return
        try:
            resident = psutil.Process(worker.process.pid).memory_info().rss
        except psutil.Error:
            return
        if resident > _MOST_RESIDENT:
            self._lost(worker, active, "memory", f"{resident >> 20} MiB")

    def _lost(self, worker: Worker, active: set[Worker], fault: str, text: str) -> None:
        self._selector.unregister(worker.output)
        self._failed_starts += not worker.is_reading
        if self._failed_starts >= _MOST_FAILED_STARTS:
            name, index, _ = worker.begun or ("", 0, 0)
            raise StartError(
                f"{self._failed_starts} processes in a row ended ({text}) before they read an input, the "
                f"last at {name} {index}; what they wrote to stderr stands above, and "
                f"'python -m fuzz.worker {self._arguments.seed}' starts one"
            )
        self._count(worker, False, [[fault, text]], "")
        worker.restart()
        if not self._next(worker):
            active.discard(worker)

    def _count(self, worker: Worker, accepted: bool, faults: list[list[str]], details: str) -> None:
        assert worker.begun is not None
        name, index, begun = worker.begun
        count = self.counts[name]
        count.inputs += 1
        count.accepted += accepted
        count.slowest = max(count.slowest, time.monotonic() - begun)
        count.faults.update({kind for kind, _ in faults})
        for kind, text in faults:
            # Numbers differ from input to input.
            cause = (name, kind, re.sub(r"\d{3,}", "…", text) if kind != "traceback" else text)
            self.causes[cause] += 1
            if self.causes[cause] <= _KEPT_OF_A_CAUSE:
                self._keep(name, index, kind, text, details)

    def _keep(self, name: str, index: int, fault: str, text: str, details: str) -> None:
        made = make_input(self._kinds[name], self._arguments.seed, index)
        folder = Path(self._arguments.keep) / f"{name}-{fault.replace(' ', '-')}-{index}"
        shutil.rmtree(folder, ignore_errors=True)
        made.write(folder)
        seed = self._arguments.seed
        (folder / "README.txt").write_text(
            f"{fault}: {text}\n{made.change}\n"
            f"scripts/fuzz --kind {name} --seed {seed} --only {index}\n\n{details}",
            errors="backslashreplace",
        )


def _report(run: Run, seconds: float) -> int:
    print(f"{'kind':<12} {'inputs':>7} {'accepted':>8} {'slowest':>8}  faults")
    for name, count in run.counts.items():
        faults = ", ".join(f"{count.faults[kind]} {kind}" for kind in _FAULTS if count.faults[kind])
        line = f"{name:<12} {count.inputs:>7} {count.accepted:>8} {count.slowest:>6.1f} s"
        print(f"{line}  {faults or 'none'}")
    total = sum(count.inputs for count in run.counts.values())
    print(f"{total} inputs in {seconds:.0f} s, {total / max(seconds, 1e-9):.0f} a second")
    for (name, kind, text), times in run.causes.most_common():
        print(f"  {times:>5} × {name}: {kind}: {text!r}")
    return int(bool(run.causes))


def main() -> int:
    """Run the inputs that the command line asks for; 1 if anything went wrong."""
    names = [kind.name for kind in KINDS]
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=names, help="default: all")
    parser.add_argument("--only", type=int, metavar="INDEX", help="one input, by its number")
    parser.add_argument("--minutes", type=float, default=60.0, help="end after that long")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", default="fuzz-left", help="folder for inputs that go wrong")
    arguments = parser.parse_args()
    kinds = [kind for kind in KINDS if arguments.kind is None or kind.name in arguments.kind]
    run, began = Run(arguments, kinds), time.monotonic()
    try:
        run.go()
    except StartError as error:
        print(f"fuzz: {error}", file=sys.stderr)
        return 2
    return _report(run, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
