"""The solver that settings name, at one scale: begun for a batch, or run to its end."""

import contextlib

from nstx.models.storage.cache import cache_folder, keeps_cache

from ..devices.arrays import Array, Arrays
from ..gradients.backend import GradientBackend
from ..gradients.gated import GatedBackend
from ..gradients.opening import BackendFactory
from ..settings import Settings
from ..tiles.pauses import pausing
from .adam import adam_steps
from .descent import ENLARGED
from .lbfgs import lbfgs_steps
from .memory import SolverMemory
from .shelf import DiskShelf, Shelf, in_memory
from .solver import Evaluation, StepCallback, Steps, StopSolving, Watcher, run_solver


def begin_solver(
    settings: Settings,
    steps: int,
    opened: BackendFactory,
    start: Array,
    on_step: StepCallback,
    backend: GradientBackend | None = None,
    memory: SolverMemory | None = None,
    *,
    enlarged: bool = False,
) -> Steps:
    """Return a solver that makes a number of steps from a picture (height, width, 3), ``enlarged`` or not.

    If one ``backend`` evaluates its pictures and no others, it is named. ``memory`` is where it goes on from.
    """
    stays_grey = settings.colors == "luminance"
    if settings.solver == "lbfgs":
        solver = lbfgs_steps(
            start, steps=steps, clip=settings.clip, on_step=on_step, arrays=opened.arrays,
            exponent=ENLARGED if enlarged else 1.0,
            lead=None if backend is None or stays_grey else backend.lead, memory=memory,
            shelf=_open_shelf(settings, opened.arrays),
        )  # fmt: skip
    else:
        solver = adam_steps(
            start, steps=steps, learning_rate=settings.learning_rate, clip=settings.clip, on_step=on_step,
            arrays=opened.arrays, memory=memory,
        )  # fmt: skip
    return _in_grey(solver, opened.arrays) if stays_grey else solver


def _open_shelf(settings: Settings, arrays: Arrays) -> Shelf:
    """Return where L-BFGS keeps its steps: on the disk where targets are kept, too."""
    if settings.history != "disk":
        return in_memory
    return DiskShelf(arrays, cache_folder() if keeps_cache(settings.use_cache) else None)


def _in_grey(solver: Steps, arrays: Arrays) -> Steps:
    """Return a solver whose picture stays grey, if it begins with a grey one.

    Its gradients are projected on grey: each pixel's three values become their mean.
    """
    with contextlib.suppress(StopIteration):
        pixels = next(solver)
        while True:
            cost, gradient = yield pixels
            pixels = solver.send((cost, arrays.to_grey(gradient)))


def is_ahead(settings: Settings, opened: BackendFactory, *, is_gated: bool) -> bool:
    """Whether a solver is Adam ahead of its host: a gradient goes from its backend to Adam as it is then."""
    is_changed = settings.colors == "luminance" or is_gated
    return settings.solver == "adam" and opened.runs_ahead and not is_changed


def solve(
    settings: Settings,
    steps: int,
    opened: BackendFactory,
    start: Array,
    *,
    backend: GradientBackend,
    watcher: Watcher,
    memory: SolverMemory | None = None,
    enlarged: bool = False,
) -> None:
    """Run a solver that makes a number of steps, or until the watcher raises `StopSolving`.

    ``enlarged`` says whether it starts from the picture of a coarser scale. Adam runs ahead of its host where the
    factory of the backend, which is of one picture, allows it. Where ``memory`` has a state, the solver goes on from
    that, and ``steps`` counts those that led to it.
    """

    def evaluate(pixels: Array) -> Evaluation:
        watcher.before_evaluation()
        earlier = len(backend.checks)
        with pausing(watcher.during_evaluation):
            cost, gradient = backend.cost_and_gradient(pixels)
        watcher.after_evaluation(cost, backend.checks[earlier:])
        return cost, gradient

    if not is_ahead(settings, opened, is_gated=isinstance(backend, GatedBackend)):
        try:
            solver = begin_solver(
                settings,
                steps,
                opened,
                start,
                watcher.after_step,
                backend,
                memory,
                enlarged=enlarged,
            )
            run_solver(solver, evaluate)
        finally:
            # The solver's memory is not kept by a backend that outlives it.
            backend.lead(None)
        return
    from .torch_adam import run_adam

    rate = settings.learning_rate
    with contextlib.suppress(StopSolving):
        run_adam(
            backend, start, steps=steps, learning_rate=rate, clip=settings.clip, watcher=watcher,
            memory=memory,
        )  # fmt: skip
