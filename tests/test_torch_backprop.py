"""The backward pass written out, against autograd; and of low precision, checked and corrected."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import (
    CASES,
    by_hand,
    make_tiny_weights,
    mixed_objective,
    needs_bf16,
    relative_error,
    targets_of,
)
from pictures import random_pixels

from nstx.engine.choices import choose_settings
from nstx.engine.devices.arrays import NUMPY, ArrayT
from nstx.engine.devices.convolution import make_convolution, split_to_tf32
from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.torch_network import TorchNetwork
from nstx.engine.gradients.backend import PrecisionPlan
from nstx.engine.gradients.backprop import BackpropBackend, BackwardPass
from nstx.engine.gradients.checked import (
    CheckedBackend,
    MakeBackend,
    Schedule,
    largest_relative_error,
)
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.gradients.torch_problem import Part
from nstx.engine.pictures.picture import Pixels
from nstx.engine.settings import Precision
from nstx.engine.solvers.adam import adam_steps
from nstx.engine.solvers.solver import run_solver
from nstx.engine.targets.targets import Targets
from nstx.models.cost import Cost
from nstx.models.errors import NumericalError
from nstx.models.layers import LayerWeight
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import Pooling, PoolRounding
from nstx.models.weights.load import Weights, load_weights


def by_autograd(
    weights: Weights,
    objective: Objective,
    targets: Sequence[Targets],
    precision: TorchPrecision = "fp64",
) -> AutogradBackend:
    device = TorchDevice(Device("cpu"), precision)
    network = TorchNetwork(
        weights, objective.layers, objective.pooling, objective.pool_rounding, device
    )
    return AutogradBackend(network, [(objective, of_picture) for of_picture in targets])


@pytest.mark.parametrize(("pooling", "rounding"), CASES)
@pytest.mark.parametrize("size", [(48, 64), (53, 71), (16, 16), (17, 30)])
def test_the_gradient_is_autograds_in_float64(
    pooling: Pooling, rounding: PoolRounding, size: tuple[int, int]
) -> None:
    weights, objective = make_tiny_weights(), mixed_objective(pooling, rounding)
    pixels = np.stack([random_pixels(*size, seed=seed) for seed in (1, 2)])
    targets = [targets_of(weights, objective, random_pixels(*size, seed=s)) for s in (3, 4)]
    (costs, gradients), (expected, reference) = (
        make(weights, objective, targets, "fp64").costs_and_gradients(pixels)
        for make in (by_hand, by_autograd)
    )
    for index in range(2):
        assert relative_error(gradients[index], reference[index]) < 1e-12
        assert costs[index].total == pytest.approx(expected[index].total, rel=1e-12)
        assert costs[index].style_layers == pytest.approx(expected[index].style_layers, rel=1e-12)


@pytest.mark.parametrize(
    "weights_of_parts",
    [{"content_weight": 0.0}, {"style_weight": 0.0}, {"tv_weight": 0.0}],
    ids=["style alone", "content alone", "no variation"],
)
def test_a_part_that_counts_nothing_is_left_out(weights_of_parts: dict[str, float]) -> None:
    weights = make_tiny_weights()
    objective = mixed_objective("avg", "ceil", **weights_of_parts)
    picture = random_pixels(33, 40, seed=1)
    targets = [targets_of(weights, objective, random_pixels(33, 40, seed=3))]
    (cost, gradient), (expected, reference) = (
        make(weights, objective, targets, "fp64").cost_and_gradient(picture)
        for make in (by_hand, by_autograd)
    )
    assert relative_error(gradient, reference) < 1e-6
    assert cost.total == pytest.approx(expected.total, rel=1e-12)


@pytest.mark.parametrize("preset", ["default", "coursera", "gatys"])
@pytest.mark.parametrize(
    ("precision", "bound"), [("fp32", 1e-3), pytest.param("bf16", 0.2, marks=needs_bf16)]
)
def test_the_gradient_of_the_real_network(
    preset: str, precision: TorchPrecision, bound: float
) -> None:
    weights, objective = load_weights(), replace(PRESETS[preset].objective, tv_weight=1.0)
    picture = random_pixels(37, 45, seed=1)
    targets = [targets_of(weights, objective, random_pixels(37, 45, seed=3))]
    ours = by_hand(weights, objective, targets, precision)
    cost, gradient = ours.cost_and_gradient(picture)
    expected, reference = by_autograd(weights, objective, targets).cost_and_gradient(picture)
    assert relative_error(gradient, reference) < bound
    assert cost.total == pytest.approx(expected.total, rel=1e-6 if precision == "fp32" else 2e-2)
    assert ours.cost(picture).total == pytest.approx(cost.total, rel=1e-6)


@needs_bf16
@pytest.mark.parametrize(
    ("positions", "distance"), [((33, 40), 1e-3), ((64, 48), 0.1), ((7, 5), 3)]
)
def test_what_is_left_of_a_gram_matrix_is_not_lost_to_bf16(
    positions: tuple[int, int], distance: float
) -> None:
    weights, objective = make_tiny_weights(), mixed_objective("avg", "ceil")
    targets = targets_of(weights, objective, random_pixels(33, 40, seed=3))
    backend = by_hand(weights, objective, [targets], "bf16")
    part = ("style", "conv3_1")
    aim = backend.problem.targets[part]
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, aim.shape[1], *positions, generator=generator).relu() * 30
    features = features.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    rows = features.double().flatten(2)
    gram = rows @ rows.transpose(1, 2) / rows.shape[2]
    noise = 1 + distance * torch.randn(gram.shape, generator=generator, dtype=torch.float64)
    backend.problem.aims[part] = (gram * noise).float()
    expected = gram - backend.problem.aims[part].double()
    with backend.problem.noting() as noted:
        difference = backend.gram_difference(part, features)
    assert float((difference - expected).norm() / expected.norm()) < 5e-3
    assert float((noted[part] - gram).norm() / gram.norm()) < 5e-3 * distance + 1e-6


def check(
    fast: BackpropBackend,
    exact: BackpropBackend,
    middle: BackpropBackend | None = None,
    schedule: Schedule | None = None,
) -> CheckedBackend:
    """Return a backend that is checked, of backends that are there already."""
    there: dict[TorchPrecision, BackpropBackend] = {"bf16": fast, "fp32": exact}
    stages: tuple[Precision, ...] = ("bf16", "fp32")
    if middle is not None:
        stages, there["tf32"] = ("bf16", "tf32", "fp32"), middle

    def backends(precision: TorchPrecision) -> MakeBackend:
        return lambda *_, **_options: there[precision]

    return CheckedBackend(PrecisionPlan(stages), backends, [], schedule=schedule)


def near_the_optimum(backend: BackpropBackend, start: Pixels) -> Pixels:
    pictures = [start]
    solver = adam_steps(
        start, steps=60, learning_rate=4.0, clip=True,
        on_step=lambda pixels, _: pictures.append(NUMPY.fetch(pixels)),
    )  # fmt: skip
    run_solver(solver, backend.cost_and_gradient)
    return pictures[-1]


@needs_bf16
def test_a_check_corrects_the_gradient_near_the_optimum() -> None:
    """With the upper layers alone, as bf16 takes long where processors have no units for it."""
    objective = choose_settings(
        "coursera", content_layers="conv2_2", style_layers="conv1_1,conv2_1"
    ).objective
    weights, content = load_weights(), random_pixels(32, 40, seed=3)
    targets = [targets_of(weights, objective, content)]
    exact = by_hand(weights, objective, targets, "fp32")
    picture = near_the_optimum(exact, content)
    fast = by_hand(weights, objective, targets, "bf16")
    checked = check(fast, exact)
    uncorrected = fast.cost_and_gradient(picture)[1]
    at_check = checked.cost_and_gradient(picture)
    expected = exact.cost_and_gradient(picture)
    # The check itself gives the gradient in fp32.
    assert relative_error(at_check[1], expected[1]) < 1e-6
    generator = np.random.default_rng(0)
    nearby = (picture + generator.normal(0, 0.3, picture.shape)).astype(np.float32).clip(0, 255)
    cost, gradient = checked.cost_and_gradient(nearby)
    expected = exact.cost_and_gradient(nearby)
    assert len(checked.checks) == 1
    error = relative_error(gradient, expected[1])
    assert error < 0.3
    assert checked.checks[0].error == pytest.approx(
        relative_error(uncorrected, at_check[1]), rel=1e-3
    )
    assert checked.checks[0].error > 4 * error
    assert cost.total == pytest.approx(expected[0].total, rel=5e-3)
    assert checked.cost(nearby).total == pytest.approx(expected[0].total, rel=1e-6)


class Faulty(BackpropBackend):
    """A backend whose gradients are wrong by a share, or not finite."""

    wrong = 0.0
    calls = 0

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        self.calls += 1
        costs, gradients = super().costs_and_gradients(pixels)
        if not np.isfinite(self.wrong):
            raise NumericalError("expected a finite gradient, got NaN")
        return costs, gradients * (1 + self.wrong)


Pair = tuple[Faulty, BackpropBackend]


def shallow() -> tuple[BackwardPass, list[tuple[Objective, Targets]]]:
    """Return a network with a problem of content alone."""
    weights, objective = (
        make_tiny_weights(),
        mixed_objective("avg", "ceil", style_weight=0.0, tv_weight=0.0),
    )
    targets = targets_of(weights, objective, random_pixels(33, 40, seed=3))
    network = BackwardPass(weights, objective, TorchDevice(Device("cpu"), "fp32"))
    return network, [(objective, targets)]


@pytest.fixture
def pair() -> Pair:
    network, problems = shallow()
    return Faulty(network, problems), BackpropBackend(network, problems)


def falling(count: int) -> list[Pixels]:
    """Return pictures whose cost falls: ever nearer to the content."""
    start, end = random_pixels(33, 40, seed=1), random_pixels(33, 40, seed=3)
    return [start + (end - start) * np.float32(i / count) for i in range(count)]


def test_checks_become_rarer_while_they_pass(pair: Pair) -> None:
    checked = check(*pair)
    for picture in falling(100):
        checked.cost_and_gradient(picture)
    assert [check.evaluation for check in checked.checks] == [1, 9, 25, 57, 89]
    assert all(check.kept and check.error < 1e-6 for check in checked.checks)
    assert pair[0].calls == 100


def test_two_failed_checks_in_a_row_end_the_low_precision(pair: Pair) -> None:
    fast, exact = pair
    checked = check(fast, exact)
    pictures = falling(60)
    for index, picture in enumerate(pictures):
        fast.wrong = 0.5 if index >= 5 else 0.0
        gradient = checked.cost_and_gradient(picture)[1]
    assert [(c.evaluation, c.kept) for c in checked.checks] == [(1, True), (9, True), (13, False)]
    assert [round(check.error, 3) for check in checked.checks] == [0.0, 0.5, 0.5]
    assert relative_error(gradient, exact.cost_and_gradient(pictures[-1])[1]) < 1e-6
    calls = fast.calls
    checked.cost_and_gradient(pictures[0])
    assert fast.calls == calls


def test_the_next_precision_is_checked_as_the_first_one_was(pair: Pair) -> None:
    fast, exact = pair
    middle = Faulty(*shallow())
    checked = check(fast, exact, middle)
    pictures = falling(60)
    fast.wrong = 0.5
    for index, picture in enumerate(pictures):
        middle.wrong = 0.5 if index >= 20 else 0.0
        gradient = checked.cost_and_gradient(picture)[1]
    assert [(c.precision, c.evaluation, c.kept, c.continues_in) for c in checked.checks] == [
        ("bf16", 1, True, "bf16"),
        ("bf16", 5, False, "tf32"),
        ("tf32", 6, True, "tf32"),
        ("tf32", 14, True, "tf32"),
        ("tf32", 30, True, "tf32"),
        ("tf32", 34, False, "fp32"),
    ]
    assert (fast.calls, middle.calls) == (5, 29)
    assert all(check.seconds > 0 for check in checked.checks)
    assert relative_error(gradient, exact.cost_and_gradient(pictures[-1])[1]) < 1e-6


def test_checks_are_rarer_where_errors_are_small_and_steps_fast(pair: Pair) -> None:
    schedule = Schedule.on(Device("cuda"))
    assert Schedule.on(Device("cpu")) == Schedule(first=8, growth=2, most=32, patience=1)
    for wrong, expected in ((0.1, [1, 17, 81, 145]), (0.01, [1, 129])):
        checked = check(*pair, schedule=schedule)
        pair[0].wrong = wrong
        for picture in falling(150):
            checked.cost_and_gradient(picture)
        assert [check.evaluation for check in checked.checks] == expected


@pytest.mark.parametrize(
    ("pictures", "wrong", "expected"),
    [
        (falling(70), 0.1, [65]),
        # A cost that stalls, and a gradient that is not finite, are looked into at once.
        (falling(10)[:3] * 10, 0.1, [10, 19, 28]),
        (falling(5), float("nan"), [1]),
    ],
)
def test_a_coarse_scale_on_cuda_is_checked_late_or_where_something_is_wrong(
    pair: Pair, pictures: list[Pixels], wrong: float, expected: list[int]
) -> None:
    coarse = Schedule.on(Device("cuda"), is_coarse=True)
    assert Schedule.on(Device("cpu"), is_coarse=True) == Schedule()
    checked = check(*pair, schedule=coarse)
    pair[0].wrong = wrong
    for picture in pictures:
        checked.cost_and_gradient(picture)
    assert [check.evaluation for check in checked.checks] == expected


def test_what_a_precision_needs_is_made_when_it_is_needed() -> None:
    network, problems = shallow()
    made: list[tuple[TorchPrecision, BackpropBackend]] = []

    def backends(precision: TorchPrecision) -> MakeBackend:
        def make(like: Any, capture: bool | None = None) -> BackpropBackend:
            assert capture is (False if precision == "tf32x3" else None)
            made.append((precision, Faulty(network, like)))
            return made[-1][1]

        return make

    plan = PrecisionPlan(("bf16", "tf32", "fp32"), "tf32x3")
    checked = CheckedBackend(plan, backends, problems)
    assert [precision for precision, _ in made] == ["bf16"]
    led: list[Any] = []
    follower = lambda pictures, _: led.append(pictures)
    checked.lead(follower)
    checked.cost_and_gradient(random_pixels(33, 40, seed=1))
    assert [precision for precision, _ in made] == ["bf16", "tf32x3"]
    assert (made[0][1]._follower, made[1][1]._follower) == (follower, None)
    Faulty.wrong = float("nan")
    try:
        made[1][1].wrong = 0.0  # type: ignore[attr-defined]
        checked.cost_and_gradient(random_pixels(33, 40, seed=1))
    finally:
        Faulty.wrong = 0.0
    assert checked.checks[-1].continues_in == "tf32"
    checked.cost_and_gradient(random_pixels(33, 40, seed=1))
    assert [precision for precision, _ in made] == ["bf16", "tf32x3", "tf32"]
    assert made[2][1]._follower is follower
    checked.lead(None)
    assert made[2][1]._follower is None
    checked.cost_and_gradient(torch.from_numpy(random_pixels(33, 40, seed=2)))
    assert not led
    first, *others = (backend.problem for _, backend in made)
    for problem in others:
        for part, target in problem.targets.items():
            assert target is first.targets[part]
            assert problem.aims[part] is not first.aims[part]


def test_a_check_that_fails_once_is_followed_soon_by_another(pair: Pair) -> None:
    fast, exact = pair
    checked = check(fast, exact)
    for index, picture in enumerate(falling(40)):
        fast.wrong = 0.5 if index == 8 else 0.0
        checked.cost_and_gradient(picture)
    assert [check.evaluation for check in checked.checks] == [1, 9, 13, 21, 37]
    assert all(check.kept for check in checked.checks)


@pytest.mark.parametrize("at", [0, 4])
def test_a_gradient_that_is_not_finite_is_computed_in_fp32(pair: Pair, at: int) -> None:
    fast, exact = pair
    checked = check(fast, exact)
    pictures = falling(8)
    for index, picture in enumerate(pictures):
        fast.wrong = float("nan") if index == at else 0.0
        gradient = checked.cost_and_gradient(picture)[1]
        assert relative_error(gradient, exact.cost_and_gradient(picture)[1]) < 1e-6
    assert checked.checks[-1].error == float("inf")
    assert not checked.checks[-1].kept
    assert checked.checks[-1].evaluation == at + 1


def test_a_stall_is_checked_at_once(pair: Pair) -> None:
    checked = check(*pair)
    pictures = falling(30)
    for picture in [*pictures[:10], *[pictures[3]] * 8]:
        checked.cost_and_gradient(picture)
    # Regularly at 9; nothing better since 10.
    assert [check.evaluation for check in checked.checks] == [1, 9, 17]


@pytest.mark.parametrize("factor", [1e24, 1e-25])
def test_the_error_does_not_depend_on_the_weights(factor: float) -> None:
    exact = random_pixels(9, 11, seed=1)[None] * np.float32(factor / 255)
    gradients = exact * np.float32(1.1)
    assert largest_relative_error(gradients, exact) == pytest.approx(0.1, rel=1e-3)


def test_the_error_beside_no_gradient_is_infinite() -> None:
    nothing = np.zeros((1, 4, 4, 3), np.float32)
    assert largest_relative_error(nothing, nothing) == 0
    assert largest_relative_error(nothing + 1, nothing) == float("inf")


def test_layers_that_are_content_and_style_at_once() -> None:
    weights = make_tiny_weights()
    both = (LayerWeight("conv1_2", 0.3), LayerWeight("conv4_2", 0.7))
    objective = replace(mixed_objective("max", "ceil"), content_layers=both, style_layers=both)
    picture = random_pixels(33, 41, seed=1)
    targets = [targets_of(weights, objective, random_pixels(33, 41, seed=3))]
    (_, gradient), (_, reference) = (
        make(weights, objective, targets, "fp64").cost_and_gradient(picture)
        for make in (by_hand, by_autograd)
    )
    assert relative_error(gradient, reference) < 1e-12


def test_a_second_correction_takes_the_place_of_the_first(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = check(*pair)
    fast, pictures = pair[0], falling(12)
    shift = {part: 0.01 * target.abs().mean() for part, target in fast.problem.targets.items()}
    real = fast.problem.difference

    def shifted(part: Part, features: torch.Tensor) -> torch.Tensor:
        """Compare as a precision does that shifts every feature by the same amount."""
        return real(part, features + shift[part])

    monkeypatch.setattr(fast.problem, "difference", shifted)
    for picture in pictures:
        gradient = checked.cost_and_gradient(picture)[1]
        expected = pair[1].cost_and_gradient(picture)[1]
        assert relative_error(gradient, expected) < 1e-3
    for part, aim in fast.problem.aims.items():
        offset = aim - fast.problem.targets[part]
        assert torch.allclose(offset, shift[part].expand_as(offset), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_what_is_split_adds_up_to_what_it_was(factor: float) -> None:
    x = torch.from_numpy(random_pixels(40, 30, seed=1) - 100) * factor
    high, low = split_to_tf32(x)
    assert torch.equal(high + low, x)
    assert torch.equal(cut_to_tf32(high), high)
    assert float((low.abs() / x.abs()).max()) <= 2.0**-11
    assert split_to_tf32(x.new_tensor([float("inf"), float("nan")]))[1].isnan().all()


def cut_to_tf32(x: torch.Tensor) -> torch.Tensor:
    """Return values cut to TF32's ten bits behind the point, as matrix units read them."""
    return (x.view(torch.int32) & -0x2000).view(torch.float32)


