"""Masks: where a content's style applies, read from a picture or from the content's own transparency."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nstx.models.errors import UsageError, about
from nstx.models.objective import Objective
from nstx.models.printable import printable

from ..pictures.picture import InputFile, Picture, row_bands
from ..pictures.reading import Source
from ..pictures.resizing import resize_channel
from ..streaming.reduced import WHOLE, Fit, read_source
from .cover import feather
from .positions import Values, share_positions

Mask = NDArray[np.uint8]
"""uint8, (height, width): how much of a style applies at each pixel."""

ALPHA = "alpha"
"""In the place of a mask, the content's own transparency."""

SEEN = "alpha-1"
"""The region of a picture's targets in which what is transparent does not count; it changes with the rule."""

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_END = 8  # levels at either end that count as black and white, as JPEG blurs both
_PROPORTIONS = 0.01  # by which a mask's may differ from its content's, besides a pixel


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Where a style applies in a picture of one size.

    Attributes:
        counts: how much each pixel counts in the statistics of styles.
        mask: what of the picture may change; None if all of it, as where transparency alone makes the region.
        parts: where there are several regions with styles of their own, how much each pixel counts in each, uint8
            (regions, height, width); else None.
    """

    counts: Mask = field(repr=False)
    mask: Mask | None = field(default=None, repr=False)
    parts: Mask | None = field(default=None, repr=False)

    @property
    def areas(self) -> tuple[float, ...]:
        """How large each region is, of all of them."""
        if self.parts is None:
            return (1.0,)
        sizes = self.parts.sum((1, 2), dtype=np.float64)
        return tuple((sizes / sizes.sum()).tolist())

    @property
    def gate(self) -> Values | None:
        """1 where the picture may change, else 0, float32 (height, width, 1); None if it may everywhere."""
        return None if self.mask is None else (self.mask[..., None] > 0).astype(np.float32)

    @property
    def cover(self) -> Values | None:
        """How much of the result shows, float32 (height, width, 1); None if it does throughout."""
        return None if self.mask is None else feather(self.mask)[..., None]


def layer_shares(region: Region | None, objective: Objective) -> dict[str, Values]:
    """Return how much each position of a picture's style layers counts, float32 (h, w), summing to 1.

    Without a region all count alike, and there are none. Of several regions they are (regions, h, w).
    """
    if region is None:
        return {}
    if region.parts is None:
        return share_positions(region.counts, objective.style_names, objective.pool_rounding)
    parts = [
        share_positions(part, objective.style_names, objective.pool_rounding)
        for part in region.parts
    ]
    return {name: np.stack([part[name] for part in parts]) for name in objective.style_names}


def mask_file(mask: str | None) -> Path | None:
    """Return the file of a mask as it is named; None of `ALPHA`, and of no mask."""
    return None if mask is None or mask == ALPHA else Path(mask)


@dataclass(frozen=True, slots=True, eq=False)
class TakenMask:
    """A mask as it was read.

    Attributes:
        values: at the mask's own size; None if it covers everything.
        file: what a report says of it.
    """

    values: Mask | None = field(repr=False)
    file: InputFile


@about("mask")
def take_mask(source: Source, content: Picture, fit: Fit = WHOLE) -> TakenMask:
    """Return a mask of a content.

    It is the grey of a picture, times its opacity if it has any transparency: white where the style applies. What is
    within 8 levels of black or white is, and the rest is spread over all levels between.

    Args:
        source: a picture, or ``alpha``.
        content: whose proportions it must have, to a hundredth or a pixel.
        fit: the size that it is used at, at which a large one is read.

    Raises:
        UsageError: it has other proportions, or is black throughout; or the content is opaque.
        ImageError: it cannot be used.
    """
    if isinstance(source, str) and source == ALPHA:
        if content.alpha is None:
            raise UsageError(
                f"expected a content with transparency for the mask alpha, got an opaque one in "
                f"{printable(content.path)}; try a picture that is white where the style applies"
            )
        mask = _spread(content.alpha.astype(np.float32))
        file = InputFile(role="mask", path=ALPHA, sha256=content.file_sha256)
    else:
        mask, picture = _read_mask(source, content, "content", fit)
        file = picture.as_input("mask")
    if not mask.any():
        raise UsageError(
            "expected a mask that is white where the style applies, got one that is black throughout; try another, "
            "or none"
        )
    return TakenMask(None if mask.min() == 255 else mask, file)


def mask_painting(painting: Picture, source: Source, *, large: bool = False) -> Picture:
    """Return a style picture of which nothing is seen but what a mask of it leaves.

    The mask is read as `take_mask` does, and becomes the picture's alpha, times its own. A white one changes nothing.
    ``large`` is whether it may have more than 89 million pixels.

    Raises:
        UsageError: it has other proportions, or leaves nothing of the picture.
        ImageError: it cannot be used.
    """
    fit = Fit(size=lambda _: painting.size, allowed=large)
    mask, picture = _read_mask(source, painting, "style", fit)
    seen = fit_mask(mask, *painting.size)
    masked = replace(painting, mask=picture.as_input("mask"))
    if seen.min() == 255:
        return masked
    alpha = seen
    if painting.alpha is not None:
        alpha = np.rint(painting.alpha * (seen / np.float32(255))).astype(np.uint8)
    if not alpha.any():
        raise UsageError(
            f"expected a mask that is white where {printable(painting.path)} counts, got one that leaves nothing of "
            f"it in {printable(picture.path)}; try another, or none"
        )
    return replace(masked, alpha=alpha)


def _read_mask(source: Source, masked: Picture, of: str, fit: Fit) -> tuple[Mask, Picture]:
    """Return a mask of a picture, and the picture that it was read from; errors as `take_mask`."""
    fit = checked_first(fit, source, masked, "mask", of)
    picture = read_source(source, replace(fit, resampling="hamming", change=_to_mask))
    check_proportions(picture, masked, "mask", of)
    return picture.pixels[..., 0].astype(np.uint8, copy=False), picture


def _to_mask(picture: Picture) -> Picture:
    """Return a picture, or some of its rows, as the mask that it is: alike in each channel."""
    mask = np.empty(picture.size, np.uint8)
    for rows in row_bands(*picture.size):
        mask[rows] = _spread(_measure_levels(picture, rows))
    return replace(
        picture, pixels=np.broadcast_to(mask[..., None], (*mask.shape, 3)), alpha=None, beyond=None
    )


def _measure_levels(picture: Picture, rows: slice) -> Values:
    """Return how white rows of a mask are, 0–255."""
    levels = picture.pixels[rows].astype(np.float32) @ _GREY
    if picture.alpha is not None:
        levels *= picture.alpha[rows] / np.float32(255)
    return levels


def _spread(levels: Values) -> Mask:
    """Return levels from black to white, of which those near either end are taken for it."""
    spread = (levels - _END) * np.float32(255 / (255 - 2 * _END))
    mask: Mask = np.rint(spread.clip(0, 255)).astype(np.uint8)
    return mask


def check_proportions(picture: Picture, masked: Picture, kind: str, of: str = "content") -> None:
    """Raise `UsageError` if a mask or map has other proportions in its file than the picture that it is of."""
    _compare_proportions(picture.own_size or picture.size, picture.path, masked, kind, of)


def checked_first(fit: Fit, source: Source, masked: Picture, kind: str, of: str = "content") -> Fit:
    """Return a fit that refuses other proportions than the picture's before pixels of a large mask or map are read."""

    def size(own: tuple[int, int]) -> tuple[int, int]:
        _compare_proportions(own, source, masked, kind, of)
        return fit.size(own)

    return replace(fit, size=size)


