"""Cleaning: a finished picture without the fine texture that neither its photograph nor its paintings have.

One Gram matrix serves the whole of a picture, so that flat areas take up texture that a painting has elsewhere, as
ripples of a few pixels. Here a picture is split into two bands of detail (`nstx.engine.artefacts.grain`), of
luminance and of colour. Where the photograph is flat, by the share g, what is weak in a band is shrunk, with the mean
square s of the 5 × 5 pixels around and a threshold t,

    w ← w · (1 − g · min(1, t / s)²),

until the band is about as strong there as in the flat areas of the paintings, or of the photograph if that has more, or
until t is what a stroke has; where that leaves too much, faint strokes are shrunk and others weakened. So strokes stay,
and a painting's own grain does. Before, the outer pixels, which the
network sees beside zeros, come as near to those within as the ones behind these are, and speckles come near to their neighbours
(`nstx.engine.artefacts.speckles`). At last what flat areas repeat every eight pixels, and the photograph does not, is
taken off (`nstx.engine.artefacts.grid`).

The shrinkage is that of wavelet denoising (Donoho and Johnstone 1994). Departures: what is left follows from the
painting in place of a noise's variance, strength is that of a pixel's surroundings, and t / s is squared, so that strokes
of more than t lose less than by Wiener's rule.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import grid
from .grain import (
    AROUND,
    BANDS,
    LEAST_SIDE,
    PARTS,
    Flatness,
    Grain,
    collect_flat,
    find_flatness,
    flat_squares,
    mean_squares,
    split,
    strengths,
)
from .speckles import LEAST_ISOLATION, clamp_speckles, measure_isolation
from .strips import TO_RGB, Pixels, Strip, Values, in_strips, measured_strips, strips

_OF_A_STROKE = (10.0**2, 5.0**2)
"""Mean squares of luminance and colour in a band: a ripple has 3² to 6² of luminance."""

_KEPT = 0.85
"""Of a mean square: strokes in flat areas are counted, and are hardly shrunk."""

_TOO_STRONG = 1.5
"""Times as strong as a band may be: where shrinkage leaves more than that, faint strokes are shrunk, too."""

_FAINT_STROKES = (1.6, 3.2), (2.5, 1.0)
"""Times the mean square of a stroke, up to which the threshold goes where a band is so many times too strong.

