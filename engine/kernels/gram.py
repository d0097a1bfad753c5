"""Gram matrices, the cost of their difference from targets, and the gradient that follows from it.

A Gram matrix is summed over positions in shares, whose number depends on shapes alone, so that equal inputs give
equal results. Products of 16-bit activations are exact and summed in float32; those of float32 are put
together of three products in TF32, which comes to nearly the same.
"""

import torch
import triton
import triton.language as tl

_TILE = 128  # of a Gram matrix, at most
_DEPTH = 64  # positions that are multiplied at once
_PROGRAMS = 528  # that Gram products are shared among: four for each multiprocessor of an H100
_SHARES, _ELEMENTS = 32, 128  # that a program sums
_ROWS, _COLUMNS = 128, 128  # of a gradient's tile


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


@triton.jit(do_not_specialize=["shares", "columns"])
def _compare(
    products, target, factor, seed, difference, slope, sums, shares, columns, scale,
    size: tl.constexpr, step: tl.constexpr, block: tl.constexpr,
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
    tl.store(difference + places, changed)
    factors = tl.load(factor + image) * tl.load(seed)
    tl.store(slope + places, (changed * factors).to(slope.dtype.element_ty))
    tl.store(sums + image * columns + tl.program_id(0), tl.sum(changed * changed, 0))


def compare_programs(channels: int) -> int:
    """Return how many sums of squares `compare_gram` has per picture."""
    return channels * channels // _ELEMENTS


def compare_gram(
    features: torch.Tensor,
    target: torch.Tensor,
    factor: torch.Tensor,
    seed: torch.Tensor,
    sums: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return G − A, float32 (batch, channels, channels), and its product with a factor and the seed.

    Args:
        features: F, (batch, h, w, channels); G = FᵀF / (h·w).
        target: A, float32 (batch, channels, channels).
        factor: float32 (batch).
        seed: float32 ().
        sums: float32 (batch, columns), whose first `compare_programs` values become sums of (G − A)².
    """
    images, height, width, channels = features.shape
    positions, size = height * width, channels * channels
    tile = min(channels, _TILE)
    tiles = (channels // tile) ** 2
    shares = max(1, min(_PROGRAMS // (tiles * images), triton.cdiv(positions, 4 * _DEPTH)))
    length = triton.cdiv(triton.cdiv(positions, shares), _DEPTH) * _DEPTH
    shares = triton.cdiv(positions, length)
    products = target.new_empty(images, shares, size)
    wide = features.dtype == torch.float32
    _products[(tiles, shares, images)](
        features, products, positions, length, shares, channels, tile,
        _DEPTH // 2 if wide else _DEPTH, "tf32x3" if wide else "tf32", num_warps=8, num_stages=3,
    )  # fmt: skip
    difference = torch.empty_like(target)
    slope = torch.empty_like(target, dtype=features.dtype)
    _compare[(compare_programs(channels), images)](
        products, target, factor, seed, difference, slope, sums, shares, sums.stride(0),
        1 / positions, size, _SHARES, _ELEMENTS, num_warps=4,
    )  # fmt: skip
    return difference, slope


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
    total = tl.zeros((rows, tile), tl.float32)
    for start in range(0, channels, depth):
        inner = start + tl.arange(0, depth)
        left = tl.load(features + places + inner[None, :], mask=inside, other=0.0)
        right = tl.load(matrix + inner[:, None] * channels + column[None, :])
        total = tl.dot(left, right, acc=total, input_precision="tf32")
    if has_gradient:
        behind = tl.load(gradient + places + column[None, :], mask=inside, other=0.0)
        total += behind.to(tl.float32)
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
    grid = (triton.cdiv(height * width, _ROWS), channels // tile, images)
    _add_slope[grid](
        features, slope, result, result, height * width, channels, _ROWS, tile,
        32 if features.dtype == torch.float32 else 64, gradient is not None, cuts, num_warps=8,
        num_stages=3,
    )  # fmt: skip
    return result
