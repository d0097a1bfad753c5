"""Gram matrices, the cost of their difference from targets, and the gradient that follows from it.

A Gram matrix is summed over positions in shares, whose number depends on shapes alone, so that equal inputs give
equal results. Products of 16-bit activations are exact and summed in float32; those of float32 are put
together of three products of halves, with 16 bits or more.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

_TILE = 128  # of a Gram matrix, at most
_DEPTH = 64  # positions that are multiplied at once
_PROGRAMS = 528  # that Gram products are shared among: four for each multiprocessor of an H100
_SUMMED = 4096  # values of several shares that a program sums at once
_COLUMNS = 128  # of a gradient's tile

_HAS_HALVES = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 6)


@triton.jit(do_not_specialize=["positions", "length", "shares"])
def _products(
    features, result, positions, length, shares,
    channels: tl.constexpr, tile: tl.constexpr, depth: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    tiles: tl.constexpr = channels // tile
    row, column = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    share, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    across = row * tile + tl.arange(0, tile)
    down = column * tile + tl.arange(0, tile)
    first = features + image * positions * channels
    total = tl.zeros((tile, tile), tl.float32)
    begin = share * length
    end = tl.minimum(begin + length, positions)
    for start in range(begin, end, depth):
        position = start + tl.arange(0, depth)
        inside = (position < end)[:, None]
        places = position.to(tl.int64)[:, None] * channels
        left = tl.load(first + places + across[None, :], mask=inside, other=0.0)
        right = tl.load(first + places + down[None, :], mask=inside, other=0.0)
        total = tl.dot(tl.trans(left), right, acc=total, input_precision=precision)
    place = (image * shares + share) * channels * channels
    square = across[:, None] * channels + down[None, :]
    tl.store(result + place + square, total)


@triton.jit(do_not_specialize=["sums", "shares", "columns"])
def _compare(
    products, target, factor, seed, difference, slope, sums, shares, columns, scale,
    size: tl.constexpr, step: tl.constexpr, block: tl.constexpr, keeps: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    element = tl.program_id(0) * block + tl.arange(0, block)
    total = tl.zeros((block,), tl.float32)
    first = products + image * shares * size
    for start in range(0, shares, step):
        share = start + tl.arange(0, step)
        places = share.to(tl.int64)[:, None] * size + element[None, :]
        values = tl.load(first + places, mask=(share < shares)[:, None], other=0.0)
        total += tl.sum(values, 0)
    places = image * size + element
    changed = total * scale - tl.load(target + places)
    if keeps:
        tl.store(difference + places, changed)
    factors = tl.load(factor + image) * tl.load(seed)
    tl.store(slope + places, (changed * factors).to(slope.dtype.element_ty))
    tl.store(sums + image * columns + tl.program_id(0), tl.sum(changed * changed, 0))


def _precision(features: torch.Tensor) -> str:
    """Return how features are multiplied: float32 as two halves of bf16, where Triton has that."""
    if features.dtype != torch.float32:
        return "tf32"
    return "bf16x3" if features.is_cuda and _HAS_HALVES else "tf32x3"


@dataclass(frozen=True, slots=True)
class _Shares:
    """How a Gram product is shared among programs; by shapes alone.

    Attributes:
        tile: side of the part of a Gram matrix that a program computes.
        count: of shares of the positions.
        length: positions of a share.
        step: shares that are summed at once.
        block: values of a Gram matrix that a program sums.
    """

    tile: int
    count: int
    length: int
    step: int
    block: int


def _share(images: int, positions: int, channels: int) -> _Shares:
    tile = min(channels, _TILE)
    tiles = (channels // tile) ** 2
    most = max(1, min(_PROGRAMS // (tiles * images), triton.cdiv(positions, 4 * _DEPTH)))
    length = triton.cdiv(triton.cdiv(positions, most), _DEPTH) * _DEPTH
    count = triton.cdiv(positions, length)
    # By channels alone, as a kernel is compiled and loaded anew for others.
    step = 32 if channels < 512 else 4
    return _Shares(tile, count, length, step, _SUMMED // step)


def compare_programs(images: int, positions: int, channels: int) -> int:
    """Return how many sums of squares `compare_gram` has per picture of a batch."""
    return channels * channels // _share(images, positions, channels).block


def compare_gram(
    features: torch.Tensor,
    target: torch.Tensor,
    factor: torch.Tensor,
    seed: torch.Tensor,
    sums: torch.Tensor,
    *,
    keeps: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return G − A times a factor and the seed, and with ``keeps`` G − A, float32.

    Both are (batch, channels, channels).

    Args:
        features: F, (batch, h, w, channels); G = FᵀF / (h·w).
        target: A, float32 (batch, channels, channels).
        factor: float32 (batch).
        seed: float32 ().
        sums: float32 (batch, columns), whose first `compare_programs` values become sums of (G − A)².
        keeps: whether the difference is wanted.
    """
    images, height, width, channels = features.shape
    positions, size = height * width, channels * channels
    share = _share(images, positions, channels)
    products = target.new_empty(images, share.count, size)
    wide = features.dtype == torch.float32
    _products[((channels // share.tile) ** 2, share.count, images)](
        features, products, positions, share.length, share.count, channels, share.tile,
        _DEPTH // 2 if wide else _DEPTH, _precision(features), num_warps=8, num_stages=3,
    )  # fmt: skip
    slope = torch.empty_like(target, dtype=features.dtype)
    difference = torch.empty_like(target) if keeps else None
    _compare[(compare_programs(images, positions, channels), images)](
        products, target, factor, seed, slope if difference is None else difference, slope, sums,
        share.count, sums.stride(0), 1 / positions, size, share.step, share.block, keeps,
        num_warps=4,
    )  # fmt: skip
    return slope, difference


@triton.jit(do_not_specialize=["positions"])
def _add_slope(
    features, slope, gradient, result, positions,
    channels: tl.constexpr, rows: tl.constexpr, tile: tl.constexpr, depth: tl.constexpr,
    has_gradient: tl.constexpr, cuts: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(2).to(tl.int64)
    position = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    inside = (position < positions)[:, None]
    column = tl.program_id(1) * tile + tl.arange(0, tile)
    places = (image * positions + position)[:, None] * channels
    matrix = slope + image * channels * channels
    if has_gradient:
        # Before the products, which then have something to wait for it with.
        behind = tl.load(gradient + places + column[None, :], mask=inside, other=0.0)
        total = behind.to(tl.float32)
    else:
        total = tl.zeros((rows, tile), tl.float32)
    for start in range(0, channels, depth):
        inner = start + tl.arange(0, depth)
        left = tl.load(features + places + inner[None, :], mask=inside, other=0.0)
        right = tl.load(matrix + inner[:, None] * channels + column[None, :])
        total = tl.dot(left, right, acc=total, input_precision="tf32")
    if cuts:
        here = tl.load(features + places + column[None, :], mask=inside, other=0.0)
        total = tl.where(here.to(tl.float32) <= 0, 0.0, total)
    tl.store(result + places + column[None, :], total.to(result.dtype.element_ty), mask=inside)


def add_gram_gradient(
    features: torch.Tensor, slope: torch.Tensor, gradient: torch.Tensor | None, *, cuts: bool
) -> torch.Tensor:
    """Return a gradient (batch, h, w, channels) plus features times a slope.

    Args:
        features: F, (batch, h, w, channels).
        slope: (batch, channels, channels), symmetric.
        gradient: of the layers behind, which the result takes the place of; None is 0.
        cuts: whether the result is cut to 0 where F is, the backward of the ReLU.
    """
    images, height, width, channels = features.shape
    result = torch.empty_like(features) if gradient is None else gradient
    tile = min(channels, _COLUMNS)
    # Smaller tiles leave room for more of them at once, but float32's would be read too often.
    rows, depth, warps = (128, 32, 8) if features.dtype == torch.float32 else (64, 64, 4)
    grid = (triton.cdiv(height * width, rows), channels // tile, images)
    _add_slope[grid](
        features, slope, result, result, height * width, channels, rows, tile, depth,
        gradient is not None, cuts, num_warps=warps, num_stages=3,
    )  # fmt: skip
    return result
