"""Bias, ReLU and pooling, forward and backward, in one pass over memory each.

Activations are (batch, height, width, channels) in memory, of any floating type; arithmetic is float32. The
channels are a power of two. NaN goes through a ReLU and through a maximum, as in PyTorch.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

_ELEMENTS = 4096  # that a program handles, about
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


@triton.jit(do_not_specialize=["rows"])
def _bias_relu(x, bias, rows, channels: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    channel = tl.arange(0, channels)
    places = row[:, None] * channels + channel[None, :]
    inside = (row < rows)[:, None]
    value = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + channel)[None, :]
    value = tl.where(value < 0, 0.0, value)
    tl.store(x + places, value.to(x.dtype.element_ty), mask=inside)


def bias_relu(x: torch.Tensor, bias: torch.Tensor) -> None:
    """Add a bias, float32 (channels), to x (batch, h, w, channels), and apply the ReLU, in place."""
    channels = x.shape[-1]
    rows, block = x.numel() // channels, max(1, _ELEMENTS // channels)
    _bias_relu[(triton.cdiv(rows, block),)](x, bias, rows, channels, block, num_warps=_WARPS)


@triton.jit
def _window(program, height, width, columns, rows, block: tl.constexpr):
    """Return each window's image, row and column, and whether there is such a window."""
    windows = program.to(tl.int64) * block + tl.arange(0, block)
    column = windows % columns
    row = (windows // columns) % rows
    image = windows // (columns * rows)
    return image, row, column


@triton.jit
def _load_corner(
    x, bias, image, row, column, channel, height, width, inside,
    down: tl.constexpr, across: tl.constexpr, channels: tl.constexpr, raw: tl.constexpr,
):  # fmt: skip
    """Return one corner of each window after the ReLU, its place in memory and whether it exists."""
    y, x_ = 2 * row + down, 2 * column + across
    exists = inside & (y < height) & (x_ < width)
    place = ((image * height + y) * width + x_)[:, None] * channels + channel[None, :]
    value = tl.load(x + place, mask=exists[:, None], other=0.0).to(tl.float32)
    if raw:
        value += tl.load(bias + channel)[None, :]
        value = tl.where(value < 0, 0.0, value)
    return value, place, exists


@triton.jit(do_not_specialize=["images", "height", "width", "pooled_height", "pooled_width"])
def _bias_relu_pool(
    x, bias, pooled, images, height, width, pooled_height, pooled_width,
    channels: tl.constexpr, block: tl.constexpr, tile: tl.constexpr,
    averages: tl.constexpr, rounds_up: tl.constexpr, keeps: tl.constexpr,
):  # fmt: skip
    rows, columns = (height + 1) // 2, (width + 1) // 2
    image, row, column = _window(tl.program_id(0), height, width, columns, rows, block)
    inside = image < images
    channel = tl.program_id(1) * tile + tl.arange(0, tile)
    total = tl.zeros((block, tile), tl.float32)
    count = tl.zeros((block,), tl.float32)
    for corner in tl.static_range(4):
        value, place, exists = _load_corner(
            x, bias, image, row, column, channel, height, width, inside,
            corner // 2, corner % 2, channels, True,
        )  # fmt: skip
        if keeps:
            tl.store(x + place, value.to(x.dtype.element_ty), mask=exists[:, None])
        if averages:
            total += tl.where(exists[:, None], value, 0.0)
            count += exists.to(tl.float32)
        else:
            # After the ReLU, 0 is the least there is.
            larger = exists[:, None] & ((value > total) | (value != value))
            total = tl.where(larger, value, total)
    if averages:
        total /= (tl.maximum(count, 1.0) if rounds_up else count * 0 + 4)[:, None]
    stored = inside & (row < pooled_height) & (column < pooled_width)
    place = ((image * pooled_height + row) * pooled_width + column)[:, None] * channels
    tl.store(
        pooled + place + channel[None, :],
        total.to(pooled.dtype.element_ty),
        mask=stored[:, None],
    )


def bias_relu_pool(
    x: torch.Tensor, bias: torch.Tensor, kind: PoolKind, *, keeps: bool
) -> torch.Tensor:
    """Return the pooling (batch, h', w', channels) of the ReLU of x plus a bias, float32 (channels).

    ``keeps`` puts the activations before the pooling in the place of x; else x stays as it is.
    """
    images, height, width, channels = x.shape
    pooled_height, pooled_width = kind.pooled_size(height, width)
    pooled = x.new_empty(images, pooled_height, pooled_width, channels)
    block, tile, grid = _pool_grid(x)
    _bias_relu_pool[grid](
        x, bias, pooled, images, height, width, pooled_height, pooled_width,
        channels, block, tile, kind.averages, kind.rounds_up, keeps, num_warps=_WARPS,
    )  # fmt: skip
    return pooled


@triton.jit(do_not_specialize=["images", "height", "width", "pooled_height", "pooled_width"])
def _unpool(
    gradient, x, bias, result, images, height, width, pooled_height, pooled_width,
    channels: tl.constexpr, block: tl.constexpr, tile: tl.constexpr,
    averages: tl.constexpr, rounds_up: tl.constexpr, raw: tl.constexpr, cuts: tl.constexpr,
):  # fmt: skip
    rows, columns = (height + 1) // 2, (width + 1) // 2
    image, row, column = _window(tl.program_id(0), height, width, columns, rows, block)
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
            value, place, exists = _load_corner(
                x, bias, image, row, column, channel, height, width, inside,
                corner // 2, corner % 2, channels, raw,
            )  # fmt: skip
            larger = exists[:, None] & ((value > largest) | (value != value))
            largest = tl.where(larger, value, largest)
            first = tl.where(larger, corner, first)
    for corner in tl.static_range(4):
        value, place, exists = _load_corner(
            x, bias, image, row, column, channel, height, width, inside,
            corner // 2, corner % 2, channels, raw,
        )  # fmt: skip
        share = slope
        if not averages:
            share = tl.where(first == corner, slope, 0.0)
        if cuts:
            share = tl.where(value <= 0, 0.0, share)
        tl.store(result + place, share.to(result.dtype.element_ty), mask=exists[:, None])


def unpool(
    gradient: torch.Tensor,
    x: torch.Tensor,
    bias: torch.Tensor,
    kind: PoolKind,
    *,
    raw: bool,
    cuts: bool,
) -> torch.Tensor:
    """Return the gradient before a pooling, of that after it, (batch, h', w', channels).

    Args:
        gradient: after the pooling.
        x: activations before it, (batch, h, w, channels); with ``raw``, before bias and ReLU. Then the
            result takes the place of x.
        bias: float32 (channels).
        kind: of the pooling. Of equal maxima the first counts, row by row, as in PyTorch.
        raw: whether x lacks bias and ReLU.
        cuts: whether the gradient is cut where the ReLU was, too.
    """
    images, height, width, channels = x.shape
    result = x if raw else torch.empty_like(x)
    block, tile, grid = _pool_grid(x)
    _unpool[grid](
        gradient, x, bias, result, images, height, width, gradient.shape[1], gradient.shape[2],
        channels, block, tile, kind.averages, kind.rounds_up, raw, cuts, num_warps=_WARPS,
    )  # fmt: skip
    return result


def _pool_grid(x: torch.Tensor) -> tuple[int, int, tuple[int, int]]:
    """Return windows and channels of a program, and the grid of programs."""
    images, height, width, channels = x.shape
    windows = images * ((height + 1) // 2) * ((width + 1) // 2)
    tile = min(channels, 64)
    block = _ELEMENTS // 2 // tile
    return block, tile, (triton.cdiv(windows, block), channels // tile)
