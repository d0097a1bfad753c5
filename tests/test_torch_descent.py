"""L-BFGS as it is on CUDA, on the CPU's tensors: its directions, and whole runs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import relative_error
from numpy.typing import NDArray
from pictures import random_pixels
from solving import DeviceLike, Quadratic

from nstx.engine.devices.arrays import NUMPY, Array, Arrays
from nstx.engine.devices.torch_arrays import TorchArrays
from nstx.engine.gradients.backend import Follower
from nstx.engine.settings import PAIRS
from nstx.engine.solvers.descent import FIRST_STEP, Descent, Limits, frequency_weights
from nstx.engine.solvers.lbfgs import lbfgs_steps
from nstx.engine.solvers.solver import run_solver
from nstx.engine.solvers.torch_descent import TorchDescent
from nstx.engine.solvers.torch_vectors import Vectors
from nstx.engine.solvers.two_loops import HostDescent
from nstx.models.cost import Cost

Exact = NDArray[np.float64]

# Kernels take seconds here, by Triton's interpreter.
CASES = [((17, 12), True), ((16, 9), False), ((1, 7), True), ((8, 8), False), ((16, 9), True)]


KINDS = [
    "host",
    "device",
    pytest.param(
        "kernels",
        marks=pytest.mark.skipif(
            torch.cuda.is_available(), reason="kernels are for CUDA's tensors"
        ),
    ),
]


class Reference:
    """Nocedal's two loops with all pairs in float64, and the values that are blocked left out."""

    def __init__(self, limits: Limits, size: tuple[int, int]) -> None:
        self.limits = limits
        self.weights = frequency_weights(*size).astype(np.float64)
        self.pairs: list[tuple[Exact, Exact]] = []

    def smooth(self, picture: Exact) -> Exact:
        spectrum = np.fft.rfft2(picture, axes=(0, 1)) * self.weights
        smooth: Exact = np.fft.irfft2(spectrum, s=picture.shape[:2], axes=(0, 1))
        return smooth

    def direction(self, pixels: Exact, gradient: Exact) -> Exact:
        blocked = ((pixels <= self.limits.low) & (gradient > 0)) | (
            (pixels >= self.limits.high) & (gradient < 0)
        )
        direction = -np.where(blocked, 0, gradient)
        pairs, shares = self.pairs[-PAIRS:], []
        for step, change in reversed(pairs):
            shares.append(np.vdot(step, direction) / np.vdot(step, change))
            direction = direction - shares[-1] * change
        direction = self.smooth(direction)
        if pairs:
            step, change = pairs[-1]
            direction *= np.vdot(step, change) / np.vdot(change, self.smooth(change))
        else:
            direction *= FIRST_STEP / np.abs(direction).max()
        for (step, change), share in zip(pairs, reversed(shares), strict=True):
            direction = (
                direction + (share - np.vdot(change, direction) / np.vdot(step, change)) * step
            )
        return np.where(blocked, 0, direction)


def make_descent(kind: str, pixels: Any, gradient: Any, limits: Limits) -> Descent[Any]:
    if kind == "host":
        return HostDescent(pixels, gradient, limits, NUMPY)
    if kind == "kernels":
        pytest.importorskip("triton", reason="Triton is not installed")
    start, slope = torch.from_numpy(pixels), torch.from_numpy(gradient)
    return TorchDescent(start, slope, limits, kernels=kind == "kernels")


def as_kind(kind: str, picture: NDArray[np.float32]) -> Any:
    return picture if kind == "host" else torch.from_numpy(picture)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "bounded"), CASES)
