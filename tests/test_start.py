"""How a run starts: what is loaded ahead on threads, and when Python looks for garbage."""

import atexit
import builtins
import ctypes
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from devices import DEVICES
from pictures import random_pixels
from processes import PATIENCE

from nstx import Picture, choose_settings, cli, prepare_job
from nstx.cli.configuration.ahead import begin_ahead
from nstx.cli.console import Console
from nstx.cli.optimize.garbage import uncollected
from nstx.engine.artefacts.grain import measure_grain
from nstx.engine.devices import torch_import
from nstx.engine.devices.convolution import try_bf16
from nstx.engine.devices.device import Device
from nstx.engine.gradients import ahead
from nstx.engine.gradients.choice import BackendChoice
from nstx.engine.kernels.support import load_triton, triton_lock
from nstx.engine.planning.fitting import has_room
from nstx.engine.planning.memory_model import Load, gradient_needed
from nstx.engine.preparation.backends import fit_memory
from nstx.engine.targets import paintings
from nstx.engine.transfer import costs, report
from nstx.engine.transfer import job as job_module
from nstx.engine.transfer.costs import BoundCosts
from nstx.engine.transfer.job import Job
from nstx.models.errors import WeightsError
from nstx.models.presets import PRESETS
from nstx.models.weights.load import load_weights


@pytest.fixture
def clean_ahead() -> Iterator[None]:
    """Nothing that an earlier run began is left, and nothing is left of this one."""
    ahead.finish_loading()
    ahead._weights.clear()
    yield
    ahead.finish_loading()
    ahead._weights.clear()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, clean_ahead: None) -> list[tuple[str, int]]:
    """What was begun on which device, on a machine that has NVIDIA's driver."""
    calls: list[tuple[str, int]] = []

    def note(name: str) -> Callable[[int], bool]:
        def begin(index: int) -> bool:
            calls.append((name, index))
            return False

        return begin

    monkeypatch.setattr(ahead, "has_driver", lambda: True)
    for name in ("open_context", "load_torch"):
        monkeypatch.setattr(ahead, name, note(name))
    return calls


@pytest.mark.parametrize(
    ("device", "backend", "index"),
    [
        ("auto", "auto", 0),
        ("cuda", "torch", 0),
        ("cuda:3", "auto", 3),
        ("cpu", "auto", None),
        ("mps", "torch", None),
        ("cuda", "onnx", None),
    ],
)
def test_libraries_are_loaded_ahead_where_a_run_may_need_them(
    begun: list[tuple[str, int]], device: str, backend: str, index: int | None
) -> None:
    settings = replace(choose_settings(), device=device, backend=backend)  # type: ignore[arg-type]
    ahead.begin_loading(settings)
    assert bool(ahead._weights) is (index is not None)
    ahead.finish_loading()
    expected = [] if index is None else [("load_torch", index), ("open_context", index)]
    assert sorted(begun) == expected
    # Nobody has taken them.
    assert not ahead._weights
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_without_a_driver_nothing_is_begun(
    monkeypatch: pytest.MonkeyPatch, clean_ahead: None
) -> None:
    monkeypatch.setattr(ahead, "has_driver", lambda: False)
    ahead.begin_loading(choose_settings(device="cuda"))
    assert not ahead._begun
    assert not ahead._weights


def test_weights_that_were_begun_are_taken_once(begun: list[tuple[str, int]]) -> None:
    settings = choose_settings()
    ahead.begin_loading(settings)
    future = ahead._weights["embedded", True, "published"]
    taken = ahead.take_weights(settings)
    assert taken is future.result()
    assert taken.sha256 == load_weights().sha256
    assert ahead.take_weights(settings) is not taken


def test_errors_of_weights_come_where_they_are_taken(
    begun: list[tuple[str, int]], tmp_path: Path
) -> None:
    settings = choose_settings(weights=str(tmp_path / "none.pth"))
    ahead.begin_loading(settings)
    with pytest.raises(WeightsError, match="none"):
        ahead.take_weights(settings)


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        (None, ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"]),
        ("cuInit", ["cuInit"]),
        ("cuDeviceGet", ["cuInit", "cuDeviceGet"]),
    ],
)
def test_the_driver_is_asked_until_it_refuses(
    monkeypatch: pytest.MonkeyPatch, failing: str | None, expected: list[str]
) -> None:
    calls: list[str] = []

    def answer(name: str) -> Callable[..., int]:
        def call(*_: object) -> int:
            calls.append(name)
            return 100 if name == failing else 0

        return call

    names = ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain")
    driver = SimpleNamespace(**{name: answer(name) for name in names})
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    assert ahead.open_context(0) is (failing is None)
    assert calls == expected


