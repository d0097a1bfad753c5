"""Which input a network of VGG-19's layers expects, recognised by its first filters.

The same tensors circulate under the same names for different inputs: Oxford's training takes BGR on
0–255 minus a mean, in Caffe's order of colours; ports turn that into RGB, or into torchvision's scale,
which is RGB on 0–1 minus a mean, divided by a deviation; and torchvision trained filters of its own.
A wrong guess gives a picture, and a wrong one. So names do not count: some filters of both trainings
are kept here, and a file's are compared with them, whatever their order of colours and their scale.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..printable import printable
from .entries import Tensors

Mean = tuple[float, float, float]
"""Red, green, blue; subtracted from a pixel before the first convolution."""

Convention = Literal["caffe", "torchvision"]
"""``caffe``: BGR, 0–255, minus Oxford's mean. ``torchvision``: RGB, 0–1, minus its mean, divided by
its deviation."""

CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

OXFORD_MEAN: Mean = (123.68, 116.779, 103.939)
_TORCHVISION_MEAN = (0.485, 0.456, 0.406)
_TORCHVISION_DEVIATION = (0.229, 0.224, 0.225)

# Oxford's filters of conv1_1 that tell colours apart: their places, their biases, and their numbers,
# (in, height, width) in RGB, in thousandths, for pixels on the scale 0–255.
_OXFORD_PLACES = (22, 29, 25, 36, 16, 5, 0, 52)
_OXFORD_BIASES = (0.2701, 0.5819, 0.6025, 0.3327, 0.4637, 0.5487, 0.7302, 0.3349)
_OXFORD_FILTERS = """
-145 -192 -152 -192 -250 -205 -161 -194 -159 62 36 55 37 1 25 41 30 44 148 154 146 155 152 148
132 152 140
216 245 132 210 209 102 110 106 36 -17 -14 -45 -57 -84 -106 -74 -103 -93 -186 -185 -149 -210
-236 -193 -154 -182 -116
-169 -171 -147 -159 -164 -141 -155 -155 -141 79 101 98 118 140 134 91 118 105 127 161 142 176
209 190 130 169 143
-153 -187 -154 -175 -208 -175 -149 -178 -148 38 23 38 36 22 37 37 27 40 31 34 32 47 52 50 33 40
38
140 138 121 201 208 180 189 222 182 -73 -108 -69 -94 -124 -93 -91 -96 -80 -16 -58 5 -82 -124 -66
-83 -102 -59
-38 -63 -30 -67 -99 -64 -42 -55 -34 -165 -184 -159 -190 -217 -190 -175 -184 -172 207 225 207 222
234 215 195 222 191
394 377 -46 267 100 -341 -76 -280 -416 464 418 -48 305 104 -373 -76 -311 -465 341 340 -45 232 90
-303 -73 -247 -337
97 141 204 -13 -17 188 35 49 159 -113 -109 -16 -262 -308 -70 -173 -199 -60 37 16 77 -90 -162 33
-2 -53 49
"""

# The first and the last two filters that torchvision's training has there, on its scale.
_TORCHVISION_PLACES = (0, 62, 63)
_TORCHVISION_FILTERS = """
-53 -49 -68 15 45 2 36 20 20 17 55 -6 142 227 138 120 200 92 -45 13 -14 60 140 54 -1 58 -30
26 382 294 -476 -360 233 -223 1 153 177 388 26 -390 -500 2 62 148 51 130 75 -389 51 -194 -175
345 216 -83
-811 -743 -779 -169 342 -70 525 960 762 79 246 -153 -71 447 -381 -153 124 -111 520 757 624 -107
188 -122 -664 -649 -554
"""

# How alike filters must be, as a cosine: 8 bits and half precision leave 0.9999; of the order of
# colours that is not theirs, these are at -0.15 on average.
_ALIKE = 0.95
_SAME_SCALE = 0.05  # relative; the channels' deviations differ by 2 %
_OXFORD_GAIN = np.ones(3)
_TORCHVISION_GAIN = 255 * np.array(_TORCHVISION_DEVIATION)


@dataclass(frozen=True, slots=True)
class _Training:
    """Filters that are known: their places, numbers in RGB, and biases, where these are known."""

    name: str
    places: list[int]
    filters: NDArray[np.float64]
    biases: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Recognised:
    """A training's filters, the order of colours that they are for, and their scale.

    Attributes:
        training: ``Oxford`` or ``torchvision``.
        is_bgr: whether blue is the first channel.
        gain: by which the kernels are larger than the training's own, per channel in RGB, when
            biases are equal; a network that was normalised filter by filter has a gain of 1.
    """

    training: str
    is_bgr: bool
    gain: NDArray[np.float64]

    @property
    def is_rgb_255(self) -> bool:
        """Whether these are Oxford's filters for RGB on 0–255, which is what nstx computes with."""
        return self.training == "Oxford" and not self.is_bgr and self._has(_OXFORD_GAIN)

    @property
    def convention(self) -> Convention | None:
        """The convention that the network follows; None if it follows neither."""
        own = self._has(_OXFORD_GAIN)
        if self.training == "Oxford" and self.is_bgr:
            return "caffe" if own else None
        if self.is_bgr:
            return None
        normalised = own if self.training == "torchvision" else self._has(_TORCHVISION_GAIN)
        return "torchvision" if normalised else None

    def __str__(self) -> str:
        order = "BGR" if self.is_bgr else "RGB"
        gain = ", ".join(f"{value:.3g}" for value in self.gain)
        return f"{self.training}'s filters in {order} at {gain} times their own scale"

    def _has(self, gain: NDArray[np.float64]) -> bool:
        return bool((np.abs(self.gain / gain - 1) < _SAME_SCALE).all())


