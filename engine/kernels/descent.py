"""L-BFGS's vectors, each pass over them in one kernel: what an evaluation changes, products, directions.

Vectors are rows of values in planes, (3, height, width); pictures and gradients are (height, width, 3). Sums
are of shares of the values, whose number depends on their count alone, so that equal inputs give equal results.
"""

import torch
import triton
import triton.language as tl

_BLOCK = 256  # positions of a program, which has all three colours of them
_ACROSS, _STEPS = (
    128,
    8,
)  # values of all rows that are multiplied at once, and how often in a program
_EXTRA = 4


_COMPARED = (
    "pixels before gradient earlier direction now downhill step change movable free positions"
)


# Rows of most sizes are aligned differently, and nothing here gains by it.
@triton.jit(do_not_specialize=_COMPARED.split())
def _compare(
    pixels, before, gradient, earlier, direction, now, downhill, step, change, movable, free,
    positions, scale, low, high, block: tl.constexpr,
):  # fmt: skip
    position = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = position < positions
    for colour in tl.static_range(3):
        source = position * 3 + colour
        place = positions.to(tl.int64) * colour + position
        x = tl.load(pixels + source, mask=inside, other=0.0)
        is_low, is_high = x <= low, x >= high
        slope = tl.load(gradient + source, mask=inside, other=0.0) * -scale
        blocked = (is_low & (slope < 0)) | (is_high & (slope > 0))
        moved = tl.load(direction + place, mask=inside, other=0.0)
        held = (is_low & (moved < 0)) | (is_high & (moved > 0))
        changed = tl.load(earlier + place, mask=inside, other=0.0) - slope
        stepped = x - tl.load(before + source, mask=inside, other=0.0)
        tl.store(now + source, x, mask=inside)
        tl.store(downhill + place, slope, mask=inside)
        tl.store(step + place, stepped, mask=inside)
        tl.store(change + place, changed, mask=inside)
        tl.store(movable + place, tl.where(held, 0.0, moved), mask=inside)
        tl.store(free + place, tl.where(blocked, 0.0, slope), mask=inside)


