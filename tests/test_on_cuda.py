"""Commands and long-lived processes on a CUDA device: what they write, how they end, and that equal ones are equal."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from devices import ON_CUDA
from pictures import random_pixels
from PIL import Image
from processes import spawn, wait_for

import nstx as library
from nstx.models.errors import DeviceError
from nstx.models.statistics import STATISTICS

Nstx = Callable[..., tuple[int, str, str]]
Save = Callable[..., Path]

LIGHT = ["--content-layers", "conv2_1", "--style-layers", "conv1_1,conv2_1"]
DEVICE = "cuda"
HERE = ["--device", DEVICE, "--extractor", "torch"]
CONTENT, STYLE = (random_pixels(90, 120, seed).round().astype(np.uint8) for seed in (1, 2))

pytestmark: Any = [*ON_CUDA]


@pytest.fixture
def pictures(save_picture: Save, tmp_path: Path) -> tuple[Path, Path]:
    """A content and a style; beside them ``mask.png`` and a map of two colours, ``map.png``."""
    mask = np.zeros((90, 120), np.uint8)
    mask[:, :70] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    bands = np.zeros((90, 120, 3), np.uint8)
    bands[:, :60], bands[:, 60:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(bands).save(tmp_path / "map.png")
    return save_picture("content.png", 90, 120, 1), save_picture("style.png", 80, 100, 2)


def optimize(nstx: Nstx, *arguments: object) -> dict[str, Any]:
    """Return what a run says of itself as JSON."""
    code, out, err = nstx("optimize", *arguments, "--size", 96, *HERE, "--json")
    assert code == 0, err
    data: dict[str, Any] = json.loads(out)
    return data


WAYS: dict[str, list[str]] = {
    "default": [],
    "grey": ["--colors", "luminance"],
    "histogram": ["--colors", "histogram"],
    "only": ["--colors", "only"],
    "matched": ["--init", "matched", "--colors", "matched"],
    "laplacian": ["--laplacian-weight", "0.01", "--no-clean"],
    "adam": ["--solver", "adam"],
    "adam-tf32": ["--solver", "adam", "--precision", "tf32"],
    "fp16": ["--precision", "fp16"],
    "wasserstein": ["--style-statistic", "wasserstein"],
    "mean-std": ["--style-statistic", "mean-std", "--pooling", "max"],
    "masked": ["--mask", "mask.png"],
    "adam-masked": ["--mask", "mask.png", "--solver", "adam"],
    "regions": ["--regions", "map.png", "--style-for", "red=style.png"],
    "style-mask": [],
    "disk": ["--history", "disk", "--tile", "64"],
    "coursera": ["--preset", "coursera"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_is_made_again_with_its_bytes(
    nstx: Nstx,
    pictures: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """By the same command, and from what the picture says of itself; targets come from the cache then."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (80, 50))).save("stripes.png")
    style = "style.png@stripes.png" if way == "style-mask" else "style.png"
    command = ["content.png", style, *WAYS[way], "--steps", "20", *LIGHT]
    data = optimize(nstx, *command, "-o", "a.png")
    assert data["device"].startswith(DEVICE)
    assert data["deterministic"] is True, data["not_deterministic_because"]
    again = optimize(nstx, *command, "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert again["cost_before_rounding"] == data["cost_before_rounding"]
    code, _, err = nstx("optimize", "--from", "a.png", "-o", "c.png")
    assert code == 0, err
    assert Path("a.png").read_bytes() == Path("c.png").read_bytes()
    if way not in ("only", "histogram"):
        assert data["cost"]["total"] < data["initial_cost"]


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(
    "mask", [None, np.pad(np.full((90, 70), 255, np.uint8), ((0, 0), (0, 50)))]
)
def test_a_checked_run_ends_where_an_exact_one_does(statistic: Any, mask: Any) -> None:
    costs, checks = [], []
    for precision in ("auto", "fp32"):
        result = library.stylize(
            CONTENT, STYLE, mask=mask, style_statistic=statistic, precision=precision, size=120, steps=60,
            scales=1, device=DEVICE, clean=False,
        )  # fmt: skip
        costs.append(result.cost.total)
        checks.append(result.checks)
    assert checks[0]
    assert all(np.isfinite(check.error) for check in checks[0])
    assert checks[1] == ()
    assert costs[0] == pytest.approx(costs[1], rel=0.05)


def test_a_cleaned_result_is_that_of_the_picture_on_the_device() -> None:
    choices: Any = {"size": 120, "steps": 12, "device": DEVICE}
    rough, clean = (library.stylize(CONTENT, STYLE, **choices, clean=c) for c in (False, True))
    assert (rough.cleaned, clean.cleaned) == (False, True)
    assert not np.array_equal(rough.pixels, clean.pixels)
    assert np.abs(rough.pixels - clean.pixels).mean() < 12
    cost = library.evaluate_picture(clean.pixels, CONTENT, STYLE, **choices)
    assert cost.total == pytest.approx(clean.cost.total, rel=2e-3)


def test_a_batch_of_all_sorts_has_the_bytes_of_runs_alone(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = ("--content", "content.png", "--style", "style.png", "--size", 96)
    code, _, err = nstx("precompute", *named, *LIGHT, *HERE, "-o", "t.safetensors")
    assert code == 0, err
    layers = {"content_layers": LIGHT[1], "style_layers": LIGHT[3]}
    pair: dict[str, Any] = {"content": "content.png", "style": "style.png", "size": 96, **layers}
    rows = [
        pair,
        {**pair, "mask": "mask.png", "solver": "adam"},
        {**pair, "style": "style.png@mask2.png", "colors": "luminance"},
        {**pair, "style_statistic": "covariance", "precision": "fp16"},
        {"targets": "t.safetensors"},
    ]
    Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 40, 0).repeat(100, 1)).save(
        "mask2.png"
    )
    outputs = [f"{number}.png" for number in range(len(rows))]
    lines = [
        {**row, "output": output, "steps": 9} for row, output in zip(rows, outputs, strict=True)
    ]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    batch = ["batch", "--jobs", "jobs.jsonl", "-o", "out", "--batch", 1, *HERE, "--json"]
    code, out, err = nstx(*batch)
    assert code == 0, err
    assert {job["state"] for job in json.loads(out)["jobs"]} == {"succeeded"}, out
    options = {
        "mask": "--mask",
        "solver": "--solver",
        "colors": "--colors",
        "precision": "--precision",
    }
    options["style_statistic"] = "--style-statistic"
    for row, output in zip(rows, outputs, strict=True):
        more = [
            part for name, option in options.items() if name in row for part in (option, row[name])
        ]
        if "targets" in row:
            command: list[object] = ["--targets", row["targets"], *HERE]
        else:
            command = [row["content"], row["style"], "--size", 96, *more, *LIGHT, *HERE]
        code, _, err = nstx("optimize", *command, "--steps", 9, "-o", output)
        assert code == 0, err
        assert Path(output).read_bytes() == (Path("out") / output).read_bytes(), row


