"""The client against servers that are broken, or mean harm."""

import contextlib
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import nstx
from nstx.engine.client import client as client_of
from nstx.engine.client import transport as transport_of
from nstx.engine.client.records import read_job
from nstx.models.errors import DeviceError, ImageError, NstxError, OutputError, UsageError

Run = Callable[..., tuple[int, str, str]]
ID = "0123456789abcdef0123456789abcdef"
JSON = "application/json"
EVENTS = "text/event-stream"


def png(width: int = 12, height: int = 9) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (9, 90, 200)).save(file, "PNG")
    return file.getvalue()


PICTURE = png()
RESULT: dict[str, Any] = {
    "complete": True, "bytes": len(PICTURE), "sha256": hashlib.sha256(PICTURE).hexdigest(), "width": 12,
    "height": 9, "steps": 3, "stopped": "steps", "cost": {"total": 1.0, "style_layers": {"conv1_1": 2.0}},
    "initial_cost": 3.0, "seconds": 0.1,
}  # fmt: skip
JOB: dict[str, Any] = {
    "id": ID, "status": "succeeded", "position": None, "format": "png", "width": 12, "height": 9, "steps": 3,
    "progress": {"step": 3, "steps": 3, "cost": 1.0}, "result": RESULT, "error": None,
}  # fmt: skip


def http(body: bytes | str, kind: str = JSON, status: str = "200 OK", more: str = "") -> bytes:
    data = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{more}"
    return f"{head}Connection: close\r\n\r\n".encode() + data


