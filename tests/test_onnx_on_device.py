"""ONNX Runtime's gradient of PyTorch's tensors: the CPU in the device's place, and CUDA where there is one."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from interleaved import with_planar_convolutions
from networks import CASES, mixed_objective, relative_error, targets_of
from pictures import random_pixels

from nstx.engine.choices import choose_settings
from nstx.engine.devices.device import Device
from nstx.engine.devices.torch_arrays import TorchArrays
from nstx.engine.devices.torch_device import TorchDevice
from nstx.engine.features.torch_network import TorchNetwork
from nstx.engine.gradients import onnx_on_device as on_device
from nstx.engine.gradients.backend import Problems
from nstx.engine.gradients.choice import BackendChoice
from nstx.engine.gradients.onnx_on_device import OnDevice, OnnxDeviceBackend, Opened, open_on_device
from nstx.engine.gradients.opening import open_backend
from nstx.engine.gradients.torch_gradient import AutogradBackend
from nstx.engine.kernels.support import describe_kernels
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.interleaved import build_interleaved
from nstx.export.runtime import session as sessions
from nstx.export.runtime.providers import CPU, Provider, provider_loads
from nstx.export.runtime.session import RuntimePrecision
from nstx.models.errors import DeviceError, NumericalError
from nstx.models.objective import Objective
from nstx.models.presets import PRESETS
from nstx.models.vgg19 import Pooling, PoolRounding
from nstx.models.weights.load import Weights

Make = Callable[[Problems], OnnxDeviceBackend]


def opening_on_cpu(
    objective: Objective, weights: Weights, precision: RuntimePrecision = "fp32"
) -> OnDevice:
    return OnDevice(
        objective=objective,
        weights=weights,
        precision=precision,
        provider=CPU,
        stream=None,
        threads=1,
        use_cache=False,
        capture=False,
    )


@pytest.fixture
def _planar_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    real = build_interleaved.build_interleaved

    def build(graph: GradientGraph, weights: Weights) -> Any:
        return with_planar_convolutions(real(graph, weights))

    monkeypatch.setattr(build_interleaved, "build_interleaved", build)


def reference(objective: Objective, weights: Weights, problems: Problems) -> AutogradBackend:
    exact = TorchDevice(Device("cpu"), "fp64")
    return AutogradBackend(
        TorchNetwork(weights, objective.layers, *objective.poolings, exact), problems
    )


def batch_of(
    objective: Objective, weights: Weights, size: tuple[int, int], count: int = 2
) -> tuple[Problems, np.ndarray]:
    problems = [
        (objective, targets_of(weights, objective, random_pixels(*size, seed)))
        for seed in range(count)
    ]
    return problems, np.stack([random_pixels(*size, 20 + seed) for seed in range(count)])


@pytest.mark.usefixtures("_planar_convolutions")
@pytest.mark.parametrize(("pooling", "rounding"), CASES)
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 5e-6), ("tf32", 5e-6), ("fp16", 4e-2)])
@pytest.mark.parametrize("size", [(37, 49), (48, 64)])
def test_costs_and_gradients_are_float64s(
    tiny_weights: Weights,
    pooling: Pooling,
    rounding: PoolRounding,
    precision: RuntimePrecision,
    bound: float,
    size: tuple[int, int],
) -> None:
    objective = mixed_objective(pooling, rounding)
    problems, pixels = batch_of(objective, tiny_weights, size)
    make = open_on_device(opening_on_cpu(objective, tiny_weights, precision))
    ours, theirs = make(problems), reference(objective, tiny_weights, problems)
    costs, gradients = ours.costs_and_gradients(torch.from_numpy(pixels))
    expected, exact = theirs.costs_and_gradients(pixels)
    assert isinstance(gradients, torch.Tensor)
    assert not ours.captures
    again, by_numpy = ours.costs_and_gradients(pixels)
    assert isinstance(by_numpy, np.ndarray)
    assert by_numpy.tobytes() == gradients.numpy().tobytes()
    for index, cost in enumerate(costs):
        assert relative_error(gradients[index].numpy(), exact[index]) < bound
        assert cost.total == pytest.approx(expected[index].total, rel=bound)
        assert cost.style_layers == pytest.approx(dict(expected[index].style_layers), rel=bound)
        assert again[index] == cost == ours.costs(pixels)[index]


def test_layouts_and_even_sides_follow_precision_and_size(tiny_weights: Weights) -> None:
    objective = PRESETS["default"].objective
    cases: list[tuple[RuntimePrecision, tuple[int, int], str, bool]] = [
        ("fp32", (512, 512), "planar", False),
        ("tf32", (512, 384), "interleaved", True),
        ("fp16", (512, 340), "interleaved", False),
    ]
    for precision, size, layout, even in cases:
        opening = opening_on_cpu(objective, tiny_weights, precision)
        graph = opening.describe_graph(*size, variation=False)
        assert (graph.layout, graph.even) == (layout, even)
        assert graph.precision == ("fp16" if precision == "fp16" else "fp32")
    by_maximum = opening_on_cpu(PRESETS["gatys"].objective, tiny_weights, "fp16")
    assert by_maximum.objective.pooling == "max"
    assert by_maximum.describe_graph(512, 512, variation=False).layout == "planar"


def test_a_capture_that_fails_is_given_up_with_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tiny_weights: Weights
) -> None:
    """A session that captures is pretended: the CPU's cannot, so that it fails in its first run."""
    objective = mixed_objective("avg", "ceil")
    problems, pixels = batch_of(objective, tiny_weights, (20, 24))
    opening = opening_on_cpu(objective, tiny_weights)
    assert not opening.capture
    expected = open_on_device(opening)(problems).costs_and_gradients(torch.from_numpy(pixels))
    backends = open_on_device(replace(opening, capture=True))
    plain = opening.open((2, 20, 24), variation=True)
    monkeypatch.setattr(backends, "_open", lambda *_: Opened(plain.session, ""))
    first, second = backends(problems), backends(problems)
    assert first.captures
    run, failures = sessions.run_session, [DeviceError("spoilt"), DeviceError("later")]

    def fail_once(*arguments: Any) -> Any:
        if len(failures) == 2:
            raise failures.pop(0)
        return run(*arguments)

    monkeypatch.setattr(on_device, "run_session", fail_once)
    costs, gradients = first.costs_and_gradients(torch.from_numpy(pixels))
    assert costs == expected[0]
    assert torch.equal(gradients, expected[1])
    assert not first.captures
    assert "not captured in a CUDA graph: spoilt" in caplog.text
    kernels = backends.describe()
    assert kernels is not None
    assert (kernels.reason, kernels.works) == ("spoilt", False)
    assert not backends(problems).captures

    def fail(*_: Any) -> Any:
        raise failures[0]

    # What had run before, or is not captured, fails.
    second.costs_and_gradients(torch.from_numpy(pixels))
    monkeypatch.setattr(on_device, "run_session", fail)
    for backend in (first, second):
        with pytest.raises(DeviceError, match="later"):
            backend.costs_and_gradients(torch.from_numpy(pixels))


