"""Jobs of a targets file: in a batch, on a node that sees no file, over HTTP; all have the bytes of a run alone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_batches import OPTIONS, SETTINGS, Events, Run, Save, make_all, states
from test_executors import make_remotely

import nstx
from nstx.cli.batch import run as batch_run
from nstx.engine.batches import making
from nstx.engine.batches.asked import AskedJob, read_asked
from nstx.engine.batches.fleet import Event, FleetChoice
from nstx.engine.batches.folder import BatchFolder
from nstx.engine.batches.heart import Heart
from nstx.engine.batches.planning import Planner
from nstx.engine.batches.run import plan_batch
from nstx.engine.executors.remote import RemoteWorker
from nstx.engine.jobs.ledger import Ledger
from nstx.engine.transfer.batch import run_batch
from nstx.models.errors import UsageError

STEPS = ("--steps", "3", "--device", "cpu")


class FleetHere:
    """Workers in this process."""

    def __init__(self, folder: BatchFolder, choice: FleetChoice) -> None:
        self._folder = folder

    def run(self) -> Iterator[Event]:
        """Make what waits."""
        make_all(self._folder, Events(), Heart(self._folder.ledger))
        yield from ()


@pytest.fixture
def targets(nstx: Run, save_picture: Save, tmp_path: Path) -> Path:
    """A targets file of two pictures, with an objective of its own."""
    content, style = save_picture("c.png", 30, 40, seed=1), save_picture("s.png", 36, 40, seed=2)
    path = tmp_path / "t.safetensors"
    options = OPTIONS[:2] + OPTIONS[4:]
    code, _, error = nstx(
        "precompute", "--content", content, "--style", style, "-o", path, *options
    )
    assert code == 0, error
    return path


@pytest.fixture
def alone(nstx: Run, targets: Path, tmp_path: Path) -> bytes:
    """What ``nstx optimize --targets`` makes of them."""
    path = tmp_path / "alone.png"
    code, _, error = nstx("optimize", "--targets", targets, "-o", path, *STEPS)
    assert code == 0, error
    return path.read_bytes()


def ask(targets: Path, output: str = "a.png", **choices: Any) -> AskedJob:
    chosen = {"steps": 3, "device": "cpu", **choices}
    settings = nstx.choose_settings(nstx.read_targets(targets).chosen, **chosen)
    return nstx.ask_job(None, (), output, settings, targets=targets)


def test_a_row_of_targets_has_the_bytes_of_a_run_alone(
    nstx: Run,
    targets: Path,
    alone: bytes,
    save_picture: Save,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_run, "Fleet", FleetHere)
    rows = tmp_path / "jobs.jsonl"
    first = {"targets": str(targets), "steps": 3}
    second = {
        "content": str(save_picture("c.png", 30, 40, seed=1)),
        "style": str(tmp_path / "s.png"),
        "size": 40,
        "steps": 1,
    }
    rows.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    code, out, error = nstx(
        "batch",
        "--jobs",
        rows,
        "-o",
        tmp_path / "out",
        "--workers",
        1,
        "--device",
        "cpu",
        "--json",
        "--sheet",
        tmp_path / "sheet.png",
    )
    assert code == 0, error
    jobs = {job["output"]: job for job in json.loads(out)["jobs"]}
    assert jobs.keys() == {"t_targets.png", "c_s.png"}
    assert (tmp_path / "out" / "t_targets.png").read_bytes() == alone
    assert jobs["t_targets.png"]["targets"] == str(targets)
    assert "targets" not in jobs["c_s.png"]
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ({"content": "c.png"}, (), "beside"),
        ({"style": "s.png"}, (), "beside"),
        ({"size": 40}, (), "without sizes"),
        ({}, ("--size", 40), "without sizes"),
        ({"mask": "m.png"}, (), "without --mask"),
        ({"keep_profile": True}, (), "keep_profile"),
        ({"targets": "no.safetensors"}, (), "no.safetensors"),
        ({"targets": "s.png"}, (), "cannot be used"),
    ],
)
def test_what_does_not_go_with_targets_is_refused(
    nstx: Run,
    targets: Path,
    row: dict[str, Any],
    options: tuple[object, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "jobs.jsonl"
    rows.write_text(json.dumps({"targets": targets.name, **row}))
    code, _, error = nstx("batch", "--jobs", rows, "-o", "out", *options)
    assert code == 2
    assert "line 1 of" in error
    assert words in error
    assert not (tmp_path / "out").exists()


def test_jobs_of_targets_share_a_backend_and_a_batch(
    targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = list[int]()

    def spy(jobs: Any, **named: Any) -> Any:
        together.append(len(jobs))
        assert jobs[0].opened is jobs[1].opened
        return run_batch(jobs, **named)

    monkeypatch.setattr(making, "run_batch", spy)
    folder = BatchFolder(tmp_path / "results")
    asked = [ask(targets), ask(targets, "b.png", style_weight=5.0)]
    with folder.alone():
        batch = plan_batch(folder, asked)
        events = Events()
        kinds = {job.kind for job in Planner().plan(asked)}
        assert len(kinds) == 1
        make_all(folder, events, Heart(folder.ledger), most=2)
    assert states(batch) == {"a.png": "succeeded", "b.png": "succeeded"}
    assert together == [2]
    assert (folder.path / "a.png").read_bytes() != (folder.path / "b.png").read_bytes()


def test_a_node_has_the_targets_as_bytes(
    targets: Path, alone: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BatchFolder(tmp_path / "results")
    (tmp_path / "node").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    with folder.alone():
        batch = plan_batch(folder, [ask(targets)])
        worker = RemoteWorker(1, shares_memory=True, is_measured=False)
        make_remotely(folder, worker)
        worker.close()
    assert states(batch) == {"a.png": "succeeded"}
    assert (folder.path / "a.png").read_bytes() == alone


def test_a_job_is_of_pictures_or_of_targets(targets: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got neither"):
        nstx.ask_job(None, "s.png", "a.png", SETTINGS)
    with pytest.raises(UsageError, match="got both"):
        nstx.ask_job("c.png", "s.png", "a.png", SETTINGS, targets=targets)
    with pytest.raises(UsageError, match="without mask"):
        nstx.ask_job(None, (), "a.png", SETTINGS, targets=targets, mask="alpha")
    item = ask(targets)
    assert read_asked(json.loads(json.dumps(item.to_json())), "a.png") == item
    (before,) = Planner().plan([item])
    assert before.request["files"] == [nstx.read_targets(targets).file.sha256]  # type: ignore[union-attr]
    moved = targets.rename(tmp_path / "other.safetensors")
    (there,) = Planner().plan([replace(item, targets=moved)])
    assert (there.fingerprint, there.kind) == (before.fingerprint, before.kind)
    moved.write_bytes(b"damaged")
    (damaged,) = Planner().plan([replace(item, targets=moved)])
    assert damaged.fingerprint != before.fingerprint
    assert damaged.request["files"] is None


def test_damaged_targets_fail_their_job_alone(targets: Path, tmp_path: Path) -> None:
    folder = BatchFolder(tmp_path / "results")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(targets.read_bytes()[:-1])
    with folder.alone():
        batch = plan_batch(folder, [replace(ask(targets, "b.png"), targets=bad), ask(targets)])
        make_all(folder, Events(), Heart(folder.ledger))
    assert states(batch) == {"b.png": "failed", "a.png": "succeeded"}


def test_a_job_of_targets_goes_on_from_its_checkpoint(
    targets: Path, alone: bytes, tmp_path: Path
) -> None:
    folder, events = BatchFolder(tmp_path / "results"), Events()

    def die(event: str, details: dict[str, Any]) -> None:
        if event == "step" and details["step"] == 2:
            raise SystemExit  # with the claim, as a process that is killed

    events.after = die
    with folder.alone():
        plan_batch(folder, [ask(targets)])
        with pytest.raises(SystemExit):
            make_all(folder, events, Heart(folder.ledger), checkpoint_every=0.0)
        with Ledger(folder.ledger) as ledger:
            ledger.abandon("w")
        again = Events()
        make_all(folder, again, Heart(folder.ledger), checkpoint_every=0.0)
    assert [event for event, _ in again].count("step") < 3
    assert (folder.path / "a.png").read_bytes() == alone
