"""VGG-19's convolutional half as a table: names, channels, strides, receptive fields, FLOPs.

Simonyan and Zisserman 2014, configuration E, without the fully connected layers. Every convolution
is 3×3, stride 1, zero padding 1, and is followed by a ReLU; every pooling is 2×2, stride 2.
``conv4_2`` and ``relu4_2`` name the same activation, the one after the ReLU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from .errors import UsageError
from .values import describe

Kind = Literal["conv", "pool"]
Pooling = Literal["max", "avg"]
PoolRounding = Literal["ceil", "floor"]
"""What a pooling makes of an odd size: ``ceil`` is TensorFlow's SAME (75 → 38), ``floor`` is
Caffe's and PyTorch's default here (75 → 37)."""

Preprocessing = Literal["published", "unit_rgb"]
"""What becomes of RGB pixels before the first convolution.

``published``: as the weights were trained: the mean colour is subtracted, on their scale, their channels
in their order.
``unit_rgb``: RGB on the scale 0–1 as it is, into kernels that were trained on BGR, 0–255, minus the mean:
so does the deeplearning.ai assignment since it uses TensorFlow 2.
"""

_CONVOLUTIONS_PER_BLOCK = (2, 2, 4, 4, 4)
_CHANNELS_PER_BLOCK = (64, 128, 256, 512, 512)


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of the table.

    Attributes:
        name: ``conv1_1`` … ``conv5_4``, ``pool1`` … ``pool5``.
        kind: ``conv`` (a 3×3 convolution with its ReLU) or ``pool``.
        block: 1 to 5; a block ends with its pooling.
        stride: input pixels per output pixel along one axis, the pooling itself included.
        receptive_field: side, in input pixels, of the square that one output value depends on.
        flops_per_pixel: floating-point operations (a multiply-add counts 2) per pixel of the image.
    """

    name: str
    kind: Kind
    block: int
    in_channels: int
    channels: int
    stride: int
    receptive_field: int
    flops_per_pixel: float

    @property
    def values_per_pixel(self) -> float:
        """How many values its output has for each pixel of the image."""
        return self.channels / self.stride**2

    @property
    def weights(self) -> int:
        """How many values its kernel has; a pooling has none."""
        return 9 * self.in_channels * self.channels if self.kind == "conv" else 0

    def output_size(self, height: int, width: int, rounding: PoolRounding) -> tuple[int, int]:
        """Return the height and width of the output for a picture of ``height`` × ``width``."""
        up = math.ceil if rounding == "ceil" else math.floor
        for _ in range(int(math.log2(self.stride))):
            height, width = int(up(height / 2)), int(up(width / 2))
        return height, width


def _build_table() -> tuple[Layer, ...]:
    layers: list[Layer] = []
    channels, stride, field = 3, 1, 1
    blocks = zip(_CONVOLUTIONS_PER_BLOCK, _CHANNELS_PER_BLOCK, strict=True)
    for block, (count, width) in enumerate(blocks, start=1):
        for index in range(1, count + 1):
            field += 2 * stride
            flops = 2 * 9 * channels * width / stride**2
            name = f"conv{block}_{index}"
            layers.append(Layer(name, "conv", block, channels, width, stride, field, flops))
            channels = width
        field += stride
        stride *= 2
        flops = 4 * channels / stride**2
        layers.append(
            Layer(f"pool{block}", "pool", block, channels, channels, stride, field, flops)
        )
    return tuple(layers)


LAYERS: tuple[Layer, ...] = _build_table()
"""All 21 layers, from the input on."""

CONVOLUTIONS: tuple[Layer, ...] = tuple(layer for layer in LAYERS if layer.kind == "conv")
"""The 16 convolutions, whose activations an objective may name."""

_BY_NAME = {layer.name: layer for layer in LAYERS}


def find_layer(name: str) -> Layer:
    """Return the row of a layer, of which ``relu4_2``, ``Conv4_2`` and ``conv4_2`` are names."""
    candidate = name.strip().lower() if isinstance(name, str) else ""
    if candidate.startswith("relu"):
        candidate = "conv" + candidate.removeprefix("relu")
    if candidate not in _BY_NAME:
        raise UsageError(
            f"expected a layer of VGG-19 (conv1_1 … conv5_4, pool1 … pool5), got "
            f"{describe(name)}; try 'nstx model' for the list"
        )
    return _BY_NAME[candidate]


def is_layer(name: str) -> bool:
    """Whether there is a layer of this name, ``conv1_1`` or ``relu1_1``, or ``pool1``."""
    try:
        find_layer(name)
    except UsageError:
        return False
    return True


def split_layers(text: str) -> tuple[str, ...]:
    """Read ``conv1_1,relu4_2`` as the table's names, each once, in the order of the text."""
    names = [find_layer(name).name for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"expected layers such as conv1_1,conv4_2, got {text!r}; try conv4_2")
    return tuple(dict.fromkeys(names))


def truncate(names: Sequence[str]) -> tuple[Layer, ...]:
    """Return the layers from the input up to the deepest of ``names``: all that they need."""
    if not names:
        raise UsageError("expected at least one layer, got none; try conv4_2")
    last = max(LAYERS.index(find_layer(name)) for name in names)
    return LAYERS[: last + 1]


def check_pooling(pooling: str, rounding: str) -> tuple[Pooling, PoolRounding]:
    """Return a pooling and its rounding; `UsageError` if one is unknown."""
    if not isinstance(pooling, str) or pooling not in ("max", "avg"):
        raise UsageError(
            f"expected pooling max or avg, got {describe(pooling)}; try avg", setting="pooling"
        )
    if not isinstance(rounding, str) or rounding not in ("ceil", "floor"):
        raise UsageError(
            f"expected rounding ceil or floor, got {describe(rounding)}; try ceil",
            setting="rounding",
        )
    return cast(Pooling, pooling), cast(PoolRounding, rounding)


def check_preprocessing(name: str) -> Preprocessing:
    """Return a preprocessing; `UsageError` if it is unknown."""
    if not isinstance(name, str) or name not in get_args(Preprocessing):
        raise UsageError(
            f"expected preprocessing published or unit_rgb, got {describe(name)}; try published"
        )
    return cast(Preprocessing, name)


def flops_per_pixel(layers: tuple[Layer, ...]) -> float:
    """Return the FLOPs of the convolutions per pixel of the picture: 722 304 up to conv5_1.

    A cost with its gradient takes twice that, less the gradients of the weights.
    """
    return sum(layer.flops_per_pixel for layer in layers if layer.kind == "conv")
