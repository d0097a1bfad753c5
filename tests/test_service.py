"""The service over HTTP: jobs, events, limits, who may ask; and that nothing is lost, or made twice."""

import contextlib
import errno
import http.client
import io
import json
import os
import socket
import struct
import sys
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from processes import wait_for
from serving import REAL, PretendedFleet, Served, pretend, serving, work_really

import nstx
from nstx.cli.serve import protocol as protocol_of
from nstx.cli.serve import run as serve_run
from nstx.cli.serve import streaming as streaming_of
from nstx.cli.serve.asking import Limits, Serving
from nstx.cli.serve.guards import Access, is_loopback
from nstx.engine.archive import events as events_of
from nstx.engine.archive.events import EventTable
from nstx.engine.archive.folder import name_of
from nstx.engine.archive.limits import ServiceLimits
from nstx.engine.archive.retention import Retention
from nstx.engine.jobs.ledger import Ledger
from nstx.engine.service.intake import find_job
from nstx.engine.service.options import read_options
from nstx.engine.service.refusals import Refusal
from nstx.engine.service.service import Service
from nstx.engine.targets.paintings import split_painting
from nstx.models.errors import OutputError, UsageError

Run = Callable[..., tuple[int, str, str]]
LIMITS = ServiceLimits(
    max_queue=4, max_upload=1 << 20, max_pixels=100_000, max_steps=150, max_seconds=60
)


def png(width: int = 40, height: int = 30, seed: int = 1) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (seed, 90, 200)).save(file, "PNG")
    return file.getvalue()


PAIR = (("content", png()), ("style", png(36, 36, 9)))
SMALL = {"size": 32, "steps": 2}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        with serving(tmp_path_factory.mktemp("service"), LIMITS) as running:
            yield running


@pytest.fixture
def held(served: Served) -> Iterator[None]:
    """Have jobs run on, but for those of earlier tests."""
    wait_for(
        lambda: not {"queued", "running"} & {k for k, n in served.service.counts().items() if n}
    )
    PretendedFleet.held.set()
    yield
    PretendedFleet.held.clear()


def events(served: Served, job: str, **headers: str) -> list[dict[str, Any]]:
    text = served.ask("GET", f"/v1/jobs/{job}/events", None, **headers).data.decode()
    events_of_job = []
    for block in text.split("\n\n"):
        pairs = (line.partition(": ") for line in block.splitlines() if line[:1] != ":")
        fields = {name: value for name, _, value in pairs}
        if "data" in fields:
            events_of_job.append({**fields, "data": json.loads(fields["data"])})
    return events_of_job


def test_a_job_is_taken_told_of_and_had(served: Served) -> None:
    taken = served.submit(*PAIR, options=SMALL)
    job = taken.json
    assert (taken.status, taken.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["width"], job["height"], job["steps"]) == (32, 24, 2)
    assert job["options"] == SMALL
    heard = events(served, job["id"])
    assert [event["event"] for event in heard] == ["status", "status", *["step"] * 3, "succeeded"]
    assert [int(event["id"]) for event in heard] == [1, 2, 3, 4, 5, 6]
    done = served.ask("GET", f"/v1/jobs/{job['id']}").json
    assert heard[-1]["data"] == done
    assert (done["status"], done["position"], done["result"]["complete"]) == (
        "succeeded",
        None,
        True,
    )
    picture = served.ask("GET", done["links"]["result"])
    assert (picture.status, picture.data, picture.headers["content-type"]) == (
        200, PAIR[0][1], "image/png",
    )  # fmt: skip
    tag = picture.headers["etag"]
    assert served.ask("GET", done["links"]["result"], If_None_Match=tag).status == 304
    head = served.ask("HEAD", f"/v1/jobs/{job['id']}")
    assert (head.status, head.data) == (200, b"")
    # What was sent is not kept longer than it is needed.
    assert not served.service.folder.uploads(job["id"]).exists()


