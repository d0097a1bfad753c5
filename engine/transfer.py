"""The transfer: from pictures and settings to a stylised picture."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..models.errors import DeviceError, UsageError
from ..models.weights import Weights, load_weights
from .cost import Cost, GradientBackend
from .devices import TorchDevice, resolve_device
from .images import Picture, Pixels, read_image, resize_picture, resize_pixels
from .progress import Progress, Step, StopReason
from .settings import INITS, Settings
from .sizes import fit_size, pyramid_sizes, split_steps, style_size
from .solvers import StopSolving, minimise_adam, minimise_lbfgs
from .starts import make_start
from .targets import Targets, compute_targets
from .torch_backend import TorchBackend
from .torch_network import TorchExtractor, TorchNetwork

WeightedPicture = tuple[Picture, float]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Job:
    """A transfer that is ready to run: everything that does not change while it does.

    Attributes:
        settings: as given.
        content: the content picture, as read.
        init: the picture to start from, if one was named.
        weights: of VGG-19.
        device: and precision.
        network: VGG-19 on the device, truncated.
        sizes: (height, width) of each scale, coarse first; the last is the result's.
        targets: of each scale.
    """

    settings: Settings
    content: Picture
    init: Picture | None
    weights: Weights
    device: TorchDevice
    network: TorchNetwork
    sizes: tuple[tuple[int, int], ...]
    targets: tuple[Targets, ...]

    def backend(self, scale: int) -> GradientBackend:
        """Return the gradient backend of a scale, counted from 0."""
        return TorchBackend(
            self.settings.objective, self.network, self.device, self.targets[scale]
        )

    def start(self, scale: int) -> Pixels:
        """Return the start at a scale's size."""
        content = resize_picture(self.content, *self.sizes[scale])
        init = self.init or self.settings.init
        return make_start(init, content, self.weights.mean, self.settings.seed)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Result:
    """What a transfer led to.

    Attributes:
        pixels: the picture, float32 (height, width, 3), RGB, not rounded; 0–255 unless the
            settings say not to clip.
        cost: of ``pixels``, at the result's size.
        initial_cost: of the start, at the result's size.
        steps: solver iterations that were made, over all scales.
        evaluations: of the cost, with or without gradient, that the solver needed.
        seconds: that the optimisation took.
        stopped: ``steps`` (all were made), ``no_progress`` or ``interrupted``.
    """

    pixels: Pixels
    cost: Cost
    initial_cost: Cost
    steps: int
    evaluations: int
    seconds: float
    stopped: StopReason