def recognise(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Recognised | None:
    """Return whose filters those of conv1_1 are, (64, 3, 3, 3) and (64,); None if of neither."""
    for training in _trainings():
        ours, biases = kernel[training.places].astype(np.float64), bias[training.places]
        for is_bgr in (False, True):
            filters = ours[:, ::-1] if is_bgr else ours
            with np.errstate(all="ignore"):  # filters of zeros are not alike
                lengths = np.sqrt(
                    (filters**2).sum((1, 2, 3)) * (training.filters**2).sum((1, 2, 3))
                )
                alike = ((filters * training.filters).sum((1, 2, 3)) / lengths).mean()
                scale = (
                    np.ones(len(biases)) if training.biases is None else training.biases / biases
                )
                products = (filters * training.filters).sum((2, 3)) * scale[:, None]
                gain = products.sum(0) / (training.filters**2).sum((0, 2, 3))
            if alike > _ALIKE:
                return Recognised(training.name, is_bgr, gain)
    return None


def convert(tensors: Tensors, declared: Convention | None, path: object) -> tuple[Tensors, Mean]:
    """Return the tensors for RGB on 0–255, with the mean to subtract.

    Args:
        tensors: in the convention that their filters show.
        declared: the convention of filters that nobody can recognise.
        path: where they are from, for the error.

    Raises:
        WeightsError: the convention cannot be recognised, is none of the known ones, or is not the
            one that is declared.
    """
    known = recognise(tensors["conv1_1.weight"], tensors["conv1_1.bias"])
    if known is None and declared is None:
        raise WeightsError(
            f"expected the filters of Oxford's or torchvision's VGG-19 in {printable(path)}, got "
            "those of another training, which may expect any order and scale of colours; try "
            f"--weights caffe:FILE (BGR, 0–255, minus the mean) or torchvision:FILE (RGB, normalised)"
        )
    if known is not None and declared not in (None, known.convention):
        raise WeightsError(
            f"expected the convention {declared} in {printable(path)}, got {known}; "
            "try the file's name alone"
        )
    if known is not None and known.is_rgb_255:
        return tensors, OXFORD_MEAN
    convention = declared if known is None else known.convention
    if convention is None:
        raise WeightsError(
            f"expected the input of Caffe's or torchvision's VGG-19 in {printable(path)}, got "
            f"{known}, whose mean colour is not known; try --weights embedded"
        )
    return (_from_bgr if convention == "caffe" else _from_normalised)(tensors)


def check_rgb(tensors: Tensors, path: object) -> None:
    """Check filters of a file that describes its input itself: known ones must agree with that.

    `WeightsError` if they do not.
    """
    known = recognise(tensors["conv1_1.weight"], tensors["conv1_1.bias"])
    if known is not None and not known.is_rgb_255:
        raise WeightsError(
            f"expected a network for the colours that {printable(path)} describes, got {known}; "
            "try --weights embedded"
        )


@cache
def _trainings() -> tuple[_Training, ...]:
    def filters(text: str) -> NDArray[np.float64]:
        return np.array(text.split(), np.float64).reshape(-1, 3, 3, 3) / 1000

    oxford, torchvision = filters(_OXFORD_FILTERS), filters(_TORCHVISION_FILTERS)
    return (
        _Training("Oxford", list(_OXFORD_PLACES), oxford, np.array(_OXFORD_BIASES)),
        _Training("torchvision", list(_TORCHVISION_PLACES), torchvision, None),
    )


def _from_bgr(tensors: Tensors) -> tuple[Tensors, Mean]:
    """Convert from Oxford's convention, kept by Caffe, Keras and Gatys: BGR, 0–255, minus a mean."""
    first = np.ascontiguousarray(tensors["conv1_1.weight"][:, ::-1])
    return {**tensors, "conv1_1.weight": first}, OXFORD_MEAN


def _from_normalised(tensors: Tensors) -> tuple[Tensors, Mean]:
    """Convert from torchvision's convention: RGB, 0–1, minus a mean, divided by a deviation.

    The division moves into the first kernel. Zero padding stays exact, because a padded zero is
    the mean colour on both scales.
    """
    scale = 1 / (255 * np.asarray(_TORCHVISION_DEVIATION))
    first = (tensors["conv1_1.weight"] * scale[None, :, None, None]).astype(np.float32)
    red, green, blue = (255 * value for value in _TORCHVISION_MEAN)
    return {**tensors, "conv1_1.weight": first}, (red, green, blue)