def test_events_go_on_from_where_a_client_was(served: Served) -> None:
    job = served.submit(*PAIR, options=SMALL).json["id"]
    served.wait(job, "succeeded")
    heard = events(served, job)
    assert events(served, job, Last_Event_ID="3") == heard[3:]
    assert served.ask("GET", f"/v1/jobs/{job}/events?after=4").data.count(b"event: ") == 2
    assert served.ask("GET", f"/v1/jobs/{job}/events", Last_Event_ID="6").status == 204
    assert served.ask("GET", f"/v1/jobs/{job}/events", Last_Event_ID="600").status == 204
    assert served.ask("GET", f"/v1/jobs/{job}/events", Last_Event_ID="x").reason == "bad-request"


@pytest.mark.usefixtures("held")
def test_what_is_canceled_keeps_its_picture_so_far(served: Served) -> None:
    job = served.submit(*PAIR, options=SMALL).json["id"]
    served.wait(job, "running")
    waiting = served.submit(*PAIR, options=SMALL).json
    assert served.ask("GET", f"/v1/jobs/{job}/result").reason == "not-finished"
    assert served.ask("DELETE", f"/v1/jobs/{waiting['id']}").json["status"] == "canceled"
    for _ in range(2):
        answer = served.ask("POST", f"/v1/jobs/{job}/cancel")
        assert (answer.status, answer.json["status"]) == (200, "canceled")
    last = events(served, job)[-1]
    assert (last["event"], last["data"]["result"]["complete"]) == ("canceled", False)
    assert last["data"]["result"]["steps"] >= 3
    assert served.ask("GET", f"/v1/jobs/{job}/result").data == PAIR[0][1]
    assert events(served, waiting["id"])[-1]["data"]["result"] is None


def test_jobs_are_listed_the_newest_first(served: Served) -> None:
    made = [served.submit(*PAIR, options=SMALL).json["id"] for _ in range(3)]
    for job in made:
        served.wait(job, "succeeded")
    first = served.ask("GET", "/v1/jobs?limit=2&status=succeeded").json
    second = served.ask("GET", f"/v1/jobs?limit=1&cursor={first['next']}").json
    assert [job["id"] for job in [*first["jobs"], *second["jobs"]]] == made[::-1]
    for query in ("limit=0", "limit=1000", "cursor=x", "status=lost"):
        answer = served.ask("GET", f"/v1/jobs?{query}")
        assert (answer.status, answer.reason) == (422, "unprocessable")
        assert answer.json["setting"] == query.partition("=")[0]


def test_a_key_makes_one_job_of_one_form(served: Served) -> None:
    first = served.submit(*PAIR, options=SMALL, Idempotency_Key='"one"')
    again = served.submit(*PAIR, options=SMALL, Idempotency_Key='"one"')
    assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert again.headers["idempotency-replayed"] == "true"
    other = served.submit(*PAIR, options={**SMALL, "seed": 2}, Idempotency_Key='"one"')
    assert (other.status, other.reason) == (422, "key-reused")
    other = served.submit(PAIR[0], ("style", png()), options=SMALL, Idempotency_Key='"one"')
    assert other.reason == "key-reused"
    other = served.submit(*PAIR, options={**SMALL, "format": "jpg"}, Idempotency_Key='"one"')
    assert other.reason == "key-reused"
    for key in ("one", '""', '"a', f'"{"x" * 256}"', '"\\x"'):
        answer = served.submit(*PAIR, options=SMALL, Idempotency_Key=key)
        assert (answer.status, answer.reason) == (400, "bad-request"), key
    with served.service._intake._only(first.json["id"]):
        answer = served.submit(*PAIR, options=SMALL, Idempotency_Key='"one"')
    assert (answer.status, answer.reason) == (409, "key-in-use")


def test_half_a_character_in_options_spoils_no_list(served: Served) -> None:
    answer = served.submit(*PAIR, options='{"styles": [{"region": "\\ud800"}]}')
    assert answer.reason == "unprocessable"
    assert served.ask("GET", "/v1/jobs").status == 200


