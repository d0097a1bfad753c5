"""How fast whole runs are, by each backend and precision, in turns."""

import itertools
import statistics
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from nstx.models.errors import about
from nstx.models.presets import find_preset

from ..pictures.reading import read_image
from .tasks import OPTIMIZE_VARIANTS, Task
from .turns import Answers, Bench, Row, RowMaker, make_report, run_process, take_turns


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeBench(Bench):
    """Whole runs, from a process's start to the saved picture.

    Sizes are the long sides of the results, in pixels; pictures that are None are drawn.
    """

    work = "optimize"
    choices: ClassVar[Collection[str]] = OPTIMIZE_VARIANTS

    content: str | None = None
    style: str | None = None
    sizes: tuple[int, ...] = (400,)
    variants: tuple[str, ...] = ("auto", "onnx", "torch")
    preset: str = "default"
    steps: int = 50

    def __post_init__(self) -> None:
        Bench.__post_init__(self)
        find_preset(self.preset)

    @property
    def warm_up(self) -> tuple[Task, ...]:
        """A run of one step for each size and variant, which fills the cache."""
        return tuple(replace(task, steps=1) for cell in self.cells for task in cell)

    @property
    def cells(self) -> tuple[tuple[Task, ...], ...]:
        """Each size by every variant."""
        files = {"content": self.content or "", "style": self.style or ""}
        return tuple(
            tuple(self.task(name, size, **files) for name in self.variants) for size in self.sizes
        )


def run_optimize_bench(
    bench: OptimizeBench,
    on_measurement: Callable[[str], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
    *,
    run_task: Callable[[Task], dict[str, Any]] = run_process,
) -> dict[str, Any]:
    """Measure everything, and return it as plain data; `DeviceError` if nothing could be measured.

    A row is a size and variant, with ``seconds`` (median of whole processes), ``fastest``,
    ``slowest``, and the other fields of `nstx.engine.bench.transfer.measure_transfer`. Beside
    ``torch`` it has the shares ``of_torch`` of the time and ``cost_of_torch``. A row that failed
    has ``error`` instead. ``on_measurement`` is called after each process with its label, ``on_row``
    with each row when all of it is measured, and ``run_task`` returns what was measured, or ``error``.
    `ImageError` if a picture cannot be read, before the first process.
    """
    make_row = RowMaker(("size",), _describe, _compare)

    def complete(task: Task, answers: Answers) -> None:
        if on_row is not None:
            on_row(make_row(task, answers))

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        content, style = _pictures(bench, Path(folder))
        drawn = replace(bench, content=content, style=style)
        answers, interrupted = take_turns(drawn, run_task, on_measurement, complete)
    rows = make_row.rows(itertools.chain(*drawn.cells), answers)
    warm_up = "one run of one step for each size and variant"
    return make_report(bench, rows, interrupted=interrupted, warm_up=warm_up)


def _pictures(bench: OptimizeBench, folder: Path) -> tuple[str, str]:
    """Return the paths of content and style; draw those that are missing, of 4:3."""
    size = max(bench.sizes)
    height, width = max(1, 3 * size // 4), size
    down, across = np.mgrid[0:height, 0:width] / size
    paths = []
    for path, name, waves in ((bench.content, "content", 3.0), (bench.style, "style", 17.0)):
        if path is not None:
            with about(name):
                read_image(path)
        else:
            path = str(folder / f"{name}.png")
            angles = np.stack([waves * (down + k * across * down + k) for k in (1, 2, 3)], axis=-1)
            pixels = (127.5 + 127.5 * np.sin(2 * np.pi * angles)).astype(np.uint8)
            Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths[0], paths[1]


def _describe(task: Task, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seconds = sorted(answer["seconds"] for answer in answers)
    last = answers[-1]
    return {
        "width": last["width"],
        "height": last["height"],
        "runs_on": last["runs_on"],
        "seconds": statistics.median(seconds),
        "fastest": seconds[0],
        "slowest": seconds[-1],
        "first_step": statistics.median(answer["first_step"] for answer in answers),
        "per_evaluation": statistics.median(answer["per_evaluation"] for answer in answers),
        "evaluations": last["evaluations"],
        "cost": last["cost"],
        "checks": last["checks"],
        "peak_memory_bytes": max(answer["peak_memory_bytes"] for answer in answers),
    }


def _compare(row: dict[str, Any], eager: dict[str, Any]) -> dict[str, Any]:
    return {
        "of_torch": row["seconds"] / eager["seconds"],
        "cost_of_torch": row["cost"] / eager["cost"],
    }
