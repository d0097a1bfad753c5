"""``nstx optimize --checkpoint`` and ``nstx resume``: what is kept, and what a run that goes on writes."""

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import PATIENCE, run_signalled, spawn, wait_for

from nstx import Step
from nstx import resume as resume_in_python
from nstx.cli import interrupts
from nstx.cli.optimize import ending
from nstx.cli.optimize import interrupt as run_interrupt
from nstx.cli.optimize.recorder import Recorder
from nstx.cli.progress import Forecast
from nstx.engine.checkpoints import keeper
from nstx.engine.checkpoints.reading import NAME
from nstx.engine.devices.device import Device
from nstx.engine.gradients.choice import BackendChoice
from nstx.engine.pictures.writing import write_image
from nstx.engine.targets.sealed_arrays import (
    read_description,
    read_in_place,
    read_shapes,
    stream_arrays,
)
from nstx.models.cost import Cost
from nstx.models.storage import files as storage

Nstx = Callable[..., tuple[int, str, str]]
Optimize = Callable[..., tuple[int, dict[str, Any], str]]

SIZE = (
    "--size", 48, "--scales", 2, "--steps", 8, "--precision", "fp32", "--content-layers", "conv2_2",
    "--style-layers", "conv1_1,conv3_1",
)  # fmt: skip

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@pytest.fixture(autouse=True)
def _after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "SHARE", 0)


@pytest.fixture
def optimize(nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path) -> Optimize:
    """Return a function that optimises into a file of a name, and returns exit code, JSON and stderr."""
    content, style = save_picture("content.png", 33, 40), save_picture("style.png", 30, 40, seed=1)

    def run(name: str, *options: object) -> tuple[int, dict[str, Any], str]:
        code, out, err = nstx(
            "optimize", content, style, "-o", tmp_path / name, *SIZE, *options, "--json"
        )
        return code, json.loads(out.splitlines()[0]) if out else {}, err

    return run


