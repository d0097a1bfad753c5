"""Grain: how strong the detail of a picture's flat areas is, in bands of scale, of luminance and of colour.

Bands are those of an undecimated wavelet transform (Starck and Murtagh 1994): band j is what a smoothing by a spline,
with steps of 2ʲ pixels, takes away from what the smoothings before have left. They hold periods of about 2–4 and
4–8 pixels; coarser detail is strokes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .speckles import measure_isolation
from .strips import (
    FROM_RGB,
    Mask,
    Pixels,
    Strip,
    Values,
    box_means,
    in_strips,
    measured_strips,
    strips,
    window,
)

Grain = tuple[float, ...]
"""Root mean squares, 0–255: of luminance and of colour in the first band, then in the others. The last figure is the
usual isolation (`nstx.engine.artefacts.speckles`)."""

BANDS = 2
PARTS = slice(0, 1), slice(1, 3)
"""The channels of luminance and of colour."""

FIGURES = BANDS * len(PARTS) + 1
"""So many has a grain."""

LEAST_SIDE = 64
"""Pixels; smaller pictures are too small to have flat areas."""

AROUND = 2
"""Pixels on each side that a pixel's strength is taken of."""

_HALO = 2 * (1 + 2) + AROUND  # pixels around a strip that its bands follow from
_RADIUS = 11  # of the square in which an area is flat or not
_FLAT_SHARE = 0.3
_RIM = 8  # pixels at the border, which say nothing of the inside
_LEAST_FLAT = 256  # pixels


@dataclass(frozen=True, slots=True)
class Flatness:
    """Where a picture is flat: of what is seen of its inside, three tenths.

    Attributes:
        flat: whether a pixel's surroundings are, bool (height, width).
        share: 0–1, falling where they are less and less, float32 (height, width).
    """

    flat: NDArray[np.bool_]
    share: Values


def measure_grain(pixels: Pixels, alpha: NDArray[np.uint8] | None = None) -> Grain | None:
    """Return the grain of a picture, float32 (height, width, 3), 0–255.

    None if it is under 64 pixels on a side, or hardly anything of it is seen. What its ``alpha``, uint8
    (height, width), hides does not count.
    """
    if min(pixels.shape[:2]) < LEAST_SIDE or (flatness := find_flatness(pixels, alpha)) is None:
        return None
    figures = [*np.sqrt(measure_flat(pixels, flatness)), measure_isolation(pixels, flatness.flat)]
    # As files have it, so that a run from one is the same.
    return tuple(np.array(figures, np.float32).tolist())


def combine_grains(grains: Sequence[tuple[Grain | None, float]]) -> Grain | None:
    """Return the grain of several pictures with weights.

    Mean squares are blended, as Gram matrices are; of isolations the largest is taken. Pictures that have none do not
    count; None if none has one.
    """
    known = [(np.array(grain), weight) for grain, weight in grains if grain is not None]
    if not known:
        return None
    figures, weights = np.stack([grain for grain, _ in known]), [weight for _, weight in known]
    blended = np.sqrt(np.average(figures[:, :-1] ** 2, axis=0, weights=weights))
    return tuple(np.array([*blended, figures[:, -1].max()], np.float32).tolist())


def measure_flat(pixels: Pixels, flatness: Flatness) -> NDArray[np.float64]:
    """Return the mean squares of all bands where it is flat, (4), in the order of `Grain` without its last."""

    def collect(strip: Strip) -> list[Values]:
        bands, _ = split(pixels, strip)
        return flat_squares(bands, flatness.flat[strip])

    return mean_squares(in_strips(measured_strips(flatness.flat), collect))


def mean_squares(parts: Sequence[Sequence[Values]]) -> NDArray[np.float64]:
    """Return the means of all strips' `flat_squares`."""
    return np.array(
        [np.concatenate(figure).mean(dtype=np.float64) for figure in zip(*parts, strict=True)]
    )


def collect_flat(pixels: Pixels, flatness: Flatness) -> list[tuple[Values, Values]]:
    """Return the squares of all bands at pixels that are flat, with the strengths around them (`strengths`)."""

    def collect(strip: Strip) -> list[tuple[Values, Values]]:
        where = flatness.flat[strip]
        bands, _ = split(pixels, strip)
        around = [strengths(band, channels)[where] for band in bands for channels in PARTS]
        return list(zip(flat_squares(bands, where), around, strict=True))

    parts = in_strips(measured_strips(flatness.flat), collect)
    return [
        (np.concatenate([s for s, _ in figure]), np.concatenate([a for _, a in figure]))
        for figure in zip(*parts, strict=True)
    ]