@pytest.mark.usefixtures("held")
def test_a_full_queue_is_to_be_asked_again(served: Served) -> None:
    jobs = [served.submit(*PAIR, options=SMALL).json["id"]]
    served.wait(jobs[0], "running")
    jobs += [served.submit(*PAIR, options=SMALL).json["id"] for _ in range(LIMITS.max_queue)]
    answer = served.submit(*PAIR, options=SMALL)
    assert (answer.status, answer.reason) == (429, "queue-full")
    assert int(answer.headers["retry-after"]) >= 1
    assert served.ask("GET", f"/v1/jobs/{jobs[-1]}").json["position"] == LIMITS.max_queue - 1
    for job in jobs:
        served.ask("DELETE", f"/v1/jobs/{job}")


def _bomb() -> bytes:
    """Return a small PNG that says of itself that it is huge."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize(
    ("files", "options", "status", "reason"),
    [
        (PAIR[:1], {}, 422, "unprocessable"),
        ((*PAIR, PAIR[0]), {}, 422, "unprocessable"),
        ((*PAIR, ("other", b"x")), {}, 422, "unprocessable"),
        ([("content", png()), *[("style", png())] * 9], {}, 422, "unprocessable"),
        ([("content", png()), *[("style", png())] * 17], {}, 413, "too-large"),
        ((("content", b"no picture"), PAIR[1]), {}, 415, "unsupported-media-type"),
        ((("content", b"%PDF-1.4"), PAIR[1]), {}, 415, "unsupported-media-type"),
        ((("content", b"\x93NUMPY\x01\x00"), PAIR[1]), {}, 415, "unsupported-media-type"),
        ((("content", b""), PAIR[1]), {}, 415, "unsupported-media-type"),
        ((("content", b"\x89PNG\r\n\x1a\n"), PAIR[1]), {}, 422, "unprocessable"),
        ((("content", _bomb()), PAIR[1]), {}, 413, "too-large"),
        ((("content", png(400, 300)), PAIR[1]), {}, 413, "too-large"),
        ((("content", bytes(1 << 20)), PAIR[1]), {}, 413, "too-large"),
        (PAIR, {"size": 2000}, 413, "too-large"),
        (PAIR, {"size": 300, "style_scale": 9}, 413, "too-large"),
        (PAIR, "x" * 70_000, 413, "too-large"),
        (PAIR, {"size": 3}, 422, "unprocessable"),
        (PAIR, {"styles": [{"region": "red"}]}, 422, "unprocessable"),
        (PAIR, {"steps": 151}, 422, "unprocessable"),
        (PAIR, "[]", 422, "unprocessable"),
        (PAIR, '{"size": NaN}', 422, "unprocessable"),
        (PAIR, "[" * 50_000, 422, "unprocessable"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_leaves_nothing(
    served: Served, files: Any, options: Any, status: int, reason: str
) -> None:
    before = served.service.counts()
    answer = served.submit(*files, options=options)
    assert (answer.status, answer.reason) == (status, reason), answer.json
    assert "uploads" not in answer.json["detail"]
    assert served.service.counts() == before
    uploads = {path.name for path in (served.service.folder.path / "uploads").iterdir()}
    assert uploads <= {job["id"] for job in served.ask("GET", "/v1/jobs?limit=100").json["jobs"]}


def _passwords(served: Served) -> set[str]:
    places = os.walk(served.service.folder.path.parent)
    return {name for _, _, names in places for name in names if "passwd" in name}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("a\\b.png", "b.png"),
        ("C:\\CON", "CON"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("x" * 500 + ".png", "x" * 96 + ".png"),
        ("%00", "%00"),
        ("r\u00e4\u4f60 \U0001f600.jpg", "r\u00e4\u4f60 \U0001f600.jpg"),
        ("a\x1b[2J\x07\x7f<b>.png", "a_[2J___b_.png"),
        ("..", None),
        ("/", None),
        ("content", None),
    ],
)
def test_names_of_files_are_shown_and_are_no_paths(
    served: Served, name: str, shown: str | None
) -> None:
    before = _passwords(served)
    answer = served.submit(*PAIR, options=SMALL, name=name)
    assert answer.status == 202
    assert answer.json["name"] == shown
    assert _passwords(served) == before
    done = served.wait(answer.json["id"], "succeeded")
    result = served.ask("GET", done["links"]["result"])
    disposition = result.headers.get("content-disposition")
    if shown is None:
        assert disposition is None
    else:
        assert disposition is not None
        stem = urllib.parse.quote(Path(shown).stem)
        assert f"{Path(shown).stem}.png" in disposition or f"{stem}.png" in disposition
        assert disposition.isascii()
        assert disposition.isprintable()


def test_what_is_wrong_is_told_by_the_names_that_were_sent(served: Served) -> None:
    answer = served.submit(("content", b"no picture"), PAIR[1], name="my photo.jpg")
    assert "my photo.jpg" in answer.json["detail"]
    assert "content-1" not in answer.json["detail"]


def test_errors_are_problems_whatever_is_asked(served: Served) -> None:
    lost = "0" * 32
    for method, path, status in (
        ("GET", f"/v1/jobs/{lost}", 404),
        ("GET", "/v1/jobs/..%2f..%2fledger", 404),
        ("GET", f"/v1/jobs/{lost}/preview", 404),
        ("GET", f"/v1/jobs/{lost}/events", 404),
        ("POST", f"/v1/jobs/{lost}/cancel", 404),
        ("GET", "/nothing", 404),
        ("GET", "/page/../run.py", 404),
        ("PUT", "/v1/jobs", 405),
        ("BREW", "/livez", 405),
    ):
        answer = served.ask(method, path)
        assert answer.status == status, path
        assert answer.reason in ("not-found", "method-not-allowed")
    assert served.ask("PATCH", "/v1/jobs").headers["allow"] == "GET, HEAD, POST"
    assert served.ask("POST", "/v1/jobs", b"{}").status == 415
    form = "multipart/form-data"
    assert served.ask("POST", "/v1/jobs", b"x", Content_Type=form).status == 400
    broken = f"{form}; boundary=b"
    part = b'--b\r\nContent-Disposition: form-data; name="options"\r\n\r\n{}\r\n'
    for data, reason in (
        (b"--b\r\nx", "bad-request"),
        (part, "bad-request"),
        (part + b"--b--\r\n", "unprocessable"),
    ):
        assert served.ask("POST", "/v1/jobs", data, Content_Type=broken).reason == reason


def raw(served: Served, data: bytes) -> bytes:
    """Return all that comes of some bytes, until the connection ends."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_what_is_no_http_is_a_problem_too(served: Served) -> None:
    for data in (
        b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n", b"GET /" + b"x" * 70_000,
        b"GET / HTTP/1.1\r\n\r\n", b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ):  # fmt: skip
        head, _, body = raw(served, data).partition(b"\r\n\r\n")
        assert head.startswith(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json"
        )
        assert json.loads(body)["type"] == "urn:nstx:problem:bad-request"


