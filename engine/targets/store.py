"""The key of a target, and the stores that targets are looked up and kept in."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nstx.models.vgg19 import Pooling, PoolRounding

from ..pictures.resizing import RESAMPLING

Statistic = Literal["activation", "gram"]
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKey:
    """Everything that a target depends on.

    Attributes:
        picture: sha256 of the decoded pixels, `nstx.engine.pictures.picture.Picture.digest`.
        height: of the resized picture, in pixels.
        width: of the resized picture, in pixels.
        weights: sha256 of the weight file.
        computed_by: extractor, kind of device and precision, such as ``onnx cpu fp32``. Versions of
            libraries and models of processors do not count; they differ by rounding.
        resampling: the filter by which the picture was resized.
    """

    picture: str
    height: int
    width: int
    layer: str
    statistic: Statistic
    pooling: Pooling
    pool_rounding: PoolRounding
    weights: str
    computed_by: str
    resampling: str = RESAMPLING

    def to_json(self) -> dict[str, str | int]:
        """Return the key as plain data."""
        # Not dataclasses.asdict, which makes deep copies and takes a tenth of a hit's time.
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class TargetStore(Protocol):
    """A place where targets are looked up and kept."""

    @property
    def keeps(self) -> bool:
        """Whether a target that is written now can be read later."""
        ...

    def read(self, key: TargetKey) -> Array | None:
        """Return a target, which is not to be changed, or None where there is none."""
        ...

    def write(self, key: TargetKey, value: Array, picture: str) -> None:
        """Keep a target, if it can be kept, with the path of its picture for people to read.

        The value is float32, (channels, h, w), or a symmetric (channels, channels).
        """
        ...


class TargetMemory:
    """A `TargetStore` that lasts as long as it is held, and leaves the cache folder alone."""

    keeps = True

    def __init__(self) -> None:
        self._values: dict[TargetKey, Array] = {}

    def read(self, key: TargetKey) -> Array | None:
        """Implement `TargetStore`."""
        return self._values.get(key)

    def write(self, key: TargetKey, value: Array, picture: str) -> None:
        """Implement `TargetStore`; the picture's path is not kept."""
        self._values[key] = value
