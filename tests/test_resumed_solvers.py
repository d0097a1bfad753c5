"""Solvers and backends that go on from a state: the same steps, to the last bit, as if they had not stopped."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from networks import needs_bf16
from numpy.typing import NDArray
from pictures import random_pixels
from solving import DeviceLike, Quadratic

from nstx import Picture, choose_settings, prepare_job
from nstx.engine.devices.arrays import NUMPY, Array, Arrays
from nstx.engine.devices.machine import Processor
from nstx.engine.devices.torch_arrays import TorchArrays
from nstx.engine.gradients.choice import PrecisionPolicy
from nstx.engine.gradients.opening import open_backend
from nstx.engine.pictures.picture import Pixels
from nstx.engine.solvers.adam import adam_steps
from nstx.engine.solvers.choice import solve
from nstx.engine.solvers.lbfgs import lbfgs_steps
from nstx.engine.solvers.memory import Saved, SolverMemory, fetch_state
from nstx.engine.solvers.solver import Steps, run_solver
from nstx.engine.transfer.job import Job
from nstx.models.cost import Cost

ARRAYS: dict[str, Arrays] = {
    "numpy": NUMPY, "torch": TorchArrays(torch.device("cpu")), "device": DeviceLike(),
}  # fmt: skip


def make_steps(kind: str, start: Pixels, steps: int, **more: Any) -> Steps:
    solver, _, name = kind.partition("-")
    arrays = ARRAYS[name]
    options = {"steps": steps, "clip": True, "arrays": arrays, **more}
    if solver == "lbfgs":
        return lbfgs_steps(arrays.place(start), **options)
    return adam_steps(arrays.place(start), learning_rate=3.0, **options)


Trace = list[tuple[bytes, float]]


def run(kind: str, steps: int, stop: int = 0, earlier: Saved | None = None) -> tuple[Trace, Saved]:
    """Run a solver; return its steps, and its state after the step ``stop``."""
    arrays, problem = ARRAYS[kind.partition("-")[2]], Quadratic()
    memory, trace, states = SolverMemory(earlier), Trace(), list[Saved]()

    def take(pixels: Array, cost: Cost) -> None:
        trace.append((arrays.fetch(pixels).tobytes(), cost.total))
        if len(trace) == stop:
            # Fetched at once here; what it refers to is compared at the end of the run.
            references = memory.export()
            states.append({k: v.copy() for k, v in fetch_state(references, arrays).items()})
            states.append(fetch_state(references, arrays))

    def evaluate(pixels: Array) -> tuple[Cost, Array]:
        cost, gradient = problem.cost_and_gradient(arrays.fetch(pixels))
        return cost, arrays.place(gradient)

    start = np.full((9, 7, 3), 100, np.float32)
    run_solver(make_steps(kind, start, steps, on_step=take, memory=memory), evaluate)
    if states:
        for name, value in states[0].items():
            assert np.array_equal(value, states[1][name]), name
    return trace, states[0] if states else {}


KINDS = ["lbfgs-numpy", "lbfgs-torch", "lbfgs-device", "adam-numpy", "adam-torch"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_solver_goes_on_as_if_it_had_not_stopped(kind: str) -> None:
    expected, _ = run(kind, 30)
    assert len(expected) == 30
    # Before the history is full, when it is, after it has gone round, and at the end.
    for stop in (1, 2, 9, 10, 11, 23, 29, 30):
        _, state = run(kind, 30, stop)
        rest, _ = run(kind, 30, earlier=state)
        assert rest == expected[stop:], stop


@pytest.mark.parametrize("kind", KINDS)
def test_a_solver_can_be_stopped_at_every_step(kind: str) -> None:
    expected, _ = run(kind, 14)
    state: Saved | None = None
    for step in range(14):
        one, state = run(kind, step + 1, 1, state)
        assert one == expected[step : step + 1]


class Watching:
    """A watcher that keeps steps, and the states of solver and backend after one of them."""

    def __init__(self, memory: SolverMemory, export: Callable[[], Saved], stop: int = 0) -> None:
        self.trace, self.checks = Trace(), list[Any]()
        self.state: Saved = {}
        self.backend: Saved = {}
        self.checks_then: list[Any] = []
        self._memory, self._export, self._stop = memory, export, stop
        memory.is_due = lambda: len(self.trace) >= stop > 0 and not self.state
        memory.keep = self.keep

    def keep(self) -> None:
        arrays = TorchArrays(torch.device("cpu"))
        self.state, self.backend = fetch_state(self._memory.export(), arrays), self._export()
        self.checks_then = list(self.checks)

    def before_evaluation(self) -> None:
        pass

    def during_evaluation(self) -> None:
        pass

    def after_evaluation(self, cost: Cost, checks: Any) -> None:
        self.checks += checks

    def after_step(self, pixels: Array, cost: Cost) -> None:
        self.trace.append((TorchArrays(torch.device("cpu")).fetch(pixels).tobytes(), cost.total))
        if len(self.trace) == self._stop and not self._memory.is_ahead:
            self.keep()


def watch(job: Job, steps: int, stop: int = 0, earlier: Watching | None = None) -> Watching:
    backend = job.backend(0)
    memory = SolverMemory(None if earlier is None else earlier.state)
    if earlier is not None:
        backend.resume(earlier.backend, earlier.checks_then)
    watching = Watching(memory, backend.export, stop)
    start = job.opened.arrays.place(job.start(0))
    solve(job.settings, steps, job.opened, start, backend=backend, watcher=watching, memory=memory)
    return watching


def job_of(policy: PrecisionPolicy | None = None, **choices: Any) -> Job:
    content, style = (Picture(random_pixels(24, 32, k).astype(np.uint8), None) for k in (1, 9))
    settings = choose_settings(
        size=32, scales=1, backend="torch", device="cpu", content_layers="conv1_2",
        style_layers="conv1_1", steps=40, **choices,
    )  # fmt: skip
    return prepare_job(content, [(style, 1.0)], settings, policy=policy)


def test_adam_ahead_of_its_host_goes_on_as_if_it_had_not_stopped() -> None:
    job = job_of(solver="adam", precision="fp32")
    opened = open_backend(job.settings, job.opened.choice)  # as of a device, without smaller tiles
    job = replace(job, opened=replace(opened, runs_ahead=True))
    expected = watch(job, 17).trace
    for stop in (1, 8):
        before = watch(job, 17, stop)
        assert before.state
        assert before.trace == expected
        made = int(before.state["made"])
        # The last picture's cost was not known yet.
        assert watch(job, 17, earlier=before).trace == expected[made - 1 :]


@needs_bf16
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("bound", [0.25, 1e-4])
def test_a_checked_backend_goes_on_as_if_it_had_not_stopped(solver: str, bound: float) -> None:
    """With a bound that bf16 does not keep it ends in fp32."""
    policy = PrecisionPolicy(
        processor=Processor(bf16_units=True, bf16="packed"), least_bf16_work=0, largest_error=bound
    )
    job = job_of(policy, solver=solver)
    expected = watch(job, 12)
    assert len(expected.checks) > 1
    assert {check.kept for check in expected.checks} == ({True} if bound == 0.25 else {True, False})
    for stop in (2, 9):
        before = watch(job, 12, stop)
        after = watch(job, 12, earlier=before)
        assert after.trace == expected.trace[stop:], stop
        both = [*before.checks_then, *after.checks]
        assert [(c.evaluation, c.error, c.continues_in) for c in both] == [
            (c.evaluation, c.error, c.continues_in) for c in expected.checks
        ]


def test_a_state_is_float32_pictures_and_float64_numbers() -> None:
    _, state = run("lbfgs-numpy", 3, 3)
    kinds: dict[str, tuple[tuple[int, ...], NDArray[Any]]] = {
        k: (v.shape, v) for k, v in state.items()
    }
    assert all(
        value.dtype == (np.float64 if shape == () else np.float32)
        for shape, value in kinds.values()
    )
