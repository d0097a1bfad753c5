"""Precision auto: when it is bf16, and what a run tells of its checks."""

import json

import numpy as np
import pytest
from pictures import random_pixels

from nstx import Picture, choose_settings, prepare_job, run_batch, run_job
from nstx.engine import backends
from nstx.engine.backends import choose_backend
from nstx.models.errors import UsageError

CONTENT = Picture(random_pixels(40, 56, 1).astype(np.uint8), None)
STYLE = Picture(random_pixels(45, 50, 9).astype(np.uint8), None)


@pytest.fixture
def bf16_units(monkeypatch) -> None:
    """A processor that has them, or imitates them, and runs that are never too short."""
    monkeypatch.setattr(backends, "has_bf16_units", lambda: True)
    monkeypatch.setattr(backends, "_LEAST_BF16_WORK", 0)


@pytest.mark.parametrize(
    ("units", "choices", "size", "expected"),
    [
        (True, {}, (300, 400), ("torch", "bf16", True)),
        (True, {"backend": "torch"}, (300, 400), ("torch", "bf16", True)),
        (True, {"backend": "onnx"}, (300, 400), ("onnx", "fp32", False)),
        (True, {"precision": "fp32"}, (300, 400), ("onnx", "fp32", False)),
        (True, {"precision": "bf16"}, (300, 400), ("torch", "bf16", False)),
        (True, {"steps": 10}, (300, 400), ("onnx", "fp32", False)),
        (True, {"preset": "coursera"}, (300, 400), ("onnx", "fp32", False)),
        (True, {"preset": "coursera", "solver": "lbfgs"}, (300, 400), ("torch", "bf16", True)),
        (True, {}, None, ("onnx", "fp32", False)),
        (False, {}, (300, 400), ("onnx", "fp32", False)),
    ],
)
def test_auto_on_the_cpu(monkeypatch, units, choices, size, expected) -> None:
    monkeypatch.setattr(backends, "has_bf16_units", lambda: units)
    found = choose_backend(choose_settings(device="cpu", **choices), size)
    assert (found.name, found.precision, found.checked) == expected


def test_auto_without_pytorch_is_onnx(monkeypatch, bf16_units) -> None:
    monkeypatch.setattr(backends, "is_there", lambda name: name != "torch")
    found = choose_backend(choose_settings(device="cpu"), (300, 400))
    assert (found.name, found.precision, found.checked) == ("onnx", "fp32", False)


def job_of(**more):
    settings = choose_settings(**{"size": 56, "scales": 2, "steps": 24, "device": "cpu", **more})
    return prepare_job(CONTENT, [(STYLE, 1.0)], settings)


def test_a_checked_run_ends_where_one_in_fp32_does(bf16_units) -> None:
    result = run_job(job_of())
    expected = run_job(job_of(precision="fp32"))
    # The cost that is told is of fp32, and pictures of this size take either road.
    assert result.cost.total == pytest.approx(expected.cost.total, rel=0.05)
    assert job_of(precision="fp32").measure_cost(result.pixels).total == pytest.approx(
        result.cost.total, rel=1e-4
    )
    assert result.initial_cost.total == pytest.approx(expected.initial_cost.total, rel=1e-4)
    assert [(c.height, c.evaluation) for c in result.checks[:2]] == [(20, 1), (20, 9)]
    assert result.checks[-1].height == 40
    assert all(check.kept and 0 < check.error < check.bound for check in result.checks)
    assert expected.checks == ()


def test_a_checked_run_gives_the_same_bytes_twice(bf16_units) -> None:
    runs = [run_job(job_of(steps=6)) for _ in range(2)]
    assert runs[0].pixels.tobytes() == runs[1].pixels.tobytes()


def test_checks_of_a_batch_are_told_to_all_of_its_jobs(bf16_units) -> None:
    first = job_of(steps=6)
    second = prepare_job(
        CONTENT, [(STYLE, 1.0)], choose_settings(size=56, scales=2, steps=30, device="cpu"),
        like=first,
    )  # fmt: skip
    results = run_batch([first, second])
    assert len(results[0].checks) == 2
    # When the first one has left, the second one's backend is made anew, and checked anew.
    assert [check.evaluation for check in results[1].checks[:3]] == [1, 1, 9]


def test_a_batch_of_different_backends_is_refused(bf16_units, monkeypatch) -> None:
    monkeypatch.setattr(backends, "_LEAST_BF16_WORK", 40 * 56 * 10)
    long, short = job_of(steps=20), job_of(steps=6)
    assert [job.opened.choice.precision for job in (long, short)] == ["bf16", "fp32"]
    with pytest.raises(UsageError, match="one backend and precision"):
        run_batch([long, short])
    with pytest.raises(UsageError, match="auto is another backend"):
        prepare_job(CONTENT, [(STYLE, 1.0)], short.settings, like=long)


def test_the_json_tells_the_checks(nstx, save_picture, tmp_path, bf16_units) -> None:
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    arguments = ["optimize", content, style, "-o", tmp_path / "o.png", "--size", 56, "--steps", 12]
    code, out, _ = nstx(*arguments, "--json", "--device", "cpu")
    assert code == 0
    data = json.loads(out)
    assert (data["precision"], data["backend"]) == ("bf16", "torch")
    schedule = data["precision_schedule"]
    assert (schedule["begins_in"], schedule["falls_back_to"]) == ("bf16", "fp32")
    assert schedule["checks"][0]["evaluation"] == 1
    assert 0 < schedule["checks"][0]["error"] < schedule["checks"][0]["bound"]
    code, out, _ = nstx(*arguments, "--device", "cpu")
    assert f"in bf16, {len(schedule['checks'])} checks against fp32" in out
    code, out, _ = nstx(*arguments, "--json", "--device", "cpu", "--precision", "fp32")
    assert json.loads(out)["precision_schedule"] is None


def test_a_check_that_fails_twice_is_told(nstx, save_picture, tmp_path, bf16_units, monkeypatch):
    monkeypatch.setattr("nstx.engine.checked_backend.LARGEST_ERROR", 1e-9)
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    arguments = ["optimize", content, style, "-o", tmp_path / "o.png", "--size", 56, "--steps", 12]
    code, out, err = nstx(*arguments, "--json", "--device", "cpu")
    assert code == 0
    assert json.loads(out)["precision"] == "fp32"
    assert err.count("so fp32 took over at evaluation") == len(json.loads(out)["scales"])
