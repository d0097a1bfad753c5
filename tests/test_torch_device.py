"""What keeps a run on its device: arrays, Adam ahead of its host, CUDA graphs, the choice of precision."""

import contextlib
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from devices import needs_cuda
from networks import (
    by_hand,
    make_tiny_weights,
    mixed_objective,
    needs_bf16,
    relative_error,
    targets_of,
)
from pictures import random_pixels
from solving import DeviceLike

from nstx import Picture, Step, choose_settings, prepare_job, run_job
from nstx.engine.devices.arrays import NUMPY, Array, Arrays
from nstx.engine.devices.convolution import Convolution, Layout, fastest_layout, try_bf16
from nstx.engine.devices.cuda_graph import (
    Capture,
    Function,
    captures_graphs,
)
from nstx.engine.devices.device import Device, DeviceKind
from nstx.engine.devices.machine import Bf16, Capability, Processor
from nstx.engine.devices.memory import without_collection
from nstx.engine.devices.precisions import fast_precision, settle_bf16, supported_precisions
from nstx.engine.devices.torch_arrays import TorchArrays
from nstx.engine.devices.torch_device import TorchDevice, TorchPrecision
from nstx.engine.gradients import choice as backends
from nstx.engine.gradients.backend import PrecisionCheck
from nstx.engine.gradients.backprop import BackpropBackend, BackwardPass
from nstx.engine.gradients.choice import BackendChoice, PrecisionPolicy, choose_backend, runs_ahead
from nstx.engine.gradients.opening import open_backend
from nstx.engine.gradients.torch_gradient import TorchGradient
from nstx.engine.pictures.picture import Pixels
from nstx.engine.settings import Precision
from nstx.engine.solvers import torch_adam, torch_descent
from nstx.engine.solvers.adam import adam_steps
from nstx.engine.solvers.choice import solve
from nstx.engine.solvers.lbfgs import lbfgs_steps
from nstx.engine.solvers.solver import StopSolving, run_solver
from nstx.engine.solvers.torch_adam import STEPS_AHEAD, run_adam
from nstx.engine.solvers.two_loops import make_preconditioner
from nstx.models.cost import Cost
from nstx.models.errors import DeviceError, NumericalError
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.weights.load import Weights, load_weights

CPU = TorchArrays(torch.device("cpu"))


def make_backend(
    precision: TorchPrecision = "fp32",
    device: DeviceKind = "cpu",
    size: tuple[int, int] = (33, 40),
    weights: Weights | None = None,
    objective: Objective | None = None,
    capture: Capture | bool | None = None,
) -> BackpropBackend:
    weights = weights or make_tiny_weights()
    objective = objective or mixed_objective("avg", "ceil")
    targets = targets_of(weights, objective, random_pixels(*size, seed=3))
    return by_hand(weights, objective, [targets], precision, device, capture=capture)


@pytest.mark.parametrize("size", [(31, 42), (40, 33), (1, 7), (8, 8)])
def test_the_preconditioner_is_numpys(size: tuple[int, int]) -> None:
    picture = random_pixels(*size, seed=1)
    expected = NUMPY.fetch(make_preconditioner(*size, NUMPY)(picture))
    smoothed = CPU.fetch(make_preconditioner(*size, CPU)(CPU.place(picture)))
    np.testing.assert_allclose(smoothed, expected, rtol=1e-4, atol=1e-2)


def test_tensors_give_tensors_and_arrays_arrays_and_both_the_same() -> None:
    backend, picture = make_backend(), random_pixels(33, 40, seed=1)
    cost, gradient = backend.cost_and_gradient(picture)
    cost_of_tensor, tensor = backend.cost_and_gradient(CPU.place(picture))
    assert isinstance(gradient, np.ndarray)
    assert isinstance(tensor, torch.Tensor)
    assert cost_of_tensor == cost
    assert np.array_equal(tensor.numpy(), gradient)
    assert backend.cost(CPU.place(picture)) == backend.cost(picture)


@pytest.mark.parametrize("clip", [True, False])
def test_lbfgs_takes_the_same_road_on_tensors(clip: bool) -> None:
    backend, start = make_backend("fp64"), random_pixels(33, 40, seed=1)

    def costs_on(arrays: Arrays) -> list[float]:
        def evaluate(pixels: Array) -> tuple[Cost, Array]:
            cost, gradient = backend.cost_and_gradient(arrays.fetch(pixels))
            return cost, arrays.place(gradient)

        costs: list[float] = []
        solver = lbfgs_steps(
            arrays.place(start), steps=12, clip=clip, arrays=arrays,
            on_step=lambda _, cost: costs.append(cost.total),
        )  # fmt: skip
        run_solver(solver, evaluate)
        return costs

    expected = costs_on(NUMPY)
    for costs in (costs_on(CPU), costs_on(DeviceLike())):
        assert len(expected) == len(costs) == 12
        np.testing.assert_allclose(costs, expected, rtol=1e-3)


