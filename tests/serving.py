"""A service in this process, with workers that only pretend, and requests to it."""

import contextlib
import http.client
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nstx.cli.serve.guards import Access
from nstx.cli.serve.metrics import Metrics
from nstx.cli.serve.run import answering
from nstx.engine.archive.folder import ServiceFolder
from nstx.engine.archive.limits import ServiceLimits
from nstx.engine.batches.asked import AskedJob
from nstx.engine.batches.fleet import Event, Fleet, FleetChoice
from nstx.engine.batches.folder import BatchFolder, digest_of
from nstx.engine.batches.planning import Planner
from nstx.engine.jobs.ledger import Ledger, LostClaimError
from nstx.engine.jobs.records import NewJob
from nstx.engine.service import service, supervising
from nstx.engine.service.inspection import Chosen, Inspection, read_answer, write_question
from nstx.engine.service.inspector import answer


class PretendedFleet:
    """Workers that make no pictures: a job's result are the bytes of its content."""

    held = threading.Event()
    """While it is set, jobs run on."""

    def __init__(self, folder: BatchFolder, choice: FleetChoice) -> None:
        self._folder = folder

    def run(self) -> Iterator[Event]:
        """Yield what a fleet would."""
        with Ledger(self._folder.ledger) as ledger:
            while True:
                yield {"event": "idle"}
                time.sleep(0.01)
                for claim in ledger.claim("w"):
                    name = {"job": claim.id, "worker": 0}
                    yield {"event": "begun", **name}
                    step = 0
                    while step < 3 or (self.held.is_set() and ledger.beat([claim])):
                        step += 1
                        yield {"event": "step", "step": step, "steps": 9, "cost": 1 / step, **name}
                        time.sleep(0.01)
                    part = self._folder.part(claim.fence, ".png")
                    source = claim.request["content"] or claim.request["targets"]
                    part.write_bytes(Path(source).read_bytes())
                    digest = digest_of(part)
                    assert digest is not None
                    place = self._folder.place(claim.id)
                    known = {"width": 40, "height": 30, "steps": step, "cost": {"total": 0.5}}
                    try:
                        ledger.publish(claim, digest, known, lambda a=part, b=place: a.rename(b))  # type: ignore[misc]
                        yield {"event": "succeeded", **name}
                    except LostClaimError:
                        shown = ServiceFolder(self._folder.path.parent).partial(claim.id)
                        shown.parent.mkdir(exist_ok=True)
                        part.rename(shown)
                        shown.with_suffix(".json").write_text(json.dumps(known))
                        yield {"event": "let_go", **name}


class InspectionHere:
    """Looks at files in this process."""

    def plan(
        self, asked: AskedJob, most_pixels: int, chosen: Chosen = None
    ) -> tuple[NewJob, tuple[int, int]]:
        """Plan a job as `nstx.engine.service.inspection.Inspection` does."""
        reply = answer(Planner(), write_question(asked, most_pixels, chosen))
        return read_answer(json.loads(json.dumps(reply)))

    def warm(self) -> None:
        """Do nothing."""

    close = warm


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        """The plain data in it."""
        return json.loads(self.data)

    @property
    def reason(self) -> str:
        """The end of a problem's type."""
        assert self.headers["content-type"] == "application/problem+json"
        assert self.json["status"] == self.status
        return str(self.json["type"]).removeprefix("urn:nstx:problem:")


class Served:
    """A service, and the server that answers for it."""

    def __init__(self, running: service.Service, port: int) -> None:
        self.service, self.port = running, port

    @property
    def address(self) -> str:
        """Of the server."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, /, **headers: str) -> Answer:
        """Return the answer to a request; ``a_name`` stands for a header ``a-name``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, body, named)
            response = connection.getresponse()
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, lower, response.read())

    def submit(
        self, *files: tuple[str, bytes], options: object = None, name: str = "a.png", **headers: str
    ) -> Answer:
        """Ask for a picture."""
        parts = [(kind, data, f'; filename="{name}"') for kind, data in files]
        if options is not None:
            text = options if isinstance(options, str) else json.dumps(options)
            parts.append(("options", text.encode(), ""))
        boundary = uuid.uuid4().hex
        body = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{kind}"{more}\r\n\r\n'.encode()
            + data
            + b"\r\n"
            for kind, data, more in parts
        )
        kind = f"multipart/form-data; boundary={boundary}"
        whole = body + f"--{boundary}--\r\n".encode()
        return self.ask("POST", "/v1/jobs", whole, Content_Type=kind, **headers)

    def wait(self, job: str, *statuses: str) -> dict[str, Any]:
        """Return a job once it has one of these statuses."""
        deadline = time.monotonic() + 60
        while True:
            standing: dict[str, Any] = self.ask("GET", f"/v1/jobs/{job}").json
            if standing["status"] in statuses:
                return standing
            assert time.monotonic() < deadline, standing
            time.sleep(0.01)


@contextlib.contextmanager
def serving(
    state: Path,
    limits: ServiceLimits | None = None,
    access: Access | None = None,
    machine: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> Iterator[Served]:
    """Have a service answer on a port of this machine for the time of a block."""
    metrics = Metrics()
    running = service.Service(
        state, limits, machine={"device": "cpu", **(machine or {})}, workers=workers, observe=metrics.observe,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with running, answering(running, access or Access(), metrics, listening):
            served = Served(running, port)
            deadline = time.monotonic() + 60
            while running.trouble:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield served


REAL = (Fleet, Inspection)


def work_really(patch: pytest.MonkeyPatch) -> None:
    """Have services with processes, where others pretend."""
    patch.setattr(supervising, "Fleet", REAL[0])
    patch.setattr(service, "Inspection", REAL[1])


def pretend(patch: pytest.MonkeyPatch) -> None:
    """Have services without processes of their own."""
    patch.setattr(supervising, "Fleet", PretendedFleet)
    patch.setattr(service, "Inspection", InspectionHere)
    PretendedFleet.held.clear()
