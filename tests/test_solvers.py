"""The solvers on a problem whose answer is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from networks import relative_error
from onnxruntime import InferenceSession
from solving import Quadratic

from nstx.engine.devices.arrays import NUMPY, Array
from nstx.engine.pictures.picture import Pixels
from nstx.engine.solvers.adam import AdamState, adam_rate, adam_steps, adam_update
from nstx.engine.solvers.descent import frequency_weights
from nstx.engine.solvers.lbfgs import lbfgs_steps
from nstx.engine.solvers.memory import Saved, SolverMemory, fetch_state
from nstx.engine.solvers.shelf import DiskShelf, Shelf, in_memory
from nstx.engine.solvers.solver import Steps, StopSolving, run_solver
from nstx.engine.solvers.two_loops import History, make_preconditioner
from nstx.export.graphs.build_gradient import add_adam
from nstx.export.nodes.builder import FLOAT, GraphBuilder, tensor_info
from nstx.models.cost import Cost
from nstx.models.errors import OutputError


def start() -> Pixels:
    return np.full((9, 7, 3), 100, np.float32)


Solve = Callable[..., Steps]


def run(solve: Solve, problem: Quadratic, **options: Any) -> list[tuple[Pixels, Cost]]:
    steps: list[tuple[Pixels, Cost]] = []
    on_step = options.pop("on_step", lambda pixels, cost: steps.append((pixels.copy(), cost)))
    run_solver(solve(start(), on_step=on_step, **options), problem.cost_and_gradient)
    return steps


def test_adam_is_pytorchs() -> None:
    problem = Quadratic()
    steps = run(adam_steps, problem, steps=30, learning_rate=2.0, clip=False)
    x = torch.from_numpy(start()).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=2.0)
    for pixels, _ in steps:
        _, gradient = problem.cost_and_gradient(x.detach())
        x.grad = torch.from_numpy(gradient)
        optimiser.step()
        np.testing.assert_allclose(pixels, x.detach().numpy(), rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("solve", [adam_steps, lbfgs_steps])
def test_every_step_is_reported_with_its_own_cost(solve: Solve) -> None:
    problem = Quadratic()
    options = {"learning_rate": 2.0} if solve is adam_steps else {}
    steps = run(solve, problem, steps=8, clip=True, **options)
    assert len(steps) == 8
    for pixels, cost in steps:
        assert cost.total == problem.cost(pixels).total
        assert pixels.dtype == np.float32
        assert pixels.min() >= 0
        assert pixels.max() <= 255


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_lbfgs_reaches_the_bounded_optimum_at_any_scale_of_the_cost(factor: float) -> None:
    problem = Quadratic(factor)
    steps = run(lbfgs_steps, problem, steps=60, clip=True)
    totals = [cost.total for _, cost in steps]
    assert totals == sorted(totals, reverse=True)
    np.testing.assert_allclose(steps[-1][0], problem.centre.clip(0, 255), atol=0.05)


def test_without_clipping_the_optimum_is_outside_the_bounds() -> None:
    problem = Quadratic()
    pixels, _ = run(lbfgs_steps, problem, steps=100, clip=False)[-1]
    np.testing.assert_allclose(pixels, problem.centre, atol=0.05)


@pytest.mark.parametrize("solve", [adam_steps, lbfgs_steps])
def test_a_callback_ends_the_solver(solve: Solve) -> None:
    count = 0

    def stop_at_three(pixels: Pixels, cost: Cost) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise StopSolving

    options = {"learning_rate": 2.0} if solve is adam_steps else {}
    run(solve, Quadratic(), steps=50, clip=True, on_step=stop_at_three, **options)
    assert count == 3


@pytest.mark.parametrize("size", [(9, 7), (16, 12), (1, 5)])
def test_the_preconditioner_is_symmetric_and_positive(size: tuple[int, int]) -> None:
    precondition = make_preconditioner(*size, NUMPY)

    def smooth(picture: Pixels) -> Pixels:
        return NUMPY.fetch(precondition(picture))

    a, b = np.random.default_rng(1).normal(0, 1, (2, *size, 3)).astype(np.float32)
    np.testing.assert_allclose(np.vdot(a, smooth(b)), np.vdot(smooth(a), b), rtol=1e-4)
    assert np.vdot(a, smooth(a)) > 0
    assert smooth(a).dtype == np.float32
    # The mean passes, and more strongly than the finest checkerboard does.
    flat: Pixels = np.ones((*size, 3), np.float32)
    checks = flat * (-1.0) ** np.add.outer(np.arange(size[0]), np.arange(size[1]))[..., None]
    np.testing.assert_allclose(smooth(flat), smooth(flat)[0, 0, 0] * flat, rtol=1e-5)
    assert smooth(flat).mean() > np.abs(smooth(checks.astype(np.float32))).max()


def test_lbfgs_ends_where_there_is_no_better_point() -> None:
    problem = Quadratic()
    problem.centre[:] = 100
    assert run(lbfgs_steps, problem, steps=10, clip=True) == []


def test_lbfgs_needs_about_one_evaluation_for_a_step() -> None:
    problem = Quadratic()
    steps = run(lbfgs_steps, problem, steps=40, clip=True)
    assert len(steps) == 40
    assert problem.evaluations < 55


def test_the_search_grows_where_the_first_step_is_far_too_short() -> None:
    problem = Quadratic()
    problem.scale[:] = 1.0
    problem.centre = start().astype(np.float64) + 100_000
    first, _ = run(lbfgs_steps, problem, steps=1, clip=False)[0]
    # A step moves the pixel that moves most by 32, and grows four times by 2.5 at most.
    assert np.abs(first - start()).max() == pytest.approx(32 * 2.5**4, rel=1e-3)


def test_the_search_shrinks_where_the_first_step_is_far_too_long() -> None:
    problem = Quadratic()
    problem.scale[:] = 1.0
    problem.centre = start().astype(np.float64) + 0.01
    steps = run(lbfgs_steps, problem, steps=1, clip=True)
    assert steps[0][1].total < problem.cost(start()).total
    assert problem.evaluations < 8  # the parabola has its minimum; halving 32 would take twelve


def test_pairs_without_curvature_are_left_out() -> None:
    history = History(NUMPY, make_preconditioner(4, 5, NUMPY))
    step: Pixels = np.ones((4, 5, 3), np.float32)
    change: Pixels
    for change in (-step, 0 * step, np.zeros_like(step) + np.float32(1e-20)):
        history.add(step, change)
        if history:
            # Tiny, but of positive curvature: a direction downwards all the same.
            assert np.vdot(NUMPY.fetch(history.direction(step)), step) < 0
            history.clear()
    history.add(step, 2 * step)
    assert history
    np.testing.assert_allclose(NUMPY.fetch(history.direction(step)), -0.5 * step, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 40, 3), (40, 1, 3), (1, 1, 3), (2, 3, 3)])
def test_pictures_of_any_shape_are_solved(shape: tuple[int, ...]) -> None:
    problem = Quadratic()
    problem.scale, problem.centre = np.ones(shape), np.full(shape, 33.0)
    first: Pixels = np.full(shape, 100, np.float32)
    last: list[Array] = []
    solver = lbfgs_steps(first, steps=30, clip=True, on_step=lambda pixels, _: last.append(pixels))
    run_solver(solver, problem.cost_and_gradient)
    np.testing.assert_allclose(NUMPY.fetch(last[-1]), 33, atol=0.01)


@pytest.mark.parametrize("factor", [0.0, 1e-39])
def test_a_gradient_of_nothing_ends_the_run(factor: float) -> None:
    assert run(lbfgs_steps, Quadratic(factor), steps=5, clip=True) == []


@pytest.mark.parametrize("clip", [True, False])
def test_lbfgs_on_a_valley_that_curves(clip: bool) -> None:
    class Rosenbrock(Quadratic):
        def cost_and_gradient(self, pixels: Array) -> tuple[Cost, Pixels]:
            x = NUMPY.fetch(pixels).astype(np.float64).ravel() / 50
            bend = x[1:] - x[:-1] ** 2
            total = float(np.sum(100 * bend**2 + (1 - x[:-1]) ** 2))
            gradient = np.zeros_like(x)
            gradient[:-1] = -400 * x[:-1] * bend - 2 * (1 - x[:-1])
            gradient[1:] += 200 * bend
            cost = Cost(total=total, content=total, style=0.0, total_variation=0.0)
            return cost, (gradient / 50).reshape(pixels.shape).astype(np.float32)

    steps = run(lbfgs_steps, Rosenbrock(), steps=1500, clip=clip)
    totals = [cost.total for _, cost in steps]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < 1e-6 * totals[0]


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_adams_path_does_not_depend_on_the_scale_of_the_cost(factor: float) -> None:
    options: dict[str, Any] = {"steps": 10, "learning_rate": 2.0, "clip": False}
    usual, scaled = (run(adam_steps, Quadratic(f), **options) for f in (1.0, factor))
    np.testing.assert_allclose(scaled[-1][0], usual[-1][0], rtol=1e-4, atol=1e-3)


def test_lbfgs_goes_on_where_costs_were_too_low() -> None:
    """As of a backend of low precision that is corrected in the middle of a run."""

    class Corrected(Quadratic):
        def cost(self, pixels: Array) -> Cost:
            total = super().cost(pixels).total * (0.9 if self.evaluations <= 8 else 1.0)
            return Cost(total=total, content=total, style=0.0, total_variation=0.0)

    expected = run(lbfgs_steps, Quadratic(), steps=60, clip=True)[-1][1].total
    steps = run(lbfgs_steps, Corrected(), steps=60, clip=True)
    assert steps[-1][1].total == pytest.approx(expected, rel=1e-3)


def test_lbfgs_does_without_a_preconditioner() -> None:
    problem = Quadratic()
    steps = run(lbfgs_steps, problem, steps=60, clip=True, exponent=0.0)
    np.testing.assert_allclose(steps[-1][0], problem.centre.clip(0, 255), atol=0.05)
    preconditioned, _ = run(lbfgs_steps, problem, steps=1, clip=True)[0]
    assert np.abs(steps[0][0] - preconditioned).max() > 1


def adam_model() -> onnx.ModelProto:
    """Return the nodes of Adam's step as a model, whose gradient is an input."""
    builder, picture = GraphBuilder(), ("height", "width", 3)
    add_adam(builder, "gradient")
    numbers = ("gradient_factor", "learning_rate", "step", "low", "high")
    pictures = ("pixels", "gradient", "first_moment", "second_moment")
    outputs = ("next_pixels", "next_first_moment", "next_second_moment")
    return builder.finish(
        [tensor_info(name, FLOAT, picture) for name in pictures]
        + [tensor_info(name, FLOAT, ()) for name in numbers],
        [tensor_info(name, FLOAT, picture) for name in outputs],
        name="adam", description="", metadata={},
    )  # fmt: skip