def stop_at(monkeypatch: pytest.MonkeyPatch, *stops: int) -> None:
    """Have runs in this process get SIGTERM after steps, one each."""
    left, really = list(stops), Recorder.take

    def take(recorder: Recorder, step: Step) -> None:
        really(recorder, step)
        if left and step.step == left[0]:
            left.pop(0)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Recorder, "take", take)
    monkeypatch.setattr(interrupts, "PATIENCE", 60.0)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return a trace but for its times."""
    return [{**json.loads(line), "seconds": 0} for line in path.read_text().splitlines()]


@posix
def test_a_run_that_is_stopped_again_replaces_its_own_unfinished_picture(
    optimize: Optimize, nstx: Nstx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 2, 4, 6)
    out, kept = tmp_path / "out.png", tmp_path / "kept"
    assert optimize("out.png", "--checkpoint", kept)[0] == 143
    before = out.read_bytes()
    code, printed, _ = nstx("resume", kept, "--json")
    assert (code, json.loads(printed)["output"]) == (143, str(out))
    assert out.read_bytes() != before
    # Another picture stays, as it does not say that it is of this run.
    write_image(out, np.zeros((36, 48, 3), np.uint8))
    before = out.read_bytes()
    code, printed, _ = nstx("resume", kept, "--json")
    assert (code, json.loads(printed)["output"]) == (143, str(tmp_path / "out.unfinished.png"))
    assert out.read_bytes() == before


@posix
def test_a_run_that_goes_on_writes_what_it_would_have_written(
    optimize: Optimize, nstx: Nstx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def options(name: str) -> list[object]:
        traced = ["--trace", tmp_path / f"{name}.jsonl", "--save-init", tmp_path / f"{name}.npy"]
        return [*traced, "--save-every", 3, "--animate", tmp_path / f"{name}.gif"]

    whole = optimize("whole.png", *options("whole"))[1]
    assert (whole["checkpoint"], whole["resumed_from_step"]) == (None, None)
    stop_at(monkeypatch, 2, 7)
    kept = tmp_path / "kept"
    monkeypatch.chdir(tmp_path)
    code, data, err = optimize("out.png", *options("out"), "--checkpoint", "kept")
    assert (code, data["checkpoint"]) == (143, {"folder": "kept", "step": 2})
    assert data["resumed_from_step"] is None
    start = (tmp_path / "out.npy").stat().st_mtime_ns
    monkeypatch.chdir("/")
    code, out, err = nstx("resume", kept)
    assert code == 143
    assert "going on from step 2 of 8" in err
    assert f"step 7 is kept: 'nstx resume {kept}' goes on from it" in out
    code, out, err = nstx("resume", kept, "--json")
    data = json.loads(out)
    assert code == 0, err
    assert (data["resumed_from_step"], data["steps"], data["stopped"]) == (7, 8, "steps")
    assert data["checkpoint"] == {"folder": str(kept), "step": None}
    assert not kept.exists()
    assert data["warnings"] == ["the animation begins with step 8"]
    for name in (
        "cost",
        "cost_before_rounding",
        "initial_cost",
        "evaluations",
        "cleaned",
        "objective",
    ):
        assert data[name] == whole[name], name
    for place, other in (
        ("out.png", "whole.png"),
        ("out_0003.png", "whole_0003.png"),
        ("out.npy", "whole.npy"),
    ):
        assert (tmp_path / place).read_bytes() == (tmp_path / other).read_bytes(), place
    assert lines_of(tmp_path / "out.jsonl") == lines_of(tmp_path / "whole.jsonl")
    assert (tmp_path / "out.npy").stat().st_mtime_ns == start
    assert (tmp_path / "out.gif").is_file()


@posix
def test_the_same_command_goes_on_and_another_is_refused(
    optimize: Optimize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 3)
    assert optimize("out.png", "--checkpoint", tmp_path / "k")[0] == 143
    code, data, err = optimize("out.png", "--checkpoint", tmp_path / "k", "--style-weight", 2)
    assert (code, data["error"]["kind"]) == (2, "UsageError")
    assert "expected a checkpoint of this run in" in err
    assert "got another objective; try another folder for this run" in err
    code, data, _ = optimize("out.png", "--checkpoint", tmp_path / "k")
    assert (code, data["resumed_from_step"]) == (0, 3)
    assert not (tmp_path / "k").exists()


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have all runs take long, by their forecasts, and return where their checkpoints go."""
    monkeypatch.setattr(Forecast, "seconds_left", property(lambda _: 601.0))
    monkeypatch.setenv("NSTX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def kept_in(place: Path) -> list[Path]:
    """Return the checkpoints that the cache has."""
    return sorted(place.glob(f"*/{NAME}"))


@posix
def test_a_long_run_is_kept_in_the_cache(
    optimize: Optimize, nstx: Nstx, long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = optimize("whole.png", "--no-checkpoint")[1]
    assert not long.exists()
    assert whole["checkpoint"] is None
    stop_at(monkeypatch, 3)
    code, data, err = optimize("out.png")
    (path,) = kept_in(long)
    assert (code, data["checkpoint"]) == (143, {"folder": str(path.parent), "step": 3})
    assert err.count(f"'nstx resume {path.parent}' goes on with this run after a stop") == 1
    listed = json.loads(nstx("cache", "ls", "--kind", "checkpoints", "--json")[1])["entries"]
    output = {"output": str(tmp_path / "out.png"), "width": 48, "height": 40}
    assert [entry["of"] for entry in listed] == [output]
    assert nstx("cache", "verify")[0] == 0
    assert f"checkpoint of {tmp_path / 'out.png'} 48×40" in nstx("cache", "ls")[1]
    code, data, err = optimize("out.png")
    assert (code, data["resumed_from_step"], data["warnings"]) == (0, 3, [])
    assert data["cost"] == whole["cost"]
    assert not [*long.iterdir()]


@posix
def test_nstx_resume_goes_on_from_the_cache(
    optimize: Optimize, nstx: Nstx, long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 3)
    assert optimize("out.png")[0] == 143
    code, out, err = nstx("resume", kept_in(long)[0].parent, "--json")
    assert (code, json.loads(out)["resumed_from_step"]) == (0, 3), err
    assert not [*long.iterdir()]


@posix
def test_a_checkpoint_in_the_cache_that_is_of_no_use_is_begun_anew(
    optimize: Optimize,
    save_picture: Callable[..., Path],
    long: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_at(monkeypatch, 3, 3)
    assert optimize("out.png")[0] == 143
    save_picture("content.png", 33, 40, seed=5)
    code, data, _ = optimize("out.png")
    assert (code, data["resumed_from_step"]) == (143, None)
    (warning,) = [text for text in data["warnings"] if "anew" in text]
    assert "got another content" in warning
    kept_in(long)[0].write_bytes(b"damaged")
    code, data, _ = optimize("out.png")
    assert (code, data["resumed_from_step"], data["checkpoint"]["step"]) == (0, None, None)
    assert "the run begins anew" in data["warnings"][0]
    assert not [*long.iterdir()]


@posix
def test_checkpoints_in_the_cache_make_room(
    optimize: Optimize, nstx: Nstx, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 3, 3, 3)
    assert optimize("one.png")[0] == 143
    first = kept_in(long)
    monkeypatch.setenv("NSTX_CACHE_LIMIT", "1000")
    assert optimize("two.png")[0] == 143
    second = kept_in(long)
    assert len(second) == 1
    assert first != second
    assert nstx("cache", "prune")[0] == 0
    assert not kept_in(long)
    monkeypatch.setenv("NSTX_CACHE_LIMIT", "0")
    code, data, _ = optimize("one.png")
    assert (code, data["checkpoint"]) == (143, None)
    assert not kept_in(long)


def test_a_cache_that_cannot_be_written_costs_a_warning(optimize: Optimize, long: Path) -> None:
    long.parent.mkdir()
    long.write_text("no folder")
    code, data, err = optimize("out.png")
    assert (code, data["checkpoint"]) == (0, None)
    assert "what is not kept is computed each time" in err
    assert "nstx resume" not in err


def killed(folder: Path, writes: int, *arguments: object) -> None:
    """Run a command, and kill it when it has replaced its checkpoint so often."""
    path, seen = folder / NAME, set[int]()

    def is_time() -> bool:
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        return len(seen) > writes or process.poll() is not None

    process = spawn(*arguments)
    wait_for(is_time)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL


@posix
def test_a_run_that_is_killed_goes_on(nstx: Nstx, optimize: Optimize, tmp_path: Path) -> None:
    # A published preset, so that no scale ends early.
    options = ("--preset", "gatys", *SIZE, "--steps", 100)
    assert optimize("whole.png", *options)[1]["steps"] == 100
    kept, output = tmp_path / "k", tmp_path / "out.png"
    begin = ["optimize", tmp_path / "content.png", tmp_path / "style.png", "-o", output]
    killed(kept, 2, *begin, *options, "--checkpoint", kept, "--checkpoint-every", 0)
    killed(kept, 1, "resume", kept)
    assert nstx("resume", kept)[0] == 0
    assert output.read_bytes() == (tmp_path / "whole.png").read_bytes()


@posix
def test_a_run_that_is_killed_while_it_is_kept_leaves_what_was_there(
    optimize: Optimize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 3)
    assert optimize("out.png", "--checkpoint", tmp_path / "k", "--checkpoint-every", 0)[0] == 143
    before = (tmp_path / "k" / NAME).read_bytes()
    done = run_signalled("os.rename", "k", signal.SIGKILL, "resume", tmp_path / "k")
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "k" / NAME).read_bytes() == before
    assert len(list((tmp_path / "k").glob("*.part"))) == 1
    code, data, _ = optimize("out.png", "--checkpoint", tmp_path / "k")
    assert (code, data["resumed_from_step"]) == (0, 3)
    assert not (tmp_path / "k").exists()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have SIGTERM come in the evaluation after the second step, which does not end; these are exit codes."""
    left, codes = threading.Event(), list[int]()

    def end(code: int) -> None:
        codes.append(code)
        left.set()

    really = Recorder.take

    def take(recorder: Recorder, step: Step) -> None:
        really(recorder, step)
        if step.step == 3 and not codes:
            signal.raise_signal(signal.SIGTERM)
            assert left.wait(60)

    monkeypatch.setattr(Recorder, "take", take)
    monkeypatch.setattr(interrupts, "PATIENCE", 0.01)
    for module in (interrupts, run_interrupt):
        monkeypatch.setattr(module, "end_process", end)
    monkeypatch.setattr(run_interrupt, "_have_helpers_wait", lambda *_: None)
    monkeypatch.setattr(ending, "_FOR_EVER", 0.0)
    return codes


@posix
def test_a_run_is_kept_where_the_main_thread_is_busy(
    optimize: Optimize, busy: list[int], tmp_path: Path
) -> None:
    _, data, _ = optimize("out.png", "--checkpoint", tmp_path / "k")
    assert busy == [143]
    # The third step is reported, and not yet a state to go on from.
    assert (data["last_step"]["step"], data["checkpoint"]["step"]) == (3, 2)
    result = resume_in_python(tmp_path / "k")
    assert optimize("whole.png")[1]["cost_before_rounding"]["total"] == result.cost.total


@posix
def test_a_checkpoint_that_takes_too_long_leaves_the_one_before(
    optimize: Optimize, busy: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_interrupt, "_KEEPING", 0.05)
    later = threading.Event()
    really = storage.write_atomically

    def write(path: Path, data: Any, **more: Any) -> None:
        threading.Timer(1.0, later.set).start()  # from here on, however slow the machine is
        later.wait(60)
        really(path, data, **more)

    monkeypatch.setattr("nstx.engine.checkpoints.keeper.write_atomically", write)
    _, data, _ = optimize("out.png", "--checkpoint", tmp_path / "k")
    assert busy == [143]
    assert data["checkpoint"]["step"] is None
    assert (tmp_path / "out.png").is_file()


@pytest.mark.parametrize("arguments", [("-o", "-"), ("-o", "o.png", "-")])
def test_pipes_cannot_be_gone_on_with(
    arguments: tuple[str, ...], nstx: Nstx, tmp_path: Path
) -> None:
    code, _, err = nstx("optimize", *arguments, "s.png", "c.png", "--checkpoint", tmp_path / "k")
    assert code in (2, 3, 7)
    assert "nstx: error: expected" in err
    assert not (tmp_path / "k").exists()


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a checkpoint says of itself, under a right checksum."""
    path = folder / NAME
    with path.open("rb") as file:
        description = read_description(file)
        arrays = read_in_place(file, read_shapes(file))
    del description["seal"]
    change(description)
    path.write_bytes(b"".join(stream_arrays(arrays, description)))


@posix
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(request=None), "got one of Python's, which has no output; try nstx.resume"),
        (lambda data: data["request"].update(output=None), "it names no output"),
        (lambda data: data["request"].update(output="out.png"), "'output' is no path from the root on"),
        (lambda data: data["request"].update(output="/out.exe"), "an output that ends in .png"),
        (lambda data: data["request"].update(output="/\0.png"), "is no path from the root on"),
        (lambda data: data["request"].update(output=data["request"]["content"]), "neither an input nor"),
        (lambda data: data["request"].update(styles=[["/a", -1]]), "'weight' is no number of 0"),
        (lambda data: data["request"].update(styles=[]), "it names no output, or no pictures"),
        (lambda data: data["request"]["recording"].update(more=1), "its options are those of another"),
        (lambda data: data["request"]["recording"].update(save_every="3"), "is no whole number of 1"),
        (lambda data: data["request"]["recording"].update(force=1), "'force' is no text"),
        (lambda data: data["request"]["recording"].update(depth="12"), "expected a depth of auto, 8, 16"),
        (lambda data: data["request"]["recording"].update(trace="/etc/passwd"), "ends in .jsonl"),
        (lambda data: data["settings"].update(steps=0), "its settings cannot be"),
        (lambda data: data["settings"].update(more=0), "its settings are those of another version"),
        (lambda data: data.update(format="nstx-checkpoint-2"), "of another version"),
        (lambda data: data["inputs"][0].update(sha256="0" * 64), "got another content"),
    ],
)  # fmt: skip
def test_what_a_checkpoint_asks_for_is_checked(
    change: Callable[[dict[str, Any]], object],
    message: str,
    optimize: Optimize,
    nstx: Nstx,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_at(monkeypatch, 2)
    assert optimize("out.png", "--checkpoint", tmp_path / "k")[0] == 143
    rewrite(tmp_path / "k", change)
    code, _, err = nstx("resume", tmp_path / "k")
    assert code in (2, 7)
    assert message in err


def test_there_must_be_a_checkpoint(nstx: Nstx, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        code, _, err = nstx("resume", folder)
        assert code == 2
        assert (
            f"expected a checkpoint at {folder / NAME}, got: No such file or directory; try" in err
        )


def test_the_bar_and_the_time_left_begin_where_the_run_does() -> None:
    def step(number: int, scale: int, seconds: float) -> Step:
        cost = Cost(total=1.0, content=0.5, style=0.5, total_variation=0.0)
        picture: Any = None
        return Step(
            step=number, steps=20, scale=scale, scales=2, cost=cost, evaluations=number + 1,
            seconds=seconds, picture=picture,
        )  # fmt: skip

    choice = BackendChoice("onnx", Device("cpu"), "fp32")
    sizes = [(50, 50), (100, 100)]
    whole, rest = (
        Forecast(sizes, 20, choice),
        Forecast(sizes, 20, choice, [step(n, 1 + (n > 10), 100.0 * n) for n in range(1, 13)]),
    )
    for number in range(1, 17):
        whole.take(step(number, 1 + (number > 10), 100.0 * number))
    for number in range(13, 17):
        rest.take(step(number, 2, 1200.0 + 100.0 * (number - 12)))
    assert rest.done == whole.done
    assert rest.seconds_left == pytest.approx(whole.seconds_left)