def flat_squares(bands: Sequence[Values], where: Mask) -> list[Values]:
    """Return the squares of all bands' channels at some pixels, in the order of `Grain`."""
    return [
        np.square(band[AROUND:-AROUND, AROUND:-AROUND, channels][where]).mean(1)
        for band in bands
        for channels in PARTS
    ]


def find_flatness(pixels: Pixels, alpha: NDArray[np.uint8] | None = None) -> Flatness | None:
    """Return where what is seen of a picture is flat: where its luminance varies least about a plane.

    None if hardly anything is seen.
    """
    height, width = pixels.shape[:2]
    seen = np.zeros((height, width), bool)
    seen[_RIM:-_RIM, _RIM:-_RIM] = True
    if alpha is not None:
        seen &= alpha > 0
    if np.count_nonzero(seen) * _FLAT_SHARE < _LEAST_FLAT:
        return None

    def vary(strip: Strip) -> NDArray[np.float64]:
        around = window(pixels, strip, _RADIUS).astype(np.float64)
        return _variation(around @ FROM_RGB[:, 0].astype(np.float64))

    variation = np.concatenate(in_strips(strips(height, width), vary))
    limit = np.quantile(variation[seen], _FLAT_SHARE)
    share = 1 / (1 + (variation / (2 * limit + 4)) ** 3)
    return Flatness((variation <= limit) & seen, share.astype(np.float32))


def split(pixels: Pixels, strip: Strip) -> tuple[list[Values], Values]:
    """Return the bands of a strip's luminance and colour, and what is left of it.

    Bands are (rows + 4, width + 4, 3), for `strengths`; what is left is (rows, width, 3). The strip is their sum.
    """
    values, halo = window(pixels, strip, _HALO) @ FROM_RGB, _HALO
    bands = []
    for level in range(BANDS):
        step = 2**level
        smooth = _smooth(_smooth(values, step, 0), step, 1)
        halo -= 2 * step
        band = values[2 * step : -2 * step, 2 * step : -2 * step] - smooth
        bands.append(_crop(band, halo - AROUND))
        values = smooth
    return bands, _crop(values, halo)


def strengths(band: Values, channels: slice) -> Values:
    """Return the mean square of a band's channels in the 5 × 5 pixels around each pixel of its inside."""
    squares = np.square(band[..., channels]).mean(2)
    side = 2 * AROUND + 1
    rows = sum(squares[i : squares.shape[0] - side + 1 + i] for i in range(side))
    assert not isinstance(rows, int)
    columns = sum(rows[:, i : rows.shape[1] - side + 1 + i] for i in range(side))
    return np.asarray(columns / np.float32(side**2), np.float32)


def _smooth(values: Values, step: int, axis: int) -> Values:
    """Return the inside smoothed along an axis by 1, 4, 6, 4, 1 sixteenths, a step apart."""
    size = values.shape[axis] - 4 * step
    before = (slice(None),) * axis
    a, b, c, d, e = (values[(*before, slice(at, at + size))] for at in range(0, 5 * step, step))
    result: Values = ((a + e) + 4 * (b + d) + 6 * c) * np.float32(1 / 16)
    return result


def _crop(values: Values, margin: int) -> Values:
    return values[margin:-margin, margin:-margin] if margin else values


def _variation(luminance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance about a plane in the square around each pixel that has one, (h − 22, w − 22)."""
    side = 2 * _RADIUS + 1
    mean = box_means(luminance, side)
    variance = box_means(luminance**2, side) - mean**2
    for axis in (0, 1):
        ramp = np.arange(luminance.shape[axis], dtype=np.float64)
        ramp = ramp[:, None] if axis == 0 else ramp[None]
        centre = ramp[_RADIUS:-_RADIUS] if axis == 0 else ramp[:, _RADIUS:-_RADIUS]
        slope = box_means(ramp * luminance, side) - centre * mean
        variance -= slope**2 / ((side**2 - 1) / 12)
    return np.maximum(variance, 0)