class Recorder:
    """A watcher that keeps what it takes, and stops before an evaluation, if it is to."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.evaluations = 0
        self.first: list[Cost] = []
        self.steps: list[tuple[Pixels, Cost]] = []
        self._stop_before = stop_before

    def before_evaluation(self) -> None:
        if self.evaluations == self._stop_before:
            raise StopSolving
        self.evaluations += 1

    def during_evaluation(self) -> None:
        pass

    def after_evaluation(self, cost: Cost, checks: Sequence[PrecisionCheck]) -> None:
        self.first.append(cost)

    def after_step(self, pixels: Array, cost: Cost) -> None:
        array = pixels.cpu().numpy() if isinstance(pixels, torch.Tensor) else np.asarray(pixels)
        self.steps.append((array, cost))


def ahead(
    backend: BackpropBackend, start: Pixels, *, steps: int, clip: bool
) -> tuple[list[tuple[Pixels, Cost]], list[Cost]]:
    recorder = Recorder()
    run_adam(backend, CPU.place(start), steps=steps, learning_rate=2.0, clip=clip, watcher=recorder)
    return recorder.steps, recorder.first


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [1, STEPS_AHEAD - 1, STEPS_AHEAD, 2 * STEPS_AHEAD + 3])
def test_adam_ahead_of_its_host_makes_the_same_steps(steps: int, clip: bool) -> None:
    backend, start = make_backend(), random_pixels(33, 40, seed=1)
    expected = Recorder()
    solver = adam_steps(
        start, steps=steps, learning_rate=2.0, clip=clip, on_step=expected.after_step
    )
    run_solver(solver, backend.cost_and_gradient)
    made, first = ahead(backend, start, steps=steps, clip=clip)
    assert first == [backend.cost_and_gradient(start)[0]]
    assert len(made) == steps
    for (pixels, cost), (plain, plain_cost) in zip(made, expected.steps, strict=True):
        np.testing.assert_allclose(pixels, plain, atol=0.05)
        assert cost.total == pytest.approx(plain_cost.total, rel=1e-3)


@pytest.mark.parametrize("captured", [False, True])
def test_adam_in_fp16_waits_for_each_seed(monkeypatch: pytest.MonkeyPatch, captured: bool) -> None:
    """A step whose gradient overflows is made again from where it began, with a smaller seed."""
    start, capture = random_pixels(33, 40, seed=1), WarmedUp() if captured else False
    monkeypatch.setattr(torch_adam, "CudaGraph", WarmedUp)
    plain, expected, recorder = make_backend("fp16"), Recorder(), Recorder()
    plain.seed = 2.0**60
    solver = adam_steps(start, steps=9, learning_rate=2.0, clip=True, on_step=expected.after_step)
    run_solver(solver, plain.cost_and_gradient)
    backend = make_backend("fp16", capture=capture)
    backend.seed = 2.0**60
    begun: list[int] = []
    monkeypatch.setattr(recorder, "before_evaluation", lambda: begun.append(len(recorder.steps)))
    run_adam(backend, CPU.place(start), steps=9, learning_rate=2.0, clip=True, watcher=recorder)
    assert backend.seed == plain.seed < 2.0**60
    # Nothing is under way when a step begins.
    assert begun == [0, 0, *range(1, 9)]
    for (pixels, cost), (usual, usual_cost) in zip(recorder.steps, expected.steps, strict=True):
        np.testing.assert_allclose(pixels, usual, atol=0.05)
        assert cost.total == pytest.approx(usual_cost.total, rel=1e-3)


class WarmedUp:
    """A graph as a capture leaves it: the function ran some times before the first call."""

    def prepare(self, function: Function, *inputs: torch.Tensor) -> None:
        for _ in range(3):
            function(*inputs)

    def __call__(self, function: Function, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(output.clone() for output in function(*inputs))


def test_adam_begins_at_its_start_after_it_was_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    start = random_pixels(33, 40, seed=1)
    expected, _ = ahead(make_backend(), start, steps=7, clip=True)
    monkeypatch.setattr(torch_adam, "CudaGraph", WarmedUp)
    made, _ = ahead(make_backend(capture=WarmedUp()), start, steps=7, clip=True)
    assert len(made) == len(expected)
    for (pixels, cost), (plain, plain_cost) in zip(made, expected, strict=True):
        assert np.array_equal(pixels, plain)
        assert cost == plain_cost


def test_costs_come_back_while_later_steps_are_under_way() -> None:
    begun: list[int] = []

    class Counting(Recorder):
        def after_step(self, pixels: Array, cost: Cost) -> None:
            super().after_step(pixels, cost)
            begun.append(self.evaluations)

    recorder = Counting()
    run_adam(
        make_backend(), CPU.place(random_pixels(33, 40, seed=1)), steps=23, learning_rate=2.0,
        clip=True, watcher=recorder,
    )  # fmt: skip
    # The first step is reported as soon as it is evaluated, later ones at most `STEPS_AHEAD` later.
    assert begun[0] == 2
    late = [evaluations - 1 - step for step, evaluations in enumerate(begun, 1)]
    assert 5 <= max(late) < STEPS_AHEAD


def test_steps_that_were_begun_are_reported_when_a_run_is_stopped() -> None:
    recorder, start = Recorder(stop_before=STEPS_AHEAD + 4), random_pixels(33, 40, seed=1)
    with pytest.raises(StopSolving):
        run_adam(
            make_backend(), CPU.place(start), steps=50, learning_rate=2.0, clip=True,
            watcher=recorder,
        )  # fmt: skip
    # All evaluations but the start's.
    assert len(recorder.steps) == STEPS_AHEAD + 3


@pytest.mark.parametrize("fails", [False, True])
def test_a_solver_leads_its_backend_and_lets_it_go(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Work begins with each gradient before its cost is there; afterwards nothing holds the solver."""
    content = Picture(random_pixels(40, 56, 1).astype(np.uint8), None)
    style = Picture(random_pixels(45, 50, 9).astype(np.uint8), None)
    settings = choose_settings(
        size=56, scales=1, steps=6, backend="torch", precision="fp32", device="cpu",
        content_layers="conv2_2", style_layers="conv1_1,conv2_1",
    )  # fmt: skip
    job = prepare_job(content, [(style, 1.0)], settings)
    opened = open_backend(settings, job.opened.choice)  # as of a device, without smaller tiles
    job = replace(job, opened=replace(opened, arrays=DeviceLike()))
    backend, begun = job.backend(0), 0
    begin = torch_descent.TorchDescent.begin

    def count(descent: torch_descent.TorchDescent, pictures: Array, gradients: Array) -> None:
        nonlocal begun
        begun += 1
        begin(descent, pictures, gradients)

    monkeypatch.setattr(torch_descent.TorchDescent, "begin", count)
    recorder = Recorder(stop_before=4 if fails else None)
    arguments = settings, 6, job.opened, CPU.place(job.start(0))
    if fails:
        with contextlib.suppress(StopSolving):
            solve(*arguments, backend=backend, watcher=recorder)
    else:
        solve(*arguments, backend=backend, watcher=recorder)
    assert isinstance(backend, TorchGradient)
    # The first evaluation is what the solver begins with.
    assert begun == recorder.evaluations - 1
    assert backend._follower is None