def test_connections_are_ended_that_ask_for_nothing_and_are_not_without_number(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_of, "HEAD_SECONDS", 0.2)
    assert raw(served, b"") == b""
    assert raw(served, b"GET / HTTP/1.1\r\nHost: lo") == b""
    asked = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(served, asked + b"GET").startswith(b"HTTP/1.1 200")
    monkeypatch.setattr(protocol_of, "MOST_CONNECTIONS", 0)
    answer = raw(served, b"")
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable")
    assert b"Retry-After: 5" in answer


def test_a_full_disk_and_a_ledger_that_cannot_be_written_are_the_servers_trouble(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(code: int) -> Callable[..., None]:
        def raises(*_: object) -> None:
            raise OSError(code, "no")

        return raises

    before = {path.name for path in (served.service.folder.path / "uploads").iterdir()}
    for code, status, reason in ((errno.ENOSPC, 507, "disk-full"), (errno.EIO, 503, "unavailable")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nstx.engine.service.intake.os.fsync", fail(code))
            answer = served.submit(*PAIR, options=SMALL)
            assert (answer.status, answer.reason, "retry-after" in answer.headers) == (
                status,
                reason,
                True,
            )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("starlette.datastructures.UploadFile.write", fail(code))
            assert served.submit(*PAIR, options=SMALL).reason == reason

    def add(*_: object) -> None:
        raise OutputError(f"expected a ledger, got none at {served.service.folder.path}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "add", add)
        answer = served.submit(*PAIR, options=SMALL)
    assert answer.reason == "unavailable"
    assert str(served.service.folder.path) not in answer.json["detail"]
    with pytest.MonkeyPatch.context() as patch:
        supervisor, trouble = served.service._supervisor, f"{served.service.folder.path}/x is lost"
        details = ""
        for _ in range(50):  # an event of the workers ends all trouble
            patch.setattr(supervisor, "trouble", trouble)
            details = served.ask("GET", "/readyz").json.get("detail", "")
            if details:
                break
        assert details.endswith("got: x is lost")
    monkeypatch.setattr("nstx.engine.archive.limits.SPARE_DISK", 1 << 60)
    assert served.ask("GET", "/readyz").reason == "unavailable"
    assert {path.name for path in (served.service.folder.path / "uploads").iterdir()} <= before


def test_what_cannot_look_at_pictures_is_to_be_asked_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("/no/such/program", "/bin/false"):
        inspection = REAL[1]()
        monkeypatch.setattr(sys, "executable", program)
        monkeypatch.setattr(served.service._intake, "_inspection", inspection)
        answer = served.submit(*PAIR, options=SMALL)
        assert (answer.status, answer.reason, answer.headers["retry-after"]) == (
            503,
            "unavailable",
            "10",
        )


@pytest.mark.usefixtures("held")
def test_streams_are_not_without_number(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    job = served.submit(*PAIR, options=SMALL).json["id"]
    monkeypatch.setattr(streaming_of, "MOST_STREAMS", 1)
    path = f"/v1/jobs/{job}/events"
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    ) as first:
        first.request("GET", path)
        assert first.getresponse().status == 200
        answer = served.ask("GET", path)
        assert (answer.status, answer.reason) == (503, "unavailable")
        served.ask("DELETE", f"/v1/jobs/{job}")
    wait_for(lambda: served.ask("GET", path).status == 200)


def test_a_style_has_a_mask(served: Served, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    styles = (("style", png()), ("style", png(36, 36)))
    mask = ("style_mask", png(36, 36))
    options = {**SMALL, "styles": [{}, {"mask": True, "layers": "conv1_1"}]}
    answer = served.submit(PAIR[0], *styles, mask, options=options)
    assert answer.status == 202
    with Ledger(served.service.folder.batch.ledger) as ledger:
        record = find_job(ledger, answer.json["id"])
        assert record is not None
        named = [split_painting(path) for path, _ in record.request["styles"]]
    assert [len(named[0].files), record.request["styles"][1][0].count("@")] == [1, 2]
    assert served.submit(PAIR[0], *styles, mask, mask, options=SMALL).status == 202
    for masks, wrong in (
        ((mask,), SMALL),
        ((), options),
        ((mask, mask), options),
        ((mask,) * 9, SMALL),
    ):
        assert served.submit(PAIR[0], *styles, *masks, options=wrong).reason == "unprocessable"
    bad = ("style_mask", b"none")
    assert served.submit(*PAIR, bad, options=SMALL).reason == "unsupported-media-type"
    run: Run = request.getfixturevalue("nstx")
    for name in ("c.png", "s.png", "m.png"):
        (tmp_path / name).write_bytes(png())
    code, _, err = run(
        "submit", str(tmp_path / "c.png"), f"{tmp_path / 's.png'}@{tmp_path / 'm.png'}", "-o", str(tmp_path / "o.png"),
        "--server", served.address, "--size", "32", "--steps", "2",
    )  # fmt: skip
    assert code == 0, err
    with pytest.raises(UsageError, match="one for each style"):
        nstx.Client(served.address).submit(
            tmp_path / "c.png", tmp_path / "s.png", style_masks=[None, None]
        )


def test_pages_of_other_origins_and_other_names_reach_nothing(served: Served) -> None:
    job = served.submit(*PAIR, options=SMALL).json["id"]
    assert served.ask("GET", "/v1/jobs", Host="evil.example").reason == "misdirected"
    assert served.ask("GET", "/v1/jobs", Host=f"localhost:{served.port}").status == 200
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert served.submit(*PAIR, **headers).reason == "cross-origin"
        assert served.ask("DELETE", f"/v1/jobs/{job}", None, **headers).reason == "cross-origin"
    assert served.ask("DELETE", f"/v1/jobs/{job}", Origin=served.address).status == 200
    answer = served.ask("GET", "/v1/jobs", Origin="http://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    page = served.ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


def test_a_token_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    token = "a-token-of-the-tests"
    with serving(tmp_path, LIMITS, Access(token=token, names=None)) as served:
        for shown in (
            "",
            "Bearer",
            f"Basic {token}",
            "Bearer another-token-here",
            f"Bearer {token}x",
        ):
            answer = served.ask("GET", "/v1/jobs", Authorization=shown)
            assert (answer.status, answer.reason) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert served.submit(*PAIR, options=SMALL).reason == "unauthorized"
        assert served.ask("GET", "/metrics").status == 401
        assert served.ask("GET", "/livez", Host="any.example").status == 200
        paths = served.ask("GET", "/openapi.json").json["paths"]
        wanting = [path for path, methods in paths.items() if "security" in str(methods)]
        assert wanting == [path for path in paths if path.startswith(("/v1", "/metrics"))]
        client = nstx.Client(served.address, token=token)
        assert list(client.jobs()) == []
        for wrong, got in ((None, "none"), ("a-wrong-token-of-a-test", "another")):
            with pytest.raises(
                UsageError, match=f"expected a valid token of this server, got {got}"
            ):
                list(nstx.Client(served.address, token=wrong).jobs())


def test_no_address_beyond_this_machine_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "x.org")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    monkeypatch.delenv(serve_run.TOKEN_VARIABLE, raising=False)
    with pytest.raises(UsageError, match="expected a token"):
        serve_run.choose_access(Serving(host="0.0.0.0"), is_local=False)
    monkeypatch.setenv(serve_run.TOKEN_VARIABLE, "short")
    with pytest.raises(UsageError, match="16 …"):
        serve_run.choose_access(Serving(), is_local=True)
    (tmp_path / "token").write_text("0123456789abcdef\n")
    access = serve_run.choose_access(Serving(token_file=tmp_path / "token"), is_local=False)
    assert access == Access(token="0123456789abcdef", names=None)


def test_it_says_how_it_stands(served: Served) -> None:
    info = served.ask("GET", "/v1/service").json
    assert info["limits"]["max_pixels"] == LIMITS.max_pixels
    assert "device" not in info["options"]
    assert {"size", "init", "preset"} <= set(info["options"])
    assert served.ask("GET", "/readyz").json == {"status": "ready"}
    text = served.ask("GET", "/metrics").data.decode()
    for name in (
        "nstx_jobs_total",
        "nstx_queue_depth",
        "nstx_step_seconds",
        "nstx_job_duration_seconds",
    ):
        assert name in text
    paths = served.ask("GET", "/openapi.json").json["paths"]
    asked = paths["/v1/jobs"]["post"]["responses"]
    assert {"401", "413", "415", "422", "429"} <= set(asked)
    known = [way["operationId"] for ways in paths.values() for way in ways.values()]
    linked = [link["operationId"] for link in asked["202"]["links"].values()]
    assert {"get_job", "get_events", "result", "cancel_job"} <= set(linked) <= set(known)
    assert len(set(known)) == len(known)


def test_what_waits_is_made_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    PretendedFleet.held.set()
    with serving(tmp_path, LIMITS) as served:
        jobs = [served.submit(*PAIR, options=SMALL).json["id"] for _ in range(3)]
        served.wait(jobs[0], "running")
        served.service.drain()
        assert served.submit(*PAIR).reason == "unavailable"
        assert served.ask("GET", "/readyz").status == 503
        assert served.ask("GET", "/livez").status == 200
    PretendedFleet.held.clear()
    orphan = served.service.folder.uploads("f" * 32)
    orphan.mkdir()
    with serving(tmp_path, LIMITS) as served:
        assert not orphan.exists()
        for job in jobs:
            served.wait(job, "succeeded")
        heard = [event["event"] for event in events(served, jobs[0])]
        assert heard[-1] == "succeeded"
        assert heard.count("succeeded") == 1


def test_a_job_that_takes_too_long_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: None
) -> None:
    pretend(monkeypatch)
    PretendedFleet.held.set()
    with serving(tmp_path, ServiceLimits(max_seconds=0.2)) as served:
        job = served.submit(*PAIR, options=SMALL).json["id"]
        last = events(served, job)[-1]
    assert (last["event"], last["data"]["error"]["type"]) == ("failed", "TimeLimit")
    assert last["data"]["result"]["complete"] is False


def test_what_is_old_or_too_much_is_forgotten(served: Served) -> None:
    jobs = [served.submit(*PAIR, options=SMALL).json["id"] for _ in range(2)]
    for job in jobs:
        served.wait(job, "succeeded")
        events(served, job)
    folder = served.service.folder
    with Ledger(folder.batch.ledger) as ledger:
        table = EventTable(folder.events)
        keeping = Retention(folder, ServiceLimits(keep_hours=1), ledger, table)
        assert keeping.sweep() == 0
        assert keeping.kept_bytes > 0
        record = ledger.find(name_of(jobs[1], "png"))
        assert record is not None
        forgetting = Retention(folder, ServiceLimits(keep_hours=1e-9), ledger, table)
        assert forgetting.sweep({record.id}) >= 1
        table.close()
    assert served.ask("GET", f"/v1/jobs/{jobs[0]}").status == 404
    assert served.ask("GET", f"/v1/jobs/{jobs[0]}/result").status == 404
    assert served.ask("GET", f"/v1/jobs/{jobs[1]}/result").status == 200
    assert not folder.result(name_of(jobs[0], "png")).exists()


def test_events_that_were_dropped_are_told_as_a_gap(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_of, "KEPT", 20)
    monkeypatch.setattr(events_of, "_SLACK", 10)
    job = served.submit(*PAIR, options=SMALL).json["id"]
    served.wait(job, "succeeded")
    table = EventTable(served.service.folder.events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_of, "FINAL", ())
        table.append((job, "step", {"step": number}) for number in range(60))
    table.append([(job, "succeeded", {})])
    table.close()
    heard = events(served, job, Last_Event_ID="2")
    assert heard[0]["event"] == "gap"
    assert "id" not in heard[0]
    assert heard[0]["data"] == {"oldest": int(heard[1]["id"])}
    assert len(heard) < 40


@pytest.mark.parametrize(
    "data",
    [
        {"device": "cuda"}, {"weights": "/etc/passwd"}, {"init": "/etc/passwd"}, {"nothing": 1},
        {"preset": 3}, {"preset": "x"}, {"content_layers": {"a": 1}}, {"content_layers": [1]},
        {"style_layers": "conv9_9"}, {"content_weight": "x"}, {"content_weight": -1}, {"solver": []},
        {"styles": {}}, {"styles": [{}, {}]}, {"styles": [{"weight": 0}]}, {"styles": [{"weight": "x"}]},
        {"styles": [{"layers": "x"}]}, {"styles": [{"path": "x"}]}, {"format": "gif"}, {"format": []},
        {"depth": 12}, {"depth": 8.0}, {"steps": 8.0}, {"seed": 1.0}, {"depth": 16, "format": "jpg"}, {"keep_profile": 1}, {"mask": "/etc/passwd"},
        {"size": True}, {"size": 1.5}, {"seed": -1}, {"style_statistic": 5}, {"pooling": {}},
        {"scales": 99}, {"early_stop": "yes"}, {"learning_rate": "x"}, {"tv_weight": [1]},
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="expected") as caught:
        read_options(json.dumps(data), 1, ServiceLimits(), {})
    assert caught.value.reason == "unprocessable"


def test_options_are_those_of_settings() -> None:
    text = json.dumps(
        {"preset": "gatys", "size": 300, "styles": [{"layers": "conv1_1"}], "seed": None}
    )
    options = read_options(text, 1, ServiceLimits(), {"device": "cpu"})
    assert options.settings == nstx.choose_settings("gatys", size=300, device="cpu", large=False)
    assert options.styles[0].layers == "conv1_1"
    assert options.given == {"preset": "gatys", "size": 300, "styles": [{"layers": "conv1_1"}]}


def test_limits_are_checked() -> None:
    assert ServiceLimits(max_upload="2MiB").max_upload == 2 << 20  # type: ignore[arg-type]
    for changes in ({"max_queue": 0}, {"max_upload": 5}, {"keep_hours": 0}, {"max_seconds": "x"}):
        with pytest.raises(UsageError, match=r"; try \w+=['\d]"):
            ServiceLimits(**changes)


def test_workers_and_jobs_together_are_some(tmp_path: Path) -> None:
    for workers, together in ((0, 1), (257, 1), (1, 0)):
        with pytest.raises(UsageError, match="1 … 256"):
            Service(tmp_path, workers=workers, together=together)


def test_limits_of_the_command_line_are_those_of_the_service() -> None:
    limits = Limits()
    assert ServiceLimits() == ServiceLimits(
        **{name: getattr(limits, name) for name in ServiceLimits.__dataclass_fields__}
    )


def test_a_client_has_a_picture_made(
    served: Served, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue("nstx")
    for name, data in (("c.png", PAIR[0][1]), ("s.png", PAIR[1][1])):
        (tmp_path / name).write_bytes(data)
    client = nstx.Client(served.address)
    job = client.submit(tmp_path / "c.png", tmp_path / "s.png", key='a "key"', size=32, steps=2)
    assert (
        client.submit(tmp_path / "c.png", tmp_path / "s.png", key='a "key"', size=32, steps=2).id
        == job.id
    )
    kinds = [event.kind for event in client.events(job.id)]
    assert kinds[-1] == "succeeded"
    assert client.wait(job.id).result is not None
    client.save(job.id, tmp_path / "o.png")
    assert (tmp_path / "o.png").read_bytes() == PAIR[0][1]
    assert job.id in [item.id for item in client.jobs("succeeded")]
    pair = [str(tmp_path / "c.png"), f"{tmp_path / 's.png'}:2"]
    server = ("--server", served.address, "--size", "32", "--steps", "2")
    code, out, _ = run("submit", *pair, "-o", str(tmp_path / "p.png"), *server, "--json")
    assert code == 0
    assert json.loads(out)["complete"] is True
    assert (tmp_path / "p.png").read_bytes() == PAIR[0][1]
    code, _, err = run("submit", *pair, "-o", str(tmp_path / "q.png"), *server, "--size", "3000")
    assert (code, "pixels" in err) == (3, True)
    code, _, err = run(
        "submit",
        *pair,
        "-o",
        str(tmp_path / "q.png"),
        "--server",
        "http://127.0.0.1:9",
        "--patience",
        "0",
    )
    assert (code, "nstx serve" in err) == (4, True)
    for address in ("ftp://x", "http://", "http://x:y", "no address"):
        with pytest.raises(UsageError, match="expected a server's address"):
            nstx.Client(address)


def test_a_picture_is_made_by_a_worker_and_shown_as_it_develops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_really(monkeypatch)
    machine = {"use_cache": True}
    with serving(tmp_path / "state", machine=machine) as served:
        options = {**SMALL, "content_layers": "conv1_2", "style_layers": "conv1_1", "format": "jpg"}
        job = served.submit(*PAIR, options=options).json["id"]
        heard = events(served, job)
        done = heard[-1]["data"]
        assert heard[-1]["event"] == "succeeded", done
        for name in ("result", "preview", "before"):
            answer = served.ask("GET", done["links"][name])
            assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
            assert answer.data[:2] == b"\xff\xd8", (name, answer)
            assert Image.open(io.BytesIO(answer.data), formats=["JPEG"]).size == (32, 24)
        assert {"step", "preview"} <= {event["event"] for event in heard}
        assert done["result"]["steps"] == 2
