"""L-BFGS's kernels, by Triton's interpreter where there is no GPU, against PyTorch in float64."""

import math

import numpy as np
import pytest
import torch
from networks import relative_error

pytest.importorskip("triton", reason="Triton is not installed")

from nstx.engine.kernels.descent import combine_rows, compare_points, multiply_rows

PLACE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [(8, 12), (17, 23), (1, 7)]


def draw(*shape: int, seed: int) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(values).to(PLACE, torch.float32)


def draw_picture(size: tuple[int, int], seed: int) -> torch.Tensor:
    """Return a picture of which a good part is at the bounds."""
    return (128 + 300 * draw(*size, 3, seed=seed)).clamp(0, 255)


def error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return relative_error(ours.double().cpu().numpy(), reference.double().cpu().numpy())


@pytest.mark.parametrize("limits", [(0.0, 255.0), (-math.inf, math.inf)])
@pytest.mark.parametrize("size", SIZES)
def test_what_an_evaluation_changes(size: tuple[int, int], limits: tuple[float, float]) -> None:
    x, x0, gradient = (draw_picture(size, 1), draw_picture(size, 2), draw(*size, 3, seed=3))
    earlier, direction = draw(3, *size, seed=4), draw(3, *size, seed=5)
    now = torch.full_like(x, torch.nan)
    downhill, step, change, movable, free = (torch.full_like(earlier, torch.nan) for _ in range(5))
    compare_points(
        x, x0, gradient, earlier, direction, scale=0.3, limits=limits, now=now, downhill=downhill,
        step=step, change=change, movable=movable, free=free,
    )  # fmt: skip
    planes = x.permute(2, 0, 1)
    slope = (gradient * -0.3).permute(2, 0, 1)
    assert torch.equal(now, x)
    assert torch.equal(downhill, slope)
    assert torch.equal(step, planes - x0.permute(2, 0, 1))
    assert torch.equal(change, earlier - slope)
    for ours, full in ((free, slope), (movable, direction)):
        held = ((planes <= limits[0]) & (full < 0)) | ((planes >= limits[1]) & (full > 0))
        assert torch.equal(ours, torch.where(held, 0.0, full))
        assert bool(held.any()) == math.isfinite(limits[0])


@pytest.mark.parametrize("count", [5, 23])
@pytest.mark.parametrize("size", SIZES)
def test_products_of_rows(size: tuple[int, int], count: int) -> None:
    rows, smooth, others = draw(count, 3, *size, seed=1), draw(2, 3, *size, seed=2), {}
    for index, name in enumerate(("free", "change", "step", "earlier", "movable", "downhill")):
        others[name] = draw(3, *size, seed=3 + index)
    before, results = rows.clone(), []
    for _ in range(2):
        products = torch.full((2 * count + 4,), torch.nan, dtype=torch.float64, device=PLACE)
        multiply_rows(rows, smooth, **others, first=2, products=products)
        results.append(products)
    assert torch.equal(results[0], results[1])
    before[2:4] = smooth
    assert torch.equal(rows, before)
    exact = {name: row.double().flatten() for name, row in others.items()}
    matrix, pairs = rows.double().flatten(1), [("step", "step"), ("change", "change")]
    pairs += [("step", "earlier"), ("movable", "downhill")]
    expected = [matrix @ exact["free"], matrix @ exact["change"]]
    expected.append(torch.stack([exact[a] @ exact[b] for a, b in pairs]))
    assert error(results[0], torch.cat(expected)) < 1e-6


@pytest.mark.parametrize("slot", [-1, 0, 2])
@pytest.mark.parametrize("limits", [(0.0, 255.0), (-math.inf, math.inf)])
@pytest.mark.parametrize("size", SIZES)
def test_a_direction_and_its_first_trial(
    size: tuple[int, int], limits: tuple[float, float], slot: int
) -> None:
    rows, factors = draw(9, 3, *size, seed=1), draw(8, seed=2) * 30
    factors[7] = slot
    downhill, x = draw(3, *size, seed=3), draw_picture(size, 4)
    free = torch.where(draw(3, *size, seed=5) > 0.5, 0.0, downhill)
    direction, earlier = torch.full_like(free, torch.nan), torch.full_like(free, torch.nan)
    before, trial = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan)
    kept = rows.clone()
    if slot >= 0:
        kept[slot], kept[slot + 3] = rows[7], rows[8]
    for _ in range(2):
        combine_rows(
            rows, factors, free, downhill, x, pairs=3, limits=limits, direction=direction,
            earlier=earlier, before=before, trial=trial,
        )  # fmt: skip
        total = torch.einsum("n,nchw->chw", factors[:7].double(), kept[:7].double())
        expected = torch.where(free == downhill, total, 0.0)
        assert error(direction, expected) < 1e-6
    assert torch.equal(rows, kept)
    assert bool((direction == 0).any())
    assert torch.equal(earlier, downhill)
    assert torch.equal(before, x)
    assert torch.equal(trial, (x + direction.permute(1, 2, 0)).clamp(*limits))