def stylize(
    content: Picture,
    styles: Sequence[WeightedPicture],
    settings: Settings,
    *,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Stylise a picture: `prepare_job`, then `run_job`."""
    return run_job(prepare_job(content, styles, settings), on_step, should_stop)


def prepare_job(content: Picture, styles: Sequence[WeightedPicture], settings: Settings) -> Job:
    """Load the weights and compute the targets of every scale.

    Args:
        content: the content picture.
        styles: one or more style pictures, each with a weight above 0.
        settings: of the run.

    Raises:
        UsageError: a size cannot be had from these pictures, or a weight is not above 0.
        ImageError: the picture to start from cannot be read.
        WeightsError: the weights cannot be loaded.
        DeviceError: the device is not there, or has too little memory.
    """
    if not styles or not all(0 < weight < float("inf") for _, weight in styles):
        raise UsageError("expected styles with weights above 0; try STYLE:1")
    if settings.backend != "torch":
        raise DeviceError(
            f"expected the torch backend, got {settings.backend}, which this version does not "
            "have; try --backend torch"
        )
    device = resolve_device(settings.device, settings.precision)
    sizes = choose_sizes(content, styles, settings)
    init = None if settings.init in INITS else read_image(settings.init)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    objective = settings.objective
    with memory_errors(sizes[-1]):
        weights = load_weights(settings.weights, use_cache=settings.use_cache)
        network = TorchNetwork(
            weights, objective.layers, objective.pooling, objective.pool_rounding, device
        )
        extractor = TorchExtractor(network, device)
        targets = tuple(
            compute_targets(
                objective,
                extractor,
                resize_picture(content, *size),
                resize_styles(styles, size, settings.style_scale),
            )
            for size in sizes
        )
    return Job(
        settings=settings,
        content=content,
        init=init,
        weights=weights,
        device=device,
        network=network,
        sizes=sizes,
        targets=targets,
    )


def choose_sizes(
    content: Picture, styles: Sequence[WeightedPicture], settings: Settings
) -> tuple[tuple[int, int], ...]:
    """Return the size of each scale; where ``scales`` is None, as many as the styles allow.

    Raises:
        UsageError: a picture would be too small.
    """
    height, width = fit_size(
        (content.height, content.width),
        size=settings.size,
        height=settings.height,
        width=settings.width,
    )
    sizes = pyramid_sizes(height, width, settings.scales)
    while True:
        try:
            for picture, _ in styles:
                style_size((picture.height, picture.width), sizes[0], settings.style_scale)
            return sizes
        except UsageError:
            if settings.scales is not None or len(sizes) == 1:
                raise
            sizes = sizes[1:]


def resize_styles(
    styles: Sequence[WeightedPicture], size: tuple[int, int], style_scale: float
) -> list[tuple[Pixels, float]]:
    """Return the style pictures at the size that goes with a result's size."""
    return [
        (
            resize_picture(
                picture, *style_size((picture.height, picture.width), size, style_scale)
            ),
            weight,
        )
        for picture, weight in styles
    ]


def run_job(
    job: Job,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Optimise the picture, coarse to fine.

    Args:
        job: from `prepare_job`.
        on_step: is told of each step.
        should_stop: asked before each evaluation; True ends the run, and the result is the last
            finished step's picture, brought to the final size.

    Raises:
        NumericalError: a cost or gradient stopped being finite.
        DeviceError: the device ran out of memory.
    """
    with memory_errors(job.sizes[-1]):
        began = time.perf_counter()
        final = job.backend(len(job.sizes) - 1)
        initial_cost = final.cost(job.start(len(job.sizes) - 1))
        progress = Progress(job.settings.steps, len(job.sizes), on_step, should_stop)
        shares = split_steps(job.settings.steps, len(job.sizes))
        for scale, steps in enumerate(shares):
            last = scale == len(job.sizes) - 1
            backend = progress.begin_scale(final if last else job.backend(scale))
            if steps > 0 and progress.reason != "interrupted":
                _run_scale(job, scale, backend, steps, progress)
            if progress.reason == "interrupted":
                break
        pixels, cost = _finish(job, final, progress)
    return Result(
        pixels=pixels,
        cost=cost,
        initial_cost=initial_cost,
        steps=progress.step,
        evaluations=progress.evaluations,
        seconds=time.perf_counter() - began,
        stopped=progress.reason,
    )


def measure_cost(job: Job, pixels: Pixels) -> Cost:
    """Return the cost of any picture of the result's size, under the job's objective."""
    with memory_errors(job.sizes[-1]):
        return job.backend(len(job.sizes) - 1).cost(pixels)


def _run_scale(
    job: Job, scale: int, backend: GradientBackend, steps: int, progress: Progress
) -> None:
    settings = job.settings
    if progress.pixels is None:
        start = job.start(scale)
    else:
        start = resize_pixels(progress.pixels, *job.sizes[scale])
    if settings.clip:
        start = start.clip(0, 255)
    if settings.solver == "adam":
        minimise_adam(
            backend,
            start,
            steps=steps,
            learning_rate=settings.learning_rate,
            clip=settings.clip,
            on_step=progress.after_step,
        )
    else:
        minimise_lbfgs(
            backend, start, steps=steps, clip=settings.clip, on_step=progress.after_step
        )


def _finish(job: Job, final: GradientBackend, progress: Progress) -> tuple[Pixels, Cost]:
    """Return the last picture at the result's size, and its cost there."""
    size = job.sizes[-1]
    if progress.pixels is None:
        pixels = job.start(len(job.sizes) - 1)
        return pixels, final.cost(pixels)
    if progress.pixels.shape[:2] == size and progress.cost is not None:
        return progress.pixels, progress.cost
    pixels = resize_pixels(progress.pixels, *size).clip(0, 255)
    return pixels, final.cost(pixels)


@contextmanager
def memory_errors(size: tuple[int, int]) -> Iterator[None]:
    """Turn a library's report of exhausted memory into a `DeviceError` that says what to do."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _too_large(size) from error
    except RuntimeError as error:
        # PyTorch's CPU allocator has no class of its own.
        if "can't allocate memory" not in str(error):
            raise
        raise _too_large(size) from error


def _too_large(size: tuple[int, int]) -> DeviceError:
    return DeviceError(
        f"expected enough memory for {size[1]}×{size[0]} pixels, got less; "
        "try a smaller --size, or --precision bf16"
    )
