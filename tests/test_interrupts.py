"""Runs that are interrupted or diverge: what they leave, and what they leave alone."""

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pytest
from processes import PATIENCE, wait_for

from nstx.cli import interrupts
from nstx.cli.interrupts import Ending, handling
from nstx.cli.optimize import ending
from nstx.cli.optimize import interrupt as run_interrupt
from nstx.cli.optimize.interrupt import Interrupt
from nstx.cli.optimize.recorder import Recorder
from nstx.engine.gradients import onnx_backend
from nstx.engine.pictures.picture import Picture
from nstx.engine.pictures.reading import read_image
from nstx.engine.pictures.rescue import write_or_rescue
from nstx.engine.pictures.writing import Saving
from nstx.engine.tiled.onnx_passes import OnnxPasses
from nstx.engine.tiled.torch_passes import AutogradPasses
from nstx.engine.transfer.progress import Step
from nstx.models.cost import Cost, check_cost
from nstx.models.errors import DeviceError, NumericalError
from nstx.models.storage.unfinished import beside

Nstx = Callable[..., tuple[int, str, str]]
Optimize = Callable[..., tuple[int, dict[str, Any], str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
LAYERS = ("--content-layers", "conv2_2", "--style-layers", "conv1_1,conv2_1")
"""Of a run of a moment."""
DIVERGES = ("--preset", "coursera", "--learning-rate", 1e37)


def patch(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Replace what all kinds of `Ending` call."""
    for module in (interrupts, run_interrupt):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def optimize(nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path) -> Optimize:
    """Return a function that optimises into out.png and returns exit code, JSON and stderr."""
    content, style = save_picture("content.png"), save_picture("style.png", seed=1)

    def run(*options: object) -> tuple[int, dict[str, Any], str]:
        output = tmp_path / "out.png"
        size = ("--size", 32, "--scales", 1, "--steps", 3)
        code, out, err = nstx(
            "optimize", content, style, "-o", output, *LAYERS, *size, *options, "--json"
        )
        return code, json.loads(out.splitlines()[0]) if out else {}, err

    return run


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have a run that is made in this process get these signals after its second step."""
    numbers = [int(signal.SIGTERM)]
    really = Recorder.take

    def take(recorder: Recorder, step: Step) -> None:
        really(recorder, step)
        if step.step == 2:
            for number in numbers:
                signal.raise_signal(number)

    monkeypatch.setattr(Recorder, "take", take)
    monkeypatch.setattr(interrupts, "PATIENCE", 60.0)
    return numbers


def test_an_interrupted_run_replaces_nothing(
    optimize: Optimize, interrupted: list[int], tmp_path: Path
) -> None:
    interrupted[:] = [signal.SIGHUP]
    outputs = {
        name: tmp_path / name
        for name in ("out.png", "out_0001.png", "a.gif", "t.jsonl", "init.npy")
    }
    for path in outputs.values():
        path.write_bytes(b"complete")
    code, data, err = optimize(
        "--trace", outputs["t.jsonl"], "--save-init", outputs["init.npy"],
        "--animate", outputs["a.gif"], "--save-every", 1,
    )  # fmt: skip
    assert (code, data["stopped"], data["steps"]) == (129, "interrupted", 2)
    assert {path.read_bytes() for path in outputs.values()} == {b"complete"}
    assert data["output"] == str(tmp_path / "out.unfinished.png")
    assert "out.png stands there and stays" in err
    assert data["files"] == {
        "init": [str(tmp_path / "init.unfinished.npy")],
        "trace": [str(tmp_path / "t.unfinished.jsonl")],
        "snapshots": [
            str(tmp_path / "out_0001.unfinished.png"), str(tmp_path / "out_0002.png"),
        ],
        "animation": [str(tmp_path / "a.unfinished.gif")],
    }  # fmt: skip
    assert all(
        Path(name).stat().st_size > 100 for names in data["files"].values() for name in names
    )
    assert read_image(data["output"]).size == (data["height"], data["width"])


def test_a_complete_run_replaces_what_stood_there(optimize: Optimize, tmp_path: Path) -> None:
    names = ("out.png", "out_0002.png", "t.jsonl", "init.npy")
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    recording = ("--trace", tmp_path / "t.jsonl", "--save-init", tmp_path / "init.npy")
    code, data, _ = optimize(*recording, "--save-every", 2)
    assert code == 0
    assert data["output"] == str(tmp_path / "out.png")
    assert data["files"] == {
        "init": [str(tmp_path / "init.npy")],
        "trace": [str(tmp_path / "t.jsonl")],
        "snapshots": [str(tmp_path / "out_0002.png")],
    }
    assert all((tmp_path / name).read_bytes() != b"old" for name in names)
    assert not list(tmp_path.glob("*unfinished*"))
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == data["steps"]


@pytest.mark.usefixtures("interrupted")
def test_an_interrupted_run_takes_a_free_name_or_any_by_force(
    optimize: Optimize, tmp_path: Path
) -> None:
    (tmp_path / "out.unfinished.png").touch()
    for number in ("", ".unfinished-2"):
        _, data, _ = optimize()
        assert data["output"] == str(tmp_path / f"out{number}.png")
    (tmp_path / "out.png").write_bytes(b"old")
    _, data, _ = optimize("--force")
    assert data["output"] == str(tmp_path / "out.png")
    assert read_image(data["output"]).size == (data["height"], data["width"])


def test_an_unfinished_name_is_cut_where_it_would_be_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".png")
    path.touch()
    name = beside(path).name
    assert len(os.fsencode(name)) in (254, 255)
    assert name.startswith("é" * 110)
    assert name.endswith(".unfinished.png")


def test_a_run_that_diverges_saves_its_last_finite_picture(
    optimize: Optimize, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    code, data, err = optimize(*DIVERGES)
    assert (code, data["stopped"], data["output"]) == (8, "diverged", str(tmp_path / "out.png"))
    assert "the last that is finite, was saved as" in err
    assert np.isfinite(data["cost"]["total"])
    assert read_image(data["output"]).size == (data["height"], data["width"])
    before = (tmp_path / "out.png").read_bytes()
    _, data, _ = optimize(*DIVERGES)
    assert data["output"] == str(tmp_path / "out.unfinished.png")
    assert (tmp_path / "out.png").read_bytes() == before
    assert not [str(warning.message) for warning in recwarn if "overflow" in str(warning.message)]


def test_a_run_that_diverges_later_saves_the_picture_of_its_last_finite_step(
    optimize: Optimize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, left = check_cost, 2  # the start, and the first step

    def check(cost: Cost) -> Cost:
        nonlocal left
        left -= 1
        if left == -1:
            raise NumericalError("expected a finite cost, got NaN")
        return really(cost)

    monkeypatch.setattr(onnx_backend, "check_cost", check)
    options = ("--solver", "adam", "--save-every", 1, "--backend", "onnx", "--no-manifest")
    code, data, err = optimize(*options)
    assert (code, data["stopped"], data["steps"]) == (8, "diverged", 1)
    assert data["error"]["kind"] == "NumericalError"
    assert "the picture after step 1, the last that is finite" in err
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "out_0001.png").read_bytes()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Return a function that has the evaluation after the second step raise an error."""
    really, left = check_cost, 3  # the start, and two steps

    def fail(error: Exception) -> None:
        def check(cost: Cost) -> Cost:
            nonlocal left
            left -= 1
            if left == -1:
                raise error
            return really(cost)

        monkeypatch.setattr(onnx_backend, "check_cost", check)

    return fail


@pytest.mark.parametrize("is_occupied", [False, True])
@pytest.mark.parametrize("error", [DeviceError("expected a device, got none"), MemoryError()])
def test_a_run_that_fails_saves_the_picture_of_its_last_step(
    optimize: Optimize,
    failing: Callable[[Exception], None],
    tmp_path: Path,
    error: Exception,
    is_occupied: bool,
) -> None:
    output = tmp_path / "out.png"
    if is_occupied:
        output.write_bytes(b"complete")
    failing(error)
    options = ("--solver", "adam", "--save-every", 1, "--backend", "onnx", "--no-manifest")
    code, data, err = optimize(*options)
    saved = tmp_path / ("out.unfinished.png" if is_occupied else "out.png")
    assert (code, data["stopped"], data["steps"], data["output"]) == (4, "failed", 2, str(saved))
    assert data["error"]["exit_code"] == 4
    assert data["error"]["message"].endswith(f"the picture after step 2 was saved as {saved}")
    assert f"was saved as {saved}" in err
    assert saved.read_bytes() == (tmp_path / "out_0002.png").read_bytes()
    assert (output.read_bytes() == b"complete") == is_occupied
    assert (data["cost"], data["initial_cost"]) == (None, None)
    assert data["last_step"]["step"] == 2


def test_a_run_that_fails_advises_what_the_environment_sets(
    optimize: Optimize, failing: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTX_PRECISION", "fp32")
    failing(DeviceError("expected memory, got none; try --precision bf16"))
    code, data, err = optimize("--solver", "adam", "--backend", "onnx")
    assert code == 4
    for text in (data["error"]["message"], err):
        assert "try NSTX_PRECISION=bf16; the picture after step 2 was saved" in text


def test_a_failure_that_nobody_foresaw_saves_the_picture_as_well(
    optimize: Optimize, failing: Callable[[Exception], None], tmp_path: Path
) -> None:
    failing(ValueError("of a kind that is not listed"))
    with pytest.raises(pytest.fail.Exception, match="of a kind that is not listed"):
        optimize("--solver", "adam", "--backend", "onnx")
    assert read_image(tmp_path / "out.png").size == (24, 32)


def test_a_picture_that_cannot_be_had_is_a_part_of_the_failure(
    optimize: Optimize, failing: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(step: Step) -> None:
        raise RuntimeError("unspecified launch failure")

    monkeypatch.setattr(Step, "pixels", property(fetch))
    failing(DeviceError("expected a device, got none"))
    code, data, _ = optimize("--solver", "adam", "--backend", "onnx")
    assert code == 4
    message = data["error"]["message"]
    assert message.startswith("expected a device, got none; ")
    assert message.endswith("from the device, so it is lost: unspecified launch failure")


def test_a_run_that_fails_before_its_first_step_leaves_nothing(
    optimize: Optimize, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(cost: Cost) -> Cost:
        raise DeviceError("expected a device, got none")

    monkeypatch.setattr(onnx_backend, "check_cost", fail)
    code, data, _ = optimize("--backend", "onnx")
    assert (code, data["error"]["message"]) == (4, "expected a device, got none")
    assert not (tmp_path / "out.png").exists()


def test_what_does_nothing_is_said(optimize: Optimize) -> None:
    code, data, _ = optimize("--content-weight", 1e-36, "--style-weight", 1e-36)
    assert (code, data["steps"]) == (0, 0)
    assert [text for text in data["warnings"] if text.startswith("no pixel was moved")]
    code, data, _ = optimize("--learning-rate", 2.0)
    assert code == 0
    assert [text for text in data["warnings"] if text.startswith("--learning-rate does nothing")]


@pytest.fixture
def busy(interrupted: list[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the main thread come to nothing after the second step, and SIGHUP then; these are the exit codes."""
    left, codes = threading.Event(), list[int]()

    def end(code: int) -> None:
        codes.append(code)
        left.set()

    really = Recorder.take

    def take(recorder: Recorder, step: Step) -> None:
        really(recorder, step)
        if step.step == 2:
            assert left.wait(60)  # as an evaluation, which takes long

    monkeypatch.setattr(Recorder, "take", take)
    monkeypatch.setattr(interrupts, "PATIENCE", 0.01)
    patch(monkeypatch, "end_process", end)
    monkeypatch.setattr(run_interrupt, "_have_helpers_wait", lambda *_: None)  # of other tests
    monkeypatch.setattr(ending, "_FOR_EVER", 0.0)  # the process does not end
    interrupted[:] = [signal.SIGHUP]
    return codes


def test_the_picture_is_saved_where_the_main_thread_is_busy(
    optimize: Optimize, busy: list[int], tmp_path: Path
) -> None:
    _, data, err = optimize("--animate", tmp_path / "a.gif", "--trace", tmp_path / "t.jsonl")
    assert busy == [129]
    assert (data["stopped"], data["steps"], data["cost"]) == ("interrupted", 2, None)
    assert data["initial_cost"] is None
    last = data["last_step"]
    assert (last["step"], last["scale"], last["precision"]) == (2, 1, "fp32")
    assert (last["width"], last["height"]) == (data["width"], data["height"])
    second = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[1])
    assert last["cost"]["total"] == second["total"]
    assert data["cost_before_rounding"] == last["cost"]  # of the same picture, and exact
    assert read_image(tmp_path / "out.png").size == (data["height"], data["width"])
    assert "animation was not written" in err


def test_a_cost_that_is_of_a_coarser_picture_says_so(
    nstx: Nstx, save_picture: Callable[..., Path], busy: list[int], tmp_path: Path
) -> None:
    content, style = save_picture("content.png"), save_picture("style.png", seed=1)
    output = tmp_path / "out.png"
    size = ("--size", 64, "--scales", 2, "--steps", 6)
    _, out, _ = nstx("optimize", content, style, "-o", output, *LAYERS, *size)
    assert busy == [129]
    assert re.search(
        r"  cost \S+ after step 2, at 32×24 in fp32, not that of the file \(content ", out
    )


def test_the_process_ends_even_if_the_result_cannot_be_printed(
    optimize: Optimize, busy: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ending, "result_json", fail)
    _, data, _ = optimize()
    assert busy == [data["error"]["exit_code"]] == [4]


def test_the_picture_goes_to_standard_output_once_where_the_main_thread_is_busy(
    nstx: Nstx, save_picture: Callable[..., Path], busy: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = list[bytes]()
    monkeypatch.setattr(ending, "send", lambda path: sent.append(path.read_bytes()))
    content, style = save_picture("content.png"), save_picture("style.png", seed=1)
    _, out, err = nstx("optimize", content, style, "-o", "-", *LAYERS, "--size", 32, "--steps", 3)
    assert busy == [129]
    assert [data[:4] for data in sent] == [b"\x89PNG"]
    assert out == ""
    assert "saved -" in err


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Have the end of the process end nothing; return a function that waits for it, and returns its codes."""
    done, codes = threading.Event(), list[int]()

    def end(code: int) -> None:
        codes.append(code)
        done.set()

    def wait() -> list[int]:
        assert done.wait(60)
        return codes

    patch(monkeypatch, "end_process", end)
    monkeypatch.setattr(interrupts, "PATIENCE", 0.01)
    monkeypatch.setattr(run_interrupt, "_have_helpers_wait", lambda *_: None)  # of other tests
    return wait


def test_a_run_that_completes_while_its_last_step_is_saved_saves_nothing_more(
    optimize: Optimize,
    ended: Callable[[], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "out.png").write_bytes(b"complete")
    is_writing, is_complete = threading.Event(), threading.Event()
    really, take, written = write_or_rescue, Recorder.take, list[Path]()

    def write(path: Path, picture: Picture, *, in_haste: bool, **saving: Unpack[Saving]) -> None:
        written.append(path)
        is_writing.set()
        assert is_complete.wait(60)
        really(path, picture, in_haste=in_haste, **saving)

    def evaluate(recorder: Recorder, step: Step) -> None:
        take(recorder, step)
        if step.step == 2:
            signal.raise_signal(signal.SIGTERM)
            assert is_writing.wait(60)

    def sleep() -> None:
        is_complete.set()
        ended()

    monkeypatch.setattr(ending, "write_or_rescue", write)
    monkeypatch.setattr(Recorder, "take", evaluate)
    monkeypatch.setattr(Interrupt, "requested", lambda interrupt: False)  # in the last evaluation
    monkeypatch.setattr(ending, "_wait_for_the_end", sleep)
    _, data, _ = optimize()
    assert ended() == [143]
    assert written == [tmp_path / "out.unfinished.png"]
    assert (data["stopped"], data["steps"]) == ("interrupted", 2)
    assert data["output"] == str(tmp_path / "out.unfinished.png")
    assert (tmp_path / "out.png").read_bytes() == b"complete"


@pytest.mark.parametrize(("fails", "stopped", "code"), [(False, "steps", 143), (True, "failed", 4)])
def test_what_the_main_thread_is_saving_is_saved_in_haste(
    optimize: Optimize,
    ended: Callable[[], list[int]],
    failing: Callable[[Exception], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fails: bool,
    stopped: str,
    code: int,
) -> None:
    really = write_or_rescue

    def write(path: Path, picture: Picture, *, in_haste: bool, **saving: Unpack[Saving]) -> None:
        if not in_haste:
            signal.raise_signal(signal.SIGTERM)
            ended()  # as a large picture, which takes long
        really(path, picture, in_haste=in_haste, **saving)

    monkeypatch.setattr(ending, "write_or_rescue", write)
    monkeypatch.setattr(ending, "_FOR_EVER", 0.0)
    if fails:
        failing(DeviceError("expected a device, got none"))
    _, data, err = optimize("--solver", "adam", "--backend", "onnx")
    assert ended() == [code]
    assert (data["stopped"], data["output"]) == (stopped, str(tmp_path / "out.png"))
    assert ("error" in data) == fails == ("nstx: error: expected a device, got none" in err)
    assert read_image(data["output"]).size == (data["height"], data["width"])


@pytest.mark.parametrize(("backend", "passes"), [("onnx", OnnxPasses), ("torch", AutogradPasses)])
def test_a_run_is_saved_and_kept_in_the_middle_of_a_tile(
    optimize: Optimize,
    ended: Callable[[], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    backend: str,
    passes: Any,
) -> None:
    steps, take, really = list[int](), Recorder.take, passes.gradient

    def note(recorder: Recorder, step: Step) -> None:
        take(recorder, step)
        steps.append(step.step)

    def gradient(self: Any, task: Any, slopes: Any) -> Any:
        if steps == [1]:
            steps.append(0)
            signal.raise_signal(signal.SIGTERM)
            ended()  # as a large tile, which takes long
        return really(self, task, slopes)

    monkeypatch.setattr(Recorder, "take", note)
    monkeypatch.setattr(passes, "gradient", gradient)
    monkeypatch.setattr(ending, "_FOR_EVER", 0.0)
    _, data, _ = optimize(
        "--size", 96, "--tile", 64, "--history", "disk", "--backend", backend, "--precision", "fp32",
        "--content-layers", "conv2_1", "--style-layers", "conv1_1", "--checkpoint", tmp_path / "kept",
    )  # fmt: skip
    assert ended() == [143]
    assert steps == [1, 0]
    assert (data["stopped"], data["steps"], data["checkpoint"]["step"]) == ("interrupted", 1, 1)
    assert read_image(tmp_path / "out.png").size == (72, 96)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.skipif(sys.platform != "linux", reason="makes a pipe that is soon full")
@pytest.mark.parametrize(("unbuffered", "output"), [("", "-"), ("1", "-"), ("", "out.png")])
def test_a_run_whose_result_nobody_reads_ends_and_keeps_its_picture(
    save_picture: Callable[..., Path], tmp_path: Path, unbuffered: str, output: str
) -> None:
    import fcntl  # not on Windows
    import termios

    def count_unread() -> int:
        size = fcntl.ioctl(reader, termios.FIONREAD, bytes(4))
        return int.from_bytes(size, sys.byteorder)

    pictures = save_picture("content.png", 64, 64), save_picture("style.png", 32, 32)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    if output != "-":
        os.write(writer, b"x" * 4000)  # the rest has no room for JSON
    command = [
        sys.executable,
        "-m",
        "nstx",
        "optimize",
        *map(str, pictures),
        "-o",
        output,
        "--size",
        "64",
        *LAYERS,
    ]
    command += ["--steps", "1", *(["--json"] if output != "-" else [])]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as process:
        wait_for(lambda: bool(count_unread() % 4000) or (tmp_path / output).exists())
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, err = process.communicate(timeout=PATIENCE)
    os.close(writer)
    os.close(reader)
    assert process.returncode == 143, err
    assert time.monotonic() - began < 20, "it waited for what comes never"
    places = re.findall(r"the picture (?:was|is) saved as (\S+)", err)
    assert places, err
    assert read_image(tmp_path / places[-1]).size == (64, 64)


def test_an_exception_that_goes_nowhere_ends_the_process_later(
    ended: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ends:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(interrupts, "PATIENCE", 0.01)
    monkeypatch.setattr(interrupts, "ANSWER_SECONDS", 0.02)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with handling(Ending()):
        Ends()
        assert ended() == [143]


@pytest.mark.parametrize("later", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_signals_within_a_second_are_one(
    first: signal.Signals,
    later: signal.Signals,
    clock: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = list[int]()
    patch(monkeypatch, "end_process", codes.append)
    patch(monkeypatch, "say", lambda text: None)
    interrupt = Interrupt(is_loading=lambda: False)
    interrupt.defer(lambda: None, lambda: None)
    interrupt.handle(first, None)
    for seconds in (0.03, 0.3, 0.6):
        clock(seconds)
        interrupt.handle(later, None)
    assert (interrupt.exit_code, codes) == (128 + first, [])
    clock(0.1)
    interrupt.handle(later, None)
    # Who closes a terminal or ends a service may send several; only Ctrl-C is impatient.
    assert codes == ([128 + first] if later == signal.SIGINT else [])


def test_of_two_that_are_pending_the_first_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, "say", lambda text: None)
    ending = Interrupt(is_loading=lambda: False)
    ending.is_watched = True
    ending.arrive(signal.SIGTERM)
    ending.arrive(signal.SIGHUP)
    ending.finish()
    with pytest.raises(SystemExit) as left:
        ending.handle(signal.SIGHUP, None)  # which Python does first, as its number is smaller
    assert left.value.code == 143


def test_a_signal_that_ended_an_inner_block_ends_the_outer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interrupts, "PATIENCE", 60.0)
    patch(monkeypatch, "say", lambda text: None)
    outer = Ending()
    with handling(outer):
        with pytest.raises(SystemExit), handling(Interrupt(is_loading=lambda: False)):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # while the first one is being reported
    assert outer.exit_code == 130


def test_a_signal_after_an_inner_block_has_done_its_work_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interrupts, "PATIENCE", 60.0)
    with handling(Ending()):
        with handling(Interrupt(is_loading=lambda: False)):
            pass
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    with handling(Ending()):
        with contextlib.suppress(ValueError), handling(Interrupt(is_loading=lambda: False)):
            raise ValueError  # it has not done it
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_first_signal_decides_and_only_one_more_ctrl_c_is_impatient(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, codes = list[str](), list[int]()
    patch(monkeypatch, "say", lines.append)
    patch(monkeypatch, "end_process", codes.append)
    interrupt = Interrupt(is_loading=lambda: False)
    interrupt.defer(lambda: None, lambda: None)
    interrupt.handle(signal.SIGTERM, None)
    interrupt.handle(signal.SIGHUP, None)
    clock(1.1)
    assert (interrupt.exit_code, codes, len(lines)) == (143, [], 1)
    with interrupt.saving("out.png"):
        interrupt.handle(signal.SIGINT, None)
        assert (codes, lines[-1]) == ([], "the picture is being saved")
    interrupt.handle(signal.SIGINT, None)
    assert (codes, lines[-1]) == ([143], "the picture is saved as out.png")
    interrupt = Interrupt(is_loading=lambda: False)
    interrupt.defer(lambda: None, lambda: None)
    interrupt.handle(signal.SIGINT, None)
    clock(1.1)
    interrupt.handle(signal.SIGINT, None)
    assert (codes[-1], lines[-1]) == (130, "interrupted; nothing was saved")


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
)
def test_every_command_ends_by_an_exception_and_at_once_where_none_can_be_raised(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, error: type[BaseException]
) -> None:
    ended = threading.Event()
    patch(monkeypatch, "end_process", lambda code: ended.set())
    monkeypatch.setattr(interrupts, "PATIENCE", 60.0)
    before = signal.getsignal(number)
    with pytest.raises(error) as raised, handling(Ending()):
        signal.raise_signal(number)
    if isinstance(raised.value, SystemExit):
        assert raised.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert not ended.is_set()
    monkeypatch.setattr(interrupts, "PATIENCE", 0.01)
    reported, lines = list[BaseException](), list[str]()
    patch(monkeypatch, "say", lines.append)
    busy = Ending(reported.append)
    busy.is_watched = True
    busy.arrive(number)  # and the handler is not called
    assert ended.wait(60)
    assert [str(error) for error in reported] == [str(128 + number)]
    assert lines == ["interrupted"]


def test_a_signal_within_an_import_that_swallows_it_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import signal\ntry:\n    signal.raise_signal(15)\nexcept BaseException:\n    pass\n"
    (tmp_path / "swallows.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    codes: list[int] = []
    patch(monkeypatch, "end_process", codes.append)
    with handling(Ending()):
        importlib.import_module("swallows")
    assert codes == [143]


def test_a_second_signal_lets_the_first_one_clean_up(tmp_path: Path) -> None:
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGTERM)
            (tmp_path / "cleaned").touch()

    with handling(Ending()), pytest.raises(SystemExit) as left:
        work()
    assert left.value.code == 129
    assert (tmp_path / "cleaned").exists()
