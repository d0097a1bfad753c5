"""`benchmarks/cuda_report.py` runs on the CPU, so that a GPU's minutes are not lost to a slip of the pen."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "cuda_report.py"


def run_report(folder: Path, *arguments: object, data: Path | None = None) -> dict[str, Any]:
    output = folder / "report.json"
    command = [sys.executable, SCRIPT, "--device", "cpu", "--json", output, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "NSTX_TEST_DATA"}
    if data is not None:
        environment["NSTX_TEST_DATA"] = str(data)
    done = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(output.read_text())
    for name, section in report["sections"].items():
        assert done.stdout.count(f"\n{name}: ") + done.stdout.startswith(f"{name}: ") >= len(
            section["rows"]
        )
    return report


def test_the_report_has_what_a_gpu_must_show(
    tmp_path: Path, save_picture: Callable[..., Path]
) -> None:
    for folder, name in (("content", "tubingen.jpg"), ("style", "starry_night_google.jpg")):
        (tmp_path / folder).mkdir()
        save_picture("picture.png", 40, 56, len(name)).rename(tmp_path / folder / name)
    names = "steps,processes,solvers,checks,costs,onnx"
    report = run_report(tmp_path, "--sections", names, "--budget", 600, data=tmp_path)
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
    assert all(row["equal_bytes"] and row["seconds"] > 0 for row in sections["processes"]["rows"])
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
    assert {row["variant"] for row in sections["onnx"]["rows"]} >= {"torch autograd", "onnx"}


def test_what_fails_or_does_not_fit_is_said_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pictures, and in hardly any time."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from cuda_plan import Plan
    from cuda_report import run_sections

    plan, output = Plan.on("cpu", None), tmp_path / "report.json"
    report = run_sections(plan, ["costs", "checks"], 60, output)
    (row,) = report["sections"]["costs"]["rows"]
    assert "NSTX_TEST_DATA" in row["error"]
    assert report["sections"]["checks"]["rows"]
    assert json.loads(output.read_text())["sections"] == report["sections"]
    report = run_sections(plan, ["solvers", "steps"], 1, None)
    assert report["sections"]["solvers"] == {
        "rows": [], "error": None, "cut": True, "seconds": report["sections"]["solvers"]["seconds"],
    }  # fmt: skip
    assert report["sections"]["steps"]["cut"]