def test_backends_say_what_computes_a_step(tiny_weights: Weights) -> None:
    objective = mixed_objective("avg", "ceil")
    backends = open_on_device(opening_on_cpu(objective, tiny_weights))
    assert backends.describe() is None
    backends(batch_of(objective, tiny_weights, (20, 24), 1)[0])
    kernels = backends.describe()
    assert kernels is not None
    assert kernels.name == f"onnxruntime {onnxruntime.__version__}, planar, not captured"
    assert describe_kernels(kernels) == {
        "name": kernels.name,
        "reason": "CUDA graphs are switched off",
    }


def test_cuda_has_a_stream_of_pytorchs(tiny_weights: Weights) -> None:
    opening = opening_on_cpu(mixed_objective("avg", "ceil"), tiny_weights)
    with pytest.raises(AssertionError):
        replace(opening, provider=Provider("cuda"))


def test_a_gradient_is_the_callers_to_keep(tiny_weights: Weights) -> None:
    objective = mixed_objective("avg", "ceil")
    problems, pixels = batch_of(objective, tiny_weights, (33, 40), 1)
    backend = open_on_device(opening_on_cpu(objective, tiny_weights))(problems)
    _, first = backend.costs_and_gradients(torch.from_numpy(pixels))
    kept = first.clone()
    backend.costs_and_gradients(torch.from_numpy(pixels / 2))
    assert torch.equal(first, kept)


