"""``nstx bench optimize``: whole runs in turns; and how ``nstx bench`` ends on a signal."""

import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from processes import PATIENCE, spawn, wait_for

from nstx.engine.bench import optimize, worker
from nstx.engine.bench.optimize import OptimizeBench, run_optimize_bench
from nstx.engine.bench.tasks import Task
from nstx.engine.bench.turns import run_process
from nstx.models.errors import DeviceError, UsageError


def test_whole_runs_are_measured(
    nstx: Callable[..., tuple[int, str, str]],
    save_picture: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of them in a process of its own, as all are."""

    def run(task: Task) -> dict[str, Any]:
        has_process = (task.variant, task.steps) == ("onnx", 2)
        return run_process(task) if has_process else worker.measure(task)

    measured = partial(run_optimize_bench, run_task=run)
    monkeypatch.setattr(optimize, "run_optimize_bench", measured)
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    arguments = [
        "bench", "optimize", content, style, "--sizes", "32", "--steps", 2, "--rounds", 1,
        "--variants", "onnx,torch", "--device", "cpu",
    ]  # fmt: skip
    code, out, _ = nstx(*arguments, "--json")
    assert code == 0
    report = json.loads(out)
    assert [(row["size"], row["variant"]) for row in report["rows"]] == [
        (32, "onnx"), (32, "torch"),
    ]  # fmt: skip
    for row in report["rows"]:
        assert 0 < row["first_step"] < row["seconds"]
        assert row["fastest"] <= row["seconds"] <= row["slowest"]
        assert row["evaluations"] >= 2
        assert 0 < row["per_evaluation"] < row["seconds"]
        assert row["runs_on"] == f"{row['variant']} cpu fp32"
        assert row["of_torch"] > 0
        # Both minimise the same cost by the same solver.
        assert row["cost_of_torch"] == pytest.approx(1, rel=0.02)
    assert report["rows"][1]["of_torch"] == 1
    assert report["machine"]["cores"]
    assert report["packages"]["torch"]
    assert not report["interrupted"]


def test_a_run_is_the_one_that_nstx_optimize_makes(
    nstx: Callable[..., tuple[int, str, str]], save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    pictures = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    bench = OptimizeBench(
        content=str(pictures[0]), style=str(pictures[1]), sizes=(32,), variants=("torch",),
        steps=2, rounds=1,
    )  # fmt: skip
    (row,) = run_optimize_bench(bench, run_task=worker.measure)["rows"]
    options = ["--size", 32, "--steps", 2, "--backend", "torch", "--precision", "fp32"]
    options += ["--device", "cpu", "--json"]
    code, out, _ = nstx("optimize", *pictures, "-o", tmp_path / "o.png", *options)
    assert code == 0
    result = json.loads(out)
    assert (row["width"], row["height"]) == (result["width"], result["height"])
    assert row["evaluations"] == result["evaluations"]
    assert row["cost"] == pytest.approx(result["cost"]["total"], rel=1e-4)
    assert row["checks"] is result["precision_schedule"] is None


def test_the_variants_take_turns_each_way_round() -> None:
    tasks: list[Task] = []

    def fail(task: Task) -> dict[str, Any]:
        tasks.append(task)
        return {"error": "nothing works"}

    bench = OptimizeBench(variants=("auto", "torch"), rounds=2, steps=7, threads=1)
    with pytest.raises(DeviceError, match="nothing works"):
        run_optimize_bench(bench, run_task=fail)
    assert len(tasks) == bench.measurements == 6
    assert [task.variant for task in tasks] == ["auto", "torch"] * 2 + ["torch", "auto"]
    assert {task.threads for task in tasks} == {1}
    assert [task.steps for task in tasks] == [1] * 2 + [7] * 4


def test_pictures_are_drawn_where_none_is_given() -> None:
    def look(task: Task) -> dict[str, Any]:
        with Image.open(task.content) as content, Image.open(task.style) as style:
            assert content.size == style.size == (80, 60)
            assert content.tobytes() != style.tobytes()
        return {"error": "looked"}

    with pytest.raises(DeviceError, match="looked"):
        run_optimize_bench(OptimizeBench(sizes=(80,), rounds=1), run_task=look)


def test_a_process_that_fails_leaves_its_error_in_its_row() -> None:
    bench = OptimizeBench(sizes=(80,), variants=("onnx",), rounds=1, weights="missing.pth")
    with pytest.raises(DeviceError, match=r"got: expected .* at missing\.pth"):
        run_optimize_bench(bench)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(("work", "as_json"), [("features", True), ("optimize", False)])
def test_an_interrupted_measurement_tells_what_it_has(work: str, as_json: bool) -> None:
    process = spawn("bench", work, "--device", "cpu", *(["--json"] if as_json else []))
    parent = psutil.Process(process.pid)

    def measures() -> bool:
        return any("nstx.engine.bench.worker" in child.cmdline() for child in parent.children())

    wait_for(measures, every=0.1)  # all processes are looked at
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    if as_json:
        report = json.loads(out)
        assert (report["interrupted"], report["rows"]) == (True, [])
    else:
        assert "interrupted: the rest was not measured" in out


@pytest.mark.parametrize(
    "changes",
    [
        {"variants": ("tensorflow",)}, {"variants": ()}, {"sizes": ()}, {"sizes": (8,)},
        {"steps": 0}, {"rounds": 0}, {"device": "mps"}, {"threads": 0}, {"preset": "none"},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try "):
        OptimizeBench(**changes)