class Failing(BackpropBackend):
    """A backend whose sixth evaluation is not finite."""

    evaluations = 0

    def evaluate(self, x: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.evaluations += 1
        rows, gradient = super().evaluate(x, seed)
        return (rows * float("nan") if self.evaluations == 6 else rows), gradient


def test_the_steps_before_one_that_is_not_finite_are_reported() -> None:
    weights, objective = make_tiny_weights(), mixed_objective("avg", "ceil")
    targets = targets_of(weights, objective, random_pixels(33, 40, seed=3))
    backward = BackwardPass(weights, objective, TorchDevice(Device("cpu"), "fp32"))
    backend, recorder = Failing(backward, [(objective, targets)]), Recorder()
    with pytest.raises(NumericalError, match="finite"):
        run_adam(
            backend, CPU.place(random_pixels(33, 40, seed=1)), steps=9, learning_rate=2.0, clip=True,
            watcher=recorder,
        )  # fmt: skip
    assert len(recorder.steps) == 4


def test_adam_ahead_of_its_host_notices_what_is_not_finite() -> None:
    with pytest.raises(NumericalError, match="finite"):
        ahead(make_backend(), np.full((33, 40, 3), 1e30, np.float32), steps=3, clip=False)


def test_a_run_with_adam_ahead_of_its_host_is_the_usual_run() -> None:
    content = Picture(random_pixels(40, 56, 1).astype(np.uint8), None)
    style = Picture(random_pixels(45, 50, 9).astype(np.uint8), None)
    settings = choose_settings(
        solver="adam", size=46, scales=2, steps=23, backend="torch", precision="fp32", device="cpu",
        content_layers="conv2_2", style_layers="conv1_1,conv2_1",
    )  # fmt: skip
    job = prepare_job(content, [(style, 1.0)], settings)
    usual = run_job(job)
    steps: list[Step] = []
    opened = open_backend(settings, job.opened.choice)  # as of a device, without smaller tiles
    ahead_job = replace(job, opened=replace(opened, runs_ahead=True))
    result = run_job(ahead_job, on_step=steps.append)
    assert [step.step for step in steps] == list(range(1, result.steps + 1))
    assert steps[-1].pixels.dtype == np.float32
    assert (result.steps, result.evaluations) == (usual.steps, usual.evaluations)
    assert result.cost.total == pytest.approx(usual.cost.total, rel=1e-3)
    assert result.initial_cost is not None
    assert usual.initial_cost is not None
    assert result.initial_cost.total == pytest.approx(usual.initial_cost.total, rel=1e-6)


@pytest.mark.parametrize("preset", ["default", "coursera", "gatys"])
def test_seeds_keep_fp16_finite_where_the_pass_is_written_out(preset: str) -> None:
    """On the CPU, where PyTorch has fp16 too, if slowly; users get it on CUDA only."""
    size, weights, objective = (16, 20), load_weights(), PRESETS[preset].objective
    picture = random_pixels(*size, seed=2)
    exact = make_backend("fp64", size=size, weights=weights, objective=objective)
    reference = exact.cost_and_gradient(picture)[1]
    backend = make_backend("fp16", size=size, weights=weights, objective=objective)
    for _ in range(2):  # the first finds the seed
        _, gradient = backend.cost_and_gradient(picture)
        assert relative_error(gradient, reference) < 0.05


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("inputs", "outputs", "size"), [(3, 8, (17, 30)), (64, 64, (9, 7))])
def test_kernels_that_are_laid_out_once_give_the_same_bytes(
    precision: Precision, inputs: int, outputs: int, size: tuple[int, int]
) -> None:
    device = TorchDevice(Device("cpu"), precision)
    if fastest_layout(device) != "packed":
        pytest.skip(f"oneDNN lays out no kernels in {precision} on this processor")
    generator = torch.Generator().manual_seed(0)
    kernel, bias, x = (
        torch.randn(shape, generator=generator).to(device.dtype)
        for shape in ((outputs, inputs, 3, 3), (outputs,), (2, inputs, *size))
    )
    x = x.contiguous(memory_format=torch.channels_last)
    plain = kernel.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for relu in (True, False):
            packed = Convolution(kernel, bias, "packed", relu=relu)(x)
            expected = F.conv2d(x, plain, bias, padding=1)
            expected = expected.relu() if relu else expected
            assert packed.is_contiguous(memory_format=torch.channels_last)
            assert torch.allclose(packed, expected, rtol=1e-5, atol=1e-5)