def stream(text: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\nConnection: close\r\n\r\n"
    return (head + text).encode()


def drip(data: bytes) -> Iterator[bytes]:
    """Yield a beginning, then byte after byte without end."""
    yield data
    while True:
        time.sleep(0.02)
        yield b"a"


@contextlib.contextmanager
def answering(*answers: bytes | Iterator[bytes]) -> Iterator[str]:
    """Have a server answer one request after another, the last of them again and again; yield its address."""
    taken = iter(answers)
    last = [answers[-1]]

    def serve() -> None:
        while True:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    if is_over.is_set():
                        return
                    connection.settimeout(5)
                    connection.recv(1 << 16)
                    answer = next(taken, last[0])
                    for piece in [answer] if isinstance(answer, bytes) else answer:
                        connection.sendall(piece)
                    connection.shutdown(socket.SHUT_WR)

    is_over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            is_over.set()
            socket.create_connection(listening.getsockname()).close()
            thread.join(5)


def job(**changes: Any) -> str:
    return json.dumps({**JOB, **changes})


def ask(*answers: bytes | Iterator[bytes]) -> NstxError:
    """Return the error that comes of asking how a job stands."""
    with answering(*answers) as address, pytest.raises(NstxError) as caught:
        nstx.Client(address, patience=0).find(ID)
    message = str(caught.value)
    assert message.startswith("expected "), message
    assert "; try " in message, message
    assert message.isprintable(), message
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        "", "no JSON", "[]", "null", "7", '"text"', "{}", "[" * 100_000, job(id="../../etc"), job(id="\x1b[2J" + ID),
        job(id="f" * 32), job(id=7), job(status="lost"), job(status=[]), job(status=None), job(format="exe"), job(position="one"),
        job(position=True), job(steps=1.5), job(width=-1), job(height=10**30), job(progress=[]), job(progress={"step": "x"}),
        job(progress={"step": 1, "cost": "x"}), job(result=7), job(result={}), job(result={**RESULT, "bytes": None}),
        job(result={**RESULT, "sha256": "x"}), job(result={**RESULT, "cost": [1]}), job(error="x"), job(error={"type": 1}),
        job(result={**RESULT, "cost": {"\x1b": 1.0}}), job(result={**RESULT, "stopped": "\x1b"}),
        job(progress={"step": 1, "cost": 9.0}).replace("9.0", "NaN"), job(steps=9).replace('": 9', '": 1e999'),
        job(error={"type": "x" * 99, "message": ""}), job(error={"type": "x", "message": "y" * 70_000}),
        job().replace('"id"', '"status"', 1), "\xff",
    ],
)  # fmt: skip
def test_a_job_that_is_none_is_refused_in_a_line(body: str) -> None:
    assert isinstance(ask(http(body)), DeviceError)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (http(job(), "text/html"), DeviceError, "text/html"),
        (http(job(), "text/\x07html"), DeviceError, "got"),
        (http("", status="302 Found", more="Location: http://127.0.0.1:9/\r\n"), DeviceError, "redirection"),
        (http("", status="304 Not Modified"), DeviceError, "status 304"),
        (http("<html>", "text/html", "502 Bad Gateway"), DeviceError, "status 502"),
        (http("<html>", "text/html", "404 Not Found"), DeviceError, "status 404"),
        (http("{}", "application/problem+json", "422 X"), DeviceError, "status 422"),
        (http('{"type": 7, "detail": []}', "application/problem+json", "500 X"), DeviceError, "status 500"),
        (http("", status="204 No Content"), DeviceError, "status 204"),
        (http("x", "text/plain", "401 Unauthorized"), UsageError, "a valid token of this server, got none"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{", DeviceError, "Incomplete"),
        (b"\x15\x03\x01\x00\x02\x02\x46", DeviceError, "https:// in place of http://"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", DeviceError, "https:// in place of http://"),
        (b"", DeviceError, "'nstx serve', or --server"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", DeviceError, "headers"),
        (b"HTTP/1.1 200 OK\r\nA: " + bytes(70_000), DeviceError, "expected a server"),
        (http(b" " * ((16 << 20) + 2)), DeviceError, "expected an answer of at most"),
    ],
)  # fmt: skip
def test_an_answer_of_something_else_is_refused(answer: bytes, kind: type, words: str) -> None:
    error = ask(answer)
    assert isinstance(error, kind)
    assert words in str(error), error


def test_what_a_server_says_is_printable() -> None:
    problem = {
        "type": "urn:nstx:problem:too-large",
        "detail": "expected \x1b]0;x\x07, got y; try z",
        "setting": "\x1b",
    }
    error = ask(http(json.dumps(problem), "application/problem+json", "413 X"))
    assert isinstance(error, ImageError)
    assert (error.setting or "").isprintable()
    failed = read_job(
        {**JOB, "status": "failed", "error": {"type": "ImageError", "message": "a\x1b[2Jb\nc"}}
    )
    with pytest.raises(ImageError) as caught:
        failed.check()
    assert str(caught.value).isprintable()
    odd = read_job(
        {**JOB, "status": "failed", "error": {"type": "SystemExit", "message": "expected"}}
    )
    with pytest.raises(DeviceError):
        odd.check()


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nX: ", http(b"")[:-2] + b"X: ", b"HTTP/1.1 2"]
)
def test_an_answer_that_drips_is_cut_off(start: bytes) -> None:
    began = time.monotonic()
    with answering(drip(start)) as address:
        server = transport_of.Transport(address, None, timeout=20, patience=0)
        with pytest.raises(DeviceError, match=r"no whole answer within 0\.3 s"):
            server.ask("GET", f"/v1/jobs/{ID}", longest=0.3)
    assert time.monotonic() < began + 5


def test_https_of_a_server_without_it_is_told_at_once() -> None:
    with answering(http(job())) as address, pytest.raises(DeviceError, match="try http://"):
        nstx.Client(address.replace("http:", "https:"), patience=60).find(ID)


def test_a_busy_server_is_asked_again() -> None:
    busy = {"type": "urn:nstx:problem:key-in-use", "detail": "expected a, got b; try c"}
    answers = (
        http(json.dumps(busy), "application/problem+json", "409 X", "Retry-After: 0\r\n"),
        http("", "text/html", "503 X", "Retry-After: 0\r\n"),
        http(job()),
    )
    with answering(*answers) as address:
        assert nstx.Client(address, patience=20).find(ID).is_final


def hear(text: str, patience: float = 0) -> list[nstx.RemoteEvent]:
    with answering(stream(text)) as address:
        return list(nstx.Client(address, patience=patience).events(ID))


def block(number: int, kind: str, data: str) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n"


def test_events_are_those_of_the_job() -> None:
    text = ": hello\n\n" + block(1, "status", '{"status": "queued"}') + block(2, "unknown", "x")
    text += block(3, "step", '{"step": 1, "steps": 3, "cost": 0.5, "x": 1}') + "data: x\n\n"
    text += (
        block(3, "step", "told twice") + block(4, "succeeded", job()) + block(5, "step", "after")
    )
    events = hear(text)
    assert [(event.number, event.kind) for event in events] == [
        (1, "status"), (3, "step"), (4, "succeeded"),
    ]  # fmt: skip
    assert events[1].data == {"step": 1, "steps": 3, "cost": 0.5}


@pytest.mark.parametrize(
    "text",
    [
        block(1, "step", "x"), block(1, "step", "[]"), block(1, "step", '{"step": "1", "steps": 3, "cost": 1}'),
        block(1, "step", '{"step": 1, "steps": 3, "cost": NaN}'), block(1, "status", '{"status": "\\u001b"}'),
        block(1, "preview", '{"step": 1, "url": "\\u001b"}'), block(1, "succeeded", "{}"),
        block(1, "failed", job()), block(1, "succeeded", job(id="e" * 32)), block(1, "step", "[" * 9000),
        "data: x\n" * 3000, "data:" + "x" * 5000,
    ],
)  # fmt: skip
def test_events_that_are_none_end_the_stream(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_of, "_MOST_EVENT", 5000)
    monkeypatch.setattr(transport_of, "_LONGEST_LINE", 10_000)
    if "data: x\n" in text or "data:xx" in text:
        monkeypatch.setattr(transport_of, "_LONGEST_LINE", 4000)
    with pytest.raises(DeviceError, match="expected"):
        hear(text, patience=60)


def test_a_stream_of_another_type_is_refused() -> None:
    with answering(http(job())) as address, pytest.raises(DeviceError, match="stream of events"):
        list(nstx.Client(address, patience=60).events(ID))


def test_pages_without_end_are_refused() -> None:
    page = http(json.dumps({"jobs": [JOB], "next": "7"}))
    with answering(page) as address, pytest.raises(DeviceError, match="the same ones again"):
        list(nstx.Client(address, patience=0).jobs())


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        ({}, http(b"", "image/png", "302 Found")), ({}, http(PICTURE, "text/html")), ({}, http(PICTURE[:-9], "image/png")),
        ({}, http(PICTURE + b"x" * (1 << 21), "image/png")), ({"sha256": "0" * 64}, http(PICTURE, "image/png")),
        ({"width": 13}, http(PICTURE, "image/png")),
        ({"bytes": 9, "sha256": None}, http(b"#!/bin/sh", "image/png")),
        ({"bytes": 40, "sha256": None}, http(PICTURE[:40], "image/png")),
        ({"bytes": 6, "sha256": None}, http(b"GIF89a", "image/png")),
        ({}, http(PICTURE, "image/png").replace(str(len(PICTURE)).encode(), b"9999")),
    ],
)  # fmt: skip
def test_what_is_no_picture_replaces_nothing(
    tmp_path: Path, known: dict[str, Any], answer: bytes
) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"before")
    standing = http(job(result={**RESULT, **known}))
    with answering(standing, answer) as address, pytest.raises((OutputError, DeviceError)):
        nstx.Client(address, patience=0).save(ID, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert out.read_bytes() == b"before"


def test_a_picture_is_saved_as_it_was_made(tmp_path: Path) -> None:
    with answering(http(job()), http(PICTURE, "image/png")) as address:
        nstx.Client(address, patience=0).save(ID, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == PICTURE
    running = http(job(status="running", result=None))
    with answering(running) as address, pytest.raises(OutputError, match="one that is running"):
        nstx.Client(address, patience=0).result(ID)


def test_addresses_and_arguments_that_cannot_be_are_refused() -> None:
    for address in (
        "ftp://x", "http://", "http://x:y", "no address", f"http://{'a' * 70}", "http://a b", "http://u:p@x",
        "http://x:0", "http://x/\x1b", "http://[::1", "http://x?q", "http://x\x00",
    ):  # fmt: skip
        with pytest.raises(UsageError, match="expected a server's address"):
            nstx.Client(address)
    for patience in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="patience"):
            nstx.Client(patience=patience)
    with pytest.raises(UsageError, match="expected the id of a job"):
        nstx.Client().find("\x1b")


def test_a_command_tells_a_broken_server_in_a_line(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue("nstx")
    for name in ("c.png", "s.png"):
        (tmp_path / name).write_bytes(PICTURE)
    with answering(http("[]", status="202 Accepted")) as address:
        code, _, err = run(
            "submit", str(tmp_path / "c.png"), str(tmp_path / "s.png"), "-o", str(tmp_path / "o.png"),
            "--server", address, "--patience", "0",
        )  # fmt: skip
    assert (code, "Traceback" in err, "expected an answer of a server" in err) == (4, False, True)
