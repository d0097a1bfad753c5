"""Several transfers at once: all are to end as they do alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from devices import on_cuda
from pictures import random_pixels

from nstx import Picture, Step, choose_settings, prepare_job, run_batch, run_job
from nstx.engine.settings import BackendName
from nstx.engine.transfer.job import Job
from nstx.models.errors import UsageError
from nstx.models.presets import SolverName

CONTENTS = [Picture(random_pixels(33, 42, seed).astype(np.uint8), None) for seed in range(3)]
STYLE = Picture(random_pixels(33, 40, 9).astype(np.uint8), None)


def jobs_of(
    backend: BackendName = "onnx", solver: SolverName | None = None, device: str = "cpu"
) -> list[Job]:
    jobs: list[Job] = []
    # Layers count on a device only, where kernels are chosen by them.
    few: Any = {"content_layers": "conv2_2", "style_layers": "conv1_1,conv3_1"}
    layers = few if device == "cpu" else {}
    for index, content in enumerate(CONTENTS):
        settings = choose_settings(
            size=42, scales=2, steps=4 + index, device=device, backend=backend, solver=solver,
            style_weight=1.0 + index, precision="fp32", **layers,
        )  # fmt: skip
        like = jobs[0] if jobs else None
        jobs.append(prepare_job(content, [(STYLE, 1.0)], settings, like=like))
    return jobs


@pytest.mark.parametrize(
    ("backend", "solver", "device"),
    [
        ("onnx", "lbfgs", "cpu"),
        ("onnx", "adam", "cpu"),
        ("torch", "lbfgs", "cpu"),
        on_cuda("torch", "lbfgs", "cuda", name="cuda-lbfgs"),
        on_cuda("torch", "adam", "cuda", name="cuda-adam"),
    ],
)
def test_a_batch_ends_as_its_jobs_do_alone(
    backend: BackendName, solver: SolverName, device: str
) -> None:
    jobs = jobs_of(backend, solver, device)
    steps: list[tuple[int, int, int]] = []

    def note(index: int, step: Step) -> None:
        steps.append((index, step.scale, step.step))

    results = run_batch(jobs, on_step=note)
    for index, (job, result) in enumerate(zip(jobs, results, strict=True)):
        alone = run_job(job)
        assert (result.steps, result.evaluations) == (alone.steps, alone.evaluations)
        assert result.stopped == alone.stopped == "steps"
        assert result.cost.total == pytest.approx(alone.cost.total, rel=1e-3)
        assert result.initial_cost is not None
        assert alone.initial_cost is not None
        assert result.initial_cost.total == pytest.approx(alone.initial_cost.total, rel=1e-4)
        assert [step for i, _, step in steps if i == index] == list(range(1, 5 + index))
    # All take turns, and the one with the fewest steps is the first to be done.
    assert [index for index, _, _ in steps[:3]] == [0, 1, 2]
    assert steps[-1][0] == 2


def test_a_batch_that_is_stopped_ends_at_finished_steps() -> None:
    calls = 0

    def should_stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 10

    results = run_batch(jobs_of(), should_stop=should_stop)
    assert {result.stopped for result in results} == {"interrupted"}
    assert all(result.steps >= 1 for result in results)
    assert all(result.pixels.shape == (33, 42, 3) for result in results)


def test_jobs_that_are_no_batch_are_refused() -> None:
    first, second, _ = jobs_of()
    single = prepare_job(CONTENTS[0], [(STYLE, 1.0)], replace(first.settings, scales=1))
    for jobs in ([], [first, single], [single, first]):
        with pytest.raises(UsageError, match="one size"):
            run_batch(jobs)
    with pytest.raises(UsageError, match="threads"):
        prepare_job(CONTENTS[0], [(STYLE, 1.0)], replace(first.settings, threads=1), like=second)
    pooled = replace(first.settings, objective=replace(first.settings.objective, pooling="max"))
    with pytest.raises(UsageError, match="objective"):
        prepare_job(CONTENTS[0], [(STYLE, 1.0)], pooled, like=second)