@needs_bf16
def test_kernels_are_laid_out_where_that_works_and_bf16_is_right_without() -> None:
    fastest = fastest_layout(TorchDevice(Device("cpu"), "bf16"))
    assert fastest == ("packed" if try_bf16() == "packed" else "channels_last")
    assert fastest_layout(TorchDevice(Device("cpu"), "fp64")) == "channels_last"
    weights, objective = make_tiny_weights(), mixed_objective("avg", "ceil")
    picture = random_pixels(33, 41, seed=1)
    targets = [targets_of(weights, objective, random_pixels(33, 41, seed=3))]
    _, reference = by_hand(weights, objective, targets, "fp64").cost_and_gradient(picture)
    layouts: tuple[Layout | None, ...] = (None, "channels_last")
    for layout in layouts:
        backend = by_hand(weights, objective, targets, "bf16", layout=layout)
        assert relative_error(backend.cost_and_gradient(picture)[1], reference) < 0.1


def test_what_the_processor_has_of_bf16_is_tried_or_as_it_is_named() -> None:
    assert supported_precisions(Device("cpu"), Processor(bf16_units=True, bf16="none")) == ("fp32",)
    works: tuple[Bf16, ...] = ("plain", "packed")
    for bf16 in works:
        processor = Processor(bf16_units=False, bf16=bf16)
        assert supported_precisions(Device("cpu"), processor) == ("fp32", "bf16")
    assert settle_bf16(Processor(bf16_units=False)) == try_bf16()
    assert settle_bf16(Processor(bf16_units=False, bf16="none")) == "none"


