"""Workers elsewhere: jobs that come as bytes, results that go as bytes, and a Ray cluster that loses a node."""

import hashlib
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nstx
from nstx.engine.batches.asked import AskedJob
from nstx.engine.batches.fleet import Crew, Event
from nstx.engine.batches.folder import BatchFolder
from nstx.engine.batches.heart import Heart
from nstx.engine.batches.run import choose_device, plan_batch
from nstx.engine.batches.together import BatchSizes
from nstx.engine.batches.worker import WorkerTask, run_worker
from nstx.engine.executors import many
from nstx.engine.executors.cluster import RayCluster
from nstx.engine.executors.desk import Desk
from nstx.engine.executors.parcels import pack_jobs
from nstx.engine.executors.remote import RemoteWorker
from nstx.engine.jobs.ledger import Ledger
from nstx.models.errors import DeviceError, UsageError

SETTINGS = nstx.choose_settings(
    size=40, steps=4, style_layers="conv1_1", content_layers="conv1_2", device="cpu"
)

Save = Callable[..., Path]
Node = Callable[..., RemoteWorker]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[BatchFolder]:
    place = BatchFolder(tmp_path / "results")
    with place.alone():
        yield place


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """Return a function that starts a worker as one on a node would be."""
    (tmp_path / "node").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    workers = []
    logger = __import__("logging").getLogger("nstx")
    before = logger.handlers, logger.propagate

    def start(*, is_measured: bool = False) -> RemoteWorker:
        workers.append(RemoteWorker(1, shares_memory=True, is_measured=is_measured))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()
    logger.handlers, logger.propagate = before


def ask(save_picture: Save, number: int, **changes: Any) -> AskedJob:
    content = save_picture(f"c{number}.png", 30, 40, seed=number)
    style = save_picture("style.png", 36, 40, seed=90)
    named = {"output": f"{number}.png", "settings": SETTINGS, **changes}
    return AskedJob(content=content, styles=((style, 1.0),), **named)


def make_remotely(folder: BatchFolder, worker: RemoteWorker, most: int = 1) -> list[Any]:
    """Make all that waits by a worker that sees none of it, as whoever drives it does."""
    events = list[Any]()
    sizes = BatchSizes(most)
    with Ledger(folder.ledger) as ledger:
        desk = Desk(folder, ledger, sizes, events.append, beat=0.0)
        while claims := ledger.claim("w", sizes.choose):
            desk.hold(claims)
            parcels, paths = pack_jobs(claims)
            names = [path.name for path in paths]
            for event in worker.make(parcels, names, *(path.read_bytes() for path in paths)):
                assert event["event"] not in ("stuck", "crashed"), event
                worker.drop(desk.take(event))
    return events


