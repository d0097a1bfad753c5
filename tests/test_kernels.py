"""Kernels in Triton, by its interpreter where there is no GPU, against PyTorch in float64."""

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import relative_error, targets_of
from pictures import random_pixels

from nstx.engine import diagnosis
from nstx.engine.devices import precisions
from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.features.torch_network import TorchNetwork
from nstx.engine.gradients.backend import Problems
from nstx.engine.gradients.choice import BackendChoice
from nstx.engine.gradients.opening import choose_kernels
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.kernels import availability
from nstx.engine.kernels.availability import kernel_support
from nstx.engine.kernels.support import KernelSupport, describe_kernels
from nstx.models.errors import NumericalError
from nstx.models.layers import LayerWeight
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.weights.load import load_weights

pytest.importorskip("triton", reason="Triton is not installed")

from nstx.engine.gradients.fused import FusedBackend, FusedPass
from nstx.engine.kernels import gram
from nstx.engine.kernels.activation import (
    PoolKind,
    pool,
    unpool,
)
from nstx.engine.kernels.content import (
    add_content_gradient,
    add_sums,
    cut_programs,
    cut_where_zero,
)
from nstx.engine.kernels.first_layer import (
    arrange_first_kernel,
    first_backward,
    first_forward,
    gather_programs,
)
from nstx.engine.kernels.gram import (
    add_gram_gradient,
    compare_gram,
    compare_programs,
)

