"""What all benchmarks have in common: variants that take turns, each in a process of its own.

Machines are noisy: variants that take turns meet the same noise, so that their ratio holds. Cell by cell, so
that a row is there as soon as its last process has ended, and can be compared with eager PyTorch's.
"""

import contextlib
import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal

from nstx.export.runtime.session import usable_threads
from nstx.models.errors import DeviceError, UsageError

from ..devices.device import Device
from ..devices.machine import describe_machine, package_versions
from ..settings import check_count
from .tasks import Task

Answers = Mapping[Task, Sequence[dict[str, Any]]]
"""What was measured of each task, in the order of the rounds; ``error`` where it failed."""

Row = dict[str, Any]

_LONGEST_ERROR = 300  # characters
_GRACE = 1.0  # seconds that a measurement has to end when it is asked to

# Least, most, and a value to try.
_RANGES: Mapping[str, tuple[int, int, int]] = {
    "sizes": (16, 8192, 256),
    "batches": (1, 256, 1),
    "steps": (1, 100_000, 50),
    "rounds": (1, 1000, 2),
    "repeats": (1, 1000, 1),
    "seconds": (0, 3600, 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench(ABC):
    """A benchmark, whose variants are measured in turns; `UsageError` if a value is out of range.

    Attributes:
        choices: every variant that can be measured.
        sizes: of the pictures, in pixels.
        device: ``cpu`` or ``cuda[:N]``.
        threads: of the CPU; None leaves it to the library.
        weights: ``embedded`` or a file.
    """

    work: ClassVar[Literal["features", "gradient", "optimize"]]
    choices: ClassVar[Collection[str]]

    sizes: tuple[int, ...]
    variants: tuple[str, ...]
    rounds: int = 2
    device: str = "cpu"
    threads: int | None = None
    weights: str = "embedded"

    def __post_init__(self) -> None:
        unknown = [name for name in self.variants if name not in self.choices]
        if unknown or not self.variants:
            raise UsageError(
                f"expected variants among {', '.join(self.choices)}, "
                f"got {', '.join(unknown) or 'none'}; try onnx,torch",
                setting="variants",
            )
        for name, (least, most, example) in _RANGES.items():
            value = getattr(self, name, least)
            values = value if isinstance(value, tuple) else (value,)
            if not values or not all(least <= number <= most for number in values):
                raise UsageError(
                    f"expected {name} of {least} … {most}, "
                    f"got {', '.join(map(str, values)) or 'none'}; try --{name} {example}",
                    setting=name,
                )
        check_count("threads", self.threads)
        device = Device.parse(self.device)
        if device is None or device.is_mps:
            raise UsageError(
                f"expected cpu or cuda[:N] to measure, got {self.device}; try cpu", setting="device"
            )

    def task(self, variant: str, size: int, **details: Any) -> Task:
        """Return one measurement, with whatever attributes tasks and this benchmark both have."""
        names = {field.name for field in fields(self)} & {field.name for field in fields(Task)}
        shared = {name: getattr(self, name) for name in names}
        if shared["threads"] is not None:
            shared["threads"] = usable_threads(shared["threads"])
        return Task(work=self.work, variant=variant, size=size, **{**shared, **details})

    @property
    @abstractmethod
    def warm_up(self) -> tuple[Task, ...]:
        """Tasks that are run once and not counted, so that later ones find files in caches."""

    @property
    @abstractmethod
    def cells(self) -> tuple[tuple[Task, ...], ...]:
        """Groups of tasks that take turns, one group after the other."""

    @property
    def measurements(self) -> int:
        """How many processes will be started, warm-up included."""
        return len(self.warm_up) + self.rounds * sum(map(len, self.cells))

    def in_turns(self) -> list[Task]:
        """Return the tasks as they are measured, without the warm-up."""
        tasks: list[Task] = []
        for cell in self.cells:
            # Eager PyTorch comes first in the last round, so that the rows after it can be compared.
            order = sorted(cell, key=lambda task: task.variant != "torch")
            for left in reversed(range(self.rounds)):
                # Each way round in turn, as a processor that gets hot or a neighbour favours a place.
                tasks += order if left % 2 == 0 else order[::-1]
        return tasks


def take_turns(
    bench: Bench,
    run_task: Callable[[Task], dict[str, Any]],
    on_measurement: Callable[[str], None] | None = None,
    on_complete: Callable[[Task, Answers], None] | None = None,
) -> tuple[Answers, bool]:
    """Measure every task in each round, after the warm-up.

    ``run_task`` returns what was measured, or ``error``; ``on_measurement`` is called with the label
    of each task that is done, and ``on_complete`` with a task whose rounds are all done and with the
    answers so far. Also returns whether Ctrl-C ended it early: what was measured until then is worth
    keeping.
    """
    answers: dict[Task, list[dict[str, Any]]] = {}
    try:
        for number, task in enumerate([*bench.warm_up, *bench.in_turns()]):
            answer = run_task(task)
            if number >= len(bench.warm_up):
                answers.setdefault(task, []).append(answer)
            if on_measurement is not None:
                on_measurement(task.label)
            if on_complete is not None and len(answers.get(task, ())) == bench.rounds:
                on_complete(task, answers)
    except KeyboardInterrupt:
        return answers, True
    return answers, False


def run_process(
    task: Task, environment: Mapping[str, str] | None = None, *, timeout: float | None = None
) -> dict[str, Any]:
    """Return the answer of `nstx.engine.bench.worker` in a process of its own.

    If the process failed, ``error`` is the last line of its stderr, or its exit code, or that it did not
    end within the seconds of a timeout.
    """
    command = [sys.executable, "-m", "nstx.engine.bench.worker", json.dumps(asdict(task))]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        output, errors_output = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout:.0f} s"}
    finally:
        _end(process)
    lines = output.strip().splitlines()
    if process.returncode != 0 or not lines:
        errors = errors_output.strip().splitlines() or [f"exit code {process.returncode}"]
        return {"error": errors[-1][:_LONGEST_ERROR]}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def _end(process: "subprocess.Popen[str]") -> None:
    """End a measurement that nobody waits for any more: it removes what it was writing, if it still can."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    process.kill()  # one that has ended is not sent it
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Makes a report's rows of what was measured.

    Attributes:
        cell: names of the task's attributes that variants share.
        describe: returns what a row says of a task.
        compare: returns what it says beside eager PyTorch's row in its cell.
    """

    cell: tuple[str, ...]
    describe: Callable[[Task, Sequence[dict[str, Any]]], Row]
    compare: Callable[[Row, Row], Row]

    def __call__(self, task: Task, answers: Answers) -> Row:
        """Return the row of a task: its cell, its variant and its description, or its first ``error``."""
        row, eager = (
            self._alone(task, answers),
            self._alone(replace(task, variant="torch"), answers),
        )
        return row if "error" in row or "error" in eager else row | self.compare(row, eager)

    def rows(self, tasks: Iterable[Task], answers: Answers) -> list[Row]:
        """Return the rows of those tasks that were measured."""
        return [self(task, answers) for task in tasks if answers.get(task)]

    def _alone(self, task: Task, answers: Answers) -> Row:
        of_task = answers.get(task) or [{"error": "not measured"}]
        row = {name: getattr(task, name) for name in (*self.cell, "variant")}
        errors = [{"error": answer["error"]} for answer in of_task if "error" in answer]
        return row | (errors[0] if errors else self.describe(task, of_task))


def make_report(
    bench: Bench, rows: Sequence[dict[str, Any]], *, interrupted: bool, **more: Any
) -> dict[str, Any]:
    """Return the report of a benchmark as plain data; `DeviceError` if all rows failed."""
    if rows and all("error" in row for row in rows):
        reason = str(rows[0]["error"])
        advice = "" if "; try " in reason else "; try other --variants"
        raise DeviceError(f"expected something to measure, got: {reason}{advice}")
    return {
        "machine": describe_machine(),
        "packages": package_versions(),
        "settings": asdict(bench),
        **more,
        "rows": rows,
        "interrupted": interrupted,
    }
