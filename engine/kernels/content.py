"""The content cost of a layer and its gradient, with the backward of the layer's ReLU; and sums at the end."""

import torch
import triton
import triton.language as tl

_BLOCK = 4096  # values of a program
_STEP = 1024  # sums that are added at once
_WARPS = 8


@triton.jit(do_not_specialize=["sums", "positions", "columns"])
def _cut(
    features, gradient, target, factor, seed, result, sums, positions, columns,
    channels: tl.constexpr, block: tl.constexpr, has_gradient: tl.constexpr, has_target: tl.constexpr, cuts: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    offsets = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    # A multiple of the channels, so that the compiler sees that addresses are aligned.
    count = positions.to(tl.int64) * channels
    inside = offsets < count
    places = image * count + offsets
    here = tl.load(features + places, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((block,), tl.float32)
    if has_gradient:
        total += tl.load(gradient + places, mask=inside, other=0.0).to(tl.float32)
    if has_target:
        changed = here - tl.load(target + places, mask=inside, other=0.0)
        total += changed * (tl.load(factor + image) * tl.load(seed))
        tl.store(sums + image * columns + tl.program_id(0), tl.sum(changed * changed, 0))
    if cuts:
        total = tl.where(here <= 0, 0.0, total)
    tl.store(result + places, total.to(result.dtype.element_ty), mask=inside)


def cut_programs(values: int) -> int:
    """Return how many sums of squares `add_content_gradient` has per picture of as many values."""
    return int(triton.cdiv(values, _BLOCK))


def cut_where_zero(features: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return a gradient, in its place, cut to 0 where features (batch, h, w, channels) are."""
    _launch(features, gradient, None, None, None, gradient, None, True)
    return gradient


def add_content_gradient(
    features: torch.Tensor,
    gradient: torch.Tensor | None,
    target: torch.Tensor,
    factor: torch.Tensor,
    seed: torch.Tensor,
    sums: torch.Tensor,
    *,
    cuts: bool,
) -> torch.Tensor:
    """Return a gradient plus (F − A) times a factor and the seed, (batch, h, w, channels).

    Args:
        features: F, (batch, h, w, channels).
        gradient: of the layers behind, which the result takes the place of; None is 0.
        target: A, float32 (batch, h, w, channels).
        factor: float32 (batch).
        seed: float32 ().
        sums: float32 (batch, columns), whose first `cut_programs` values become sums of (F − A)².
        cuts: whether the result is cut to 0 where F is, the backward of the ReLU.
    """
    result = torch.empty_like(features) if gradient is None else gradient
    _launch(features, gradient, target, factor, seed, result, sums, cuts)
    return result


def _launch(
    features: torch.Tensor,
    gradient: torch.Tensor | None,
    target: torch.Tensor | None,
    factor: torch.Tensor | None,
    seed: torch.Tensor | None,
    result: torch.Tensor,
    sums: torch.Tensor | None,
    cuts: bool,
) -> None:
    images, height, width, channels = features.shape
    # A pointer that is not read may be any.
    pointers = [result if x is None else x for x in (gradient, target, factor, seed)]
    _cut[(cut_programs(height * width * channels), images)](
        features, *pointers, result, result if sums is None else sums, height * width,
        0 if sums is None else sums.stride(0), channels, _BLOCK, gradient is not None, target is not None,
        cuts, num_warps=_WARPS,
    )  # fmt: skip


@triton.jit(do_not_specialize=["columns", "parts"])
def _finish(sums, begins, factors, result, columns, parts, step: tl.constexpr):
    image, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    begin, end = tl.load(begins + part), tl.load(begins + part + 1)
    is_last = part == parts - 1
    total = tl.zeros((step,), tl.float32)
    largest = tl.zeros((step,), tl.float32)
    for start in range(begin, end, step):
        place = start + tl.arange(0, step)
        value = tl.load(sums + image * columns + place, mask=place < end, other=0.0)
        total += value
        largest = tl.maximum(largest, value)
    answer = tl.sum(total, 0) * tl.load(factors + image * parts + part)
    answer = tl.where(is_last, tl.max(largest, 0), answer)
    tl.store(result + part * tl.num_programs(0) + image, answer)


def add_sums(sums: torch.Tensor, begins: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Return the sums of a row's parts times factors, float32 (parts, batch); of the last, the largest.

    Args:
        sums: float32 (batch, columns), 0 or more in the last part.
        begins: int32 (parts + 1), where each part begins, and where the last ends.
        factors: float32 (batch, parts); that of the last is not used.
    """
    images, parts = factors.shape
    result = sums.new_empty(parts, images)
    _finish[(images, parts)](sums, begins, factors, result, sums.stride(0), parts, _STEP)
    return result
