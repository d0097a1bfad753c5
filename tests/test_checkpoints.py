"""Runs that are stopped at any moment and go on from their checkpoint: the same bytes; and what is refused."""

import errno
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import on_cuda
from networks import needs_bf16
from pictures import random_pixels
from solving import DeviceLike

import nstx
from nstx import OutputError, Picture, Result, Step, UsageError
from nstx.engine.checkpoints import keeper, manifest, runs
from nstx.engine.checkpoints.reading import NAME, find_manifest
from nstx.engine.devices.machine import Processor
from nstx.engine.gradients.choice import PrecisionPolicy
from nstx.engine.gradients.opening import open_backend
from nstx.engine.targets.sealed_arrays import (
    read_description,
    read_in_place,
    read_shapes,
    stream_arrays,
)
from nstx.engine.transfer import progress
from nstx.engine.transfer.job import Job
from nstx.models.storage import files as storage

CONTENT, STYLE = (Picture(random_pixels(33, 40, k).astype(np.uint8), None) for k in (1, 9))
TINY: dict[str, Any] = {
    "size": 48, "scales": 2, "steps": 14, "device": "cpu", "content_layers": "conv1_2",
    "style_layers": "conv1_1",
}  # fmt: skip
CUDA_RUNS: dict[str, dict[str, Any]] = {
    "lbfgs": {"steps": 26},
    "lbfgs-fp16": {"precision": "fp16", "steps": 26},
    "lbfgs-tf32": {"precision": "tf32"},
    "moments-bf16": {"precision": "bf16", "style_statistic": "wasserstein"},
    "checked": {"precision": "auto", "steps": 60, "clean": False},
    "adam-ahead": {"solver": "adam", "init": "noise"},
    "adam-ahead-bf16": {"solver": "adam", "precision": "bf16"},
    "adam-fp16": {"solver": "adam", "precision": "fp16"},
    "adam-checked": {"solver": "adam", "precision": "auto"},
    "adam-grey": {"solver": "adam", "colors": "luminance"},
    "coursera": {"preset": "coursera", "size": 40, "scales": 1, "steps": 12},
}
"""Each that keeps another state: of solvers, seeds, precisions, checks."""

BF16 = PrecisionPolicy(processor=Processor(bf16_units=True, bf16="packed"), least_bf16_work=0)