@pytest.mark.parametrize("isa", ["AVX2", "SSE41"])
def test_bf16_is_a_picture_or_one_line_on_older_processors(
    isa: str, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    """OneDNN is kept from using what this processor has beyond."""
    content, style = save_picture("c.png"), save_picture("s.png", seed=1)
    command = [sys.executable, "-m", "nstx", "optimize", str(content), str(style)]
    # Quietly, which slow machines are not.
    command += ["-o", str(tmp_path / "o.png"), "--quiet", "--precision", "bf16", "--size", "32"]
    command += ["--steps", "2", "--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1"]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 4:
        assert done.stderr.startswith("nstx: error: expected fp32 on cpu, got bf16; try ")
        assert done.stderr.count("\n") == 1
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "o.png").is_file()


def test_no_seed_is_sought_for_a_gradient_of_nothing() -> None:
    objective = mixed_objective("avg", "ceil", style_weight=0.0, tv_weight=0.0)
    backend = make_backend("fp16", size=(17, 16), objective=objective)
    for part, target in backend.problem.aims.items():
        target.zero_()
        backend.problem.weights[part].zero_()
        backend.problem.slopes[part].zero_()
    for _ in range(40):
        _, gradient = backend.cost_and_gradient(random_pixels(17, 16, seed=2))
        assert not gradient.any()
    assert backend.seed <= 2.0**24


class Replayed:
    """What a CUDA graph does, on the CPU: fixed places for inputs and outputs."""

    def __init__(self) -> None:
        self.calls = 0
        self.inputs: list[torch.Tensor] = []

    def __call__(self, function: Function, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not self.calls:
            self.inputs = [tensor.clone() for tensor in inputs]
            self.function = function
        self.calls += 1
        for place, tensor in zip(self.inputs, inputs, strict=True):
            place.copy_(tensor)
        return tuple(output.clone() for output in self.function(*self.inputs))


def test_corrections_reach_a_graph_that_was_captured_before() -> None:
    replayed = Replayed()
    backend, picture = make_backend(capture=replayed), random_pixels(33, 40, seed=1)
    places = {part: aim.data_ptr() for part, aim in backend.problem.aims.items()}
    before = backend.cost_and_gradient(picture)[0]
    with backend.problem.noting() as noted:
        assert backend.cost_and_gradient(picture)[0] == before
    # Noting does not go by the graph, in which nobody looks.
    assert replayed.calls == 1
    backend.problem.offset({part: features * 0.1 for part, features in noted.items()})
    assert {part: aim.data_ptr() for part, aim in backend.problem.aims.items()} == places
    assert backend.cost_and_gradient(picture)[0] != before


def test_graphs_are_for_cuda_unless_the_environment_forbids_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda, cpu = TorchDevice(Device("cuda"), "fp32"), TorchDevice(Device("cpu"), "fp32")
    assert captures_graphs(cuda)
    assert not captures_graphs(cpu)
    monkeypatch.setenv("NSTX_CUDA_GRAPHS", "0")
    assert not captures_graphs(cuda)


def test_a_backend_is_gone_when_nobody_holds_it() -> None:
    """With its graph, whose memory Python's collector of cycles does not see."""
    backend = make_backend(capture=True)
    reference = weakref.ref(backend)
    gc.disable()
    try:
        del backend
        assert reference() is None
    finally:
        gc.enable()


VOLTA, TURING, AMPERE, ADA, HOPPER = (7, 0), (7, 5), (8, 0), (8, 9), (9, 0)


@pytest.mark.parametrize(
    ("capability", "offered", "fast"),
    [
        ((6, 1), ("fp32", "fp16"), "fp32"),
        (VOLTA, ("fp32", "fp16"), "fp16"),
        (TURING, ("fp32", "fp16"), "fp16"),
        (AMPERE, ("fp32", "tf32", "bf16", "fp16"), "bf16"),
        (ADA, ("fp32", "tf32", "bf16", "fp16"), "bf16"),
        ((12, 0), ("fp32", "tf32", "bf16", "fp16"), "bf16"),
    ],
)
def test_precisions_go_by_the_compute_capability(
    capability: Capability, offered: tuple[Precision, ...], fast: Precision
) -> None:
    assert supported_precisions(Device("cuda"), capability=capability) == offered
    assert fast_precision(capability) == fast
    assert fast in offered


@pytest.mark.parametrize(
    ("choices", "size", "capability", "expected"),
    [
        ({}, (300, 400), HOPPER, ("bf16", True)),
        ({}, (300, 400), TURING, ("fp16", True)),
        ({}, (300, 400), (6, 1), ("fp32", False)),
        ({"backend": "torch"}, (300, 400), HOPPER, ("bf16", True)),
        ({}, None, HOPPER, ("tf32", False)),
        ({}, None, TURING, ("fp32", False)),
        ({"precision": "fp16"}, (300, 400), HOPPER, ("fp16", False)),
        ({"preset": "coursera"}, (300, 400), HOPPER, ("tf32", False)),
    ],
)
def test_auto_on_cuda(
    monkeypatch: pytest.MonkeyPatch,
    choices: dict[str, Any],
    size: tuple[int, int] | None,
    capability: Capability,
    expected: tuple[Precision, bool],
) -> None:
    monkeypatch.setattr(backends, "settle", lambda _, **_options: Device("cuda"))
    policy = PrecisionPolicy(capability=capability)
    choice = choose_backend(choose_settings(device="cuda", **choices), size, policy)
    assert (choice.name, choice.device) == ("torch", Device("cuda"))
    assert (choice.precision, choice.checked) == expected


def test_a_precision_that_a_device_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "settle", lambda _, **_options: Device("cuda"))
    policy = PrecisionPolicy(capability=TURING)
    with pytest.raises(DeviceError, match="expected fp32, fp16 on cuda:0, got bf16"):
        choose_backend(choose_settings(device="cuda", precision="bf16"), (300, 400), policy)


