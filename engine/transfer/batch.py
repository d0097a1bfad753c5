"""Several transfers at once: pictures of one size, evaluated together, each with its own solver.

So that small pictures fill a GPU. On a CPU, which a single picture keeps busy, it saves little.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

from nstx.models.cost import Cost
from nstx.models.errors import UsageError

from ..devices.arrays import Array
from ..devices.memory import GRADIENT_BYTES, check_memory, memory_errors
from ..gradients.backend import BatchBackend, check_batch
from ..sizes import split_steps
from ..solvers.solver import Solver, StopSolving
from .job import Job
from .progress import Progress, Step
from .run import Result, make_result, make_solver


def run_batch(
    jobs: Sequence[Job],
    *,
    on_step: Callable[[int, Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Result]:
    """Optimise several pictures, one evaluation of all of them at a time.

    Args:
        jobs: of equal sizes, scales, layers, pooling and backend; pictures, weights, starts, solvers
            and numbers of steps may differ. `nstx.engine.transfer.job.prepare_job` with ``like`` lets them
            share one backend.
        on_step: is told of each step, with the job's index.
        should_stop: asked before each evaluation; True ends all runs at their last finished steps.

    Returns:
        The result of each job. ``seconds`` is that of the whole batch.

    Raises:
        UsageError: the jobs are no batch.
        NumericalError: a cost or gradient stopped being finite.
        DeviceError: memory does not suffice.
    """
    if len({job.opened.choice for job in jobs}) > 1:
        raise UsageError(
            "expected jobs of one backend and precision, got several; try prepare_job(like=…)"
        )
    scales = max((len(job.sizes) for job in jobs), default=1)
    for scale in range(scales):
        check_batch(
            [job.settings.objective for job in jobs],
            [job.sizes[scale] if len(job.sizes) == scales else (0, 0) for job in jobs],
        )
    size, device = jobs[0].sizes[-1], jobs[0].opened.choice.device
    check_memory(size, device, GRADIENT_BYTES * len(jobs))
    with memory_errors(size):
        began = time.perf_counter()
        runs = [
            Progress(job.settings, scales, on_step and partial(on_step, index), should_stop)
            for index, job in enumerate(jobs)
        ]
        for scale in range(scales):
            _run_scale(jobs, runs, scale)
        seconds = time.perf_counter() - began
        return [
            make_result(job, job.backend(scales - 1), run, None, seconds)
            for job, run in zip(jobs, runs, strict=True)
        ]


def _run_scale(jobs: Sequence[Job], runs: Sequence[Progress], scale: int) -> None:
    """Run all solvers of a scale in step; who has finished leaves the batch."""
    solvers: dict[int, Solver] = {}
    waiting: dict[int, Array] = {}
    for index, (job, run) in enumerate(zip(jobs, runs, strict=True)):
        run.begin_scale()
        steps = split_steps(job.settings.steps, len(job.sizes))[scale]
        if steps > 0 and not run.interrupted:
            solvers[index] = make_solver(job, scale, steps, run)
            waiting[index] = next(solvers[index])
    backend: BatchBackend | None = None
    members: list[int] = []
    while waiting:
        for index in list(waiting):
            try:
                runs[index].count_evaluation()
            except StopSolving:
                del waiting[index]
        if not waiting:
            break
        if backend is None or members != list(waiting):
            members = list(waiting)
            problems = [(jobs[i].settings.objective, jobs[i].targets[scale]) for i in members]
            backend = jobs[0].opened.make(problems)
        pixels = jobs[0].opened.arrays.stack([waiting[index] for index in members])
        costs, gradients = _evaluate(backend, pixels, [runs[index] for index in members])
        for index, cost, gradient in zip(members, costs, gradients, strict=True):
            try:
                waiting[index] = solvers[index].send((cost, gradient))
            except (StopSolving, StopIteration):
                del waiting[index]


def _evaluate(
    backend: BatchBackend, pixels: Array, runs: Sequence[Progress]
) -> tuple[Sequence[Cost], Array]:
    """Return costs and gradients; tell the runs what they note of each evaluation."""
    known = len(backend.checks)
    costs, gradients = backend.costs_and_gradients(pixels)
    for run, cost in zip(runs, costs, strict=True):
        run.note(cost, backend.checks[known:])
    return costs, gradients