def test_a_driver_that_is_missing_or_of_another_kind_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(_: str) -> object:
        raise OSError("no such file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not ahead.open_context(0)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not ahead.open_context(0)


POSTPONED = """\
import json, os, sys
from nstx.engine.devices.torch_import import postpone_unused
postpone_unused()
postpone_unused()
import torch
module = sys.modules["torch._meta_registrations"]
was_there = "meta_index_Tensor" in vars(module)
x = torch.arange(48.0).reshape(1, 3, 4, 4).requires_grad_()
torch.nn.functional.conv2d(x, torch.ones(2, 3, 3, 3), padding=1).relu().sum().backward()
torch.fft.irfft2(torch.fft.rfft2(x.detach()))
computed = "meta_index_Tensor" in vars(module)
total = float(x.grad.sum())
for ask in sys.argv[1:]:
    if os.fork() == 0:
        exec(ask)
        print(json.dumps([was_there, computed, "meta_index_Tensor" in vars(module), total,
                          type(module).__name__, type(module.__spec__.loader).__name__]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, ask
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_what_pytorch_postpones_is_there_when_something_asks() -> None:
    """When a name is asked for, and when the compiler is imported, in copies of a process of its own."""
    asks = ["torch._meta_registrations.meta_index_Tensor", "import torch._dynamo"]
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", POSTPONED, *asks],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    answers = list(map(json.loads, ran.stdout.splitlines()))
    assert len(answers) == len(asks)
    for was_there, computed, is_there, total, kind, loader in answers:
        assert not was_there
        assert not computed
        assert is_there
        # Each of 2 × 3 kernels' 16 ones falls on 9, 6 or 4 pixels: 100 in all.
        assert total == 2 * 3 * 100
        assert (kind, loader) == ("module", "SourceFileLoader")


def test_threads_that_ask_at_once_wait_until_all_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import time\nfirst = 1\ntime.sleep(0.5)\nif broken: raise ValueError('broken')\nlast = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch_import, "_UNUSED", "slow_module")
    finder = torch_import._Finder()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    module: Any = importlib.import_module("slow_module")
    monkeypatch.setattr(builtins, "broken", True, raising=False)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            _ = module.last
    monkeypatch.setattr(builtins, "broken", False)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(module.last)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [2, 2, 2]
    assert type(module) is ModuleType
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = module.other
    monkeypatch.delitem(sys.modules, "slow_module")


LOADED_ON_A_THREAD = """\
import sys, threading
from nstx.engine.gradients.ahead import load_torch, preload_torch
assert preload_torch() == sys.platform.startswith("linux")
assert "torch" not in sys.modules
thread = threading.Thread(target=load_torch, args=(0,))
thread.start()
import torch
value = float((torch.ones(2, 2) @ torch.ones(2, 2)).sum())
thread.join()
print(value)
"""


def test_torch_is_the_same_when_a_thread_has_imported_it() -> None:
    command = [sys.executable, "-c", LOADED_ON_A_THREAD]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "8.0\n"), result.stderr


def test_a_process_that_ends_begins_nothing_more(
    monkeypatch: pytest.MonkeyPatch, clean_ahead: None
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ahead, "preload_torch", lambda: calls.append("preloaded"))
    monkeypatch.setattr(ahead, "load_triton", lambda: calls.append("triton"))
    monkeypatch.setattr(ahead, "_use_cuda", lambda _: calls.append("used"))
    answers = iter([True, False])
    monkeypatch.setattr(ahead, "is_needed", lambda: next(answers, False))
    assert not ahead.load_torch(0)
    assert sorted(calls) == ["preloaded", "triton"]
    calls.clear()
    assert not ahead.load_torch(0)
    (future,) = ahead._start(lambda: calls.append("started"))
    for thread in threading.enumerate():
        if thread.name == "nstx-ahead":
            thread.join()
    assert not calls
    assert not future.done()


def test_triton_is_made_ready_without_pytorch() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    code = (
        "import sys\n"
        "from nstx.engine.kernels.support import load_triton, triton_lock\n"
        "print(load_triton(), 'triton' in sys.modules, 'torch' in sys.modules, triton_lock.locked())\n"
        "from triton.runtime import cache\n"
        "print(cache.triton_key.cache_info().currsize)\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == "True True False False\n1\n", result.stderr


def test_without_triton_nothing_is_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton.runtime.cache", None)
    assert not load_triton()
    assert not triton_lock.locked()


def test_garbage_is_looked_for_again_after_a_block() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="within"), uncollected():
        raise ValueError("within")
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()


def test_the_process_ends_without_a_search_for_garbage() -> None:
    code = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "sys.argv = ['nstx', '--version']\n"
        "from nstx.cli import main\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.split()[-1]) == (0, "True"), result.stderr


ENDING = """\
import atexit, os, sys, threading, time
import nstx.cli

class Late:
    def __del__(self, write=os.write):
        write(1, b"taken to pieces\\n")

late = Late()
atexit.register(print, "registered before")

def main():
    atexit.register(print, "cleaned up")
    threading.Thread(target=lambda: (time.sleep(0.3), print("thread done"))).start()
    if "torch" in sys.argv:
        sys.modules["torch"] = sys
    print("result")
    if "raise" in sys.argv:
        raise ValueError("within")
    sys.exit(3)

nstx.cli.main = main
nstx.cli.run_process()
"""

CLEANED_UP = "result", "thread done", "cleaned up", "registered before"


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [
        (["torch"], 3, [*CLEANED_UP]),
        ([], 3, [*CLEANED_UP, "taken to pieces"]),
        (["torch", "raise"], 1, [*CLEANED_UP, "taken to pieces"]),
    ],
)
def test_a_process_ends_at_once_when_all_is_done(
    arguments: list[str], code: int, lines: list[str]
) -> None:
    command = [sys.executable, "-c", ENDING, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.splitlines()) == (code, lines), result.stderr


def test_a_profile_is_written_when_the_process_ends(tmp_path: Path) -> None:
    program, profile = tmp_path / "program.py", tmp_path / "profile"
    program.write_text(ENDING)
    command = [sys.executable, "-m", "cProfile", "-o", str(profile), str(program), "torch"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "result" in result.stdout, result.stderr
    assert profile.stat().st_size > 0


def test_code_around_the_command_line_goes_on(tmp_path: Path) -> None:
    program = tmp_path / "wrapper.py"
    program.write_text(
        "import sys, runpy\nsys.modules['torch'] = sys\nsys.argv[1:] = ['model', '--json']\n"
        "try:\n    runpy.run_module('nstx', run_name='__main__')\n"
        "finally:\n    print('afterwards')\n"
    )
    result = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "afterwards"), result.stderr


def test_output_that_cannot_be_written_is_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    for module, name in ((threading, "_shutdown"), (atexit, "_run_exitfuncs")):
        monkeypatch.setattr(module, name, lambda: None)
    cli._leave(7)
    assert left == [7]

    def fail() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(flush=fail))
    cli._leave(8)
    assert left == [7]


def test_room_is_several_times_what_a_run_takes() -> None:
    cuda, objective = Device("cuda"), PRESETS["default"].objective
    load = Load(size=(1000, 2000), objective=objective, way="bf16")
    needed = 4 * gradient_needed(replace(load, way="autograd"))
    assert has_room(load, cuda, needed + 1)
    assert not has_room(load, cuda, needed)
    assert not has_room(replace(load, batch=2), cuda, needed + 1)
    assert not has_room(load, Device("mps"))


@pytest.mark.parametrize("device", DEVICES)
def test_equal_runs_in_two_processes_give_equal_bytes(
    nstx: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    save_picture: Callable[..., Path],
    device: str,
) -> None:
    content, style = save_picture("content.png"), save_picture("style.png", 70, 90, seed=1)
    size = ["--size", "48", "--scales", "2"]
    # Both are to have targets from the cache: those of a device may differ by how they were computed.
    assert nstx("precompute", "--content", content, "--style", style, *size)[0] == 0
    # In fp32 nothing is checked; a lower precision is to come to several checks.
    steps = "8" if device == "cpu" and try_bf16() == "none" else "24"
    results, pictures = [], []
    for name in ("first.npy", "second.npy"):
        output = tmp_path / name
        command = [sys.executable, "-m", "nstx", "optimize", str(content), str(style)]
        command += ["-o", str(output), *size, "--steps", steps, "--json"]
        command += ["--device", device, "--backend", "torch"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
        pictures.append(output.read_bytes())
    assert pictures[0] == pictures[1]
    for result in results:
        assert result["deterministic"] is True
        assert result["not_deterministic_because"] is None
        assert result["extractor"] is None
    assert results[0]["cost_before_rounding"] == results[1]["cost_before_rounding"]


@pytest.mark.parametrize(
    ("choice", "extractor", "tunes", "reason"),
    [
        (BackendChoice("torch", Device("cuda"), "bf16", 0.25), None, False, None),
        (BackendChoice("torch", Device("cuda"), "bf16", 0.25), None, True, "TunableOp"),
        (
            BackendChoice("torch", Device("cuda"), "tf32"),
            ("onnx", "CUDAExecutionProvider"),
            False,
            "from the cache",
        ),
        (BackendChoice("torch", Device("cuda"), "tf32"), ("torch", "cuda:0 fp32"), False, None),
        (BackendChoice("onnx", Device("cuda"), "fp32"), None, False, "ONNX Runtime"),
        (BackendChoice("torch", Device("mps"), "fp32"), None, False, "MPS"),
        (BackendChoice("onnx", Device("cpu"), "fp32"), ("onnx", "CPU"), True, None),
    ],
)
def test_a_run_that_may_differ_says_why(
    monkeypatch: pytest.MonkeyPatch,
    choice: BackendChoice,
    extractor: tuple[str, str] | None,
    tunes: bool,
    reason: str | None,
) -> None:
    monkeypatch.setattr(report, "_tunes", lambda: tunes)
    actual = report.why_not_repeatable(choice, extractor)
    assert (actual is None) is (reason is None)
    assert reason is None or reason in str(actual)


@pytest.fixture
def accelerated_job() -> Job:
    """A job of two scales, as if its device were an accelerator."""
    content, style = (Picture(random_pixels(64, 80, seed=seed), None) for seed in (1, 2))
    settings = choose_settings(size=80, scales=2, steps=4, backend="torch", precision="fp32")
    job = prepare_job(content, [(style, 1.0)], settings)
    choice = replace(job.opened.choice, device=Device("mps"))
    return replace(job, opened=replace(job.opened, choice=choice))


@pytest.mark.parametrize("has_memory", [True, False])
def test_memory_is_tried_where_there_may_be_too_little(
    monkeypatch: pytest.MonkeyPatch, accelerated_job: Job, has_memory: bool
) -> None:
    monkeypatch.setattr(costs, "has_room", lambda *_: has_memory)
    cost = costs.try_memory(accelerated_job)
    if has_memory:
        assert cost is None
    else:
        assert cost is not None
        start = BoundCosts(accelerated_job).measure(accelerated_job.start(-1))
        assert cost.total == pytest.approx(start.total, rel=1e-5)


INTERRUPTED = """\
import os, signal, sys
from nstx.engine.gradients import ahead
ahead.has_driver = lambda: True
phase, number = sys.argv.pop(1), int(sys.argv.pop(1))
def send(event, values):
    global phase
    if event == "import" and values[0] == phase:
        phase = None
        os.kill(os.getpid(), number)
sys.addaudithook(send)
from nstx.cli import run_process
run_process()
"""


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("numpy.linalg", signal.SIGINT),
        ("numpy.linalg", signal.SIGTERM),
        ("torch.nn.modules", signal.SIGINT),
        ("torch.utils.data", signal.SIGTERM),
    ],
)
def test_a_run_that_is_interrupted_while_threads_load_libraries_ends(
    save_picture: Callable[..., Path], phase: str, number: signal.Signals
) -> None:
    content, style = save_picture("content.png"), save_picture("style.png", seed=1)
    command = [sys.executable, "-c", INTERRUPTED, phase, str(int(number)), "optimize"]
    command += [str(content), str(style), "--size", "64", "--steps", "500", "--backend", "torch"]
    done = subprocess.run(
        [*command, "-o", str(content.with_name("out.png"))],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == (130 if number == signal.SIGINT else 143), done.stderr
    assert "Traceback" not in done.stderr


def test_lines_are_left_out_where_stdout_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(as_json=False, quiet=False)
    monkeypatch.setattr(sys, "stdout", None)
    with monkeypatch.context() as patch:
        patch.setattr(console, "_live", SimpleNamespace(print=pytest.fail))
        console.report("a row")


UNNEEDED = (
    "tifffile", "queue", "PIL.AvifImagePlugin", "PIL.WebPImagePlugin", "nstx.engine.pictures.tiff",
    "nstx.engine.manifests.reading", "nstx.engine.features.extraction", "nstx.engine.targets.files",
    "nstx.engine.transfer.saved", "nstx.models.weights.readers",
    "onnx", "onnxruntime", "psutil", "torch",
)  # fmt: skip
"""Modules that a usual run comes to late or never. The compiled parts of some would wait, with Python's lock, for
PyTorch's libraries to be opened."""


def test_a_run_begins_without_what_it_does_not_need() -> None:
    code = (
        "import sys, nstx.cli.app, nstx.cli.optimize.command, nstx.cli.optimize.run\n"
        f"print(*sorted(sys.modules.keys() & {set(UNNEEDED)!r}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_little_is_imported_before_libraries_are_begun() -> None:
    code = (
        "import sys, nstx.cli.configuration.ahead, nstx.engine.gradients.ahead\n"
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in ('typer', 'numpy', 'rich')\n"
        "              or name == 'nstx.engine.settings'))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


@pytest.mark.parametrize(
    ("line", "variable", "is_configured", "begins"),
    [
        ("optimize a.jpg b.jpg -o out.png --size 512", None, False, True),
        ("optimize a.jpg b.jpg -o out.png --device cpu", None, False, False),
        ("optimize a.jpg b.jpg -o out.png --backend=onnx", None, False, False),
        ("optimize --from other.png -o out.png", None, False, False),
        ("optimize --help", None, False, False),
        ("optimize a.jpg b.jpg -o out.png", "NSTX_DEVICE", False, False),
        ("optimize a.jpg b.jpg -o out.png", "NSTX_BACKEND", False, False),
        ("optimize a.jpg b.jpg -o out.png", None, True, False),
        ("evaluate a.jpg b.jpg c.png", None, False, False),
        ("", None, False, False),
    ],
)
def test_libraries_are_begun_before_the_command_line_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    begun: list[tuple[str, int]],
    line: str,
    variable: str | None,
    is_configured: bool,
    begins: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    if variable is not None:
        monkeypatch.setenv(variable, "cpu")
    if is_configured:
        (tmp_path / "nstx.toml").write_text("device = 'cpu'\n")
    begin_ahead(line.split())
    assert ahead.is_loading() is begins
    # The settings are begun with what is there, once.
    ahead.begin_loading(choose_settings())
    ahead.finish_loading()
    assert sorted(begun) == [("load_torch", 0), ("open_context", 0)]


@pytest.mark.parametrize("is_loading", [True, False])
def test_grains_are_measured_while_libraries_are_loaded(
    monkeypatch: pytest.MonkeyPatch, is_loading: bool
) -> None:
    order: list[str] = []

    def note(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            order.append(name)
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(job_module, "is_loading", lambda: is_loading)
    monkeypatch.setattr(job_module, "fit_memory", note("fitted", fit_memory))
    monkeypatch.setattr(paintings, "measure_grain", note("measured", measure_grain))
    content, styles = (
        Picture(random_pixels(64, 80, seed=0), None),
        Picture(random_pixels(70, 90, seed=1), None),
    )
    settings = choose_settings(
        size=64,
        scales=1,
        steps=1,
        device="cpu",
        backend="torch",
        style_layers="conv1_1",
        content_layers="conv1_1",
    )
    job = prepare_job(content, [(styles, 2.0)], settings)
    assert order == (["measured", "fitted"] if is_loading else ["fitted", "measured"])
    assert job.grain == paintings.measure_grains([(styles, 1.0)], job.sizes[-1], settings)
