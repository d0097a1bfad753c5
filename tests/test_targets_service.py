"""A job of a targets file over HTTP: what is taken, what is refused, and the bytes that come of it."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import InspectionHere, Served, pretend, serving
from test_hostile_targets import change

import nstx
from nstx.engine.archive.limits import ServiceLimits
from nstx.engine.batches.fleet import Event, FleetChoice
from nstx.engine.batches.folder import BatchFolder
from nstx.engine.batches.heart import Heart
from nstx.engine.jobs.ledger import Ledger
from nstx.engine.manifests.reading import read_manifest
from nstx.engine.service import supervising
from nstx.engine.service.inspection import Inspection
from nstx.engine.service.showing import ShowingMaker
from nstx.models.errors import ImageError, UsageError

Run = Callable[..., tuple[int, str, str]]
LIMITS = ServiceLimits(max_upload=4 << 20, max_pixels=100_000, max_steps=150)
BRIEF = {"steps": 3}


class FleetHere:
    """A worker in this process."""

    def __init__(self, folder: BatchFolder, choice: FleetChoice) -> None:
        self._folder = folder

    def run(self) -> Iterator[Event]:
        """Make what waits, and yield what a fleet would."""
        events = list[Event]()

        def tell(event: str, job: str, **details: Any) -> None:
            events.append({"event": event, "job": job, "worker": 0, **details})

        heart = Heart(self._folder.ledger)
        with Ledger(self._folder.ledger) as ledger:
            maker = ShowingMaker(self._folder, ledger, heart, tell, checkpoint_every=1.0)
            while True:
                for claim in ledger.claim("w"):
                    heart.hold([claim])
                    maker.make([claim])
                    heart.release()
                yield from [*events, {"event": "idle"}]
                events.clear()
                time.sleep(0.01)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="module")
def targets(place: Path) -> Path:
    """A targets file of two pictures, with an objective of its own."""
    drawing = np.random.default_rng(3)
    content, style = (drawing.integers(0, 256, (30, 40, 3)).astype(np.uint8) for _ in "cs")
    job = nstx.prepare_job(
        content, style, size=40, steps=2, style_layers="conv1_1", content_layers="conv1_2", device="cpu",
    )  # fmt: skip
    path = place / "t.safetensors"
    nstx.write_targets(
        path, job.contents, job.targets, job.settings.objective, job.opened.weights_sha256, grain=job.grain,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        patch.setattr(supervising, "Fleet", FleetHere)
        with serving(tmp_path_factory.mktemp("service"), LIMITS) as running:
            yield running


@pytest.mark.parametrize("options", [{}, {"style_weight": 5.0, "init": "noise"}])
def test_a_job_of_targets_has_the_bytes_of_nstx_optimize(
    served: Served, targets: Path, options: dict[str, Any], nstx: Run, tmp_path: Path
) -> None:
    taken = served.submit(
        ("targets", targets.read_bytes()), options={**BRIEF, **options}, name=targets.name
    )
    assert taken.status == 202, taken.json
    assert (taken.json["width"], taken.json["height"], taken.json["steps"]) == (40, 30, 3)
    done = served.wait(taken.json["id"], "succeeded", "failed")
    assert done["status"] == "succeeded", done["error"]
    assert served.ask("GET", done["links"]["before"]).data[:2] == b"\xff\xd8"
    chosen = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", v)]
    code, _, error = nstx(
        "optimize", "--targets", targets, "-o", tmp_path / "a.png", "--steps", 3, "--device", "cpu",
        *chosen,
    )  # fmt: skip
    assert code == 0, error
    made = served.ask("GET", done["links"]["result"])
    assert made.data == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"size": 40}, "size"),
        ({"width": 40}, "width"),
        ({"scales": 1}, "scales"),
        ({"style_scale": 2}, "style_scale"),
        ({"stretch": True}, "stretch"),
        ({"mask": "alpha"}, "mask"),
        ({"keep_profile": True}, "keep_profile"),
        ({"styles": [{}]}, "styles"),
        ({"steps": 200}, "steps"),
        ({"preset": "gatys"}, "targets"),
        ({"style_layers": "conv2_1"}, "targets"),
        ({"colors": "luminance"}, "targets"),
        ({"colors": "only"}, "colors"),
        ({"init": "matched"}, "init"),
    ],
)
def test_options_that_do_not_go_with_targets_are_refused(
    served: Served, targets: Path, options: dict[str, Any], setting: str
) -> None:
    answer = served.submit(("targets", targets.read_bytes()), options={**BRIEF, **options})
    assert (answer.status, answer.reason) == (422, "unprocessable"), answer.json
    assert answer.json["setting"] == setting
    assert "/" not in answer.json["detail"].partition("; try")[0].replace("text/", "")


def test_pictures_and_targets_are_not_sent_together(served: Served, targets: Path) -> None:
    file = ("targets", targets.read_bytes())
    for kind in ("content", "style", "style_mask", "mask", "regions", "targets"):
        answer = served.submit(file, (kind, b"x"))
        assert (answer.status, answer.reason) == (422, "unprocessable"), kind


def test_steps_and_pixels_of_a_file_are_bounded(
    targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    limits = ServiceLimits(max_steps=120)
    with serving(tmp_path / "state", limits) as served:
        answer = served.submit(("targets", changed(targets, {}, preset="gatys")))
        assert (answer.status, answer.json["setting"]) == (422, "steps")
        assert not list((tmp_path / "state" / "uploads").iterdir())
    with serving(tmp_path / "state", ServiceLimits(max_pixels=1000)) as served:
        answer = served.submit(("targets", targets.read_bytes()), options=BRIEF)
        assert (answer.status, answer.reason) == (413, "too-large")


def test_hostile_targets_are_refused_and_leave_nothing(
    served: Served, targets: Path, place: Path
) -> None:
    data = targets.read_bytes()
    zeros = np.zeros((900, 900, 3), np.uint8)
    bad = {
        "empty": b"",
        "cut": data[:-1],
        "longer": data + b"\0",
        "flipped": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        "header": b"\xff" * 8 + data[8:],
        "picture": b"\x89PNG\r\n\x1a\n",
        "nested": (1 << 20).to_bytes(8, "little") + b"[" * (1 << 20),
        "large": changed(targets, {"0/pixels": zeros}),
        "other weights": changed(targets, {}, basis={"weights_sha256": "a" * 64}),
    }
    before = served.service.counts(), set((served.service.folder.path / "uploads").iterdir())
    for name, file in bad.items():
        answer = served.submit(("targets", file), options=BRIEF)
        assert (answer.status, answer.reason) == (422, "unprocessable"), (name, answer.json)
        assert str(served.service.folder.path) not in answer.json["detail"], name
        assert answer.json["setting"] == "targets"
    after = served.service.counts(), set((served.service.folder.path / "uploads").iterdir())
    assert after == before


def changed(path: Path, arrays: dict[str, Any], **fields: Any) -> bytes:
    """Return a sealed file with other arrays and other fields."""
    copied = path.with_name("changed.safetensors")
    copied.write_bytes(path.read_bytes())
    change(copied, arrays, **fields)
    return copied.read_bytes()


def test_a_client_sends_targets(served: Served, targets: Path, nstx: Run, tmp_path: Path) -> None:
    from nstx import Client

    client = Client(served.address)
    job = client.wait(client.submit(targets=targets, steps=3).id)
    assert (job.status, job.width, job.height) == ("succeeded", 40, 30)
    with pytest.raises(UsageError, match="got both"):
        client.submit("c.png", targets=targets)
    with pytest.raises(ImageError, match="no file"):
        client.submit(targets=tmp_path / "no.safetensors")
    output, server = tmp_path / "o.png", ("--server", served.address)
    code, out, error = nstx(
        "submit", "--targets", targets, "-o", output, "--steps", 3, "--json", *server
    )
    assert code == 0, error
    assert json.loads(out)["complete"] is True
    assert output.read_bytes() == client.result(job.id)
    assert read_manifest(output).run.inputs[0].path == targets.name
    for arguments, words in (
        ((targets,), "got both"),
        (("--size", 40), "without sizes"),
        (("--mask", "m.png"), "without --mask"),
        (("--keep-profile",), "profile"),
    ):
        code, _, error = nstx(
            "submit", *arguments, "--targets", targets, "-o", tmp_path / "p.png", *server
        )
        assert (code, words in error) == (2, True), error
    code, _, error = nstx("submit", "-o", output, *server)
    assert (code, "got neither" in error) == (2, True)
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    code, _, error = nstx(
        "submit", "--targets", tmp_path / "bad.safetensors", "-o", output, *server
    )
    assert (code, "targets file" in error) == (2, True)


def test_an_inspector_reads_targets_in_its_own_process(targets: Path, tmp_path: Path) -> None:
    from nstx.engine.batches.asked import AskedJob

    item = AskedJob(output="a.png", settings=nstx.choose_settings(), targets=targets)
    inspection = Inspection()
    try:
        there = inspection.plan(item, 100_000, {"steps": 3})
    finally:
        inspection.close()
    assert there == InspectionHere().plan(item, 100_000, {"steps": 3})
    assert there[0].request["settings"]["objective"]["style_layers"] == [
        {"layer": "conv1_1", "weight": 1.0}
    ]
