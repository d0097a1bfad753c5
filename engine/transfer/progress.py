"""Following a run step by step: the record of a step, when to stop, and the frames to keep."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstx.models.cost import Cost

from ..checkpoints.contents import Contents
from ..checkpoints.keeper import Checkpoints
from ..checkpoints.reached import MOST_BEST, Reached, StepRecord
from ..colours.modes import Colouring
from ..devices.arrays import NUMPY, Array, Arrays
from ..gradients.backend import PrecisionCheck
from ..pictures.picture import EIGHT_BITS, Encoding, Picture, Pixels
from ..pictures.resizing import fit_box, resize_channel, resize_pixels
from ..pictures.transparency import with_alpha
from ..pictures.writing import Saving, to_8_bit, write_image
from ..settings import Settings
from ..solvers.solver import StopSolving

StopReason = Literal["steps", "no_progress", "interrupted", "diverged", "failed"]

# A scale ends when its best cost has fallen by less than 0.1 % over all costs that progress is told by.
_LEAST_PROGRESS = 1e-3

_MOST_FRAMES = 60


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """A step that was made.

    Attributes:
        step: its number, from 1, over all scales.
        steps: the largest number of steps that there can be.
        scale: the number of the scale, from 1, coarse first.
        scales: the number of scales.
        cost: of ``pixels``, under the objective at this scale's size, in the precision of the step.
        evaluations: of the cost, with or without its gradient, that were begun so far.
        seconds: from the start of the first scale until the step is reported: Adam on CUDA runs up to
            ten steps ahead.
        picture: (height, width, 3), 0–255, one of ``arrays``; not to be changed.
        alpha: of the result, uint8, at its size; None if it is opaque.
        encoding: of the content picture's file.
        arrays: of the backend.
        checks: of the gradient's precision, so far.
        colouring: of the result, for `to_picture`: until then a picture may be grey, as it is compared.
    """

    step: int
    steps: int
    scale: int
    scales: int
    cost: Cost
    evaluations: int
    seconds: float
    picture: Array = field(repr=False)
    alpha: NDArray[np.uint8] | None = field(default=None, repr=False)
    encoding: Encoding = EIGHT_BITS
    arrays: Arrays = field(default=NUMPY, repr=False)
    checks: tuple[PrecisionCheck, ...] = field(default=(), repr=False)
    colouring: Colouring | None = field(default=None, repr=False)

    @property
    def pixels(self) -> Pixels:
        """The picture as it is compared, float32 (height, width, 3), 0–255; fetched from the device it lies on."""
        return self.arrays.fetch(self.picture)

    def to_picture(self) -> Picture:
        """Return the picture at the size of its scale, with the result's colours and transparency."""
        pixels = self.pixels
        if self.colouring is not None:
            pixels = self.colouring.finish(pixels)
        alpha = None if self.alpha is None else resize_channel(self.alpha, *pixels.shape[:2])
        return Picture(pixels, alpha, encoding=self.encoding)

    def save(self, path: str | Path, **saving: Unpack[Saving]) -> None:
        """Write the picture of `to_picture`: see `write_image`, `Saving`."""
        write_image(path, self.to_picture(), **saving)


def trace_line(step: Step) -> dict[str, object]:
    """Return a step's line of a trace, as plain data."""
    return {
        "step": step.step,
        "scale": step.scale,
        "height": step.picture.shape[0],
        "width": step.picture.shape[1],
        "total": step.cost.total,
        "content": step.cost.content,
        "style": step.cost.style,
        "total_variation": step.cost.total_variation,
        "laplacian": step.cost.laplacian,
        "style_layers": dict(step.cost.style_layers),
        "evaluations": step.evaluations,
        "seconds": step.seconds,
    }


