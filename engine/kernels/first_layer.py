"""conv1_1, which has three channels on one side: too few for the convolutions of libraries.

Forward, pixels come in as they are, and mean, bias and ReLU are applied in passing; its products are put together of
three in TF32, which comes near float32's, whatever the precision of the others. Backward, the gradient of each pixel is first multiplied by the kernel,
(27) values per pixel, which are then summed where they belong.
"""

import torch
import triton
import triton.language as tl

_TAPS, _PADDED = 27, 32  # 3×3 pixels of three channels; the next power of two
_BLOCK = 128  # pixels of a program
_GATHERED = 256  # pixels of a program that sums: one for each thread


def arrange_first_kernel(kernel: torch.Tensor) -> torch.Tensor:
    """Return conv1_1's kernel (64, 3, 3, 3) as float32 (32, 64): row 3·(3·down + across) + colour."""
    outputs = kernel.shape[0]
    rows = kernel.float().permute(2, 3, 1, 0).reshape(_TAPS, outputs)
    return torch.nn.functional.pad(rows, (0, 0, 0, _PADDED - _TAPS)).contiguous()


@triton.jit(do_not_specialize=["images", "height", "width"])
def _forward(
    pixels, kernel, bias, mean, result, images, height, width,
    channels: tl.constexpr, block: tl.constexpr, taps: tl.constexpr,
):  # fmt: skip
    places = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = places < images.to(tl.int64) * height * width
    column, row = places % width, (places // width) % height
    tap = tl.arange(0, taps)
    colour, down, across = tap % 3, tap // 9 - 1, (tap // 3) % 3 - 1
    y, x = row[:, None] + down[None, :], column[:, None] + across[None, :]
    exists = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (tap < 27)[None, :]
    exists = exists & inside[:, None]
    sources = (places[:, None] + down[None, :] * width + across[None, :]) * 3 + colour[None, :]
    values = tl.load(pixels + sources, mask=exists, other=0.0).to(tl.float32)
    values = tl.where(exists, values - tl.load(mean + colour)[None, :], 0.0)
    channel = tl.arange(0, channels)
    matrix = tl.load(kernel + tap[:, None] * channels + channel[None, :])
    total = tl.dot(values, matrix, input_precision="tf32x3") + tl.load(bias + channel)[None, :]
    total = tl.where(total < 0, 0.0, total)
    targets = places[:, None] * channels + channel[None, :]
    tl.store(result + targets, total.to(result.dtype.element_ty), mask=inside[:, None])


def first_forward(
    pixels: torch.Tensor,
    kernel: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return conv1_1's activations (batch, h, w, 64) of pixels, float32 (batch, h, w, 3).

    The kernel is `arrange_first_kernel`'s; bias (64) and mean (3) are float32.
    """
    images, height, width, _ = pixels.shape
    channels = kernel.shape[1]
    result = pixels.new_empty(images, height, width, channels, dtype=dtype)
    grid = (triton.cdiv(images * height * width, _BLOCK),)
    _forward[grid](
        pixels, kernel, bias, mean, result, images, height, width, channels, _BLOCK, _PADDED,
        num_warps=4,
    )  # fmt: skip
    return result


@triton.jit(do_not_specialize=["positions", "count"])
def _backward(
    gradient, activation, slope, kernel, result, positions, count,
    channels: tl.constexpr, block: tl.constexpr, taps: tl.constexpr, has_style: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    position = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = position < positions
    places = image * positions + position
    channel, tap = tl.arange(0, channels), tl.arange(0, taps)
    offsets = places[:, None] * channels + channel[None, :]
    features = tl.load(activation + offsets, mask=inside[:, None], other=0.0)
    total = tl.load(gradient + offsets, mask=inside[:, None], other=0.0).to(tl.float32)
    if has_style:
        square = channel[:, None] * channels + channel[None, :]
        matrix = tl.load(slope + image * channels * channels + square)
        total = tl.dot(features, matrix, acc=total, input_precision="tf32")
    total = tl.where(features.to(tl.float32) <= 0, 0.0, total)
    # The transposed kernel.
    matrix = tl.load(kernel + tap[None, :] * channels + channel[:, None])
    rounded = total.to(gradient.dtype.element_ty)
    values = tl.dot(rounded, matrix.to(gradient.dtype.element_ty), input_precision="tf32")
    targets = tap[None, :] * count.to(tl.int64) + places[:, None]
    tl.store(
        result + targets,
        values.to(result.dtype.element_ty),
        mask=inside[:, None] & (tap < 27)[None, :],
    )


@triton.jit(do_not_specialize=["sums", "positions", "height", "width", "count", "columns"])
def _gather(
    values, pixels, seed, weight, gradient, sums, positions, height, width, count, columns,
    block: tl.constexpr, has_variation: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    position = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = position < positions
    places = image * positions + position
    column, row = position % width, position // width
    scale = 1 / tl.load(seed)
    largest = tl.zeros((block,), tl.float32)
    variation = tl.zeros((block,), tl.float32)
    for colour in tl.static_range(3):
        total = tl.zeros((block,), tl.float32)
        for tap in tl.static_range(9):
            down, across = tap // 3 - 1, tap % 3 - 1
            y, x = row - down, column - across
            exists = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            source = (3 * tap + colour) * count.to(tl.int64) + places - down * width - across
            total += tl.load(values + source, mask=exists, other=0.0).to(tl.float32)
        total *= scale
        if has_variation:
            slope, squares = _variation(
                pixels, places * 3 + colour, row, column, height, width, inside
            )
            total += slope * tl.load(weight + image)
            variation += squares
        tl.store(gradient + places * 3 + colour, total, mask=inside)
        size = tl.where(total != total, float("inf"), tl.abs(total))
        largest = tl.maximum(largest, tl.where(inside, size, 0.0))
    row_of_sums = sums + image * columns + tl.program_id(0)
    if has_variation:
        tl.store(row_of_sums, tl.sum(variation, 0))
        row_of_sums += tl.num_programs(0)
    tl.store(row_of_sums, tl.max(largest, 0))


@triton.jit
def _variation(pixels, offsets, row, column, height, width, inside):
    """Return the slope of the total variation at some values, and their share of it."""
    here = tl.load(pixels + offsets, mask=inside, other=0.0)
    across, down = height * (width - 1) * 3, (height - 1) * width * 3
    before, after = inside & (column > 0), inside & (column < width - 1)
    left = tl.where(before, here - tl.load(pixels + offsets - 3, mask=before, other=0.0), 0.0)
    right = tl.where(after, tl.load(pixels + offsets + 3, mask=after, other=0.0) - here, 0.0)
    above, below = inside & (row > 0), inside & (row < height - 1)
    line = 3 * width
    up = tl.where(above, here - tl.load(pixels + offsets - line, mask=above, other=0.0), 0.0)
    low = tl.where(below, tl.load(pixels + offsets + line, mask=below, other=0.0) - here, 0.0)
    slope = (left - right) * (2.0 / across) + (up - low) * (2.0 / down)
    return slope, right * right / across + low * low / down


def gather_programs(positions: int) -> int:
    """Return how many programs, each with its share of the sums, `first_backward` has per picture."""
    return int(triton.cdiv(positions, _GATHERED))


def first_backward(
    gradient: torch.Tensor,
    activation: torch.Tensor,
    slope: torch.Tensor | None,
    kernel: torch.Tensor,
    *,
    pixels: torch.Tensor,
    seed: torch.Tensor,
    variation: torch.Tensor | None,
    sums: torch.Tensor,
) -> torch.Tensor:
    """Return the gradient of the cost, float32 (batch, h, w, 3), from that at conv1_1's output.

    Args:
        gradient: times the seed, (batch, h, w, 64); of the layers behind.
        activation: of conv1_1, after its ReLU.
        slope: (batch, 64, 64); the activations times it are added to the gradient. None adds nothing.
        kernel: `arrange_first_kernel`'s.
        pixels: float32 (batch, h, w, 3).
        seed: float32 (), that the gradient is divided by.
        variation: weights (batch) of the total variation, whose gradient is added; None has none.
        sums: float32 (batch, columns), whose first `gather_programs` values become shares of the total
            variation, with ``variation``; the next as many, or else the first, the largest values of
            the gradient, infinite if one is NaN.
    """
    images, height, width, channels = activation.shape
    positions, count = height * width, images * height * width
    values = gradient.new_empty(_TAPS, count)
    _backward[(triton.cdiv(positions, _BLOCK), images)](
        gradient, activation, gradient if slope is None else slope, kernel, values, positions,
        count, channels, _BLOCK, _PADDED, slope is not None, num_warps=4,
    )  # fmt: skip
    result = pixels.new_empty(images, height, width, 3)
    _gather[(gather_programs(positions), images)](
        values, pixels, seed, seed if variation is None else variation, result, sums, positions,
        height, width, count, sums.stride(0), _GATHERED, variation is not None, num_warps=_GATHERED // 32,
    )  # fmt: skip
    return result
