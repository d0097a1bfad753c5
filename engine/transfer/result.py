"""What a transfer led to."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from nstx.models.cost import Cost

from ..gradients.backend import PrecisionCheck
from ..manifests.pictures import describe_picture
from ..pictures.picture import Picture, Pixels
from ..pictures.resizing import resize_8_bit
from ..pictures.writing import Saving, encode_image, to_8_bit, write_image
from .job import Job
from .progress import Step, StopReason


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Result:
    """What a transfer led to.

    Attributes:
        picture: with the content's transparency; 0–255 unless the settings say not to clip.
        cost: of the picture, at the result's size; in grey, if ``colors`` is ``luminance``.
        initial_cost: of the start, at the result's size, within 0–255 if the settings clip; None if it was not
            measured.
        steps: solver iterations that were made, over all scales.
        evaluations: of the cost, with or without gradient, that the solver needed.
        seconds: that the optimisation took.
        stopped: ``steps`` (all were made), ``no_progress`` or ``interrupted``; ``diverged`` or ``failed`` of
            what `unfinished_result` made of such a run.
        checks: of the gradient's precision; empty unless it is chosen as the run goes.
        cleaned: whether flat areas and the rim were cleaned after the last step (`Settings.clean`); a run that
            was interrupted is not, nor one that moved no pixel.
        last_step: whose cost, at its scale, stands for the result's, which was not measured; None if it was.
    """

    picture: Picture
    cost: Cost
    initial_cost: Cost | None
    steps: int
    evaluations: int
    seconds: float
    stopped: StopReason
    checks: tuple[PrecisionCheck, ...] = ()
    cleaned: bool = False
    last_step: Step | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        share, start = "", self.initial_cost
        if start is not None and start.total > 0:
            share = f", {self.cost.total / start.total:.2%} of the start's"
        return (
            f"<Result {self.picture.width}×{self.picture.height} after {self.steps} "
            f"{'step' if self.steps == 1 else 'steps'} in {self.seconds:.1f} s ({self.stopped}): cost {self.cost.total:.6g}{share}>"
        )

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        return encode_image(self.pixels, ".png", self.picture.alpha)

    def save(self, path: str | Path, **saving: Unpack[Saving]) -> None:
        """Write the picture, with its transparency, in the format of the suffix: see `write_image`, `Saving`."""
        write_image(path, self.picture, **saving)

    @property
    def is_complete(self) -> bool:
        """Whether the run ended by itself, after all of its steps or where there was no progress."""
        return self.stopped in ("steps", "no_progress")

    @property
    def pixels(self) -> Pixels:
        """The picture's pixels, float32 (height, width, 3), RGB, not rounded."""
        return self.picture.pixels.astype(np.float32, copy=False)


def unfinished_result(job: Job, last: Step, stopped: StopReason) -> Result:
    """Return what a run that did not end has led to, without evaluating anything.

    Its cost is that of the last step, at that step's size, in place of that at the result's.
    """
    pixels: Pixels | NDArray[np.uint8] = last.pixels
    if pixels.shape[:2] != job.sizes[-1]:
        # In 8 bits, as whoever sent a signal is waiting: that takes a tenth of the time.
        pixels = resize_8_bit(to_8_bit(pixels), *job.sizes[-1])
    if job.colouring.finishes:
        pixels = job.colouring.finish(pixels.astype(np.float32))
    return Result(
        picture=job.picture(pixels, describe_picture(job, is_complete=False)),
        cost=last.cost,
        initial_cost=None,
        steps=last.step,
        evaluations=last.evaluations,
        seconds=last.seconds,
        stopped=stopped,
        checks=last.checks,
        last_step=last,
    )