@dataclass(slots=True, eq=False, kw_only=True)
class Progress:
    """Counts the steps and evaluations of one run over its scales, and decides when to stop.

    A `nstx.engine.solvers.solver.Watcher`.

    Attributes:
        on_step: called after each step.
        should_stop: called before each evaluation, and between its tiles; True ends the run at the last finished step.
        alpha: of the result.
        encoding: of the content picture's file.
        colouring: of the result.
        checkpoints: of the run, if it is kept.
        step: the number of steps so far, over all scales.
        interrupted: whether ``should_stop`` ended the run.
        first_cost: of the first evaluation.
        cost: after the last step, as is ``picture``.
    """

    settings: Settings
    scales: int
    arrays: Arrays
    on_step: Callable[[Step], None] | None = None
    should_stop: Callable[[], bool] | None = None
    alpha: NDArray[np.uint8] | None = None
    encoding: Encoding = EIGHT_BITS
    colouring: Colouring | None = None
    checkpoints: Checkpoints | None = None
    step: int = 0
    evaluations: int = 0
    interrupted: bool = False
    first_cost: Cost | None = None
    cost: Cost | None = None
    picture: Array | None = None
    checks: list[PrecisionCheck] = field(default_factory=list)
    _scale: int = 0
    _began: float = field(default_factory=time.perf_counter)
    _best: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_BEST))
    _is_over: bool = False
    _records: list[StepRecord] = field(default_factory=list)

    @property
    def stopped(self) -> StopReason:
        """Why the run ended; a solver that ends by itself before its last step found no better."""
        if self.interrupted:
            return "interrupted"
        return "steps" if self.step == self.settings.most_steps else "no_progress"

    @property
    def pixels(self) -> Pixels | None:
        """The picture after the last step; None before the first."""
        return None if self.picture is None else self.arrays.fetch(self.picture)

    @property
    def seconds(self) -> float:
        """From the start of the first scale on, without those between a checkpoint and the run that goes on."""
        return time.perf_counter() - self._began

    def begin_scale(self) -> None:
        """Enter the next scale."""
        self._scale += 1
        self._best.clear()
        self._is_over = False

    def reach(self) -> Reached:
        """Return how far the run is; steps are known if it is kept."""
        return Reached(
            scale=self._scale, is_over=self._is_over, evaluations=self.evaluations, seconds=self.seconds,
            first_cost=self.first_cost, steps=self._records[:], best=tuple(self._best),
            checks=tuple(self.checks),
        )  # fmt: skip

    def resume(self, earlier: Contents) -> None:
        """Go on from where a run was."""
        reached = earlier.reached
        self._scale, self._is_over = reached.scale, reached.is_over
        self._began = time.perf_counter() - reached.seconds
        self.evaluations, self.first_cost = reached.evaluations, reached.first_cost
        self._records, self.checks = [*reached.steps], [*reached.checks]
        self._best.extend(reached.best)
        self.step, self.picture = len(reached.steps), self.arrays.place(earlier.picture)
        self.cost = reached.steps[-1].cost if reached.steps else None

    def before_evaluation(self) -> None:
        """Count an evaluation; raise `StopSolving` if the run is to stop."""
        self.during_evaluation()
        self.evaluations += 1

    def during_evaluation(self) -> None:
        """Raise `StopSolving` if the run is to stop; an evaluation that has begun is lost."""
        stops = self.should_stop is not None and self.should_stop()
        if stops and (self.checkpoints is None or self.checkpoints.may_stop(self.step)):
            self.interrupted = True
            raise StopSolving

    def after_evaluation(self, cost: Cost, checks: Sequence[PrecisionCheck]) -> None:
        """Keep the first cost, and the checks of the precision."""
        self.first_cost = self.first_cost or cost
        self.checks += checks
        if checks:
            # Costs before and after a correction do not compare.
            self._best.clear()

    def after_step(self, picture: Array, cost: Cost, /) -> None:
        """Keep the picture, and call back; raise `StopSolving` if there is no progress any more."""
        self.step += 1
        self.picture, self.cost, seconds = picture, cost, self.seconds
        if self.on_step is not None:
            self.on_step(
                Step(
                    step=self.step,
                    steps=self.settings.steps,
                    scale=self._scale,
                    scales=self.scales,
                    cost=cost,
                    evaluations=self.evaluations,
                    seconds=seconds,
                    picture=picture,
                    alpha=self.alpha,
                    encoding=self.encoding,
                    arrays=self.arrays,
                    checks=tuple(self.checks),
                    colouring=self.colouring,
                )
            )
        best = min(cost.total, self._best[-1]) if self._best else cost.total
        self._best.append(best)
        is_still = len(self._best) == MOST_BEST and best >= self._best[0] * (1 - _LEAST_PROGRESS)
        self._is_over = self.settings.early_stop and is_still
        if self.checkpoints is not None:
            self._records.append(StepRecord(self._scale, self.evaluations, seconds, cost))
            self.checkpoints.take()
        if self._is_over:
            raise StopSolving


class FrameCollector:
    """Keeps at most 60 of a run's pictures, evenly spread over its steps, for an animation.

    Args:
        steps: the largest number of steps that there can be.
        longest_side: of a frame, in pixels; larger pictures are made smaller.
        alpha: of the result, uint8 (height, width); None if it is opaque.

    Attributes:
        steps: the numbers of the steps whose pictures are kept.
    """

    def __init__(
        self, steps: int, longest_side: int = 640, alpha: NDArray[np.uint8] | None = None
    ) -> None:
        self._every = max(1, -(-steps // _MOST_FRAMES))
        self._box, self._alpha = (longest_side, longest_side), alpha
        self._pictures: list[NDArray[np.uint8]] = []
        self.steps: list[int] = []

    def take(self, step: Step) -> None:
        """Keep the picture after a step, if it is one of those to keep."""
        # Only then: it may have to be fetched from a device.
        if step.step == 1 or step.step % self._every == 0:
            self._pictures.append(self._frame(step.pixels, step.colouring))
            self.steps.append(step.step)

    def finish(self, pixels: Pixels) -> list[NDArray[np.uint8]]:
        """Return all frames, (height, width, 3), at the size of the last, which is the result.

        (height, width, 4) if it is not opaque.
        """
        last = self._frame(pixels)
        size = (last.shape[1], last.shape[0])
        earlier = [
            np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
            for picture in self._pictures
        ]
        return [*earlier, last]

    def _frame(self, pixels: Pixels, colouring: Colouring | None = None) -> NDArray[np.uint8]:
        size = (pixels.shape[0], pixels.shape[1])
        fitted = fit_box(size, self._box, enlarge=False)
        pixels = pixels if fitted == size else resize_pixels(pixels, *fitted)
        if colouring is not None:
            pixels = colouring.finish(pixels)
        alpha = None if self._alpha is None else resize_channel(self._alpha, *fitted)
        return with_alpha(to_8_bit(pixels), alpha)
