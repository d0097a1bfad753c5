"""Several transfers at once: pictures of one size, evaluated together, each with its own solver.

So that small pictures fill a GPU. On a CPU, which a single picture keeps busy, it saves little.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from nstx.models.arguments import check_arguments
from nstx.models.cost import Cost
from nstx.models.errors import UsageError
from nstx.models.objective import Objective

from ..devices.arrays import Array
from ..devices.memory import memory_errors
from ..gradients.backend import PrecisionCheck, check_batch
from ..gradients.gated import Gate, gated
from ..planning.fitting import check_batch_memory
from ..sizes import split_steps
from ..solvers.choice import begin_solver
from ..solvers.solver import Steps, StopSolving
from ..targets.targets import Targets
from .costs import BoundCosts
from .job import Job
from .progress import Progress, Step
from .result import Result
from .run import follow, make_result


@check_arguments
def run_batch(
    jobs: Sequence[Job] | Iterator[Job],
    *,
    on_step: Callable[[int, Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Result]:
    """Optimise several pictures, one evaluation of all of them at a time.

    Args:
        jobs: a list, or a generator, of jobs of equal sizes, scales, layers, pooling and backend; pictures, weights, starts, solvers
            and numbers of steps may differ. `prepare_job` with ``like`` lets them share one backend.
        on_step: called after each step, with the job's index.
        should_stop: called before each evaluation; True ends all runs at their last finished steps.

    Returns:
        The result of each job; ``seconds`` are those of the whole batch.

    Raises:
        UsageError: the jobs are no batch.
        NumericalError: a cost or gradient stopped being finite.
        DeviceError: memory does not suffice.
    """
    jobs = list(jobs)
    if len({job.opened.choice for job in jobs}) > 1:
        raise UsageError(
            "expected jobs of one backend and precision, got several; try prepare_job(like=…)"
        )
    for scale in (0, -1):
        check_batch([job.settings.objective for job in jobs], [job.sizes[scale] for job in jobs])
    scales, size, opened = len(jobs[0].sizes), jobs[0].sizes[-1], jobs[0].opened
    check_batch_memory(jobs[0].settings, size, opened.choice, len(jobs))
    with memory_errors(size):
        began = time.perf_counter()
        runs = [
            follow(job, on_step=on_step and partial(on_step, index), should_stop=should_stop)
            for index, job in enumerate(jobs)
        ]
        for scale in range(scales):
            _run_scale(jobs, runs, scale)
        seconds = time.perf_counter() - began
        return [
            make_result(job, BoundCosts(job), progress, seconds)
            for job, progress in zip(jobs, runs, strict=True)
        ]


@dataclass(slots=True, eq=False)
class _Member:
    """A picture of the batch at a scale.

    Attributes:
        problem: its objective and targets.
        progress: of its run.
        gate: where it may change; None if everywhere.
        steps: its solver at work.
        pixels: the picture that is to be evaluated next.
    """

    problem: tuple[Objective, Targets]
    progress: Progress
    gate: Gate | None
    steps: Steps
    pixels: Array

    def may_go_on(self) -> bool:
        """Count the next evaluation, unless the run is to stop."""
        try:
            self.progress.before_evaluation()
        except StopSolving:
            return False
        return True

    def advance(self, cost: Cost, gradient: Array, checks: Sequence[PrecisionCheck]) -> bool:
        """Hand an evaluation to the solver; return whether it goes on."""
        self.progress.after_evaluation(cost, checks)
        try:
            self.pixels = self.steps.send((cost, gradient))
        except (StopSolving, StopIteration):
            return False
        return True


def _run_scale(jobs: Sequence[Job], runs: Sequence[Progress], scale: int) -> None:
    """Run the solvers of a scale together; those that have ended leave the batch."""
    opened, bound = jobs[0].opened, list[_Member]()
    members = _begin_scale(jobs, runs, scale)
    while members := [member for member in members if member.may_go_on()]:
        if members != bound:
            problems = [member.problem for member in members]
            backend, bound = opened.bind(problems, scale, len(jobs[0].sizes)), members
            backend = gated(backend, [member.gate for member in members], opened.arrays)
        earlier = len(backend.checks)
        pixels = opened.arrays.stack([member.pixels for member in members])
        costs, gradients = backend.costs_and_gradients(pixels)
        checks = backend.checks[earlier:]
        evaluated = zip(members, costs, gradients, strict=True)
        members = [
            member for member, cost, gradient in evaluated if member.advance(cost, gradient, checks)
        ]


def _begin_scale(jobs: Sequence[Job], runs: Sequence[Progress], scale: int) -> list[_Member]:
    """Return the pictures that have steps to make at a scale."""
    members = []
    for job, progress in zip(jobs, runs, strict=True):
        progress.begin_scale()
        count = split_steps(job.settings.most_steps, len(job.sizes))[scale]
        if count > 0 and not progress.interrupted:
            start = job.opened.arrays.place(job.start(scale, progress.pixels))
            steps = begin_solver(
                job.settings, count, job.opened, start, progress.after_step, enlarged=scale > 0
            )
            problem = (job.settings.objective, job.targets[scale])
            members.append(_Member(problem, progress, job.gate(scale), steps, next(steps)))
    return members