def compare_points(
    pixels: torch.Tensor,
    before: torch.Tensor,
    gradient: torch.Tensor,
    earlier: torch.Tensor,
    direction: torch.Tensor,
    *,
    scale: float,
    limits: tuple[float, float],
    now: torch.Tensor,
    downhill: torch.Tensor,
    step: torch.Tensor,
    change: torch.Tensor,
    movable: torch.Tensor,
    free: torch.Tensor,
) -> None:
    """Fill ``now`` to ``free`` with what follows from an evaluation; all are float32 and contiguous.

    Args:
        pixels: the picture that was evaluated, which ``now`` becomes.
        before: the picture that the step is from.
        gradient: before the scale; ``downhill`` is minus that times the scale.
        earlier: ``downhill`` where the step is from, a row.
        direction: that the step was along, a row.
        scale: of gradients.
        limits: of pixels, the lower first; may be infinite.
        now: becomes the picture.
        downhill: becomes minus the gradient times the scale.
        step: becomes the picture less that before.
        change: becomes ``earlier`` less ``downhill``.
        movable: becomes the direction, but 0 where the picture is at the limit that it leads beyond.
        free: becomes the same of ``downhill``.
    """
    positions = pixels.shape[0] * pixels.shape[1]
    # Without fusion, so that the change of a gradient that is the same is 0.
    _compare[(triton.cdiv(positions, _BLOCK),)](
        pixels, before, gradient, earlier, direction, now, downhill, step, change, movable, free,
        positions, scale, *limits, _BLOCK, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip


@triton.jit(do_not_specialize=["units"])
def _multiply(
    rows, smooth, free, change, step, earlier, movable, downhill, sums, units,
    unit: tl.constexpr, count: tl.constexpr, first: tl.constexpr, height: tl.constexpr,
    across: tl.constexpr, steps: tl.constexpr,
):  # fmt: skip
    # A multiple of the unit, so that the compiler sees that addresses are aligned.
    values = units.to(tl.int64) * unit
    program, programs = tl.program_id(0), tl.num_programs(0)
    row = tl.arange(0, height)
    is_smooth = (row >= first) & (row < first + 2)
    is_kept = (row < first) | ((row >= first + 2) & (row < count))
    along_free = tl.zeros((height, across), tl.float32)
    along_change = tl.zeros((height, across), tl.float32)
    step_square = tl.zeros((across,), tl.float32)
    change_square = tl.zeros((across,), tl.float32)
    promised = tl.zeros((across,), tl.float32)
    descent = tl.zeros((across,), tl.float32)
    for index in range(steps):
        place = (program.to(tl.int64) * steps + index) * across + tl.arange(0, across)
        inside = place < values
        places = row.to(tl.int64)[:, None] * values + place[None, :]
        kept = tl.load(rows + places, mask=is_kept[:, None] & inside[None, :], other=0.0)
        fresh = is_smooth[:, None] & inside[None, :]
        made = tl.load(smooth + (places - first * values), mask=fresh, other=0.0)
        tl.store(rows + places, made, mask=fresh)
        both = kept + made
        n = tl.load(free + place, mask=inside, other=0.0)
        y = tl.load(change + place, mask=inside, other=0.0)
        s = tl.load(step + place, mask=inside, other=0.0)
        along_free += both * n[None, :]
        along_change += both * y[None, :]
        step_square += s * s
        change_square += y * y
        promised += s * tl.load(earlier + place, mask=inside, other=0.0)
        moved = tl.load(movable + place, mask=inside, other=0.0)
        descent += moved * tl.load(downhill + place, mask=inside, other=0.0)
    first_sum = sums + program
    tl.store(first_sum + row * programs, tl.sum(along_free, 1), mask=row < count)
    tl.store(first_sum + (row + count) * programs, tl.sum(along_change, 1), mask=row < count)
    tl.store(first_sum + 2 * count * programs, tl.sum(step_square, 0))
    tl.store(first_sum + (2 * count + 1) * programs, tl.sum(change_square, 0))
    tl.store(first_sum + (2 * count + 2) * programs, tl.sum(promised, 0))
    tl.store(first_sum + (2 * count + 3) * programs, tl.sum(descent, 0))


def multiply_rows(
    rows: torch.Tensor,
    smooth: torch.Tensor,
    *,
    free: torch.Tensor,
    change: torch.Tensor,
    step: torch.Tensor,
    earlier: torch.Tensor,
    movable: torch.Tensor,
    downhill: torch.Tensor,
    first: int,
    products: torch.Tensor,
) -> None:
    """Fill ``products`` with inner products of rows, after two rows have been put where they belong.

    Each is summed in float32 over 1024 values, then in float64.

    Args:
        rows: float32 (count, 3, h, w).
        smooth: float32 (2, 3, h, w), which become the rows from ``first`` on.
        free: float32 (3, h, w), as are those that follow.
        change: multiplied with all rows, as ``free`` is.
        step: multiplied with itself and ``earlier``.
        earlier: a row.
        movable: multiplied with ``downhill``.
        downhill: a row.
        first: which row the first of ``smooth`` becomes.
        products: float64 (2·count + 4): those of all rows with ``free``; of all with ``change``; then
            step · step, change · change, step · earlier and movable · downhill.
    """
    count, values = len(rows), free.numel()
    programs = int(triton.cdiv(values, _ACROSS * _STEPS))
    sums = rows.new_empty(2 * count + _EXTRA, programs)
    unit = 4 if values % 4 == 0 else 1
    _multiply[(programs,)](
        rows, smooth, free, change, step, earlier, movable, downhill, sums, values // unit, unit, count,
        first, triton.next_power_of_2(count), _ACROSS, _STEPS, num_warps=4,
    )  # fmt: skip
    torch.sum(sums, 1, dtype=torch.float64, out=products)


_COMBINED = "rows factors free downhill now direction earlier before trial positions"


@triton.jit(do_not_specialize=_COMBINED.split())
def _combine(
    rows, factors, free, downhill, now, direction, earlier, before, trial, positions, low, high,
    pairs: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    position = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = position < positions
    values = positions.to(tl.int64) * 3
    slot = tl.load(factors + 2 * pairs + 1).to(tl.int32)
    is_kept = inside & (slot >= 0)
    for colour in tl.static_range(3):
        source = position * 3 + colour
        place = positions.to(tl.int64) * colour + position
        total = tl.zeros((block,), tl.float32)
        new_change = tl.load(rows + values * (2 * pairs + 1) + place, mask=inside, other=0.0)
        new_step = tl.load(rows + values * (2 * pairs + 2) + place, mask=inside, other=0.0)
        for row in tl.static_range(2 * pairs + 1):
            term = tl.load(rows + values * row + place, mask=inside, other=0.0)
            if row < pairs:
                term = tl.where(slot == row, new_change, term)
            elif row < 2 * pairs:
                term = tl.where(slot == row - pairs, new_step, term)
            total += tl.load(factors + row) * term
        tl.store(rows + values * slot + place, new_change, mask=is_kept)
        tl.store(rows + values * (slot + pairs) + place, new_step, mask=is_kept)
        slope = tl.load(downhill + place, mask=inside, other=0.0)
        is_free = tl.load(free + place, mask=inside, other=0.0) == slope
        total = tl.where(is_free, total, 0.0)
        x = tl.load(now + source, mask=inside, other=0.0)
        moved = x + total
        moved = tl.where(moved < low, low, moved)
        moved = tl.where(moved > high, high, moved)
        tl.store(direction + place, total, mask=inside)
        tl.store(earlier + place, slope, mask=inside)
        tl.store(before + source, x, mask=inside)
        tl.store(trial + source, moved, mask=inside)


def combine_rows(
    rows: torch.Tensor,
    factors: torch.Tensor,
    free: torch.Tensor,
    downhill: torch.Tensor,
    now: torch.Tensor,
    *,
    pairs: int,
    limits: tuple[float, float],
    direction: torch.Tensor,
    earlier: torch.Tensor,
    before: torch.Tensor,
    trial: torch.Tensor,
) -> None:
    """Keep a new pair, and fill ``direction`` to ``trial`` for a step from a picture.

    All are float32 and contiguous. ``direction`` is the sum of rows times factors, but 0 where ``free``
    is not ``downhill``.

    Args:
        rows: (2·pairs + 3, 3, h, w): the pairs' first vectors, their second ones, another row of the
            sum, and both of the new pair.
        factors: (2·pairs + 2) of the rows up to those of the new pair, then the pair that the new one
            takes the place of before the sum, -1 for none.
        free: a row.
        downhill: a row.
        now: the picture, (h, w, 3).
        pairs: how many there are.
        limits: of pixels, the lower first; may be infinite.
        direction: a row.
        earlier: a row, which becomes ``downhill``.
        before: a picture, which becomes ``now``.
        trial: a picture, which becomes ``now`` plus the direction, within the limits.
    """
    positions = now.shape[0] * now.shape[1]
    _combine[(triton.cdiv(positions, _BLOCK),)](
        rows, factors, free, downhill, now, direction, earlier, before, trial, positions, *limits,
        pairs, _BLOCK, num_warps=4,
    )  # fmt: skip