@pytest.fixture(autouse=True)
def _after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 0 minutes mean after each step, however long a checkpoint takes."""
    monkeypatch.setattr(keeper, "SHARE", 0)


def job_of(policy: PrecisionPolicy | None = None, **choices: Any) -> Job:
    preset = choices.pop("preset", "default")
    settings = nstx.choose_settings(preset, **{**TINY, "precision": "fp32", **choices})
    return nstx.prepare_job(CONTENT, STYLE, settings, policy=policy)


def after(evaluations: int) -> Callable[[], bool]:
    """Return what stops a run after so many evaluations."""
    left = iter(range(evaluations))
    return lambda: next(left, None) is None


class Killed(BaseException):
    """What SIGKILL is to a process: nothing of ours comes after it."""


def run_killed(job: Job, folder: Path, after: Sequence[int]) -> tuple[Result, int]:
    """Run a job until it is done, killed again and again after so many steps; return how often, too."""
    for kills, steps in enumerate(itertools.cycle(after)):
        left = iter(range(steps))

        def on_step(step: Step, left: Any = left) -> None:
            if next(left, None) is None:
                raise Killed

        try:
            return nstx.run_job(job, on_step=on_step, checkpoint=folder, checkpoint_every=0), kills
        except Killed:
            continue
    raise AssertionError


def assert_equal(result: Result, expected: Result) -> None:
    for name in ("steps", "evaluations", "stopped", "cleaned", "cost", "initial_cost"):
        assert getattr(result, name) == getattr(expected, name), name
    checks = [[replace(c, seconds=0) for c in r.checks] for r in (result, expected)]
    assert checks[0] == checks[1]
    assert result.pixels.tobytes() == expected.pixels.tobytes()


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"solver": "adam", "colors": "luminance"},
        {"backend": "torch", "steps": 26},
        {"backend": "torch", "solver": "adam", "scales": 1, "init": "noise"},
        {"preset": "coursera", "size": 40, "scales": 1, "steps": 6},
        *[on_cuda({"device": "cuda", **choices}, name=name) for name, choices in CUDA_RUNS.items()],
    ],
    ids=lambda choices: "-".join(map(str, choices.values())),
)
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bytes(
    choices: dict[str, Any], tmp_path: Path
) -> None:
    job = job_of(**choices)
    result, kills = run_killed(job, tmp_path / "k", (1, 4, 2, 6))
    assert kills > 1
    assert_equal(result, nstx.run_job(job))
    assert [path.name for path in (tmp_path / "k").iterdir()] == [NAME]


def test_scales_that_end_early_do_so_in_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LEAST_PROGRESS", 0.7)
    job = job_of(steps=40)
    expected = nstx.run_job(job)
    assert expected.stopped == "no_progress"
    for after in (3, expected.steps // 2, expected.steps):
        result, _ = run_killed(job, tmp_path / str(after), (after,))
        assert_equal(result, expected)
    # Its last step is kept, so that there is nothing left to do.
    steps: list[Step] = []
    assert_equal(nstx.run_job(job, on_step=steps.append, checkpoint=tmp_path / "3"), expected)
    assert steps == []


@pytest.mark.parametrize(
    ("bound", "device"),
    [
        pytest.param(0.25, "cpu", marks=needs_bf16),
        pytest.param(1e-4, "cpu", marks=needs_bf16),
        on_cuda(1e-4, "cuda"),
    ],
)
def test_a_checked_run_goes_on_with_its_checks(bound: float, device: str, tmp_path: Path) -> None:
    policy = replace(BF16, largest_error=bound)
    job = job_of(policy, precision="auto", device=device, scales=2 if device == "cpu" else 1)
    expected = nstx.run_job(job)
    assert len(expected.checks) > 2
    result, kills = run_killed(job, tmp_path / "k", (1, 6))
    assert kills > 1
    assert_equal(result, expected)


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_run_on_a_device_is_kept_after_one_more_step(solver: str, tmp_path: Path) -> None:
    """As on CUDA, whose solvers change their state in place, on the CPU's tensors."""
    job = job_of(backend="torch", solver=solver, steps=24)
    # A device's backends are not those of the CPU, in whose place smaller tiles may come.
    make = open_backend(job.settings, job.opened.choice).make
    opened = replace(job.opened, make=make, arrays=DeviceLike(), runs_ahead=solver == "adam")
    job = replace(job, opened=opened)
    expected = nstx.run_job(job)
    for stop in (4, 3, 9):
        result = nstx.run_job(job, should_stop=after(stop), checkpoint=tmp_path / "k")
        assert result.stopped == "interrupted"
    result = nstx.run_job(job, checkpoint=tmp_path / "k")
    assert result.pixels.tobytes() == expected.pixels.tobytes()
    assert (result.steps, result.cost) == (expected.steps, expected.cost)


def test_a_run_that_is_stopped_is_kept_whatever_the_time(tmp_path: Path) -> None:
    expected = nstx.run_job(job_of())
    stopped = nstx.run_job(
        job_of(),
        should_stop=after(4),
        checkpoint=tmp_path / "k",
    )
    assert (stopped.stopped, stopped.steps) == ("interrupted", 3)

    def interrupt(step: Step) -> None:
        if step.step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nstx.run_job(job_of(), on_step=interrupt, checkpoint=tmp_path / "k")
    seen: list[int] = []
    result = nstx.run_job(
        job_of(),
        on_step=lambda step: seen.append(step.step),
        checkpoint=tmp_path / "k",
    )
    # The callback of step 9 had not returned.
    assert seen == list(range(9, 15))
    assert_equal(result, expected)


@pytest.fixture
def files(save_picture: Callable[..., Path]) -> tuple[Path, Path]:
    return save_picture("photo.png", 33, 40), save_picture("painting.png", 30, 40, seed=1)


def begin(files: tuple[Path, Path], folder: Path, **choices: Any) -> Result:
    return nstx.stylize(
        *files, should_stop=after(4), checkpoint=folder,
        **{**TINY, "precision": "fp32", **choices},
    )  # fmt: skip