def test_adam_is_one_rule_in_numpy_pytorch_and_onnx() -> None:
    generator = np.random.default_rng(5)
    gradients = generator.normal(0, 0.3, (6, 9, 7, 3)).astype(np.float32)
    session = InferenceSession(adam_model().SerializeToString())
    zeros = np.zeros_like(start())
    exact = AdamState(*(array.astype(np.float64) for array in (start(), zeros, zeros)))
    state = AdamState(start(), zeros, zeros)
    tensors = AdamState(*map(torch.from_numpy, (start(), zeros, zeros)))
    nodes = [start(), zeros, zeros]
    for step, gradient in enumerate(gradients, 1):
        rate = adam_rate(2.0, step)
        exact = adam_update(exact, gradient.astype(np.float64), rate, clip=True)
        state = adam_update(state, gradient, rate, clip=True)
        tensors = adam_update(tensors, torch.from_numpy(gradient), torch.tensor(rate), clip=True)
        numbers = {"gradient_factor": 1, "learning_rate": 2, "step": step, "low": 0, "high": 255}
        feeds = {name: np.array(value, np.float32) for name, value in numbers.items()} | {
            "gradient": gradient
        }
        feeds |= zip(("pixels", "first_moment", "second_moment"), nodes, strict=True)
        nodes = session.run(None, feeds)
        for reference, *others in zip(exact, state, tensors, nodes, strict=True):
            for array in others:
                assert relative_error(np.asarray(array, np.float64), reference) < 1e-5