def test_what_runs_ahead() -> None:
    assert runs_ahead(BackendChoice("torch", Device("cuda"), "tf32"))
    assert runs_ahead(BackendChoice("torch", Device("cuda"), "fp16"))
    assert not runs_ahead(BackendChoice("torch", Device("cuda"), "bf16", largest_error=0.25))
    assert not runs_ahead(BackendChoice("torch", Device("cpu"), "fp32"))
    assert not runs_ahead(BackendChoice("onnx", Device("cuda"), "fp32"))


def test_nothing_is_collected_in_a_capture() -> None:
    """A session of ONNX Runtime's, freed by one, would end the process."""
    assert gc.isenabled()
    with without_collection():
        assert not gc.isenabled()
        with without_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_captured_gradient_is_the_plain_one(precision: TorchPrecision) -> None:
    captured, plain = (
        make_backend(
            precision, "cuda", (211, 317), load_weights(), PRESETS["default"].objective, capture
        )
        for capture in (None, False)
    )
    assert captured.captures
    assert not plain.captures
    for seed in (1, 2, 3):
        picture = random_pixels(211, 317, seed=seed)
        cost, gradient = captured.cost_and_gradient(picture)
        expected_cost, expected = plain.cost_and_gradient(picture)
        assert cost.total == pytest.approx(expected_cost.total, rel=1e-3)
        assert relative_error(gradient, expected) < 1e-2


@pytest.mark.gpu
@needs_cuda
def test_adam_in_a_graph_makes_the_plain_steps() -> None:
    start = random_pixels(53, 71, seed=1)
    place = TorchArrays(torch.device("cuda:0")).place
    ends = []
    for capture in (True, False):
        backend = make_backend("fp32", "cuda", size=(53, 71), capture=capture)
        recorder = Recorder()
        run_adam(backend, place(start), steps=25, learning_rate=2.0, clip=True, watcher=recorder)
        ends.append([cost.total for _, cost in recorder.steps])
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-3)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("choices", [{}, {"solver": "adam"}, {"preset": "coursera"}])
def test_a_run_on_cuda_ends_where_one_on_the_cpu_does(choices: dict[str, Any]) -> None:
    content = Picture(random_pixels(140, 203, 1).astype(np.uint8), None)
    style = Picture(random_pixels(151, 122, 9).astype(np.uint8), None)
    results = [
        run_job(
            prepare_job(
                content, [(style, 1.0)],
                choose_settings(**{"size": 203, "steps": 40, **choices, "device": device}),
            )
        )
        for device in ("cuda", "cpu")
    ]  # fmt: skip
    assert results[0].steps == results[1].steps
    assert results[0].cost.total == pytest.approx(results[1].cost.total, rel=0.03)