def test_many_are_made_together_as_fast_as_is_measured(
    pictures: tuple[Path, Path], save_picture: Save, tmp_path: Path
) -> None:
    """By a worker of its own, which tries one, two, four, … and comes near the costs of runs alone."""
    settings = library.choose_settings(
        size=96, steps=8, device=DEVICE, precision="fp32", content_layers="conv2_1", scales=1,
        style_layers="conv1_1,conv2_1", clean=False,
    )  # fmt: skip
    contents = [save_picture(f"c{seed}.png", 90, 120, seed) for seed in range(7)]

    def jobs() -> Iterator[Any]:
        for number, path in enumerate(contents):
            yield library.ask_job(path, pictures[1], f"{number}.png", settings)

    made = list(library.stylize_all(jobs(), tmp_path / "out", batch="auto"))
    assert len(made) == 7
    for number, path in enumerate(contents):
        alone = library.stylize(path, pictures[1], settings)
        together = np.asarray(Image.open(tmp_path / "out" / f"{number}.png"), np.float32)
        assert np.abs(together - alone.pixels).mean() < 1


def test_a_device_that_is_full_is_said_and_serves_a_smaller_job() -> None:
    choices: Any = {"steps": 2, "device": DEVICE, "scales": 1, "clean": False, "precision": "bf16"}
    large = library.prepare_job(
        random_pixels(600, 800, 1).astype(np.uint8), STYLE, size=800, **choices
    )
    small = library.prepare_job(CONTENT, STYLE, size=96, like=large, **choices)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (96 << 20)) / total)
    try:
        with pytest.raises(DeviceError, match="expected enough memory for 800×600 pixels"):
            library.run_job(large)
        assert library.run_job(small).steps == 2
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert library.run_job(large).steps == 2