def _compare_proportions(
    size: tuple[int, int], path: object, masked: Picture, kind: str, of: str
) -> None:
    (height, width), (rows, columns) = size, masked.own_size or masked.size
    across = height * columns / rows
    if abs(width - across) > max(1.0, _PROPORTIONS * across):
        raise UsageError(
            f"expected a {kind} of the {of}'s proportions, {columns}×{rows}, got "
            f"{width}×{height} in {printable(path)}; try one that was made of the {of}"
        )


def has_regions(content: Picture, mask: Mask | None, parts: Sequence[Mask] = ()) -> bool:
    """Whether not all of a content counts alike and may change; for the arguments see `make_regions`."""
    return mask is not None or bool(parts) or _cover_of(content) is not None


def make_regions(
    content: Picture,
    mask: Mask | None,
    sizes: Sequence[tuple[int, int]],
    parts: Sequence[Mask] = (),
) -> list[Region | None]:
    """Return the region of a content at each size; None where all of it counts alike and may change.

    What is not seen at all does not count; what is seen counts alike, however little of it. ``parts`` are several
    regions within the mask. `UsageError` if a mask or region covers nothing that is seen.
    """
    if not has_regions(content, mask, parts):
        return [None] * len(sizes)
    cover = _cover_of(content)
    if cover is not None:
        parts = [_cut(part, cover) for part in parts]
    regions: list[Region | None] = []
    for size in sizes:
        region = _make_region(cover, mask, size)
        fitted = np.stack([fit_mask(part, *size) for part in parts]) if parts else None
        regions.append(region if fitted is None else replace(region, parts=fitted))
    return regions


def _cover_of(content: Picture) -> Mask | None:
    """Return what is seen of a content, 0 or 255; None where that is all or nothing of it."""
    if content.alpha is None:
        return None
    seen = content.alpha > 0
    return None if seen.all() or not seen.any() else seen.astype(np.uint8) * np.uint8(255)


@about("regions")
def _cut(part: Mask, cover: Mask) -> Mask:
    """Return what is seen of a region."""
    cut = np.rint(part * (fit_mask(cover, *part.shape) / np.float32(255))).astype(np.uint8)
    if not cut.any():
        raise UsageError(
            "expected regions that cover something opaque, got one of transparent pixels alone; try another map"
        )
    return cut


@about("mask")
def _make_region(cover: Mask | None, mask: Mask | None, size: tuple[int, int]) -> Region:
    seen = None if cover is None else fit_mask(cover, *size)
    if mask is None:
        return Region(np.full(size, 255, np.uint8) if seen is None else seen)
    fitted = counts = fit_mask(mask, *size)
    if seen is not None:
        counts = np.rint(fitted * (seen / np.float32(255))).astype(np.uint8)
        if not counts.any():
            raise UsageError(
                "expected a mask that covers something opaque, got one of transparent pixels alone; try another"
            )
    return Region(counts, fitted)


def fit_mask(mask: Mask, height: int, width: int) -> Mask:
    """Return a mask at a size; what is too small for it keeps a pixel."""
    fitted = resize_channel(mask, height, width)
    if not fitted.any():
        rows, columns = np.nonzero(mask)
        fitted = np.zeros((height, width), np.uint8)
        fitted[rows * height // mask.shape[0], columns * width // mask.shape[1]] = 255
    return fitted
