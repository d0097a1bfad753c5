"""Samples of more than 8 bits a channel, on their way from a decoder to a picture."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Values = NDArray[np.float32]
"""float32, (height, width, channels), 0–255, not rounded."""

# By EXIF's number, as Pillow's transpositions of the same number turn an image.
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: values[::-1].swapaxes(0, 1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: values[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """A picture's samples as its file has them.

    Attributes:
        values: (height, width, channels), grey, grey and alpha, RGB or RGBA: float32 of 0–255, uint8, or uint16 of
            0–65535.
        profile: the file's ICC profile.
        doubt: what a warning says of their scale, if anything.
        depth: of the file, 8 or 16 bits a channel.
    """

    values: NDArray[Any]
    profile: bytes | None = None
    doubt: str = ""
    depth: Literal[8, 16] = 16

    def turned(self, orientation: object) -> "Samples":
        """Return the samples turned as EXIF's number says; as they are for 1 and for what is no such number."""
        turn = next((turn for number, turn in _TURNS.items() if number == orientation), None)
        return self if turn is None else replace(self, values=turn(self.values))

    def rows(self, span: slice) -> Values:
        """Return some rows, of 0–255; multiples of 257 of 65535 are whole numbers then."""
        values = self.values[span].astype(np.float32)
        return values / np.float32(257) if self.values.dtype == np.uint16 else values


def grey_samples(image: Image.Image) -> Samples:
    """Return the samples of an image of more than 8 bits as Pillow has them, which are greys."""
    # Mode I holds 32 bits, in which Pillow hands over some 16-bit pictures.
    grey = np.asarray(image)[..., None]
    values = grey.clip(0, 2**16 - 1).astype(np.uint16)
    clear = image.info.get("transparency")
    if clear is not None:
        alpha = np.where(grey == clear, np.uint16(0), np.uint16(65535))
        values = np.concatenate([values, alpha], axis=2)
    return Samples(values, image.info.get("icc_profile"))


def divide_by_alpha(values: Values) -> Values:
    """Return samples whose colours were multiplied by the alpha beside them as they were before."""
    colours, alpha = values[..., :-1], values[..., -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.where(alpha > 0, (colours * np.float32(255) / alpha).clip(0, 255), 0)
    return np.concatenate([whole, alpha], axis=2, dtype=np.float32)