Far stronger are strokes of a painter who left paper bare: they stay as they are.
"""

_GAINS = (1.0, 1.5, 3.2), (1.0, 2 / 3, 1.0)
"""Of what that leaves of a band so many times too strong: strokes, all of which are weakened, but for such as above."""

_OF_AN_EDGE = 2.5**2
"""Times the mean square of a stroke: edges of large forms, of which less and less is weakened, so that they stay sharp."""

_MOST = 1e6  # levels; squares of more could leave the range of float32
_UNSEEN = 0.5**2
_HALVINGS = 24

_RIM = 6  # pixels that zeros beyond the border bend, up to the second convolutions
_WITHIN = 4  # pixels that they are compared with
_ALONG = 33  # pixels along the border that share a contrast and what most of them differ by
_FAR = 129  # pixels along the border that share a cast
_USUAL = 0.5  # of the mean square behind, which may be exceeded by so much; what is far stronger comes to that


@dataclass(frozen=True, slots=True)
class _Shrinkage:
    """How a band is shrunk where it is flat.

    Attributes:
        threshold: t, a mean square.
        gain: of what that leaves, up to ``edge``, and less and less so beyond.
        edge: the mean square from which on there are edges of forms.
    """

    threshold: float
    gain: float = 1.0
    edge: float = 1.0

    def take(self, strength: Values) -> Values:
        """Return the share of a band that is taken where it is so strong."""
        strength = np.maximum(strength, np.float32(1e-9))
        taken = np.square(np.minimum(1, np.float32(self.threshold) / strength))
        if self.gain == 1:
            return np.asarray(taken)
        weakened = np.float32(1 - self.gain) * np.minimum(1, np.float32(self.edge) / strength)
        return np.asarray(taken + weakened * (1 - taken))


def clean_pixels(
    pixels: Pixels, content: Pixels, grain: Grain, alpha: NDArray[np.uint8] | None = None
) -> Pixels:
    """Return a picture without ripples, speckles and grids in flat areas, and with a rim like its inside.

    Args:
        pixels: the picture's, float32 (height, width, 3), 0–255; not changed.
        content: the photograph's, of that size.
        grain: of its paintings, at the scale that goes with the picture (`combine_grains`).
        alpha: of the picture, uint8 (height, width), if it is not opaque: what is not seen is not measured.

    Returns:
        float32 (height, width, 3), between the picture's least and largest value; of a picture under 64 pixels on
        a side the very same.
    """
    if min(pixels.shape[:2]) < LEAST_SIDE:
        return pixels
    picture = pixels.astype(np.float32).clip(-_MOST, _MOST)
    _match_rim(picture)
    flatness = find_flatness(content, alpha)
    if flatness is not None:
        *bands, isolation = grain
        limit = max(LEAST_ISOLATION, isolation, measure_isolation(content, flatness.flat))
        picture = clamp_speckles(picture, flatness.share, limit)
        squares, own_pattern = _measure_content(content, flatness)
        shrinkages = _find_shrinkages(picture, flatness, np.maximum(squares, np.square(bands)))
        picture, pattern = _shrink(picture, flatness, shrinkages)
        # What was around a pixel may be gone now.
        picture = clamp_speckles(picture, flatness.share, limit)
        grid.take_off(picture, grid.leave_shared(pattern, own_pattern), flatness.share)
    return picture.clip(pixels.min(), pixels.max())


def _shrink(
    picture: Pixels, flatness: Flatness, shrinkages: list[_Shrinkage]
) -> tuple[Pixels, grid.Sums]:
    """Return a picture whose bands are shrunk, and what its details repeat with the grid."""

    def shrink(place: Strip) -> tuple[Pixels, grid.Sums]:
        bands, strip = split(picture, place)
        share = flatness.share[place]
        details = np.zeros_like(strip)
        for index, band in enumerate(bands):
            inner = band[AROUND:-AROUND, AROUND:-AROUND]
            for part, channels in enumerate(PARTS):
                taken = shrinkages[index * len(PARTS) + part].take(strengths(band, channels))
                inner[..., channels] *= 1 - (share * taken)[..., None]
            details += inner
        sums = grid.fold(details, flatness.flat[place], place.start)
        return np.asarray((strip + details) @ TO_RGB, np.float32), sums

    parts = in_strips(strips(*picture.shape[:2]), shrink)
    sums = np.sum([of_strip for _, of_strip in parts], axis=0)
    return np.concatenate([strip for strip, _ in parts]), grid.find_pattern(sums)


def _measure_content(content: Pixels, flatness: Flatness) -> tuple[NDArray[np.float64], grid.Sums]:
    """Return the mean squares of a photograph's bands (`measure_flat`), and what its details repeat with the grid."""

    def measure(place: Strip) -> tuple[list[Values], grid.Sums]:
        bands, _ = split(content, place)
        flat = flatness.flat[place]
        details = sum(band[AROUND:-AROUND, AROUND:-AROUND] for band in bands)
        return flat_squares(bands, flat), grid.fold(np.asarray(details), flat, place.start)

    parts = in_strips(measured_strips(flatness.flat), measure)
    sums = np.sum([of_strip for _, of_strip in parts], axis=0)
    return mean_squares([squares for squares, _ in parts]), grid.find_pattern(sums)


def _find_shrinkages(
    picture: Pixels, flatness: Flatness, squares: NDArray[np.float64]
) -> list[_Shrinkage]:
    """Return the shrinkage of each band and part, in the order of `Grain`.

    ``squares`` are the mean squares that the bands may have.
    """
    return [
        _find_shrinkage(own, around, limit, most)
        for (own, around), limit, most in zip(
            collect_flat(picture, flatness), squares, _OF_A_STROKE * BANDS, strict=True
        )
    ]


