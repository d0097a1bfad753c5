"""The assignment's run: its report, its start as a file, and nstx's own table of its costs."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nstx.cli.console import Console
from nstx.cli.optimize.recorder import describe_iteration
from nstx.cli.progress import show_steps
from nstx.engine.devices.device import Device
from nstx.engine.gradients.choice import BackendChoice
from nstx.engine.transfer.progress import Step
from nstx.models.cost import Cost

# Total, content and style cost of the drawn pictures, with the default weights and seed 0.
OURS = {
    0: (2.39954e11, 7699.28, 5.99884e9),
    20: (1.31388e11, 33487.1, 3.28470e9),
}
Nstx = Callable[..., tuple[int, str, str]]
"""Runs the command line; returns exit code, stdout and stderr."""

Drawn = tuple[Path, Path]
COURSERA = ["--preset", "coursera", "--size", "100"]
LAYERS = ["--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1"]
"""Of a run of a moment."""


def draw_content() -> NDArray[np.uint8]:
    """A hill, a house and a sky, of 100×75 pixels; no random numbers, no resampling."""
    y, x = np.mgrid[0:75, 0:100].astype(np.float64)
    sky = 200 - 1.2 * y
    picture = np.stack([sky, sky + 10, 230 - y], axis=2)
    picture[y > 45 + 12 * np.sin(x / 13)] = (90, 110, 60)
    picture[(abs(x - 62) < 9) & (y > 25) & (y < 58)] = (150, 60, 50)
    pixels: NDArray[np.uint8] = picture.clip(0, 255).astype(np.uint8)
    return pixels


def draw_style() -> NDArray[np.uint8]:
    """A whirl in two colours, of 100×75 pixels."""
    y, x = np.mgrid[0:75, 0:100].astype(np.float64)
    radius = np.hypot(y - 35, x - 55)
    waves = np.sin(radius / 2.5 + 3 * np.arctan2(y - 35, x - 55))
    green = 60 * np.cos(radius / 4) + 30 * waves
    pixels: NDArray[np.uint8] = np.rint(
        128 + np.stack([90 * waves, green, -80 * waves], axis=2)
    ).astype(np.uint8)
    return pixels


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "content.png", tmp_path / "style.png"
    for path, pixels in zip(paths, (draw_content(), draw_style()), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def read_report(text: str) -> dict[int, tuple[float, ...]]:
    """Parse the lines as the notebooks print them; anything else in between fails."""
    lines, rows = text.splitlines(), {}
    while lines and lines[0].startswith("Iteration "):
        head, *costs = lines[:4]
        del lines[:4]
        assert head.endswith(" :")
        names = [line.partition(" = ")[0] for line in costs]
        assert names == ["total cost", "content cost", "style cost"]
        rows[int(head.split()[1])] = tuple(float(line.partition(" = ")[2]) for line in costs)
    return rows


def make_step(number: int, total: float, content: float, style: float) -> Step:
    cost = Cost(total=total, content=content, style=style, total_variation=0.0)
    pixels = np.zeros((8, 8, 3), np.float32)
    return Step(
        step=number, steps=200, scale=1, scales=1, cost=cost, evaluations=number, seconds=0.1,
        picture=pixels,
    )  # fmt: skip


def test_our_own_table_of_costs_is_kept_and_reported(
    nstx: Nstx, drawn: Drawn, tmp_path: Path
) -> None:
    trace = tmp_path / "t.jsonl"
    files = ["-o", tmp_path / "out.png", "--trace", trace]
    code, out, err = nstx(
        "optimize", *drawn, *files, *COURSERA, "--steps", 21, "--report", "assignment"
    )
    assert (code, err) == (0, "")
    assert f"saved {tmp_path / 'out.png'}" in out
    reported = read_report(out)
    assert list(reported) == list(OURS)
    steps = [json.loads(line) for line in trace.read_text().splitlines()]
    for iteration, costs in OURS.items():
        # Across processors and backends they differ by some 0.03 %.
        assert reported[iteration] == pytest.approx(costs, rel=1e-3)
        traced = [steps[iteration][name] for name in ("total", "content", "style")]
        assert reported[iteration] == pytest.approx(traced, rel=5e-6)


def test_lines_are_those_of_the_notebook() -> None:
    # Numbers of a published run; NumPy of that time wrote six digits.
    lines = describe_iteration(make_step(121, 150_008_001.0, 18026.004, 3_745_698.1))
    assert lines == (
        "Iteration 120 :\ntotal cost = 1.50008e+08\ncontent cost = 18026.0\nstyle cost = 3.7457e+06"
    )
    assert describe_iteration(make_step(1, 0.25, 0.0, 1.0)) == (
        "Iteration 0 :\ntotal cost = 0.25\ncontent cost = 0.0\nstyle cost = 1.0"
    )
    assert describe_iteration(make_step(20, 1.0, 1.0, 1.0)) is None


def test_every_preset_and_solver_reports_over_all_scales(
    nstx: Nstx, drawn: Drawn, tmp_path: Path
) -> None:
    options = ["--size", 44, "--scales", 2, "--steps", 22, "--report", "assignment"]
    options += LAYERS
    for preset, solver in (("default", "adam"), ("gatys", "lbfgs"), ("coursera", "lbfgs")):
        chosen = [*options, "--preset", preset, "--solver", solver]
        code, out, _ = nstx("optimize", *drawn, "-o", tmp_path / "out.png", *chosen)
        assert code == 0
        # The steps are halved between the scales, so iteration 20 is of the second.
        assert list(read_report(out)) == [0, 20]


def test_the_report_leaves_the_json_alone_and_quiet_has_none(
    nstx: Nstx, drawn: Drawn, tmp_path: Path
) -> None:
    command = ["optimize", *drawn, "-o", tmp_path / "out.png", *COURSERA, *LAYERS, "--steps", 2]
    command += ["--report", "assignment"]
    code, out, err = nstx(*command, "--json")
    assert code == 0
    assert list(read_report(err)) == [0]
    assert json.loads(out)["steps"] == 2
    assert nstx(*command, "--quiet") == (0, "", "")
    code, out, _ = nstx(*command[:-2])
    assert code == 0
    assert "Iteration" not in out


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("on_terminal", [True, False])
def test_the_report_stands_above_the_bar_or_in_its_file(
    monkeypatch: pytest.MonkeyPatch, on_terminal: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stderr = Terminal()
    stdout = Terminal() if on_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(sys, "stdout", stdout)
    console = Console(as_json=False, quiet=False)
    choice = BackendChoice("onnx", Device("cpu"), "fp32")
    with show_steps(console, [(8, 8)], 200, choice) as show:
        for number in (1, 2):
            show(make_step(number, 2.0, 1.0, 1.0))
            console.report(f"total cost = {number}.0")
    lines = "total cost = 1.0\n", "total cost = 2.0\n"
    assert "200" in stderr.getvalue()
    if on_terminal:
        # A terminal's lines go through rich, which lifts them above the bar.
        assert stdout.getvalue() == ""
        assert all(line in stderr.getvalue() for line in lines)
    else:
        assert stdout.getvalue() == "".join(lines)
        assert "total cost" not in stderr.getvalue()


def test_a_full_disk_behind_the_report_does_not_end_the_run(
    nstx: Nstx, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nstx.models.errors import OutputError

    def full(*_: object) -> None:
        raise OutputError("expected to write to standard output, got: No space left on device")

    monkeypatch.setattr(Console, "report", full)
    output = tmp_path / "out.png"
    command = ["optimize", *drawn, "-o", output, *COURSERA, *LAYERS, "--steps", 2]
    code, _, err = nstx(*command, "--report", "assignment")
    assert code == 0
    assert "the report ends at iteration 0" in err
    with Image.open(output) as image:
        assert image.size == (100, 75)


def test_a_saved_start_begins_the_identical_run(nstx: Nstx, drawn: Drawn, tmp_path: Path) -> None:
    start, again = tmp_path / "start.npy", tmp_path / "again.npy"
    outputs = [tmp_path / "a.npy", tmp_path / "b.npy"]
    command = ["optimize", *drawn, *COURSERA, *LAYERS, "--steps", 3, "--json"]
    code, out, _ = nstx(*command, "-o", outputs[0], "--save-init", start)
    assert code == 0
    first = json.loads(out)
    assert first["files"]["init"] == [str(start)]
    pixels = np.load(start)
    assert (pixels.dtype, pixels.shape) == (np.float32, (75, 100, 3))
    code, out, _ = nstx(*command, "-o", outputs[1], "--init", start, "--save-init", again)
    assert code == 0
    assert json.loads(out)["initial_cost"] == first["initial_cost"]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert start.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("preset", "low", "high"), [("coursera", -30.5, 300.25), ("default", 0, 255)]
)
def test_values_outside_the_range_are_kept_where_the_preset_does_not_clip(
    nstx: Nstx, drawn: Drawn, tmp_path: Path, preset: str, low: float, high: float
) -> None:
    start, used = tmp_path / "start.npy", tmp_path / "used.npy"
    pixels = draw_content().astype(np.float32)
    pixels[0, 0], pixels[0, 1] = -30.5, 300.25
    np.save(start, pixels)
    command = ["optimize", *drawn, "-o", tmp_path / "out.png", "--preset", preset, "--size", 100]
    command += LAYERS
    code, _, err = nstx(*command, "--steps", 1, "--init", start, "--save-init", used)
    assert code == 0, err
    expected = pixels.copy()
    expected[0, 0], expected[0, 1] = low, high
    np.testing.assert_array_equal(np.load(used), expected)


def test_the_start_is_saved_as_a_picture_at_the_results_size(
    nstx: Nstx, drawn: Drawn, tmp_path: Path
) -> None:
    start = tmp_path / "start.png"
    command = ["optimize", *drawn, "-o", tmp_path / "out.png", "--size", 64, "--scales", 2]
    command += LAYERS
    code, _, _ = nstx(*command, "--steps", 2, "--init", "blend", "--save-init", start)
    assert code == 0
    with Image.open(start) as image:
        assert image.size == (64, 48)
        assert np.asarray(image).std() > 5


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--report", "notebook"], 2, "bar, assignment"),
        (["--save-init", "start.raw"], 7, ".npy"),
        (["--save-init", "no/folder/start.npy"], 7, "existing folder"),
        (["--save-init", "content.png"], 7, "neither an input"),
        (["--save-init", "out.png"], 7, "another output"),
        (["--init", "style.png", "--save-init", "style.png"], 7, "neither an input"),
    ],
)
def test_mistakes_are_one_line(
    nstx: Nstx,
    drawn: Drawn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["optimize", *drawn, "-o", "out.png", *COURSERA, *LAYERS, "--steps", 1]
    got, out, err = nstx(*command, *options)
    assert (got, out) == (code, "")
    assert err.startswith("nstx: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content.png", "style.png"]
