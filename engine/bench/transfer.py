"""A whole run in this process, timed from the process's start to the saved picture."""

import tempfile
from pathlib import Path
from typing import Any

from ..choices import choose_settings
from ..devices.memory import peak_memory_bytes, process_seconds
from ..pictures.reading import read_image
from ..pictures.writing import write_image
from ..transfer.costs import BoundCosts
from ..transfer.job import prepare_job
from ..transfer.progress import Step
from ..transfer.report import describe_run, describe_schedule
from ..transfer.run import run_job
from .tasks import OPTIMIZE_VARIANTS, Task


def measure_transfer(task: Task) -> dict[str, Any]:
    """Run a transfer, and return what was measured.

    ``seconds`` are those from the process's start to its last result, ``first_step`` those until
    the first step begins, ``per_evaluation`` those of the optimisation; ``cost`` is that of the
    saved picture, and ``checks`` are those of the precision, or None.
    """
    backend, precision = OPTIMIZE_VARIANTS[task.variant]
    settings = choose_settings(
        task.preset, size=task.size, steps=task.steps, backend=backend, precision=precision,
        device=task.device, threads=task.threads, weights=task.weights,
    )  # fmt: skip
    job = prepare_job(read_image(task.content), [(read_image(task.style), 1.0)], settings)
    first_step = process_seconds()

    def note(step: Step) -> None:
        nonlocal first_step
        if step.step == 1:
            first_step = process_seconds() - step.seconds

    costs = BoundCosts(job)
    result = run_job(job, costs=costs, on_step=note)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.png"
        write_image(path, result.picture)
        cost = costs.measure_file(path).total
    run, choice = describe_run(job, result), job.opened.choice
    schedule = describe_schedule(job.opened.plan, result.checks, result.seconds)
    return {
        "width": run["width"],
        "height": run["height"],
        "runs_on": f"{run['backend']} {run['device']} {run['precision']}",
        "seconds": process_seconds(),
        "first_step": first_step,
        "per_evaluation": result.seconds / result.evaluations,
        "evaluations": result.evaluations,
        "cost": cost,
        "checks": None if schedule is None else schedule["checks"],
        "peak_memory_bytes": peak_memory_bytes(choice.device, by_torch=choice.name == "torch"),
    }
