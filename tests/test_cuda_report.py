"""`benchmarks/cuda_report.py` runs on the CPU, so that a GPU's minutes are not lost to a slip of the pen."""

import contextlib
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nstx.engine.bench import turns, worker
from nstx.engine.bench.tasks import Task
from nstx.models.errors import DeviceError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def run_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the script in this process, with what the tests' cache has."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import cuda_report

    def run_process(task: Task, **more: Any) -> dict[str, Any]:
        # One in a process of its own, as all are; those that a CPU refuses are refused here.
        if task.variant == "onnx":
            return turns.run_process(task, **more)
        with pytest.raises(DeviceError) as caught:
            worker.measure(task)
        return {"error": str(caught.value)}

    monkeypatch.setattr("cuda_steps.run_process", run_process)

    def run(*arguments: object, data: Path) -> dict[str, Any]:
        output, cache = tmp_path / "report.json", Path(os.environ["NSTX_CACHE_DIR"])
        assert cache.name == "cache"  # as that of the script's processes is named
        monkeypatch.setattr(tempfile, "TemporaryDirectory", GivenFolders(cache, cache.parent))
        command = ["cuda_report.py", "--device", "cpu", "--json", output, *arguments]
        monkeypatch.setattr(sys, "argv", [*map(str, command)])
        monkeypatch.setenv("NSTX_TEST_DATA", str(data))
        monkeypatch.setenv(
            "NSTX_CACHE_DIR", str(cache)
        )  # which the script sets, and the next test is to have
        # The script looks for garbage before each row, for which what the tests have is too much.
        gc.collect()
        gc.freeze()
        try:
            cuda_report.main()
        finally:
            gc.unfreeze()
        printed = capsys.readouterr().out
        report: dict[str, Any] = json.loads(output.read_text())
        for name, section in report["sections"].items():
            assert printed.count(f"\n{name}: ") + printed.startswith(f"{name}: ") >= len(
                section["rows"]
            )
        return report

    return run


class GivenFolders:
    """Stands for `tempfile.TemporaryDirectory`: the first that are made anywhere are folders that are there and stay."""

    def __init__(self, *folders: Path) -> None:
        self._folders, self._really = list(map(str, folders)), tempfile.TemporaryDirectory

    def __call__(self, **options: Any) -> contextlib.AbstractContextManager[str]:
        if options or not self._folders:
            return self._really(**options)
        return contextlib.nullcontext(self._folders.pop(0))


def test_the_report_has_what_a_gpu_must_show(
    tmp_path: Path, save_picture: Callable[..., Path], run_report: Callable[..., dict[str, Any]]
) -> None:
    for folder, name in (("content", "tubingen.jpg"), ("style", "starry_night_google.jpg")):
        (tmp_path / folder).mkdir()
        save_picture("picture.png", 40, 56, len(name)).rename(tmp_path / folder / name)
    names = "steps,processes,solvers,checks,costs,onnx"
    report = run_report("--sections", names, "--budget", 600, data=tmp_path)
    assert report["packages"]["torch"]
    assert report["plan"]["repeats"] == 1
    sections = report["sections"]
    assert list(sections) == names.split(",")
    for section in sections.values():
        assert (section["error"], section["cut"]) == (None, False)
        assert section["rows"]
    peak, *steps = sections["steps"]["rows"]
    assert peak["peak_tflops"] > 0
    assert [(row["size"], row["batch"]) for row in steps] == [(16, 1), (17, 2)]
    for row in steps:
        assert row["of_floor"] * row["floor_ms"] == pytest.approx(row["step_ms"])
        assert row["replay_ms"] is None
        share = row["share_of_peak"] * row["of_floor"]
        assert share == pytest.approx(row["floor_share_of_peak"])
    first, again = sections["processes"]["rows"]
    assert first["first_seconds"] > 0
    assert (first["runs"], again["runs"]) == (1, 2)
    assert again["equal_bytes"]
    assert again["seconds"] > 0
    assert all(np.isfinite(row["of_gradient"]) for row in sections["solvers"]["rows"])
    errors = {
        row["precision"]: row["gradient_error"]
        for row in sections["checks"]["rows"]
        if "gradient_error" in row
    }
    assert set(errors) == {"fp32", "tf32x3"}
    assert max(errors.values()) < 1e-5
    (costs,) = sections["costs"]["rows"]
    assert 0.9 < costs["cost_of_fp32"] < 1.1
    by_onnx = {row["variant"]: "error" in row for row in sections["onnx"]["rows"]}
    assert by_onnx == {
        "torch autograd": False, "onnx": False, "onnx-tf32": True, "onnx-fp16": True,
    }  # fmt: skip


def test_what_fails_or_does_not_fit_is_said_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pictures, and in hardly any time."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from cuda_plan import Plan
    from cuda_report import run_sections

    plan, output = Plan.on("cpu", None), tmp_path / "report.json"
    report = run_sections(plan, ["costs", "solvers"], 60, output)
    (row,) = report["sections"]["costs"]["rows"]
    assert "NSTX_TEST_DATA" in row["error"]
    assert report["sections"]["solvers"]["rows"]
    assert json.loads(output.read_text())["sections"] == report["sections"]
    report = run_sections(plan, ["solvers", "steps"], 1, None)
    assert report["sections"]["solvers"] == {
        "rows": [], "error": None, "cut": True, "seconds": report["sections"]["solvers"]["seconds"],
    }  # fmt: skip
    assert report["sections"]["steps"]["cut"]
