"""Section `solvers` of `cuda_report`: an evaluation of L-BFGS and a step of Adam beside the gradient."""

import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from cuda_plan import Plan, Row, Section, median_ms, tried

from nstx import Picture, Settings, choose_settings, prepare_job
from nstx.engine.devices.torch_device import TorchDevice
from nstx.engine.gradients.backend import GradientBackend
from nstx.engine.solvers.choice import solve
from nstx.engine.transfer.job import Job
from nstx.engine.transfer.progress import Progress


def measure_solvers(plan: Plan, section: Section) -> Iterator[Row]:
    """Yield the time of an evaluation of L-BFGS and of a step of Adam beside the gradient's."""
    for precision in plan.precisions:
        for solver in ("lbfgs", "adam"):
            if not section.has(5):
                return
            cell = {"solver": solver, "precision": precision}
            settings = choose_settings(
                size=max(plan.solver_size), scales=1, steps=plan.solver_steps[1], backend="torch",
                precision=precision, device=plan.device, solver=solver, early_stop=False,
            )  # fmt: skip
            yield tried(cell, measure_solver, plan, settings)


def measure_solver(plan: Plan, settings: Settings) -> Row:
    """Return the milliseconds of an evaluation, without what a run takes to begin."""
    width, height = plan.solver_size
    content, style = draw(width, height, 1), draw(height, width, 2)
    job = prepare_job(content, [(style, 1.0)], settings)
    device = TorchDevice(job.opened.choice.device, job.opened.choice.precision)
    backend, start = job.backend(0), job.opened.arrays.place(job.start(0))
    gradient = median_ms(lambda: backend.cost_and_gradient(start), device)
    shorter, longer = plan.solver_steps
    taken = []
    run_solver(job, backend, shorter)
    for _ in range(3 if device.place.is_cuda else 1):
        (short, few), (long, many) = (run_solver(job, backend, n) for n in (shorter, longer))
        # Neither run stops early, but their evaluations differ.
        taken.append((long - short) / max(many - few, 1))
    evaluation = 1000 * statistics.median(taken)
    return {
        "width": width, "height": height, "evaluations": many,
        "gradient_ms": gradient, "evaluation_ms": evaluation, "of_gradient": evaluation / gradient,
    }  # fmt: skip


def run_solver(job: Job, backend: GradientBackend, steps: int) -> tuple[float, int]:
    """Run a job's solver for some steps; return its seconds and evaluations."""
    opened, place = job.opened, job.opened.choice.device
    progress = Progress(settings=job.settings, scales=1, arrays=opened.arrays)
    progress.begin_scale()
    start = opened.arrays.place(job.start(0))
    began = time.perf_counter()
    solve(job.settings, steps, opened, start, backend=backend, watcher=progress)
    if place.is_cuda:
        torch.cuda.synchronize(str(place))
    return time.perf_counter() - began, progress.evaluations


def draw(width: int, height: int, seed: int) -> Picture:
    """Return a picture of noise at several scales, as photographs have it."""
    generator, pixels = np.random.default_rng(seed), np.full((height, width, 3), 128.0)
    for cell in (64, 16, 4, 1):
        rough = generator.normal(0, 30, (-(-height // cell), -(-width // cell), 3))
        pixels += np.kron(rough, np.ones((cell, cell, 1)))[:height, :width]
    return Picture(pixels.clip(0, 255).astype(np.uint8), None)
