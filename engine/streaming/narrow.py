"""A picture's rows as narrow as it is used, put together as they come, and brought to its height at the end."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..pictures.picture import Encoding, Picture, Pixels
from ..pictures.resizing import Filter, resize_alpha, resize_beyond, resize_picture
from ..pictures.samples import Samples
from .bands import BAND

Reduction = Filter | Literal["nearest"]
"""How a picture is brought to the size that it is used at: by a filter, or to pixels that it has, unmixed."""

Size = tuple[int, int]


class Narrow:
    """All rows of a picture, as narrow as its result.

    Args:
        height: of the picture.
        width: of the result.
        reduction: by which rows become narrower.
    """

    def __init__(self, height: int, width: int, reduction: Reduction) -> None:
        self._shape, self._reduction = (height, width), reduction
        self._pixels: NDArray[Any] | None = None
        self._alpha: NDArray[np.uint8] | None = None
        self._beyond: Pixels | None = None
        self._encoding = Encoding()
        self._rows = 0

    def add(self, band: Picture, *, deep: bool) -> None:
        """Add rows below those that are there."""
        height, width = self._shape
        rows = slice(self._rows, self._rows + band.height)
        self._rows = rows.stop
        if self._pixels is None:
            kind = np.float32 if deep else np.uint8
            self._pixels, self._encoding = np.empty((height, width, 3), kind), band.encoding
        if deep:
            band = replace(band, pixels=band.pixels.astype(np.float32))
        narrow = reduce_to(band, (band.height, width), self._reduction)
        self._pixels[rows] = narrow.pixels
        if narrow.alpha is not None:
            if self._alpha is None:
                self._alpha = np.full((height, width), 255, np.uint8)
            self._alpha[rows] = narrow.alpha
        if narrow.beyond is not None:
            if self._beyond is None:
                self._beyond = np.zeros((height, width, 3), np.float32)
            self._beyond[rows] = narrow.beyond

    def reduce(self, height: int, path: Path) -> Picture:
        """Return the picture at a height; ValueError if rows are missing.

        Columns know nothing of each other, so that some at a time are reduced: else copies of all rows take several times
        their memory.
        """
        if self._pixels is None or self._rows != self._shape[0]:
            raise ValueError("its pixels end early")
        step = max(1, BAND // self._shape[0])
        strips = (
            self._cut(slice(left, left + step), path) for left in range(0, self._shape[1], step)
        )
        parts = [reduce_to(strip, (height, strip.width), self._reduction) for strip in strips]
        alphas = [part.alpha for part in parts if part.alpha is not None]
        beyond = [part.beyond for part in parts if part.beyond is not None]
        return replace(
            parts[0],
            pixels=np.concatenate([part.pixels for part in parts], axis=1),
            alpha=np.concatenate(alphas, axis=1) if alphas else None,
            beyond=np.concatenate(beyond, axis=1) if beyond else None,
        )

    def _cut(self, columns: slice, path: Path) -> Picture:
        def cut(values: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if values is None else np.ascontiguousarray(values[:, columns])

        assert self._pixels is not None
        return Picture(
            np.ascontiguousarray(self._pixels[:, columns]),
            cut(self._alpha),
            str(path),
            encoding=self._encoding,
            beyond=cut(self._beyond),
        )


def reduce_to(picture: Picture, size: Size, reduction: Reduction) -> Picture:
    """Return a picture at a size, with all that it has; what was whole numbers stays so."""
    if reduction == "nearest":
        return _pick(picture, size)
    pixels: Any = resize_picture(picture, *size, reduction).astype(picture.pixels.dtype)
    return replace(
        picture,
        pixels=pixels,
        alpha=resize_alpha(picture, *size),
        beyond=resize_beyond(picture, *size, reduction),
    )


def _pick(picture: Picture, size: Size) -> Picture:
    """Return a picture whose pixels are those nearest to the centres of the new ones."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, picture.size, strict=True)
    )

    def pick(values: NDArray[Any]) -> NDArray[Any]:
        return values[rows[:, None], columns]

    return replace(
        picture,
        pixels=pick(picture.pixels),
        alpha=None if picture.alpha is None else pick(picture.alpha),
        beyond=None if picture.beyond is None else pick(picture.beyond),
    )


def turn_picture(picture: Picture, orientation: object) -> Picture:
    """Return a picture turned as EXIF's number says."""

    def turn(values: NDArray[Any]) -> NDArray[Any]:
        turned = Samples(values).turned(orientation).values
        return np.ascontiguousarray(turned)

    return replace(
        picture,
        pixels=turn(picture.pixels),
        alpha=None if picture.alpha is None else turn(picture.alpha),
        beyond=None if picture.beyond is None else turn(picture.beyond),
    )
