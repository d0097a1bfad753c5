"""Ripple: texture of 2 to 9 pixels where the photograph is flat, and the part of it that is locked to a grid.

Power spectra of windows are averaged (Welch 1967, "The use of fast Fourier transform for the estimation of power
spectra"). With y the luminance of a window of 24 × 24 pixels without its plane, h the window of Hann and Y the
Fourier transform of h y, a frequency's share of the variance is P = |Y|² / (24² Σ h²), averaged over windows.

Locked is what has the same place in all windows, which begin at multiples of the strides: of n windows, |Σ Y / n|². Of
what has not, the mean square of that sum is c = Σ k |Y|² / n², with k = Σ ρ over the windows around one, itself included,
and ρ the correlation of h with itself at their distance; c is taken off. What is left of a stride's frequencies by
chance has a standard deviation of √(2 Σ c²), as each |Σ Y / n|² has an exponential distribution and comes twice; two of
these are taken off as well. So texture without a grid has 0 but for once in some thirty times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""Float64; a luminance is (height, width), 0–255."""

PERIODS = ((2.0, 3.0), (3.0, 5.0), (5.0, 9.0))
"""Bands, from one period to another, in pixels; the first has all shorter ones, too: diagonals of a chessboard."""

STRIDES = (2, 4, 8)
"""Of the poolings, in pixels: periods of what is locked to their grid."""

WINDOW = 24  # a multiple of the strides, so that their frequencies are the transform's own
_STEP = 8
_RIM = 8  # pixels at the border, which are looked at apart
_FLAT_SHARE = 0.3
_LEAST_WINDOWS = 8  # fewer say nothing
_DEVIATIONS = 2.0  # of chance, which are taken off what is locked


@dataclass(frozen=True, slots=True)
class Texture:
    """How much texture flat areas have, as root mean squares of luminance, 0–255.

    Attributes:
        ripple: of each band of `PERIODS`.
        locked: of each stride of `STRIDES`, what repeats with it at the same place of its grid all over, beyond what
            texture does by chance.
    """

    ripple: tuple[float, ...]
    locked: tuple[float, ...]


def find_flat(luminance: Floats) -> NDArray[np.bool_] | None:
    """Return which windows are among the flattest three tenths, in the order of `_windows`; None if too few.

    Flat is what varies little about its plane, as skies do.
    """
    windows = _windows(luminance)
    if len(windows) < _LEAST_WINDOWS:
        return None
    variances = np.concatenate([_level(part).var((1, 2)) for part in _parts(windows)])
    return np.asarray(variances <= np.quantile(variances, _FLAT_SHARE))


def measure_texture(luminance: Floats, flat: NDArray[np.bool_]) -> Texture:
    """Return the texture of the windows that are flat in a picture of the same size."""
    power, chance = np.zeros((2, WINDOW, WINDOW))
    total = np.zeros((WINDOW, WINDOW), np.complex128)
    chosen = _windows(luminance)[flat]
    shared = _count_shared(luminance.shape, flat)
    for part, own in zip(_parts(chosen), _parts(shared), strict=True):
        spectra = np.fft.fft2(_level(part) * _TAPER)
        squares = np.abs(spectra) ** 2
        power += squares.sum(0)
        chance += (squares * own[:, None, None]).sum(0)
        total += spectra.sum(0)
    count = len(chosen)
    power /= count
    chance /= count**2
    coherent = np.abs(total / count) ** 2
    # What is locked is a part of the windows' own squares, too, of which a share was taken for chance.
    independent = max(2.0, count**2 / shared.sum())
    ripple = (power[_band(*periods)].sum() for periods in PERIODS)
    locked = (
        _beyond_chance(coherent[grid], chance[grid]) / (1 - 1 / independent)
        for grid in map(_grid, STRIDES)
    )
    return Texture(
        tuple(_root(value / _SPREAD) for value in ripple),
        tuple(_root(value / _LINE) for value in locked),
    )


def _beyond_chance(squares: Floats, chance: Floats) -> float:
    """Return the sum of squares beyond what it has by chance, of which the mean squares are given."""
    return float(squares.sum() - chance.sum() - _DEVIATIONS * np.sqrt(2 * (chance**2).sum()))