@pytest.mark.skipif(not hasattr(signal, "SIGTERM"), reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("precision", ["auto", "tf32"])
def test_a_signal_saves_the_picture_and_a_checkpoint(
    pictures: tuple[Path, Path],
    tmp_path: Path,
    number: int,
    code: int,
    solver: str,
    precision: str,
) -> None:
    trace, output, kept = tmp_path / "t.jsonl", tmp_path / "out.png", tmp_path / "kept"
    process = spawn(
        "optimize", *pictures, "-o", output, "--size", 96, "--steps", 30_000, "--trace", trace, "--scales", 1,
        "--solver", solver, "--precision", precision, "--checkpoint", kept, *LIGHT, *HERE, "--json",
        "--preset", "coursera" if solver == "adam" else "default",
    )  # fmt: skip
    wait_for(lambda: process.poll() is not None or (trace.exists() and trace.stat().st_size > 3000))
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    seconds = time.monotonic() - began
    assert process.returncode == code, err
    data = json.loads(out)
    assert data["stopped"] == "interrupted"
    assert data["device"].startswith(DEVICE)
    with Image.open(output) as saved:
        assert saved.size == (96, 72)
    assert seconds < 4
    assert list(kept.iterdir())


def test_a_comparison_is_made_on_the_device(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    command = [
        "compare",
        *pictures,
        "-o",
        tmp_path / "d",
        "--size",
        64,
        "--steps",
        4,
        *HERE,
        "--json",
    ]
    code, out, err = nstx(
        *command, *LIGHT[2:], "--content-layers", "conv1_2,conv2_2", "--pooling", "max"
    )
    assert code == 0, err
    assert json.loads(out)["made"] == ["conv1_2", "conv2_2"]
    summary = json.loads((tmp_path / "d" / "compare.json").read_text())
    assert summary["complete"] is True
    code, out, err = nstx(
        *command, *LIGHT[2:], "--content-layers", "conv1_2,conv2_2", "--pooling", "max"
    )
    assert (code, json.loads(out)["made"]) == (0, []), err


def test_a_plan_is_of_the_cpu(nstx: Nstx, pictures: tuple[Path, Path]) -> None:
    code, _, err = nstx("plan", *pictures, "--size", 64, "--device", DEVICE)
    assert (code, "expected the CPU, whose memory is predicted" in err) == (4, True), err
    assert "try --device cpu" in err


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_tiles_make_the_same_picture(
    nstx: Nstx, pictures: tuple[Path, Path], tmp_path: Path, solver: str
) -> None:
    made = []
    for index, tile in enumerate([[], ["--tile", 64]]):
        output = tmp_path / f"{index}.npy"
        steps = ["--steps", 3, "--solver", solver, "--no-clean", "--precision", "fp32"]
        optimize(nstx, *pictures, "-o", output, *steps, *tile)
        made.append(np.load(output))
    assert np.abs(made[0] - made[1]).mean() < 0.5


def test_doctor_finds_the_device(nstx: Nstx) -> None:
    code, out, err = nstx("doctor", "--json")
    assert code == 0, err
    assert DEVICE in out
