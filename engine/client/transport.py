"""HTTP with a service of nstx: requests, answers, and streams of lines, with the errors that a person reads."""

import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nstx.models.errors import DeviceError, ImageError, NstxError, OutputError, UsageError
from nstx.models.printable import printable

DEFAULT = "http://127.0.0.1:8642"

_MOST = 16 << 20
"""Bytes of an answer that is no picture."""

_LONGEST_LINE = 1 << 20
_AGAIN = (429, 503)
_MOST_WAIT = 60  # seconds that a server may have a client wait

Body = Callable[[], Iterable[bytes]]
"""Returns a body, piece by piece, as often as it is sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    def json(self) -> Any:
        """Return the plain data in it."""
        try:
            return json.loads(self.data)
        except ValueError as error:
            raise DeviceError(
                "expected an answer of a server of nstx, got another; try its address"
            ) from error


class Transport:
    """Requests to one server; every one has a connection of its own, so that any thread may ask.

    Args:
        server: its address, as ``http://127.0.0.1:8642``.
        token: that it asks for; None without one.
        timeout: seconds without a sign of life.
        patience: seconds for which a server that is busy, or away, is asked again.
    """

    def __init__(self, server: str, token: str | None, *, timeout: float, patience: float) -> None:
        parts = urllib.parse.urlsplit(server)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query:
            raise UsageError(
                f"expected a server's address, got {printable(server)[:80]!r}; try {DEFAULT}",
                setting="server",
            )
        self._kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._host, self._port, self._prefix = parts.hostname, port, parts.path.rstrip("/")
        self._name = printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
        self._timeout, self._patience = timeout, patience
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        most: int = _MOST,
    ) -> Answer:
        """Return the answer to a request, which is made again where the server is busy or away.

        Raises:
            UsageError, ImageError, OutputError: what was asked for cannot be.
            DeviceError: there is no server, or it cannot do it.
        """
        deadline = time.monotonic() + self._patience
        pause = 0.25
        while True:
            try:
                answer = self._ask(method, path, body, headers, most)
                wait = _wait_of(answer) if answer.status in _AGAIN else None
                error: Exception = _error_of(answer)
                if answer.status < 400:
                    return answer
            except (OSError, http.client.HTTPException) as failure:
                pause = min(2 * pause, 5.0)
                wait, error = pause, self._away(failure)
                error.__cause__ = failure
            if wait is None or time.monotonic() + wait > deadline:
                raise error
            time.sleep(wait)

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Iterator[str] | None]:
        """Yield the lines of an answer as they come; None where there is nothing (204). `OSError` as a connection has."""
        with self._connection() as connection:
            connection.request("GET", self._prefix + path, headers={**self._headers, **headers})
            response = connection.getresponse()
            if response.status == 204:
                yield None
            elif response.status != 200:
                data = response.read(_MOST)
                raise _error_of(Answer(response.status, dict(response.headers), data))
            else:
                yield _lines(response)

    def _ask(
        self,
        method: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str] | None,
        most: int,
    ) -> Answer:
        with self._connection() as connection:
            every = {**self._headers, **(headers or {})}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # A server that refuses may answer before it has read all.
                content = None if body is None else body()
                connection.request(method, self._prefix + path, content, every)
            response = connection.getresponse()
            data = response.read(most + 1)
            if len(data) > most:
                raise DeviceError(
                    f"expected an answer of at most {most} bytes, got a larger one; try its address"
                )
            return Answer(response.status, dict(response.headers), data)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = self._kind(self._host, self._port, timeout=self._timeout)
        try:
            yield connection
        finally:
            connection.close()

    def _away(self, error: Exception) -> NstxError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return DeviceError(
            f"expected a server of nstx at {self._name}, got: {printable(reason)[:200]}; try 'nstx serve', or --server"
        )


def _lines(response: http.client.HTTPResponse) -> Iterator[str]:
    while line := response.readline(_LONGEST_LINE):
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def _wait_of(answer: Answer) -> float:
    named = {name.lower(): value for name, value in answer.headers.items()}.get("retry-after", "")
    return min(_MOST_WAIT, int(named)) if named.isascii() and named.isdecimal() else 2.0


def _error_of(answer: Answer) -> NstxError:
    """Return the error that an answer tells of."""
    try:
        problem = json.loads(answer.data)
        reason = str(problem["type"]).rpartition(":")[2]
        detail, setting = printable(problem["detail"])[:1000], problem.get("setting")
    except (ValueError, TypeError, LookupError):
        reason, detail, setting = (
            "",
            f"expected an answer of nstx, got status {answer.status}",
            None,
        )
    kind: type[NstxError] = UsageError
    if reason in ("too-large", "unsupported-media-type"):
        kind = ImageError
    elif answer.status >= 500 or answer.status == 429:
        kind = DeviceError
    elif reason == "not-finished":
        kind = OutputError
    return kind(detail, setting=setting if isinstance(setting, str) else None)
