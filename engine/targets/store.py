"""Where targets are looked up and kept, and what each is found by."""

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
        layer: of VGG-19.
        statistic: ``activation`` or ``gram``.
        pooling: ``max`` or ``avg``.
        pool_rounding: of odd sizes, ``ceil`` or ``floor``.
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
        """Keep a target, if it can be kept.

        Args:
            key: of the target.
            value: float32, (channels, h, w), or a symmetric (channels, channels).
            picture: where the picture was read from, for people.
        """
        ...


class TargetMemory:
    """A `TargetStore` that lasts as long as it is held, and leaves the cache folder alone."""

    keeps = True

    def __init__(self) -> None:
        self._values: dict[TargetKey, Array] = {}

    def read(self, key: TargetKey) -> Array | None:
        """Return a target, as `TargetStore.read`."""
        return self._values.get(key)

    def write(self, key: TargetKey, value: Array, picture: str) -> None:
        """Keep a target, as `TargetStore.write`; the picture's place is not kept."""
        self._values[key] = value