@pytest.fixture
def emulated_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let convolutions of the backends see TF32 alone."""
    real = F.conv2d

    def conv2d(x: torch.Tensor, kernel: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        if x.dtype == torch.float32:
            x, kernel = cut_to_tf32(x), cut_to_tf32(kernel)
        return real(x, kernel, *rest, **options)

    monkeypatch.setattr(F, "conv2d", conv2d)


@pytest.mark.usefixtures("emulated_tf32")
@pytest.mark.parametrize("size", [(9, 7), (16, 20)])
def test_compensated_tf32_convolves_as_fp32_does(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel, bias, x = (
        torch.randn(shape, generator=generator) for shape in ((24, 64, 3, 3), (24,), (2, 64, *size))
    )
    errors: dict[TorchPrecision, float] = {}
    exact = F.conv2d(x.double(), kernel.double(), bias.double(), padding=1).relu()
    names: tuple[TorchPrecision, ...] = ("tf32", "tf32x3")
    for name in names:
        device = TorchDevice(Device("cpu"), name)
        convolution = make_convolution(device, kernel, bias, "channels_last", relu=True)
        errors[name] = float((convolution(x).double() - exact).norm() / exact.norm())
    assert errors["tf32"] > 1e-4
    assert errors["tf32x3"] < 1e-6


@pytest.mark.usefixtures("emulated_tf32")
@pytest.mark.parametrize(("pooling", "rounding"), CASES)
def test_a_gradient_in_compensated_tf32_is_right(pooling: Pooling, rounding: PoolRounding) -> None:
    weights, objective = make_tiny_weights(), mixed_objective(pooling, rounding)
    picture = random_pixels(53, 71, seed=1)
    targets = [targets_of(weights, objective, random_pixels(53, 71, seed=3))]
    expected, reference = by_autograd(weights, objective, targets).cost_and_gradient(picture)
    errors = {}
    names: tuple[TorchPrecision, ...] = ("tf32", "tf32x3")
    for name in names:
        cost, gradient = by_hand(weights, objective, targets, name).cost_and_gradient(picture)
        errors[name] = relative_error(gradient, reference)
    assert errors["tf32"] > 1e-4
    assert errors["tf32x3"] < 1e-5
    assert cost.total == pytest.approx(expected.total, rel=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
# What matrix units sum up is cut, not rounded, so that three products of TF32 stay behind fp32 on whole networks.
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("tf32x3", 5e-3), ("bf16", 0.2)])
def test_the_gradient_on_cuda(precision: TorchPrecision, bound: float) -> None:
    weights, objective = load_weights(), PRESETS["default"].objective
    picture = random_pixels(211, 317, seed=1)
    targets = targets_of(weights, objective, random_pixels(211, 317, seed=3))
    network = BackwardPass(weights, objective, TorchDevice(Device("cuda"), precision))
    _, gradient = BackpropBackend(network, [(objective, targets)]).cost_and_gradient(picture)
    _, reference = by_autograd(weights, objective, [targets]).cost_and_gradient(picture)
    assert relative_error(gradient, reference) < bound


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("size", [(61, 83), (128, 96)])
def test_compensated_tf32_is_nearer_than_tf32_on_cuda(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(256, 256, 3, 3, generator=generator)
    x = torch.randn(1, 256, *size, generator=generator).relu()
    exact = F.conv2d(x.double(), kernel.double(), padding=1)
    errors: dict[TorchPrecision, float] = {}
    names: tuple[TorchPrecision, ...] = ("tf32", "tf32x3", "fp32")
    for name in names:
        device = TorchDevice(Device("cuda"), name)
        convolution = make_convolution(device, kernel.cuda(), None, "channels_last", relu=False)
        with device.numerics(), torch.no_grad():
            ours = convolution(x.cuda().contiguous(memory_format=torch.channels_last))
        errors[name] = float((ours.double().cpu() - exact).norm() / exact.norm())
    assert errors["tf32"] > 1e-4
    assert errors["tf32x3"] < 1e-5
    assert errors["fp32"] < 1e-5
