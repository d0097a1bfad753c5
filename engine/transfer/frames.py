"""Frames of a run: the pictures that an animation will show."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..pictures.picture import Pixels
from ..pictures.resizing import fit_box, resize_pixels
from ..pictures.writing import to_8_bit
from .progress import Step

_MOST_FRAMES = 60
_LONGEST_SIDE = 640

Frame = NDArray[np.uint8]
"""A picture of an animation, (height, width, 3)."""


class FrameCollector:
    """Keeps at most 60 of a run's pictures, evenly spread over its steps.

    Args:
        steps: the largest number of steps that there can be.
        longest_side: of a frame, in pixels; larger pictures are made smaller.

    Attributes:
        steps: the numbers of the steps whose pictures are kept.
    """

    def __init__(self, steps: int, longest_side: int = _LONGEST_SIDE) -> None:
        self._every = max(1, -(-steps // _MOST_FRAMES))
        self._longest_side = longest_side
        self._pictures: list[Frame] = []
        self.steps: list[int] = []

    def take(self, step: Step) -> None:
        """Keep the picture after a step, if it is one of those to keep."""
        # Only then: it may have to be fetched from a device.
        if step.step == 1 or step.step % self._every == 0:
            self._pictures.append(to_8_bit(self._bounded(step.pixels)))
            self.steps.append(step.step)

    def finish(self, pixels: Pixels) -> list[Frame]:
        """Return all frames at the size of the last, which is the result."""
        last = to_8_bit(self._bounded(pixels))
        size = (last.shape[1], last.shape[0])
        earlier = [
            np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
            for picture in self._pictures
        ]
        return [*earlier, last]

    def _bounded(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        size = fit_box((height, width), (self._longest_side, self._longest_side), enlarge=False)
        return pixels if size == (height, width) else resize_pixels(pixels, *size)