def cover_flat(size: tuple[int, int], flat: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pixels of a picture (height, width) lie in the middle of a window that is flat."""
    cells = np.repeat(np.repeat(flat.reshape(_count_windows(size)), _STEP, axis=0), _STEP, axis=1)
    mask, margin = np.zeros(size, bool), _RIM + (WINDOW - _STEP) // 2
    mask[margin : margin + cells.shape[0], margin : margin + cells.shape[1]] = cells
    return mask


def excess(picture: Sequence[float], others: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return by how much a picture's root mean squares exceed the largest of other pictures', as such."""
    allowed = [max(values) for values in zip(*others, strict=True)]
    return tuple(_root(p**2 - q**2) for p, q in zip(picture, allowed, strict=True))


def _count_windows(size: tuple[int, ...]) -> list[int]:
    """Return how many windows a picture (height, width) has, down and across."""
    return [(side - 2 * _RIM - WINDOW) // _STEP + 1 for side in size]


def _count_shared(size: tuple[int, ...], flat: NDArray[np.bool_]) -> Floats:
    """Return for how many windows each that is flat counts where spectra are summed: Σ ρ over it and those around."""
    reach = len(_CORRELATION) // 2
    sums = np.pad(flat.reshape(_count_windows(size)).astype(np.float64), reach)
    for axis in (0, 1):
        views = np.lib.stride_tricks.sliding_window_view(sums, len(_CORRELATION), axis)
        sums = views @ _CORRELATION
    return np.asarray(sums.reshape(-1)[flat])


def _windows(luminance: Floats) -> Floats:
    """Return a picture's windows, (number, 24, 24), without a copy but for the choice among them.

    They begin at multiples of 8, so that a grid of that stride has the same place in all.
    """
    inner = luminance[_RIM : luminance.shape[0] - _RIM, _RIM : luminance.shape[1] - _RIM]
    if min(inner.shape) < WINDOW:
        return np.empty((0, WINDOW, WINDOW))
    views = np.lib.stride_tricks.sliding_window_view(inner, (WINDOW, WINDOW))[::_STEP, ::_STEP]
    return np.asarray(views.reshape(-1, WINDOW, WINDOW), np.float64)


def _parts(windows: Floats) -> list[Floats]:
    """Return windows, or what there is of each, a few thousand at a time."""
    return [windows[at : at + 4096] for at in range(0, len(windows), 4096)]


def _level(windows: Floats) -> Floats:
    """Return windows without their planes, fitted by least squares."""
    level: Floats = windows - windows.mean((1, 2), keepdims=True)
    slope_down = (level * _RAMP[:, None]).sum((1, 2)) / (WINDOW * (_RAMP**2).sum())
    slope_across = (level * _RAMP).sum((1, 2)) / (WINDOW * (_RAMP**2).sum())
    level -= slope_down[:, None, None] * _RAMP[:, None]
    level -= slope_across[:, None, None] * _RAMP
    return level


def _band(shortest: float, longest: float) -> NDArray[np.bool_]:
    highest = 1.0 if shortest == PERIODS[0][0] else 1 / shortest
    return np.asarray((1 / longest < _FREQUENCY) & (highest >= _FREQUENCY))


def _grid(stride: int) -> NDArray[np.bool_]:
    """Return the frequencies that repeat with a stride, but with none that is smaller."""
    index = np.arange(WINDOW)

    def repeats(period: int) -> NDArray[np.bool_]:
        on_axis = index % (WINDOW // period) == 0
        return np.asarray(on_axis[:, None] & on_axis)

    return repeats(stride) & ~repeats(stride // 2)


def _root(value: float) -> float:
    return float(np.sqrt(max(0.0, value)))


_RAMP = np.linspace(-1.0, 1.0, WINDOW)
_HANN = np.hanning(WINDOW + 2)[1:-1]
_TAPER = _HANN[:, None] * _HANN
# What spectra are divided by: of what is spread over frequencies, and of single ones.
_SPREAD, _LINE = float(WINDOW**2 * (_TAPER**2).sum()), float(_TAPER.sum() ** 2)
# ρ of windows that are -16, -8, 0, 8 and 16 pixels apart, of 1 with itself; what is farther does not overlap.
_CORRELATION = np.correlate(_HANN, _HANN, "full")[_STEP - 1 :: _STEP] / (_HANN**2).sum()
_FREQUENCY = np.hypot(np.fft.fftfreq(WINDOW)[:, None], np.fft.fftfreq(WINDOW))
