"""A picture as it was read: its pixels in sRGB, and its transparency beside them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nstx.models.arguments import check_fields, with_example
from nstx.models.errors import ImageError
from nstx.models.printable import printable

Pixels = NDArray[np.float32]
"""float32, (height, width, 3), RGB, 0–255."""

Batch = NDArray[np.float32]
"""float32, (batch, height, width, 3): several pictures of one size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """What a result was made from, for its report.

    Attributes:
        role: ``content``, ``style``, ``init``, ``targets``; of what is evaluated, ``image``.
        path: as it was named.
        sha256: of the bytes that were read; None if it came from no file.
        weight: of a style.
        colors: of a map of regions, those where a style applies, as ``#ff0000,#00ff00``; None of a style for all
            that no other is named for.
        layers: of a style, those that it counts in, as ``conv1_1,conv2_1``; None of all.
        mask, mask_sha256: of a style, the file of its own mask, likewise; None without one.
    """

    role: str
    path: str
    sha256: str | None
    weight: float | None = None
    colors: str | None = None
    layers: str | None = None
    mask: str | None = None
    mask_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a picture's file encodes its colours, which that of a result may keep.

    Attributes:
        depth: 8 or 16 bits a channel; 16 of all that has more than 8.
        profile: the ICC profile that is embedded in it; None without one.
    """

    depth: Literal[8, 16] = 8
    profile: bytes | None = field(default=None, repr=False)


EIGHT_BITS = Encoding()


@runtime_checkable
class Recolouring(Protocol):
    """A change of a picture's colours, each by itself, once it has the size that it is used at."""

    @property
    def key(self) -> str:
        """What the change depends on."""

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return colours as they are used, float32 of the same shape (…, 3), RGB, 0–255."""


@with_example("'photo.jpg'")
@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture as it was read.

    Attributes:
        pixels: (height, width, 3), RGB in sRGB, 0–255; uint8, or float32 where a file has more than 8 bits.
        alpha: (height, width) uint8, 255 is opaque; None if the picture is opaque.
        path: where it was read from, for messages.
        file_sha256: of the bytes of its file; None if it came from none.
        encoding: of the file that it was read from; of a result, that of its content.
        beyond: float32 (height, width, 3), by how much the colours of its file are beyond 0–255, which is not in
            the pixels; None of most.
        recolouring: what `nstx.engine.pictures.resizing.resize_picture` makes of its colours; None leaves them.
        manifest: of the run that it is the result of, as plain data, which its file will carry; None of others.
        layers: of a style picture, the style layers that it counts in; empty for all.
        mask: of a style picture, the file that says what of it counts, which its alpha does already.
        own_size: height and width that it has in its file, upright, where it was reduced as it was read; else None.
    """

    pixels: NDArray[np.uint8] | Pixels
    alpha: NDArray[np.uint8] | None
    path: str = "an array"
    file_sha256: str | None = None
    encoding: Encoding = EIGHT_BITS
    beyond: Pixels | None = None
    recolouring: Recolouring | None = None
    manifest: Mapping[str, Any] | None = field(default=None, repr=False)
    layers: tuple[str, ...] = ()
    mask: InputFile | None = None
    own_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] != 3 or dtype not in (np.uint8, np.float32):
            raise ImageError(
                f"expected uint8 or float32 pixels (height, width, 3), got {dtype} {shape}; "
                "try pixels.astype('uint8')"
            )
        if dtype == np.float32 and not np.isfinite(self.pixels).all():
            raise ImageError("expected finite pixels, got NaN or infinity; try numpy.nan_to_num")
        if self.beyond is not None and (
            self.beyond.shape != shape or self.beyond.dtype != np.float32
        ):
            raise ImageError(
                f"expected float32 colours beyond sRGB {shape}, got {self.beyond.dtype} "
                f"{self.beyond.shape}; try None"
            )
        if self.alpha is not None and (
            self.alpha.shape != shape[:2] or self.alpha.dtype != np.uint8
        ):
            raise ImageError(
                f"expected uint8 alpha {shape[:2]}, got {self.alpha.dtype} {self.alpha.shape}; "
                "try None"
            )

    def __repr__(self) -> str:
        return f"<Picture {self.width}×{self.height} of {printable(self.path)}>"

    def as_input(
        self, role: str, weight: float | None = None, colors: str | None = None
    ) -> InputFile:
        """Return what a report says of the picture in a role."""
        mask, sha256 = (None, None) if self.mask is None else (self.mask.path, self.mask.sha256)
        return InputFile(
            role=role, path=self.path, sha256=self.file_sha256, weight=weight, colors=colors,
            layers=",".join(self.layers) or None, mask=mask, mask_sha256=sha256,
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """Sha256 of the pixels and of alpha, with shape, type and recolouring: the same however they were encoded."""
        pixels = np.ascontiguousarray(self.pixels)
        digest = hashlib.sha256(f"{pixels.dtype.str} {pixels.shape} ".encode())
        digest.update(pixels.data)
        if self.alpha is not None:
            digest.update(np.ascontiguousarray(self.alpha).data)
        if self.recolouring is not None:
            digest.update(f" {self.recolouring.key}".encode())
        return digest.hexdigest()

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])


WeightedPicture = tuple[Picture, float]
"""A style picture and its weight among the styles, above 0."""

_BAND = 2**21  # pixels


def row_bands(height: int, width: int) -> Iterator[slice]:
    """Yield even numbers of rows at a time, as whole copies of a large picture take much memory."""
    rows = max(2, _BAND // width // 2 * 2)
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))
