"""Precision auto: when it is bf16, and what a run reports of its checks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pytest
from networks import needs_bf16
from pictures import random_pixels

from nstx import Picture, choose_settings, prepare_job, run_batch, run_job
from nstx.engine.choices import Choices
from nstx.engine.devices import precisions
from nstx.engine.devices.device import Device
from nstx.engine.devices.machine import Processor
from nstx.engine.gradients import choice as backends
from nstx.engine.gradients.choice import BackendChoice, PrecisionPolicy, choose_backend
from nstx.engine.gradients.opening import plan_precisions
from nstx.engine.settings import BackendName, Precision
from nstx.engine.transfer.costs import BoundCosts
from nstx.engine.transfer.job import Job
from nstx.models.errors import DeviceError, UsageError

CONTENT = Picture(random_pixels(40, 56, 1).astype(np.uint8), None)
STYLE = Picture(random_pixels(45, 50, 9).astype(np.uint8), None)

AVX512 = PrecisionPolicy(processor=Processor(bf16_units=True, bf16="packed"))
AVX2 = PrecisionPolicy(processor=Processor(bf16_units=False, bf16="plain"))
NO_BF16 = PrecisionPolicy(processor=Processor(bf16_units=False, bf16="none"))
UNREACHED = PrecisionPolicy(processor=Processor(bf16_units=True, bf16="plain"))
EAGER = replace(AVX512, least_bf16_work=0)
"""Takes the processor for one with bf16 units, and no run for too short."""


@pytest.mark.parametrize(
    ("policy", "choices", "size", "expected"),
    [
        (AVX512, {}, (300, 400), ("torch", "bf16", True)),
        (AVX512, {"backend": "torch"}, (300, 400), ("torch", "bf16", True)),
        (AVX512, {"backend": "onnx"}, (300, 400), ("onnx", "fp32", False)),
        (AVX512, {"precision": "fp32"}, (300, 400), ("onnx", "fp32", False)),
        (AVX512, {"precision": "bf16"}, (300, 400), ("torch", "bf16", False)),
        (AVX512, {"steps": 10}, (300, 400), ("onnx", "fp32", False)),
        (AVX512, {"preset": "coursera"}, (300, 400), ("onnx", "fp32", False)),
        (AVX512, {"preset": "coursera", "solver": "lbfgs"}, (300, 400), ("torch", "bf16", True)),
        (AVX512, {}, None, ("onnx", "fp32", False)),
        (AVX2, {}, (300, 400), ("onnx", "fp32", False)),
        (AVX2, {"backend": "torch"}, (300, 400), ("torch", "fp32", False)),
        (AVX2, {"precision": "bf16"}, (300, 400), ("torch", "bf16", False)),
        (UNREACHED, {}, (300, 400), ("onnx", "fp32", False)),
        (NO_BF16, {}, (300, 400), ("onnx", "fp32", False)),
        (NO_BF16, {"backend": "torch"}, (300, 400), ("torch", "fp32", False)),
    ],
)
def test_auto_on_the_cpu(
    policy: PrecisionPolicy,
    choices: dict[str, Any],
    size: tuple[int, int] | None,
    expected: tuple[str, str, bool],
) -> None:
    choice = choose_backend(choose_settings(device="cpu", **choices), size, policy)
    assert (choice.name, choice.precision, choice.checked) == expected


@pytest.mark.parametrize("backend", ["auto", "onnx", "torch"])
def test_an_unknown_precision_is_refused_with_those_that_there_are(backend: BackendName) -> None:
    with pytest.raises(UsageError, match="expected a precision of auto, fp32, tf32, bf16, fp16"):
        choose_settings(backend=backend, precision="int8")  # type: ignore[arg-type]


def test_bf16_is_refused_where_pytorch_has_none() -> None:
    settings = choose_settings(device="cpu", precision="bf16")
    with pytest.raises(DeviceError, match="expected fp32 on cpu, got bf16; try --precision auto"):
        choose_backend(settings, (300, 400), NO_BF16)
    with pytest.raises(DeviceError, match="expected fp32 on cpu, got bf16"):
        prepare_job(CONTENT, [(STYLE, 1.0)], settings, policy=NO_BF16)


@pytest.mark.parametrize(
    ("precision", "supported", "expected"),
    [
        ("bf16", ("fp32", "tf32", "bf16", "fp16"), (("bf16", "tf32", "fp32"), "tf32x3")),
        ("tf32", ("fp32", "tf32", "bf16", "fp16"), (("tf32", "fp32"), "tf32x3")),
        ("fp16", ("fp32", "fp16"), (("fp16", "fp32"), "fp32")),
    ],
)
def test_tf32_comes_before_fp32_on_cuda_where_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    supported: tuple[Precision, ...],
    expected: tuple[tuple[Precision, ...], str],
) -> None:
    monkeypatch.setattr(precisions, "supported_precisions", lambda _: supported)
    plan = plan_precisions(BackendChoice("torch", Device("cuda"), precision, largest_error=0.25))
    assert (plan.stages, plan.exact_by) == expected


def test_auto_without_pytorch_is_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "is_there", lambda name: name != "torch")
    choice = choose_backend(choose_settings(device="cpu"), (300, 400), EAGER)
    assert (choice.name, choice.precision, choice.checked) == ("onnx", "fp32", False)


def use_policy(monkeypatch: pytest.MonkeyPatch, policy: PrecisionPolicy) -> None:
    """Let the command line, which has no argument for it, take a policy for the usual one."""
    monkeypatch.setattr(backends, "PrecisionPolicy", lambda: policy)


def job_of(
    policy: PrecisionPolicy = EAGER, *, like: Job | None = None, **more: Unpack[Choices]
) -> Job:
    """Return a job of shallow layers, as bf16 is slow on processors without AVX-512."""
    usual: Choices = {
        "size": 56, "scales": 2, "steps": 24, "device": "cpu",
        "content_layers": "conv2_2", "style_layers": "conv1_1,conv2_1",
    }  # fmt: skip
    choices: Choices = {**usual, **more}
    settings = choose_settings(**choices)
    return prepare_job(CONTENT, [(STYLE, 1.0)], settings, like=like, policy=policy)


@needs_bf16
def test_a_checked_run_ends_where_one_in_fp32_does() -> None:
    result = run_job(job_of())
    expected = run_job(job_of(precision="fp32"))
    # The cost that is reported is of fp32, and pictures of this size take either road.
    assert result.cost.total == pytest.approx(expected.cost.total, rel=0.05)
    exact = BoundCosts(job_of(precision="fp32")).measure(result.pixels)
    assert exact.total == pytest.approx(result.cost.total, rel=1e-4)
    assert result.initial_cost is not None
    assert expected.initial_cost is not None
    assert result.initial_cost.total == pytest.approx(expected.initial_cost.total, rel=1e-4)
    assert [(c.height, c.evaluation) for c in result.checks[:2]] == [(20, 1), (20, 9)]
    assert result.checks[-1].height == 40
    assert all(check.kept and 0 < check.error < check.bound for check in result.checks)
    assert expected.checks == ()


@needs_bf16
def test_a_checked_run_gives_the_same_bytes_twice() -> None:
    runs = [run_job(job_of(steps=6)) for _ in range(2)]
    assert runs[0].pixels.tobytes() == runs[1].pixels.tobytes()


@needs_bf16
def test_checks_of_a_batch_are_reported_of_all_its_jobs() -> None:
    first = job_of(steps=6)
    second = job_of(steps=45, like=first)
    results = run_batch([first, second])
    assert len(results[0].checks) == 2
    # When the first one has left, the second one's backend is made anew, and checked anew.
    assert [check.evaluation for check in results[1].checks[:3]] == [1, 1, 9]


@needs_bf16
def test_a_batch_of_different_backends_is_refused() -> None:
    policy = replace(EAGER, least_bf16_work=40 * 56 * 10)
    long, short = job_of(policy, steps=20), job_of(policy, steps=6)
    assert [job.opened.choice.precision for job in (long, short)] == ["bf16", "fp32"]
    with pytest.raises(UsageError, match="one backend and precision"):
        run_batch([long, short])
    with pytest.raises(UsageError, match="auto is another backend"):
        prepare_job(CONTENT, [(STYLE, 1.0)], short.settings, like=long, policy=policy)


@needs_bf16
def test_the_json_lists_the_checks(
    nstx: Callable[..., tuple[int, str, str]],
    save_picture: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_policy(monkeypatch, EAGER)
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    arguments = ["optimize", content, style, "-o", tmp_path / "o.png", "--size", 56, "--steps", 12]
    arguments += ["--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1"]
    code, out, _ = nstx(*arguments, "--json", "--device", "cpu")
    assert code == 0
    data = json.loads(out)
    assert (data["precision"], data["backend"]) == ("bf16", "torch")
    schedule = data["precision_schedule"]
    assert (schedule["begins_in"], schedule["falls_back_to"]) == ("bf16", "fp32")
    assert schedule["checks"][0]["evaluation"] == 1
    assert 0 < schedule["checks"][0]["error"] < schedule["checks"][0]["bound"]
    assert {check["continues_in"] for check in schedule["checks"]} == {"bf16"}
    assert (schedule["stages"], schedule["exact_by"]) == (["bf16", "fp32"], "fp32")
    assert schedule["check_seconds"] == sum(check["seconds"] for check in schedule["checks"])
    assert 0 < schedule["check_share"] < 1
    code, out, _ = nstx(*arguments, "--device", "cpu")
    assert f"in bf16, {len(schedule['checks'])} checks against fp32" in out
    code, out, _ = nstx(*arguments, "--json", "--device", "cpu", "--precision", "fp32")
    assert json.loads(out)["precision_schedule"] is None


@needs_bf16
def test_a_check_that_fails_twice_is_reported(
    nstx: Callable[..., tuple[int, str, str]],
    save_picture: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_policy(monkeypatch, replace(EAGER, largest_error=1e-9))
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    arguments = ["optimize", content, style, "-o", tmp_path / "o.png", "--size", 56, "--steps", 12]
    arguments += ["--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1"]
    code, out, err = nstx(*arguments, "--json", "--device", "cpu")
    assert code == 0
    assert json.loads(out)["precision"] == "fp32"
    assert err.count("so fp32 took over at evaluation") == len(json.loads(out)["scales"])