def test_directions_are_those_of_two_loops_in_float64(
    kind: str, size: tuple[int, int], bounded: bool
) -> None:
    generator = np.random.default_rng(5)
    low, high = (0.0, 255.0) if bounded else (-math.inf, math.inf)
    limits, shape = Limits(low=low, high=high, scale=0.5), (*size, 3)
    curvatures = generator.uniform(0.2, 5, shape)

    def picture_near(pixels: Any) -> NDArray[np.float32]:
        moved = np.clip(pixels + generator.normal(0, 60, shape), low, high)
        near: NDArray[np.float32] = moved.astype(np.float32)
        return near

    def gradient_at(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        bent = curvatures * (pixels - 90) + 0.1 * generator.normal(0, 60, shape)
        gradient: NDArray[np.float32] = (bent / limits.scale).astype(np.float32)
        return gradient

    pixels = picture_near(np.full(shape, 128))
    gradient = gradient_at(pixels)
    descent = make_descent(kind, pixels, gradient, limits)
    reference = Reference(limits, size)
    for _ in range(PAIRS + 4):
        slope, now = descent.aim(), NUMPY.fetch(pixels).astype(np.float64)
        scaled = gradient.astype(np.float64) * limits.scale
        direction = reference.direction(now, scaled)
        assert slope == pytest.approx(float(np.vdot(scaled, direction)), rel=1e-4)
        trial = np.asarray(descent.trial(0.5))
        expected = np.clip(now + 0.5 * direction, low, high)
        assert relative_error(trial - now, expected - now) < 1e-4
        later = picture_near(pixels)
        later_gradient = gradient_at(later)
        point = descent.examine(as_kind(kind, later), as_kind(kind, later_gradient))
        step, change = later - now, later_gradient * limits.scale - scaled
        promised = max(0.0, -float(np.vdot(scaled, step)))
        assert descent.expected(point) == pytest.approx(promised, rel=1e-4, abs=1e-2)
        descent.follow(point)
        assert np.vdot(step, change) > 0
        reference.pairs.append((step, change))
        pixels, gradient = later, later_gradient
    if bounded:
        assert ((pixels == low) | (pixels == high)).any()


@pytest.mark.parametrize("other", KINDS[1:])
@pytest.mark.parametrize("length", [1.0, 40.0])
@pytest.mark.parametrize("bounded", [True, False])
def test_steepness_leaves_out_what_has_come_to_a_bound(
    length: float, bounded: bool, other: str
) -> None:
    low, high = (0.0, 255.0) if bounded else (-math.inf, math.inf)
    limits = Limits(low=low, high=high, scale=1.0)
    pixels, first, second = (random_pixels(9, 7, seed=seed) for seed in (1, 2, 3))
    values = []
    for kind in ("host", other):
        descent = make_descent(kind, pixels, first - 128, limits)
        descent.aim()
        trial = np.asarray(descent.trial(length)).copy()
        point = descent.examine(as_kind(kind, trial), as_kind(kind, second - 128))
        values.append(float(descent.steepness(point)))
        values.append(descent.expected(point))
    assert values[2:] == pytest.approx(values[:2], rel=1e-4)


def run_on(arrays: Arrays, problem: Quadratic, **options: Any) -> list[tuple[Array, float]]:
    steps: list[tuple[Array, float]] = []

    def evaluate(pixels: Array) -> tuple[Cost, Array]:
        cost, gradient = problem.cost_and_gradient(arrays.fetch(pixels))
        return cost, arrays.place(gradient)

    start = arrays.place(np.full((9, 7, 3), 100, np.float32))
    solver = lbfgs_steps(
        start, arrays=arrays, on_step=lambda x, cost: steps.append((x, cost.total)), **options
    )
    run_solver(solver, evaluate)
    return steps


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_runs_take_the_same_road(clip: bool, exponent: float, factor: float) -> None:
    options = {"steps": 25, "clip": clip, "exponent": exponent}
    counts, traces = [], []
    for arrays in (NUMPY, DeviceLike()):
        problem = Quadratic(factor)
        traces.append([cost for _, cost in run_on(arrays, problem, **options)])
        counts.append(problem.evaluations)
    assert counts[0] == counts[1]
    np.testing.assert_allclose(traces[1][:12], traces[0][:12], rtol=1e-3)
    np.testing.assert_allclose(traces[1], traces[0], rtol=0.05)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_work_that_began_with_the_gradient_gives_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As with a backend that computes some gradients twice, the first time too inexactly."""
    if kind == "kernels":
        pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(
        "nstx.engine.solvers.torch_vectors._kernels_work", lambda _: kind == "kernels"
    )
    compared: list[int] = []
    compare = Vectors.compare

    def counted(vectors: Vectors, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        compared[-1] += 1
        return compare(vectors, gradient)

    monkeypatch.setattr(Vectors, "compare", counted)
    runs = []
    for leads in (False, True):
        compared.append(0)
        followers: list[Follower] = []
        problem = Quadratic()
        pictures: list[NDArray[np.float32]] = []

        def evaluate(
            pixels: Array, problem: Quadratic = problem, followers: list[Follower] = followers
        ) -> tuple[Cost, Array]:
            cost, gradient = problem.cost_and_gradient(NUMPY.fetch(pixels))
            gradients = [torch.from_numpy(gradient)]
            if problem.evaluations % 5 == 0:
                gradients.insert(0, gradients[0] + 3)
            for slope in gradients:
                for follower in followers:
                    follower(pixels[None], slope[None])
            return cost, gradients[-1]

        solver = lbfgs_steps(
            torch.full((9, 7, 3), 100.0), steps=12, clip=True, arrays=DeviceLike(),
            on_step=lambda x, _, pictures=pictures: pictures.append(NUMPY.fetch(x).copy()),  # type: ignore[misc]
            lead=followers.append if leads else None,
        )  # fmt: skip
        run_solver(solver, evaluate)
        runs.append((problem.evaluations, np.stack(pictures).tobytes()))
    assert runs[0] == runs[1]
    # Only what was computed twice is compared again, and pictures farther along the direction.
    assert compared[0] <= compared[1] <= compared[0] + runs[0][0] // 5


@pytest.mark.parametrize("factor", [0.0, 1e-39])
def test_a_gradient_of_nothing_ends_the_run(factor: float) -> None:
    assert run_on(DeviceLike(), Quadratic(factor), steps=5, clip=True) == []


def test_the_search_grows_and_shrinks() -> None:
    far, near = Quadratic(), Quadratic()
    far.scale[:] = near.scale[:] = 1.0
    far.centre, near.centre = np.full((9, 7, 3), 100_100.0), np.full((9, 7, 3), 100.01)
    ((first, _),) = run_on(DeviceLike(), far, steps=1, clip=False)
    assert np.abs(np.asarray(first) - 100).max() == pytest.approx(FIRST_STEP * 2.5**4, rel=1e-3)
    ((_, cost),) = run_on(DeviceLike(), near, steps=1, clip=True)
    assert cost < near.cost(np.full((9, 7, 3), 100, np.float32)).total
    assert near.evaluations < 8


def test_a_better_point_before_the_last_trial_is_followed_as_it_was_found() -> None:
    """Growing goes one trial too far; the pair is that of the trial before."""
    generator = np.random.default_rng(2)
    limits = Limits(low=0.0, high=255.0, scale=1.0)
    start, first, second = (random_pixels(9, 7, seed=seed) for seed in (1, 2, 3))
    gradients = [generator.normal(0, 1, (9, 7, 3)).astype(np.float32) for _ in range(2)]
    gradients = [gradients[0], gradients[0] + 0.01 * (first - start), gradients[1]]
    trials = []
    for detour in (False, True):
        descent = make_descent("device", start, gradients[0], limits)
        descent.aim()
        point = descent.examine(torch.from_numpy(first), torch.from_numpy(gradients[1]))
        if detour:
            descent.examine(torch.from_numpy(second), torch.from_numpy(gradients[2]))
        descent.follow(point)
        assert descent
        descent.aim()
        trials.append(np.asarray(descent.trial(1.0)).copy())
    assert np.array_equal(trials[0], trials[1])


class FakeGraph:
    """As `CudaGraph`: what is captured is done twice in the first call, and on the same inputs later."""

    def __init__(self, *, copies: bool = True) -> None:
        self.copies = copies
        self.inputs: torch.Tensor | None = None

    def __call__(
        self, function: Callable[..., tuple[torch.Tensor, ...]], tensor: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        if self.inputs is None:
            self.inputs = tensor.clone() if self.copies else tensor
            function(self.inputs)
        assert (self.inputs is tensor) != self.copies
        self.inputs.copy_(tensor)
        return function(self.inputs)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_work_that_is_captured_gives_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("nstx.engine.solvers.torch_descent.CudaGraph", FakeGraph)
    curvatures, aim = torch.from_numpy(0.1 + random_pixels(9, 8, seed=2) / 255), 100.0
    start, limits = torch.from_numpy(random_pixels(9, 8, seed=1)), Limits(low=0, high=255, scale=1)
    runs = []
    for capture in (True, False):
        descent = TorchDescent(
            start, curvatures * (start - aim), limits, capture=capture, kernels=kind == "kernels"
        )
        pictures = []
        # By the interpreter each step of the kernels takes a quarter of a second.
        for step in range(5 if kind == "kernels" else PAIRS + 3):
            descent.aim()
            # As a search that grows once, and now and then goes too far.
            points = []
            for length in (1.0, 2.5):
                pixels = descent.trial(length)
                assert (pixels.data_ptr() == descent.trial(length).data_ptr()) == (length == 1)
                points.append(descent.examine(pixels, curvatures * (pixels - aim)))
            descent.follow(points[step % 3 == 0])
            pictures.append(descent.pixels)
        assert descent
        assert len({picture.data_ptr() for picture in pictures}) == len(pictures)
        runs.append(torch.stack(pictures))
    assert torch.equal(*runs)


def test_pairs_without_curvature_are_left_out_and_a_restart_forgets_all() -> None:
    limits = Limits(low=-math.inf, high=math.inf, scale=1.0)
    start: NDArray[np.float32] = np.full((4, 5, 3), 100, np.float32)
    gradient = np.ones_like(start)
    descent = make_descent("device", start, gradient, limits)
    descent.aim()
    first = np.asarray(descent.trial(1.0)).copy()
    # Upwards in curvature, none, and rounding.
    for change in (-1.0, 0.0, 1e-20):
        later = descent.examine(torch.from_numpy(start + 1), torch.from_numpy(gradient + change))
        descent.follow(later)
        assert not descent
        descent.restart(descent.examine(torch.from_numpy(start), torch.from_numpy(gradient)))
    descent.follow(descent.examine(torch.from_numpy(start + 1), torch.from_numpy(gradient + 2)))
    assert descent
    descent.aim()
    # The quadratic ½ · 2 x² that the pair tells of, at its gradient 3.
    np.testing.assert_allclose(np.asarray(descent.trial(1.0)), start + 1 - 1.5, rtol=1e-5)
    descent.restart(descent.examine(torch.from_numpy(start), torch.from_numpy(gradient)))
    assert not descent
    descent.aim()
    np.testing.assert_array_equal(np.asarray(descent.trial(1.0)), first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("size", [(53, 71), (64, 96), (211, 317)])
def test_a_descent_on_cuda_is_that_of_the_host(
    size: tuple[int, int], capture: bool, kernels: bool
) -> None:
    arrays, limits = TorchArrays(torch.device("cuda:0")), Limits(low=0.0, high=255.0, scale=0.01)
    curvatures = 0.1 + random_pixels(*size, seed=8) / 255

    def gradient_at(picture: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        bent = curvatures * (picture - random_pixels(*size, seed=7))
        gradient: NDArray[np.float32] = (bent + random_pixels(*size, seed) / 9).astype(np.float32)
        return gradient

    picture = (1.4 * random_pixels(*size, seed=1) - 51).clip(0, 255)
    gradient = gradient_at(picture, 2)
    host = HostDescent(picture, gradient, limits, NUMPY)
    device = TorchDescent(
        arrays.place(picture), arrays.place(gradient), limits, capture=capture, kernels=kernels
    )
    for step in range(15):
        assert device.aim() == pytest.approx(host.aim(), rel=1e-4)
        now, picture = NUMPY.fetch(host.pixels), NUMPY.fetch(host.trial(0.3))
        trial = arrays.fetch(device.trial(0.3))
        assert relative_error(trial - now, picture - now) < 1e-4
        gradient = gradient_at(picture, step + 3)
        point = device.examine(arrays.place(picture), arrays.place(gradient))
        host_point = host.examine(picture, gradient)
        assert device.expected(point) == pytest.approx(host.expected(host_point), rel=1e-3, abs=0.1)
        steepness = float(host.steepness(host_point))
        assert device.steepness(point) == pytest.approx(steepness, rel=1e-3, abs=0.1)
        device.follow(point)
        host.follow(host_point)
    assert device
    assert host
