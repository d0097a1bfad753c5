"""A large picture as bands: some of its rows at a time, from the top down."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from ..pictures.samples import Samples

BAND = 2**22
"""Pixels of a band, about."""

Band = Image.Image | Samples
"""Rows of a picture as its decoder gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """A picture that is read by bands.

    Attributes:
        size: height and width as it lies in its file.
        read: yields its bands, with the file's colours.
        orientation: EXIF's number of how it is to be turned.
        doubt: what a warning says of the scale of its samples, if anything.
    """

    size: tuple[int, int]
    read: Callable[[], Iterator[Band]]
    orientation: object = None
    doubt: str = ""