def test_sessions_are_shared_by_shape_and_dropped_with_their_factory(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[weakref.ref[Any]] = []
    real = sessions.open_session

    def open_session(*arguments: Any) -> Any:
        session = real(*arguments)
        opened.append(weakref.ref(session))
        return session

    monkeypatch.setattr("nstx.engine.sessions.session.open_session", open_session)
    objective = mixed_objective("avg", "ceil")
    make: Make | None = open_on_device(opening_on_cpu(objective, tiny_weights))
    assert make is not None
    small, pixels = batch_of(objective, tiny_weights, (20, 24), 1)
    large, _ = batch_of(objective, tiny_weights, (40, 48), 1)
    for problems in (small, large, small):
        make(problems)
    assert len(opened) == 2
    other, _ = batch_of(mixed_objective("avg", "ceil", style_weight=5.0), tiny_weights, (20, 24), 1)
    costs = [make(problems).costs(pixels)[0].total for problems in (small, other)]
    assert len(opened) == 2
    assert costs[1] > costs[0]
    make = None
    gc.collect()
    assert [reference() for reference in opened] == [None, None]


def test_what_cannot_be_captured_runs_without(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[bool] = []
    real = sessions.open_session

    def refuse(model: Any, choices: sessions.SessionChoices) -> Any:
        asked.append(choices.capture)
        if choices.capture:
            raise DeviceError("expected nodes on CUDA, got some on the CPU")
        return real(model, choices)

    monkeypatch.setattr("nstx.engine.sessions.session.open_session", refuse)
    objective = mixed_objective("avg", "ceil")
    problems, pixels = batch_of(objective, tiny_weights, (20, 24), 1)
    opening = replace(opening_on_cpu(objective, tiny_weights), capture=True)
    backends = open_on_device(opening)
    backend = backends(problems)
    assert asked == [True, False]
    assert not backend.captures
    assert "not captured" in caplog.text
    kernels = backends.describe()
    assert kernels is not None
    assert "got some on the CPU" in kernels.reason
    assert backend.costs(pixels)[0].total > 0


def test_values_that_are_not_finite_are_errors(tiny_weights: Weights) -> None:
    objective = mixed_objective("avg", "ceil")
    problems, pixels = batch_of(objective, tiny_weights, (20, 24), 1)
    backend = open_on_device(opening_on_cpu(objective, tiny_weights))(problems)
    with pytest.raises(NumericalError, match="finite"):
        backend.costs_and_gradients(torch.full(pixels.shape, float("nan")))
    # The gradient alone.
    huge = pixels.copy()
    run = backend._session.runner.run_with_iobinding

    def spoil(*arguments: Any) -> None:
        run(*arguments)
        backend._gradient[0, 3, 4, 1] = float("inf")

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(backend._session.runner, "run_with_iobinding", spoil)
    try:
        with pytest.raises(NumericalError, match="gradient"):
            backend.costs_and_gradients(huge)
    finally:
        monkeypatch.undo()


needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device on this machine"
)

BOUNDS: dict[RuntimePrecision, float] = {"fp32": 5e-5, "tf32": 3e-2, "fp16": 3e-2}
"""Of most of a gradient, with real weights: TF32 is off by 5e-4 and more, so that fp32 is told from it."""


def error_of_most(ours: np.ndarray, exact: np.ndarray) -> float:
    """Return the relative error of the best three quarters of the pixels.

    Where an activation is within rounding of 0, or of its rival in a pooling, the gradient has a step, and
    with it the whole of a receptive field.
    """
    by_pixel = np.abs(ours - exact).max(axis=2)
    most = by_pixel <= np.quantile(by_pixel, 0.75)
    return relative_error(ours[most], exact[most])


def on_cuda(objective: Objective, precision: RuntimePrecision) -> Make:
    if not provider_loads(Provider("cuda")):
        pytest.skip("ONNX Runtime's CUDAExecutionProvider does not load here")
    settings = choose_settings(backend="onnx", device="cuda", precision=precision)
    settings = replace(settings, objective=objective)
    opened = open_backend(settings, BackendChoice("onnx", Device("cuda"), precision))
    assert isinstance(opened.arrays, TorchArrays)
    return opened.make  # type: ignore[return-value]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    ("pooling", "rounding", "size"),
    [
        ("avg", "ceil", (65, 47)),
        ("avg", "ceil", (64, 96)),
        ("avg", "floor", (65, 47)),
        ("max", "ceil", (65, 47)),
        ("max", "floor", (64, 96)),
    ],
)
@pytest.mark.parametrize("precision", list(BOUNDS))
def test_on_cuda_precisions_are_what_they_say(
    real_weights: Weights,
    pooling: Pooling,
    rounding: PoolRounding,
    size: tuple[int, int],
    precision: RuntimePrecision,
) -> None:
    """Of five evaluations the first two are not captured yet, and the last one is of other pictures."""
    base = PRESETS["default"].objective
    objective = replace(base, pooling=pooling, pool_rounding=rounding, tv_weight=1e-3)
    problems, pixels = batch_of(objective, real_weights, size)
    ours = on_cuda(objective, precision)(problems)
    evaluate = reference(objective, real_weights, problems).costs_and_gradients
    turned = pixels[::-1].copy()
    usual, other = evaluate(pixels), evaluate(turned)
    for pictures, (expected, exact) in [*[(pixels, usual)] * 4, (turned, other)]:
        costs, gradients = ours.costs_and_gradients(torch.from_numpy(pictures).cuda())
        ours_on_host = gradients.cpu().numpy()
        # In small pictures one activation near 0, in a deep layer, has nearly all pixels in its field.
        assert min(map(error_of_most, ours_on_host, exact)) < BOUNDS[precision]
        for index, cost in enumerate(costs):
            assert relative_error(ours_on_host[index], exact[index]) < 3e-2
            assert cost.total == pytest.approx(expected[index].total, rel=BOUNDS[precision])


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", list(BOUNDS))
def test_on_cuda_backends_that_share_a_session_do_not_mix(
    real_weights: Weights, precision: RuntimePrecision
) -> None:
    """Each has a graph of its own, as a graph knows the addresses of its targets; equal calls are equal."""
    objective = PRESETS["default"].objective
    make = on_cuda(objective, precision)
    problems, pixels = batch_of(objective, real_weights, (64, 96))
    first, second = (make([problem]) for problem in problems)
    x = torch.from_numpy(pixels[:1]).cuda()
    alone = [backend.costs_and_gradients(x) for backend in (first, second)]
    assert alone[0][0] != alone[1][0]
    for _ in range(4):
        for backend, (costs, gradients) in zip((first, second), alone, strict=True):
            again, same = backend.costs_and_gradients(x)
            assert again[0].total == pytest.approx(costs[0].total, rel=1e-6)
            assert torch.allclose(
                same, gradients, rtol=1e-4, atol=float(gradients.abs().max()) / 1e3
            )
    assert first.captures
    assert onnxruntime.get_device() == "GPU"
