"""The ways to colour a result: what they compare, and what becomes of the picture in the end.

- ``style``: nothing; a picture takes its colours from the paintings, with their strokes.
- ``luminance``: photograph and paintings are compared in grey, the picture stays grey while it is optimised, and the
  photograph's hues and chroma are put back at last. So strokes are where the paintings' light and shade has them. Their
  greys get the photograph's mean and contrast: a picture that is much lighter or darker has no room for its colours.
- ``matched``: paintings get the photograph's mean and covariance of colours before they are compared.
- ``histogram``: the result gets the photograph's distribution of each channel, afterwards.
- ``only``: the photograph gets the paintings' mean and covariance of colours, and no strokes: no step is made.

After Gatys et al. 2016, "Preserving color in neural artistic style transfer". Departures: lightness and colour are OKLab's
in place of YIQ's; and the map of ``matched`` is another (`nstx.engine.colours.linear`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..pictures.picture import Picture, Pixels, WeightedPicture
from ..pictures.resizing import resize_pixels
from ..settings import Colors
from .histogram import match_histograms
from .linear import LinearMap, fit_map
from .oklab import to_grey, with_chroma


@dataclass(frozen=True, slots=True, eq=False)
class _Grey:
    """`nstx.engine.pictures.picture.Recolouring` to greys that are as light, and then by a map, if there is one."""

    then: LinearMap | None = None

    @property
    def key(self) -> str:
        return "grey-1" if self.then is None else f"grey-1 {self.then.key}"

    def __call__(self, pixels: Pixels) -> Pixels:
        grey = to_grey(pixels)
        return grey if self.then is None else self.then(grey)


def as_compared(
    colors: Colors, content: Picture, styles: Sequence[WeightedPicture]
) -> tuple[Picture, list[WeightedPicture]]:
    """Return the pictures that targets are computed of: in grey, or paintings in the photograph's colours."""
    if colors == "luminance":
        content = replace(content, recolouring=_Grey())
        return content, [(_match_grey(style, content), weight) for style, weight in styles]
    if colors == "matched":
        return content, [
            (replace(style, recolouring=fit_map(style, [(content, 1.0)])), weight)
            for style, weight in styles
        ]
    return content, list(styles)


def shares_targets(colors: Colors) -> bool:
    """Whether a painting's targets serve all photographs: it is compared as it is, and not matched to each."""
    return colors not in ("luminance", "matched")


def _match_grey(style: Picture, content: Picture) -> Picture:
    """Return a style in greys with the mean and the contrast of those of a content, which is grey."""
    moved = fit_map(replace(style, recolouring=_Grey()), [(content, 1.0)])
    return replace(style, recolouring=_Grey(moved))


@dataclass(frozen=True, slots=True, eq=False)
class Colouring:
    """What becomes of a picture's colours.

    Attributes:
        colors: the way to colour it.
        content: the photograph in its colours, float32 (height, width, 3), at the result's size.
        alpha: how much of each pixel of it counts, uint8 (height, width); None if all do.
        cover: how much of the result shows over it, float32 (height, width, 1), 0–1; None if nothing else does.
    """

    colors: Colors
    content: Pixels
    alpha: NDArray[np.uint8] | None = None
    cover: Pixels | None = None

    @property
    def finishes(self) -> bool:
        """Whether an optimised picture's colours change at last, or what shows of it."""
        return self.colors in ("luminance", "histogram") or self.cover is not None

    def finish(self, pixels: Pixels) -> Pixels:
        """Return an optimised picture in its final colours; of another size, too, as at a coarse scale."""
        if not self.finishes:
            return pixels
        content, size = self.content, pixels.shape[:2]
        if content.shape[:2] != size:
            content = resize_pixels(content, *size)
        if self.colors == "luminance":
            pixels = with_chroma(pixels, content)
        elif self.colors == "histogram":
            # Of another size all counts alike: it is a picture on the way.
            alpha = self.alpha if self.content is content else None
            pixels = match_histograms(pixels, content, alpha)
        if self.cover is None:
            return pixels
        cover = (
            self.cover if self.content is content else resize_pixels(self.cover, *size).clip(0, 1)
        )
        return content * (1 - cover) + pixels * cover

    def compare(self, pixels: Pixels) -> Pixels:
        """Return any picture as it is compared with the targets: in grey, if they are."""
        return to_grey(pixels) if self.colors == "luminance" else pixels