@pytest.mark.parametrize("size", [(16, 16), (33, 48), (48, 33), (37, 41), (1, 7)])
def test_frequencies_are_filtered_channel_by_channel_to_the_same_bits(
    size: tuple[int, int],
) -> None:
    picture = np.random.default_rng(0).normal(0, 100, (*size, 3)).astype(np.float32)
    weights = frequency_weights(*size)
    at_once = np.fft.irfft2(np.fft.rfft2(picture, axes=(0, 1)) * weights, s=size, axes=(0, 1))
    assert np.array_equal(NUMPY.filter_frequencies(picture, weights), at_once.astype(np.float32))


def test_steps_on_disk_make_the_same_picture(tmp_path: Path) -> None:
    def run(shelf: Shelf, earlier: Saved | None = None) -> tuple[list[Pixels], Saved]:
        reached, memory = list[Pixels](), SolverMemory(earlier)
        states = list[Saved]()

        def on_step(pixels: Array, cost: Cost) -> None:
            reached.append(np.array(pixels))
            if len(reached) == 13:
                states.append(fetch_state(memory.export(), NUMPY))

        begin = start() if earlier is None else earlier["pixels"]
        solver = lbfgs_steps(
            begin, steps=20, clip=True, on_step=on_step, memory=memory, shelf=shelf
        )
        run_solver(solver, Quadratic().cost_and_gradient)
        return reached, states[0] if states else {}

    in_ram, _ = run(in_memory)
    on_disk, state = run(DiskShelf(NUMPY, tmp_path))
    assert len(in_ram) == len(on_disk) > 13
    assert all(map(np.array_equal, in_ram, on_disk))
    # A state stays as it was, though the solver has let go of its steps since.
    resumed, _ = run(DiskShelf(NUMPY, tmp_path), state)
    assert np.array_equal(resumed[-1], in_ram[-1])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected room for a step of 3×2 pixels"):
        DiskShelf(NUMPY, tmp_path / "missing")(np.zeros((2, 3, 3), np.float32))