def test_what_goes_as_bytes_comes_as_the_bytes_of_a_run_alone(
    folder: BatchFolder, node: Node, save_picture: Save, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    init = save_picture("other/c0.png", 30, 40, seed=5)  # two files of one name
    mask = save_picture("mask.png", 30, 40, seed=6)
    part = save_picture("part.png", 36, 40, seed=7)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    first = ask(save_picture, 0, settings=replace(SETTINGS, init=str(init)), mask=str(mask))
    layered = ask(save_picture, 1, output="sub/1.jpg")
    layered = replace(layered, styles=((Path(f"{layered.styles[0][0]}@conv1_1@{part}"), 2.0),))
    asked = [first, layered, replace(ask(save_picture, 2), content=bad)]
    batch = plan_batch(folder, asked)
    worker = node()
    events = make_remotely(folder, worker)
    records = {record.id: record for record in batch.records()}
    assert records["sub/1.jpg"].error is None, records["sub/1.jpg"].error
    assert {name: record.state for name, record in records.items()} == {
        "0.png": "succeeded", "sub/1.jpg": "succeeded", "2.png": "failed",
    }  # fmt: skip
    assert records["2.png"].error is not None
    assert "/" not in records["2.png"].error["message"].partition("; try")[0]
    for item in (first, layered):
        result = nstx.stylize(item.files[0], list(item.styles), item.settings, mask=item.mask)
        alone = tmp_path / f"alone{Path(item.output).suffix}"
        result.save(alone)
        made = (folder.path / item.output).read_bytes()
        assert made == alone.read_bytes()
        assert records[item.output].sha256 == hashlib.sha256(made).hexdigest()
    kinds = [(event["event"], event["job"]) for event in events]
    assert ("begun", "0.png") in kinds
    assert ("succeeded", "0.png") in kinds
    assert ("failed", "2.png") in kinds
    # Nothing of it stays on the node.
    left = [path for path in (tmp_path / "node").rglob("*.png") if path.is_file()]
    assert not left


def test_a_remote_batch_tells_how_fast_it_is(
    folder: BatchFolder, node: Node, save_picture: Save
) -> None:
    plan_batch(folder, [ask(save_picture, number) for number in range(3)])
    noted = list[tuple[int, float | None]]()
    sizes = BatchSizes(None)
    sizes.note = lambda kind, count, rate: noted.append((count, rate))  # type: ignore[method-assign]
    worker = node(is_measured=True)
    with Ledger(folder.ledger) as ledger:
        desk = Desk(folder, ledger, sizes, lambda event: None)
        claims = ledger.claim("w", 3)
        desk.hold(claims)
        parcels, paths = pack_jobs(claims)
        for event in worker.make(
            parcels, [p.name for p in paths], *(p.read_bytes() for p in paths)
        ):
            desk.take(event)
        assert ledger.counts()["succeeded"] == 3
    assert [count for count, _ in noted] == [3]


def test_what_a_worker_tells_of_a_job_that_is_lost_is_not_published(
    folder: BatchFolder, save_picture: Save
) -> None:
    plan_batch(folder, [ask(save_picture, number) for number in range(3)])
    events = list[Any]()
    with Ledger(folder.ledger) as ledger, Ledger(folder.ledger) as other:
        desk = Desk(folder, ledger, BatchSizes(), events.append, beat=1000.0)
        (early,) = ledger.claim("w", 1)
        desk.hold([early])
        other.abandon("w")
        (late,) = other.claim("v")
        desk.take({"event": "failed", "job": early.id, "again": False, "error": {"message": "old"}})
        assert not events
        assert other.beat([late]) == [late]
        other.release([late])
        desk = Desk(folder, ledger, BatchSizes(), events.append, beat=0.0)
        claims = ledger.claim("w", 3)
        desk.hold(claims)
        other.abandon("w")
        (late,) = other.claim("v")
        made = {"event": "made", "job": late.id, "data": b"old", "result": {"cost": 1.0}}
        assert desk.take(made) == ["1.png", "2.png"]
        assert not (folder.path / late.id).exists()
        assert not events
        assert not list((folder.path / ".nstx-jobs" / "made").iterdir())
        # Canceled, and given back.
        claims = ledger.claim("w", 2)
        desk.hold(claims)
        other.cancel(claims[0].id)
        assert desk.take({"event": "alive"}) == [claims[0].id]
        desk.release()
        record = other.find(claims[1].id)
        assert record is not None
        assert (record.state, record.attempts) == ("queued", 1)


def test_all_files_of_a_job_are_moved(save_picture: Save, tmp_path: Path) -> None:
    asked = ask(save_picture, 0, mask="alpha", settings=replace(SETTINGS, weights="caffe:w.pth"))
    asked = replace(asked, regions=tmp_path / "map.png", style_for={"red": asked.styles}).absolute()
    moved = asked.moved(lambda path: Path("0", path.name))
    assert moved.settings.weights == f"caffe:{Path('0', 'w.pth')}"
    assert (moved.mask, moved.content) == ("alpha", Path("0", "c0.png"))
    assert moved.style_for == {"red": ((Path("0", "style.png"), 1.0),)}


@pytest.mark.parametrize(
    ("nodes", "workers", "share"),
    [(((1, 0), (1, 0)), 2, 1), (((3, 0), (1, 0)), 2, 1), (((8, 0),), 2, 4), (((2, 0),), 4, 0.5)],
)
def test_workers_have_room_on_their_nodes(
    nodes: tuple[tuple[int, int], ...], workers: int, share: float
) -> None:
    assert RayCluster(None, nodes).share(workers) == share


def test_a_cluster_has_a_worker_for_each_gpu_or_processor() -> None:
    mixed, plain = RayCluster(None, ((4, 0), (8, 2))), RayCluster(None, ((4, 0), (8, 0)))
    choice = mixed.choose("auto", 100)
    assert (choice.workers, choice.gpus, choice.most) == (2, 2, None)
    choice = mixed.choose("cpu", 100)
    assert (choice.workers, choice.gpus, choice.most, choice.threads) == (12, 0, 1, 1)
    assert plain.choose("auto", 5).workers == 5
    assert plain.choose("auto", 5, workers=3, most="auto").most is None
    with pytest.raises(DeviceError, match="GPUs"):
        plain.choose("cuda", 5)


@pytest.mark.parametrize(
    ("devices", "chosen"),
    [(("cpu",), "cpu"), (("cpu", "cuda"), "cuda"), (("auto", "cpu"), "auto")],
)
def test_workers_have_the_accelerator_that_any_job_may_use(
    devices: tuple[str, ...], chosen: str, save_picture: Save
) -> None:
    settings = ask(save_picture, 0).settings
    assert choose_device([replace(settings, device=device) for device in devices]) == chosen


def test_clusters_that_cannot_be_are_refused(
    nstx: Callable[..., tuple[int, str, str]], save_picture: Save, tmp_path: Path
) -> None:
    picture = save_picture("a.png", 30, 40, seed=1)
    pair = ["batch", "--content", picture, "--style", picture, "-o", tmp_path / "out"]
    ray = ["--executor", "ray"]
    for arguments, message in (
        (["--executor", "slurm"], "local"),
        (["--address", "auto"], "got local"),
        ([*ray, "--checkpoint-every", 1], "got both"),
        ([*ray, "--address", "ray://host:1"], "host:port"),
    ):
        code, _, err = nstx(*pair, *arguments)
        assert code == 2
        assert message in err


@pytest.mark.parametrize("weight", ["x", 0, -1.0, math.nan, math.inf])
def test_a_style_that_is_asked_for_has_a_weight(weight: Any) -> None:
    with pytest.raises(UsageError, match="weight"):
        nstx.ask_job("photo.jpg", [("painting.jpg", weight)], "out.png", SETTINGS)


def test_many_are_made_from_python(
    save_picture: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "Fleet", _Here)
    picture, style = save_picture("a.png", 30, 40, seed=1), save_picture("s.png", 30, 40, seed=2)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    steps = list[nstx.BatchStep]()

    def jobs() -> Iterator[nstx.AskedJob]:
        yield nstx.ask_job(picture, [(style, 2), picture], "a.png", SETTINGS)
        yield nstx.ask_job(str(tmp_path / "bad.png"), (picture, 1.0), "b.png", SETTINGS)

    out = tmp_path / "out"
    first = list(nstx.stylize_all(jobs(), out, workers=1, on_step=steps.append))
    assert [(made.output, made.is_new, made.error is None) for made in first] == [
        ("a.png", True, True), ("b.png", True, False),
    ]  # fmt: skip
    assert first[0].path == out / "a.png"
    assert first[0].cost
    assert first[1].path is None
    assert {step.output for step in steps} == {"a.png"}
    again = nstx.stylize_all(list(jobs())[:1], out)
    assert [(made.output, made.is_new) for made in again] == [("a.png", False)]
    asked = (nstx.ask_job(picture, picture, f"{n}.png", SETTINGS) for n in range(3))
    assert list(nstx.stylize_all(asked, out, should_stop=lambda: True)) == []
    for wrong in ({"workers": 0}, {"attempts": 101}, {"executor": "ray", "checkpoint_every": 1.0}):
        with pytest.raises(UsageError):
            nstx.stylize_all([], out, **wrong)


class _Here(Crew[Any]):
    """Works in this process, which has its network open already."""

    def run(self) -> Iterator[Event]:
        events = list[Event]()

        def tell(event: str, job: str = "", **details: Any) -> None:
            events.append({"event": event, "job": job, "worker": 0, **details})

        task = WorkerTask(folder=str(self._folder.path), name="w")
        run_worker(task, tell, Heart(self._folder.ledger))  # type: ignore[arg-type]
        yield from events


def test_without_ray_it_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from nstx.engine.executors.cluster import open_cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"nstx\[ray\]"), open_cluster():
        pass


def test_a_cluster_that_loses_a_node_makes_all_of_it() -> None:
    if importlib.util.find_spec("ray") is None or sys.platform == "win32":
        pytest.skip("Ray is not installed (pip install 'nstx[ray]'), or this is Windows")
    script = Path(__file__).parents[1] / "scripts" / "ray_kills"
    done = subprocess.run(
        [sys.executable, script, "--jobs", "6", "--size", "40", "--steps", "4"],
        env={**os.environ, "PYTHONUNBUFFERED": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "every result is there" in done.stdout