PLACE = "cuda" if torch.cuda.is_available() else "cpu"
POOLINGS = [
    PoolKind(averages=averages, rounds_up=rounds_up)
    for averages in (True, False)
    for rounds_up in (True, False)
]


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare Gram matrices by few programs where each is interpreted: what they compute, by eight times the values."""
    if PLACE == "cpu":
        monkeypatch.setattr(gram, "_SUMMED", 8 * gram._SUMMED)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(values).to(PLACE, dtype)


def error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return relative_error(ours.double().cpu().numpy(), reference.double().cpu().numpy())


def planes(rows: torch.Tensor) -> torch.Tensor:
    return rows.permute(0, 3, 1, 2)


@pytest.mark.parametrize("kind", POOLINGS, ids=str)
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (2, 5)])
@pytest.mark.parametrize("channels", [64, 128])
def test_a_pooling_and_its_gradient_are_those_of_pytorch(
    channels: int, size: tuple[int, int], kind: PoolKind
) -> None:
    drawn = draw(2, *size, channels)
    before = planes(drawn.double()).requires_grad_()
    operator: Callable[..., torch.Tensor] = F.avg_pool2d if kind.averages else F.max_pool2d
    expected = operator(before.relu(), 2, stride=2, ceil_mode=kind.rounds_up)
    behind = draw(2, *kind.pooled_size(*size), channels, seed=2)
    (slope,) = torch.autograd.grad(expected, before, planes(behind.double()))

    x = drawn.relu()
    assert error(planes(pool(x, kind)), expected.detach()) < 1e-6
    cut = cut_where_zero(x, unpool(behind, x, kind, cuts=False))
    gradient = unpool(behind, x, kind, cuts=True)
    assert error(planes(gradient), slope) < 1e-6
    assert torch.equal(gradient, cut)


@pytest.mark.parametrize("averages", [True, False])
def test_nan_goes_through_a_pooling(averages: bool) -> None:
    x = draw(1, 4, 6, 64).relu()
    x[0, 1, 2, 3] = torch.nan
    pooled = pool(x, PoolKind(averages=averages, rounds_up=True))
    assert torch.isnan(pooled[0, 0, 1, 3])
    assert torch.isnan(pooled).sum() == 1


@pytest.mark.parametrize(
    ("batch", "positions", "channels"),
    [(1, (3, 5), 256), (2, (13, 31), 64), (2, (9, 15), 128)],
)
def test_gram_matrices_and_their_gradient_are_those_of_float64(
    batch: int, positions: tuple[int, int], channels: int
) -> None:
    features, target = draw(batch, *positions, channels), draw(batch, channels, channels, seed=1)
    factor, seed = torch.tensor([0.5, 3.0], device=PLACE)[:batch], torch.tensor(4.0, device=PLACE)
    programs = compare_programs(batch, positions[0] * positions[1], channels)
    sums = torch.full((batch, programs + 1), torch.nan, device=PLACE)
    slope, difference = compare_gram(features, target, factor, seed, sums, keeps=True)

    rows = features.double().flatten(1, 2)
    expected = rows.transpose(1, 2) @ rows / rows.shape[1] - target.double()
    assert difference is not None
    assert error(difference, expected) < 2e-5
    assert error(slope, expected * (factor.double() * 4).reshape(batch, 1, 1)) < 2e-5
    assert error(sums[:, :-1].sum(1), expected.square().sum((1, 2))) < 2e-5
    assert torch.isnan(sums[:, -1]).all()
    again, none = compare_gram(features, target, factor, seed, sums, keeps=False)
    assert none is None
    assert torch.equal(slope, again)

    behind = draw(batch, *positions, channels, seed=2)
    total = (rows @ slope.double()).reshape(features.shape)
    cut = torch.where(features > 0, total + behind.double(), 0.0)
    assert error(add_gram_gradient(features, slope, None, cuts=False), total) < 2e-3
    assert error(add_gram_gradient(features, slope, behind, cuts=True), cut) < 2e-3


def test_the_content_gradient_is_added_before_the_cut() -> None:
    features, behind = draw(2, 5, 7, 64), draw(2, 5, 7, 64, seed=1)
    target, factor = draw(2, 5, 7, 64, seed=2), torch.tensor([0.5, 3.0], device=PLACE)
    seed = torch.tensor(2.0, device=PLACE)
    sums = torch.full((2, cut_programs(5 * 7 * 64)), torch.nan, device=PLACE)
    changed = features.double() - target.double()
    slope = changed * (factor.double() * 2).reshape(2, 1, 1, 1)
    expected = torch.where(features > 0, slope + behind.double(), 0.0)
    alone = add_content_gradient(features, None, target, factor, seed, sums, cuts=False)
    assert error(alone, slope) < 1e-6
    gradient = add_content_gradient(features, behind, target, factor, seed, sums, cuts=True)
    assert error(gradient, expected) < 1e-6
    assert error(sums.sum(1), changed.square().sum((1, 2, 3))) < 1e-6


def test_sums_are_added_part_by_part_and_of_the_last_the_largest_counts() -> None:
    sums = draw(2, 3000).abs()
    begins = torch.tensor([0, 10, 2000, 3000], dtype=torch.int32, device=PLACE)
    factors = torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]], device=PLACE)
    result = add_sums(sums, begins, factors).cpu()
    parts = [sums[:, :10].sum(1), sums[:, 10:2000].sum(1)]
    expected = torch.stack([*parts, sums[:, 2000:].amax(1)]).cpu()
    expected[:2] *= factors.T[:2].cpu()
    assert error(result, expected) < 1e-6
    sums[1, 2500] = torch.inf
    assert add_sums(sums, begins, factors)[2, 1] == torch.inf


@pytest.mark.parametrize("size", [(8, 16), (5, 19)])
def test_the_first_layer_is_pytorchs_convolution_in_both_directions(size: tuple[int, int]) -> None:
    pixels, kernel, bias = draw(2, *size, 3) * 50, draw(64, 3, 3, 3, seed=1), draw(64, seed=2)
    mean, seed = torch.tensor([9.0, -4.0, 1.0], device=PLACE), torch.tensor(8.0, device=PLACE)
    x = planes(pixels.double()).requires_grad_()
    shifted = x - mean.double().reshape(1, 3, 1, 1)
    output = F.conv2d(shifted, kernel.double(), bias.double(), padding=1).relu()
    arranged = arrange_first_kernel(kernel)
    activation = first_forward(pixels, arranged, bias, mean, torch.float32)
    assert error(planes(activation), output.detach()) < 1e-5

    weights = torch.tensor([0.3, 2.0], device=PLACE)
    across, down = ((x.diff(dim=d)).square().flatten(1).mean(1) for d in (3, 2))
    behind, slope = draw(2, *size, 64, seed=3), draw(2, 64, 64, seed=4)
    added = behind.double() + (activation.double().flatten(1, 2) @ slope.double()).reshape(
        behind.shape
    )
    total = (output * planes(added)).sum() / 8 + (weights.double() * (across + down)).sum()
    (expected,) = torch.autograd.grad(total, x)
    programs = gather_programs(size[0] * size[1])
    sums = torch.full((2, 2 * programs), torch.nan, device=PLACE)
    gradient = first_backward(
        behind, activation, slope, arranged, pixels=pixels, seed=seed, variation=weights, sums=sums
    )
    assert error(planes(gradient), expected) < 2e-3
    assert error(sums[:, :programs].sum(1), (across + down).detach()) < 1e-6
    largest = gradient.flatten(1).abs().amax(1)
    assert error(sums[:, programs:].amax(1), largest) < 1e-6


def test_a_gradient_that_is_nan_counts_as_infinite() -> None:
    behind, activation = draw(1, 4, 16, 64), draw(1, 4, 16, 64, seed=1).abs()
    behind[0, 2, 3, 5] = torch.nan
    sums = torch.zeros(1, gather_programs(64), device=PLACE)
    first_backward(
        behind, activation, None, torch.ones(32, 64, device=PLACE), pixels=draw(1, 4, 16, 3),
        seed=torch.tensor(1.0, device=PLACE), variation=None, sums=sums,
    )  # fmt: skip
    assert sums.amax() == torch.inf


def shallow_objective(
    pooling: Literal["avg", "max"] = "avg",
    rounding: Literal["ceil", "floor"] = "ceil",
    tv_weight: float = 0.0,
    deepest: str = "conv3_1",
) -> Objective:
    """Return an objective of few layers, as the interpreter is slow; one has both kinds of cost."""
    return Objective(
        content_layers=(LayerWeight("conv1_2", 0.7), LayerWeight("conv2_1", 1.0)),
        style_layers=tuple(
            LayerWeight(name, weight)
            for name, weight in (("conv1_1", 0.5), ("conv1_2", 0.2), (deepest, 1.0))
        ),
        pooling=pooling,
        pool_rounding=rounding,
        content_weight=0.5,
        style_weight=2.0,
        relative=True,
        tv_weight=tv_weight,
    )


def backends(
    objective: Objective, size: tuple[int, int], batch: int, precision: TorchPrecision
) -> tuple[FusedBackend, AutogradBackend]:
    """Return the backend of a batch and its reference in float64."""
    weights = load_weights()
    problems: Problems = [
        (objective, targets_of(weights, objective, random_pixels(*size, seed=10 + index)))
        for index in range(batch)
    ]
    place: Device = Device("cuda") if PLACE == "cuda" else Device("cpu")
    fused = FusedPass(weights, objective, TorchDevice(place, precision))
    exact = TorchNetwork(
        weights, objective.layers, *objective.poolings, TorchDevice(Device("cpu"), "fp64")
    )
    capture = None if PLACE == "cuda" else False
    return FusedBackend(fused, problems, capture=capture), AutogradBackend(exact, problems)


@pytest.mark.parametrize(
    ("pooling", "rounding", "size", "batch"),
    [
        ("avg", "ceil", (17, 22), 2),
        ("avg", "floor", (11, 15), 1),
        ("max", "ceil", (11, 13), 1),
        ("max", "floor", (12, 14), 1),
    ],
)
def test_a_fused_gradient_is_that_of_autograd_in_float64(
    pooling: Literal["avg", "max"],
    rounding: Literal["ceil", "floor"],
    size: tuple[int, int],
    batch: int,
) -> None:
    objective = shallow_objective(pooling, rounding, tv_weight=0.01)
    # float32 as it is by the interpreter, TF32 on a GPU.
    bound = 2e-2 if PLACE == "cuda" else 2e-5
    fused, exact = backends(objective, size, batch, "tf32" if PLACE == "cuda" else "fp32")
    pixels = np.stack([random_pixels(*size, seed=index) for index in range(batch)])
    costs, gradients = fused.costs_and_gradients(pixels)
    expected_costs, expected = exact.costs_and_gradients(pixels)
    for index in range(batch):
        assert relative_error(gradients[index], expected[index]) < bound
        ours, theirs = costs[index], expected_costs[index]
        assert ours.total == pytest.approx(theirs.total, rel=bound)
        assert ours.style_layers == pytest.approx(theirs.style_layers, rel=bound)
        assert ours.content_layers == pytest.approx(theirs.content_layers, rel=bound)
        assert ours.total_variation == pytest.approx(theirs.total_variation, rel=1e-4)
    assert fused.costs(pixels)[0].total == pytest.approx(costs[0].total, rel=bound)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, in which overflow is imitated
def test_a_fused_gradient_in_fp16_is_near_and_its_seed_falls_until_it_is_finite() -> None:
    fused, exact = backends(shallow_objective(deepest="conv2_2"), (9, 15), 1, "fp16")
    pixels = random_pixels(9, 15, seed=3)
    fused.seed = 2.0**32
    _, gradient = fused.cost_and_gradient(pixels)
    assert relative_error(gradient, exact.cost_and_gradient(pixels)[1]) < 3e-2
    assert fused.seed < 2.0**31


def test_a_correction_moves_what_fused_features_are_compared_with() -> None:
    fused, exact = backends(shallow_objective(deepest="conv2_2"), (9, 15), 1, "fp32")
    pixels = random_pixels(9, 15, seed=3)
    with exact.problem.noting() as features, fused.problem.noting() as ours:
        exact.cost_and_gradient(pixels)
        before, _ = fused.cost_and_gradient(pixels)
    assert ours.keys() == features.keys()
    for part, values in ours.items():
        assert error(values, features[part]) < 1e-4
    for backend in (fused, exact):
        backend.problem.offset(
            {part: (values * 0.2).to(backend.problem.aims[part]) for part, values in ours.items()}
        )
    cost, gradient = fused.cost_and_gradient(pixels)
    expected_cost, expected = exact.cost_and_gradient(pixels)
    assert relative_error(gradient, expected) < 1e-3
    assert cost.total == pytest.approx(expected_cost.total, rel=1e-4)
    assert cost.total != pytest.approx(before.total, rel=1e-2)


def test_a_fused_gradient_that_is_not_finite_is_an_error() -> None:
    fused, _ = backends(shallow_objective(deepest="conv2_2"), (9, 15), 1, "fp32")
    pixels = random_pixels(9, 15, seed=3)
    pixels[3, 4, 1] = np.nan
    with pytest.raises(NumericalError, match="finite"):
        fused.cost_and_gradient(pixels)


def test_kernels_are_for_cuda_and_for_precisions_that_gain_by_them() -> None:
    cpu, cuda = Device("cpu"), Device("cuda")
    assert choose_kernels(BackendChoice("torch", cpu, "bf16"), PRESETS["default"].objective) is None
    assert choose_kernels(BackendChoice("onnx", cuda, "fp16"), PRESETS["default"].objective) is None
    support = choose_kernels(BackendChoice("torch", cuda, "fp32"), PRESETS["default"].objective)
    assert support == KernelSupport("torch", "fp32 would gain nothing by kernels")
    assert not support.works


@pytest.mark.parametrize(
    ("capability", "error", "reason", "is_fault"),
    [
        ((7, 5), None, "compute capability 7.5", False),
        ((9, 0), ImportError("no triton"), "Triton does not load: no triton", True),
        ((9, 0), OSError("no compiler\nhere"), "Triton does not work: no compiler", True),
        ((9, 0), None, "Triton computes wrongly, by 0.5 of the whole", True),
    ],
)
def test_kernels_that_fail_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, logged_warnings: list[str],
    capability: tuple[int, int], error: Exception | None, reason: str, is_fault: bool,
) -> None:  # fmt: skip
    def distance(_: torch.device) -> float:
        if error is not None:
            raise error
        return 0.5

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(availability, "_error_of_kernels", distance)
    availability._try_kernels.cache_clear()
    try:
        support = choose_kernels(
            BackendChoice("torch", Device("cuda"), "bf16"), PRESETS["default"].objective
        )
    finally:
        availability._try_kernels.cache_clear()
    assert support == KernelSupport("torch", reason, is_fault)
    warning = f"kernels are PyTorch's operators, which are slower: {reason}"
    assert logged_warnings == ([warning] if is_fault else [])


def test_reports_say_the_same_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    support = KernelSupport("triton 3.6.0")
    assert describe_kernels(support) == {"name": "triton 3.6.0", "reason": None}
    assert describe_kernels(None) is None
    properties = SimpleNamespace(name="a GPU", total_memory=1 << 30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(precisions, "supported_precisions", lambda *_: ("fp32",))
    monkeypatch.setattr(availability, "kernel_support", lambda _: support)
    _, device = diagnosis._devices()[:2]
    assert device["kernels"] == describe_kernels(support)


@pytest.mark.gpu
@pytest.mark.skipif(PLACE != "cuda", reason="no CUDA device on this machine")
@pytest.mark.parametrize("size", [(65, 47), (64, 96)])
@pytest.mark.parametrize(("precision", "bound"), [("tf32", 5e-2), ("bf16", 1e-1), ("fp16", 5e-2)])
def test_a_whole_gradient_on_cuda_is_near_float64_and_the_same_twice(
    precision: TorchPrecision, bound: float, size: tuple[int, int]
) -> None:
    assert kernel_support(0).works
    fused, exact = backends(PRESETS["default"].objective, size, 2, precision)
    again, _ = backends(PRESETS["default"].objective, size, 2, precision)

    def differentiate(backend: FusedBackend) -> np.ndarray:
        # fp16's depends on the evaluations before.
        backend.seed = 2.0**20 if precision == "fp16" else 1.0
        return backend.costs_and_gradients(pixels)[1]

    other = np.stack([random_pixels(*size, seed=index) for index in (7, 8)])
    pixels = np.stack([random_pixels(*size, seed=index) for index in range(2)])
    # The graph is captured with another picture.
    fused.costs_and_gradients(other)
    first = differentiate(fused)
    assert np.array_equal(differentiate(again), first)
    with again.problem.noting() as noted:
        assert np.array_equal(differentiate(again), first)
    # And it sees targets that are corrected afterwards.
    for backend in (fused, again):
        backend.problem.offset({part: values * 0.1 for part, values in noted.items()})
    corrected = differentiate(fused)
    with again.problem.noting():
        assert np.array_equal(differentiate(again), corrected)
    assert relative_error(corrected, first) > 1e-2
    for ours, expected in zip(first, exact.costs_and_gradients(pixels)[1], strict=True):
        assert relative_error(ours, expected) < bound


def test_where_pytorch_brings_no_triton_nothing_is_at_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    availability._try_kernels.cache_clear()
    try:
        support = kernel_support(0)
    finally:
        availability._try_kernels.cache_clear()
    assert support == KernelSupport("torch", "Triton is not installed")


def test_a_device_without_memory_is_no_fault_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> KernelSupport:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(availability, "kernel_support", fail)
    assert diagnosis._kernels(0) == KernelSupport("unknown", "the device's memory is taken")