def _find_shrinkage(squares: Values, around: Values, allowed: float, most: float) -> _Shrinkage:
    """Return the least threshold by which squares come near to the allowed mean, as far as strokes stay.

    Where ``most``, a stroke's mean square, leaves far more than that, it is the least by which they are no longer too
    strong, or else the largest for faint strokes and a gain.
    """

    def mean_kept(threshold: float) -> float:
        kept = 1 - _Shrinkage(threshold).take(around)
        return float((squares * kept**2).mean(dtype=np.float64))

    def find_threshold(limit: float, low: float, high: float) -> float:
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if mean_kept(middle) > limit:
                low = middle
            else:
                high = middle
        return high

    limit = max(_KEPT * allowed, _UNSEEN)
    if float(squares.mean(dtype=np.float64)) <= limit:
        return _Shrinkage(0.0)
    too_strong = _TOO_STRONG**2 * max(limit, allowed)
    excess = (mean_kept(most) / too_strong) ** 0.5
    if excess <= 1:
        return _Shrinkage(find_threshold(limit, 0.0, most))
    times = float(np.interp(excess, *_FAINT_STROKES))
    threshold = find_threshold(too_strong, most, times * most)
    gain = float(np.interp((mean_kept(threshold) / too_strong) ** 0.5, *_GAINS))
    return _Shrinkage(threshold, gain, _OF_AN_EDGE * most)


def _match_rim(picture: Pixels) -> None:
    """Bring the outer pixels as near to those within as the ones behind these are, along each side, in place.

    What they differ by has three parts. What most of a run of pixels have in common is of a stroke along the border, or,
    as far as it goes on, a cast; a cast goes, unless it is a slope that runs on from within. The other two keep the share
    that makes them about as strong as behind.
    """
    for rows in (picture, picture[::-1], picture.swapaxes(0, 1), picture.swapaxes(0, 1)[::-1]):
        near = rows[: 2 * _RIM + _WITHIN].astype(np.float64)
        within = near[_RIM:-_RIM].mean(0)
        # Of the outer pixels, and of those that are as far behind as these are before.
        differences = np.stack([near[:_RIM], near[: -_RIM - 1 : -1]]) - within
        common = _run_middle(differences)
        casts = _run(common, _FAR)
        cast, slope = casts
        kept = cast.clip(np.minimum(0, -slope), np.maximum(0, -slope))
        strokes = _weaken(common - casts, _FAR)
        rows[:_RIM] = within + kept + strokes + _weaken(differences - common, _ALONG)


def _weaken(differences: NDArray[np.float64], along: int) -> NDArray[np.float64]:
    """Return the first of two differences, (2, rows, length, 3), nowhere stronger than is usual beside the second."""
    own, behind = _run(differences**2, along).mean(-1, keepdims=True) + 1
    share = behind / np.maximum(behind, own - _USUAL * behind)
    # What differs by chance adds to the mean within, of which it has a share itself as long as it is left as it is.
    return np.asarray(differences[0] * np.sqrt(share * (1 - 2 * (1 - share) / (_WITHIN + 1))))


def _run(values: NDArray[np.float64], along: int) -> NDArray[np.float64]:
    """Return the running mean along the last axis but one, mirrored at its ends, over as many values as there are."""
    along = min(along, (values.shape[-2] - 1) // 2 * 2 + 1)
    ends = ((0, 0),) * (values.ndim - 2)
    padded = np.pad(values, (*ends, (along // 2 + 1, along // 2), (0, 0)), "symmetric")
    sums = padded.cumsum(-2)
    return np.asarray((sums[..., along:, :] - sums[..., :-along, :]) / along)


def _run_middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running mean of the middle half of values, every second of them, likewise."""
    half = _ALONG // 2
    padded = np.pad(values, ((0, 0), (0, 0), (half, half), (0, 0)), "symmetric").astype(np.float32)
    runs = np.lib.stride_tricks.sliding_window_view(padded, _ALONG, -2)[..., ::2]
    quarter = runs.shape[-1] // 4
    return np.asarray(np.sort(runs, -1)[..., quarter:-quarter].mean(-1, dtype=np.float64))
