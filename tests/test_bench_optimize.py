"""``nstx bench optimize``: whole runs in turns."""

import json

import pytest

from nstx.engine.bench import optimize as bench_optimize
from nstx.engine.bench.optimize import OptimizeBench, run_optimize_bench
from nstx.models.errors import DeviceError, UsageError


def test_whole_runs_are_measured(nstx, save_picture) -> None:
    content, style = save_picture("c.png", 40, 56), save_picture("s.png", 45, 50, 9)
    arguments = [
        "bench", "optimize", content, style, "--sizes", "40,56", "--steps", 3, "--rounds", 2,
        "--variants", "onnx,torch", "--device", "cpu",
    ]  # fmt: skip
    code, out, _ = nstx(*arguments, "--json")
    assert code == 0
    report = json.loads(out)
    assert [(row["size"], row["variant"]) for row in report["rows"]] == [
        (40, "onnx"), (40, "torch"), (56, "onnx"), (56, "torch"),
    ]  # fmt: skip
    for row in report["rows"]:
        assert 0 < row["first_step"] < row["seconds"]
        assert row["fastest"] <= row["seconds"] <= row["slowest"]
        assert row["evaluations"] >= 3
        assert row["of_torch"] > 0
        # Both minimise the same cost by the same solver.
        assert row["cost_of_torch"] == pytest.approx(1, rel=0.02)
    assert report["rows"][1]["of_torch"] == 1
    assert report["machine"]["cores"]
    assert report["packages"]["torch"]
    assert not report["interrupted"]


def answers(monkeypatch, answer) -> list[list[str]]:
    asked: list[list[str]] = []

    def run(pictures, folder, options):
        asked.append(options)
        return answer(pictures, options)

    monkeypatch.setattr(bench_optimize, "_run", run)
    return asked


def test_the_variants_take_turns_each_way_round(monkeypatch) -> None:
    asked = answers(monkeypatch, lambda *_: {"error": "nothing works"})
    bench = OptimizeBench(variants=("auto", "torch"), rounds=2, steps=7, threads=2)
    with pytest.raises(DeviceError, match="nothing works"):
        run_optimize_bench(bench)
    assert len(asked) == bench.measurements == 6
    assert [a[-4:] == ["--backend", "torch", "--precision", "fp32"] for a in asked] == [
        False, True, False, True, True, False,
    ]  # fmt: skip
    assert all("--threads" in options for options in asked)
    assert [options[options.index("--steps") + 1] for options in asked] == ["1"] * 2 + ["7"] * 4


def test_pictures_are_drawn_where_none_is_given(monkeypatch) -> None:
    from PIL import Image

    def look(pictures, _):
        with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
            assert first.size == second.size == (80, 60)
            assert first.tobytes() != second.tobytes()
        return {"error": "looked"}

    answers(monkeypatch, look)
    with pytest.raises(DeviceError, match="looked"):
        run_optimize_bench(OptimizeBench(sizes=(80,), rounds=1))


def test_an_interrupted_measurement_tells_what_it_has(monkeypatch, nstx) -> None:
    def interrupt(*_):
        raise KeyboardInterrupt

    answers(monkeypatch, interrupt)
    code, out, _ = nstx("bench", "optimize", "--device", "cpu", "--json")
    assert code == 130
    assert json.loads(out)["interrupted"] is True


@pytest.mark.parametrize(
    "changes",
    [
        {"variants": ("tensorflow",)}, {"variants": ()}, {"sizes": ()}, {"sizes": (8,)},
        {"steps": 0}, {"rounds": 0}, {"device": "mps"}, {"threads": 0}, {"preset": "none"},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused(changes) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try "):
        OptimizeBench(**changes)
