"""Poolings, and their gradients with the backward of the ReLU before them, in one pass over memory each.

Activations are (batch, height, width, channels) in memory, after a ReLU, of any floating type; arithmetic is
float32. The channels are a power of two, 64 or more. NaN goes through a maximum, as in PyTorch.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

_WINDOWS = 2048  # of a channel each, that a program handles
_WARPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolKind:
    """A pooling of 2×2: of averages or of maxima; odd sizes round up or down."""

    averages: bool
    rounds_up: bool

    def pooled_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the output."""
        more = 1 if self.rounds_up else 0
        return (height + more) // 2, (width + more) // 2


@triton.jit
def _window(program, rows, columns, block: tl.constexpr):
    """Return the image, row and column of a program's windows."""
    windows = program.to(tl.int64) * block + tl.arange(0, block)
    column = windows % columns
    row = (windows // columns) % rows
    image = windows // (columns * rows)
    return image, row, column


@triton.jit
def _load_corner(
    x, image, row, column, channel, height, width, inside,
    corner: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    """Return the values in one corner of each window, their places, and whether they exist."""
    down, across = 2 * row + corner // 2, 2 * column + corner % 2
    exists = inside & (down < height) & (across < width)
    place = ((image * height + down) * width + across)[:, None] * channels + channel[None, :]
    value = tl.load(x + place, mask=exists[:, None], other=0.0).to(tl.float32)
    return value, place, exists


@triton.jit(do_not_specialize=["images", "height", "width", "pooled_height", "pooled_width"])
def _pool(
    x, pooled, images, height, width, pooled_height, pooled_width,
    channels: tl.constexpr, block: tl.constexpr, tile: tl.constexpr,
    averages: tl.constexpr, rounds_up: tl.constexpr,
):  # fmt: skip
    image, row, column = _window(tl.program_id(0), pooled_height, pooled_width, block)
    inside = image < images
    channel = tl.program_id(1) * tile + tl.arange(0, tile)
    total = tl.zeros((block, tile), tl.float32)
    count = tl.zeros((block,), tl.float32)
    for corner in tl.static_range(4):
        value, _, exists = _load_corner(
            x, image, row, column, channel, height, width, inside, corner, channels
        )
        if averages:
            total += value
            count += exists.to(tl.float32)
        else:
            # After the ReLU, 0 is the least there is.
            total = tl.where((value > total) | (value != value), value, total)
    if averages:
        total /= (tl.maximum(count, 1.0) if rounds_up else count * 0 + 4)[:, None]
    place = ((image * pooled_height + row) * pooled_width + column)[:, None] * channels
    stored = total.to(pooled.dtype.element_ty)
    tl.store(pooled + place + channel[None, :], stored, mask=inside[:, None])


def pool(x: torch.Tensor, kind: PoolKind) -> torch.Tensor:
    """Return the pooling (batch, h', w', channels) of activations (batch, h, w, channels)."""
    images, height, width, channels = x.shape
    size = kind.pooled_size(height, width)
    pooled = x.new_empty(images, *size, channels)
    block, tile = _split(channels)
    grid = (triton.cdiv(images * size[0] * size[1], block), channels // tile)
    _pool[grid](
        x, pooled, images, height, width, *size, channels, block, tile,
        kind.averages, kind.rounds_up, num_warps=_WARPS,
    )  # fmt: skip
    return pooled


@triton.jit(do_not_specialize=["images", "height", "width", "pooled_height", "pooled_width"])
def _unpool(
    gradient, x, result, images, height, width, pooled_height, pooled_width,
    channels: tl.constexpr, block: tl.constexpr, tile: tl.constexpr,
    averages: tl.constexpr, rounds_up: tl.constexpr, cuts: tl.constexpr,
):  # fmt: skip
    rows, columns = (height + 1) // 2, (width + 1) // 2
    image, row, column = _window(tl.program_id(0), rows, columns, block)
    inside = image < images
    channel = tl.program_id(1) * tile + tl.arange(0, tile)
    pooled = inside & (row < pooled_height) & (column < pooled_width)
    place = ((image * pooled_height + row) * pooled_width + column)[:, None] * channels
    slope = tl.load(gradient + place + channel[None, :], mask=pooled[:, None], other=0.0)
    slope = slope.to(tl.float32)
    if averages:
        # A window at an odd edge has two pixels, or one.
        high = tl.where(2 * row + 1 < height, 2.0, 1.0)
        wide = tl.where(2 * column + 1 < width, 2.0, 1.0)
        slope /= (high * wide if rounds_up else high * 0 + 4)[:, None]
    largest = tl.full((block, tile), -1.0, tl.float32)
    first = tl.zeros((block, tile), tl.int32)
    if not averages:
        for corner in tl.static_range(4):
            value, _, exists = _load_corner(
                x, image, row, column, channel, height, width, inside, corner, channels
            )
            larger = exists[:, None] & ((value > largest) | (value != value))
            largest = tl.where(larger, value, largest)
            first = tl.where(larger, corner, first)
    for corner in tl.static_range(4):
        value, place, exists = _load_corner(
            x, image, row, column, channel, height, width, inside, corner, channels
        )
        share = slope
        if not averages:
            share = tl.where(first == corner, slope, 0.0)
        if cuts:
            share = tl.where(value <= 0, 0.0, share)
        tl.store(result + place, share.to(result.dtype.element_ty), mask=exists[:, None])


def unpool(gradient: torch.Tensor, x: torch.Tensor, kind: PoolKind, *, cuts: bool) -> torch.Tensor:
    """Return the gradient before a pooling, of that behind it, (batch, h', w', channels).

    Args:
        gradient: behind the pooling.
        x: activations before it, (batch, h, w, channels); with ``cuts`` the result takes their place.
        kind: of the pooling. Of equal maxima the first counts, row by row, as in PyTorch.
        cuts: whether the gradient is cut to 0 where x is, the backward of the ReLU.
    """
    images, height, width, channels = x.shape
    result = x if cuts else torch.empty_like(x)
    block, tile = _split(channels)
    windows = images * ((height + 1) // 2) * ((width + 1) // 2)
    grid = (triton.cdiv(windows, block), channels // tile)
    _unpool[grid](
        gradient, x, result, images, height, width, gradient.shape[1], gradient.shape[2],
        channels, block, tile, kind.averages, kind.rounds_up, cuts, num_warps=_WARPS,
    )  # fmt: skip
    return result


def _split(channels: int) -> tuple[int, int]:
    """Return the windows and the channels of a program."""
    tile = min(channels, 64)
    return _WINDOWS // tile, tile