def test_resume_needs_the_folder_alone(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = nstx.stylize(*files, **TINY, precision="fp32", init=str(files[1]))
    monkeypatch.chdir(tmp_path)
    relative = (Path("photo.png"), Path("painting.png"))
    begin(relative, tmp_path / "k", init="painting.png")
    monkeypatch.chdir("/")
    assert_equal(nstx.resume(tmp_path / "k"), expected)


def test_resume_of_targets_reads_their_file(files: tuple[Path, Path], tmp_path: Path) -> None:
    job = nstx.prepare_job(*files, **TINY, precision="fp32")
    path = tmp_path / "t.safetensors"
    nstx.write_targets(
        path,
        job.contents,
        job.targets,
        job.settings.objective,
        job.opened.weights_sha256,
        grain=job.grain,
    )
    choices = {name: TINY[name] for name in TINY.keys() - {"size", "scales"}} | {
        "precision": "fp32"
    }
    job = nstx.prepare_job_from_targets(nstx.read_targets(path), **choices)
    expected = nstx.run_job(job)
    nstx.run_job(job, should_stop=after(4), checkpoint=tmp_path / "k")
    assert_equal(nstx.resume(tmp_path / "k"), expected)


def test_pictures_from_no_file_cannot_be_read_again(tmp_path: Path) -> None:
    nstx.run_job(
        job_of(),
        should_stop=after(4),
        checkpoint=tmp_path / "k",
    )
    with pytest.raises(
        UsageError, match="got one whose content and style came from none; try the call"
    ):
        nstx.resume(tmp_path / "k")


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"steps": 15}, "steps 15 instead of 14"),
        ({"solver": "adam"}, "solver adam instead of lbfgs"),
        ({"style_weight": 3.0}, "another objective"),
        ({"backend": "torch"}, "backend torch instead of onnx"),
        ({"size": 64}, "another content, size 64 instead of 48, other sizes"),
        ({"seed": 5}, "seed 5 instead of 0"),
        ({"init": "noise"}, "init noise instead of content"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(
    changed: dict[str, Any], difference: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    begin(files, tmp_path / "k")
    before = (tmp_path / "k" / NAME).read_bytes()
    with pytest.raises(
        UsageError, match=f"expected a checkpoint of this run in .*, got {difference}; try"
    ):
        begin(files, tmp_path / "k", **changed)
    assert (tmp_path / "k" / NAME).read_bytes() == before


def test_other_pictures_and_weights_are_refused(
    files: tuple[Path, Path], save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    begin(files, tmp_path / "k")
    save_picture("painting.png", 30, 40, seed=5)
    with pytest.raises(UsageError, match="got another style; try"):
        nstx.resume(tmp_path / "k")
    save_picture("painting.png", 30, 40, seed=1)
    save_picture("photo.png", 33, 40, seed=5)
    with pytest.raises(UsageError, match="got another content; try"):
        nstx.resume(tmp_path / "k")
    files[0].unlink()
    with pytest.raises(
        nstx.ImageError, match=r"expected a picture at .*photo.png, got: No such file"
    ):
        nstx.resume(tmp_path / "k")
    job = job_of()
    nstx.run_job(job, should_stop=after(4), checkpoint=tmp_path / "w")
    other = replace(job, opened=replace(job.opened, weights_sha256="0" * 64))
    with pytest.raises(UsageError, match="got other weights of the network; try"):
        nstx.run_job(other, checkpoint=tmp_path / "w")


def test_another_version_is_refused_and_another_machine_is_told(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged_warnings: list[str],
) -> None:
    begin(files, tmp_path / "k")
    monkeypatch.setattr(runs, "_describe_machine", lambda _: {"processor": "a steam engine"})
    assert nstx.resume(tmp_path / "k").is_complete
    assert "the last digits may differ: processor a steam engine instead of" in " ".join(
        logged_warnings
    )
    monkeypatch.setattr(manifest, "__version__", "9.9")
    with pytest.raises(
        UsageError, match=r"cannot be used \(it is of nstx .*, and this is 9.9\); try"
    ):
        nstx.resume(tmp_path / "k")


def test_a_disk_that_is_full_costs_a_warning(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged_warnings: list[str],
) -> None:
    begin(files, tmp_path / "k")
    before = (tmp_path / "k" / NAME).read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = nstx.stylize(*files, **TINY, precision="fp32")
    with monkeypatch.context() as patch:
        patch.setattr("nstx.engine.checkpoints.keeper.write_atomically", fail)
        result = nstx.resume(tmp_path / "k", checkpoint_every=0)
    assert_equal(result, expected)
    assert "could not be written (No space left on device); the run goes on" in " ".join(
        logged_warnings
    )
    assert (tmp_path / "k" / NAME).read_bytes() == before
    assert_equal(nstx.resume(tmp_path / "k"), expected)


def test_two_runs_do_not_share_a_folder(files: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        keeper.Checkpoints(tmp_path / "k"),
        pytest.raises(OutputError, match="got another run that is writing"),
    ):
        begin(files, tmp_path / "k")


def test_a_checkpoint_that_takes_long_is_written_more_seldom(
    clock: Callable[[float], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    really = storage.write_atomically

    def write(path: Path, data: Any, **more: Any) -> None:
        really(path, data, **more)
        clock(20.0)

    monkeypatch.setattr("nstx.engine.checkpoints.keeper.write_atomically", write)
    monkeypatch.setattr(keeper, "SHARE", 20)

    def on_step(step: Step) -> None:
        clock(60.0)
        written.append(kept.step or 0)

    with keeper.Checkpoints(tmp_path / "k", 2) as kept:
        nstx.run_job(job_of(), on_step=on_step, checkpoint=kept)
    # After a fifth of a minute; then, as it took 20 seconds, not before 400 seconds have passed.
    assert [step for step, _ in itertools.groupby(written)] == [0, 1, 8]


@pytest.mark.parametrize("minutes", [-1, float("nan"), float("inf"), "5", None])
def test_minutes_that_cannot_be_are_refused(minutes: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected .* got .*; try"):
        nstx.stylize("a.png", "b.png", checkpoint=tmp_path / "k", checkpoint_every=minutes)
    assert not (tmp_path / "k").exists()


def test_a_manifest_says_what_a_run_is_of(files: tuple[Path, Path], tmp_path: Path) -> None:
    begin(files, tmp_path / "k", init=str(files[1]))
    manifest = find_manifest(tmp_path / "k")
    assert [item.role for item in manifest.inputs] == ["content", "style", "init"]
    assert all(Path(item.path).is_absolute() and item.sha256 for item in manifest.inputs)
    assert manifest.settings.init == str(files[1])
    assert manifest.sizes == ((20, 24), (40, 48))
    assert {"processor", "numpy"} <= manifest.machine.keys()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A job, and the folder in which it is kept after three steps."""
    job, folder = job_of(), tmp_path_factory.mktemp("stopped")
    nstx.run_job(job, should_stop=after(4), checkpoint=folder)
    return job, folder


def parts_of(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays and the description of a checkpoint."""
    with path.open("rb") as file:
        description, shapes = read_description(file), read_shapes(file)
        arrays = read_in_place(file, shapes)
    del description["seal"]
    return arrays, description


def refuse(
    stopped: tuple[Job, Path], data: bytes, message: str = "got one that cannot be used"
) -> None:
    job, folder = stopped
    path = folder / NAME
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        with pytest.raises(UsageError, match=message):
            nstx.run_job(job, checkpoint=folder)
        assert path.read_bytes() == data
    finally:
        path.write_bytes(before)


def test_a_damaged_checkpoint_is_refused(stopped: tuple[Job, Path]) -> None:
    data, chance = (stopped[1] / NAME).read_bytes(), np.random.default_rng(0)
    for position in chance.integers(0, len(data), 20).tolist():
        refuse(stopped, data[:position])
        refuse(stopped, data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
    refuse(stopped, data + b"0")
    refuse(stopped, b"")
    refuse(stopped, (2**63).to_bytes(8, "little") + data[8:])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("solver/pixels", None, "there is no picture in it"),
        ("solver/pixels", np.zeros((10**3, 10**3, 3), np.float32), "has the size of no scale"),
        ("solver/gradient", None, "it lacks solver/gradient"),
        (
            "solver/gradient",
            np.full((20, 24, 3), np.nan, np.float32),
            "solver/gradient is not finite",
        ),
        ("solver/gradient", np.zeros((20, 24, 3)), "has no place in it, or another form"),
        ("solver/step/1", None, "it lacks solver/change/1, solver/change/2, solver/curvature/1"),
        ("solver/step/10", np.zeros((20, 24, 3), np.float32), "solver/step/10 has no place in it"),
        ("solver/made", np.array(1e9), "made is no whole number of 0 … 15"),
        ("solver/mean", np.zeros((20, 24, 3), np.float32), "solver/mean has no place in it"),
        ("backend/seed", np.array(1.0), "backend/seed has no place in it"),
        ("reached/steps", np.zeros((2, 9)), "it has 0 where a whole number of 1 … 2 stands"),
        ("reached/steps", np.zeros((2, 10)), "reached/steps has no place in it, or another form"),
        ("reached/steps", np.ones((15, 9)), "reached/steps has no place in it, or another form"),
        ("reached/reached", np.ones(3), "it does not say how far it is"),
        ("reached/best", np.full(3, np.nan), "it has costs that are none"),
        (
            "reached/reached",
            np.array([3.0, 0, 5, 1]),
            "it has 3 where a whole number of 1 … 2 stands",
        ),
        ("reached/reached", np.array([2.0, 0, 5, 1]), "its picture is not of its scale"),
        ("reached/best", np.zeros(12), "reached/best has no place in it, or another form"),
        ("reached/checks", np.full((1, 9), np.nan), "it has a check without an error"),
    ],
)
def test_arrays_that_cannot_be_are_refused(
    name: str, value: Any, message: str, stopped: tuple[Job, Path]
) -> None:
    arrays, description = parts_of(stopped[1] / NAME)
    arrays[name] = value
    kept = {key: array for key, array in arrays.items() if array is not None}
    refuse(stopped, b"".join(stream_arrays(kept, description)), message)


@pytest.mark.parametrize(
    ("name", "kind", "shape", "message"),
    [
        ("solver/pixels", "F32", [1 << 34], "its picture has the size of no scale"),
        ("reached/steps", "F64", [14, 1 << 29], "reached/steps has no place in it"),
        ("reached/steps", "F64", [1 << 29, 9], "reached/steps has no place in it"),
        ("reached/checks", "F64", [1 << 29, 9], "reached/checks has no place in it"),
        ("reached/more", "F64", [1 << 33], "reached/more has no place in it"),
    ],
)
def test_memory_is_taken_for_no_more_than_the_run_has(
    name: str, kind: str, shape: list[int], message: str, stopped: tuple[Job, Path]
) -> None:
    path = stopped[1] / NAME
    arrays, description = parts_of(path)
    text = json.dumps({"seal": "0" * 64, **description})
    forms = {"solver/pixels": ("F32", [*arrays["solver/pixels"].shape]), name: (kind, shape)}
    header: dict[str, Any] = {"__metadata__": {"nstx": text}}
    end = 0
    for key, (type_, sides) in forms.items():
        begin, end = end, end + math.prod(sides) * int(type_[1:]) // 8
        header[key] = {"dtype": type_, "shape": sides, "data_offsets": [begin, end]}
    data = json.dumps(header).encode()
    before = path.read_bytes()
    try:
        with path.open("wb") as file:
            file.write(len(data).to_bytes(8, "little") + data)
            file.truncate(8 + len(data) + end)  # of which nothing is on the disk
        with pytest.raises(UsageError, match=message):
            nstx.run_job(stopped[0], checkpoint=stopped[1])
    finally:
        path.write_bytes(before)


@pytest.mark.skipif(sys.platform == "win32", reason="links and FIFOs are POSIX's")
def test_what_is_no_file_is_refused_and_a_link_is_not_written_through(tmp_path: Path) -> None:
    job, folder = job_of(), tmp_path / "k"
    nstx.run_job(job, should_stop=after(4), checkpoint=folder)
    path, victim = folder / NAME, tmp_path / "victim"
    path.rename(victim)
    data = victim.read_bytes()
    os.mkfifo(path)
    with pytest.raises(OutputError, match="got a FIFO"):
        nstx.run_job(job, checkpoint=folder)
    with pytest.raises(UsageError, match="got a FIFO"):
        nstx.resume(folder)
    path.unlink()
    path.symlink_to(victim)
    nstx.run_job(job, checkpoint=folder, checkpoint_every=0)
    assert victim.read_bytes() == data
    assert not path.is_symlink()
