"""HTTP with a service of nstx: requests, answers, and streams of lines, within bounds of size and time."""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping

from nstx.models.errors import DeviceError, NstxError, UsageError
from nstx.models.printable import printable

from .answers import Answer, describe_kind

DEFAULT = "http://127.0.0.1:8642"

_MOST = 16 << 20
"""Bytes of an answer that is no picture."""

_LONGEST_LINE = 4 << 20
"""Bytes of a line of a stream: the last one has a job in it."""

_LONGEST = 300.0
"""Seconds for a request with its answer; a server gives an upload 120."""

_CHUNK = 1 << 20
_HOST = re.compile(r"[^\s\x00-\x20\x7f@/\\]{1,253}")

Body = Callable[[], Iterable[bytes]]
"""Returns a body, piece by piece, as often as it is sent."""


class Transport:
    """Requests to one server; every one has a connection of its own, so that any thread may ask.

    Args:
        server: its address, as ``http://127.0.0.1:8642``.
        token: that it asks for; None without one.
        timeout: seconds without a sign of life.
        patience: seconds for which a server that is busy, or away, is asked again.

    `UsageError` of an address that is none.
    """

    def __init__(self, server: str, token: str | None, *, timeout: float, patience: float) -> None:
        parts = _split(server)
        self._kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._host, self._port = str(parts.hostname), parts.port
        self._prefix = parts.path.rstrip("/")
        self._name = printable(f"{parts.scheme}://{parts.netloc}")
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
        longest: float = _LONGEST,
    ) -> Answer:
        """Return the answer to a request, which is made again where the server is busy or away.

        Args:
            method: of HTTP.
            path: on the server.
            body: of the request.
            headers: besides the token.
            most: bytes of the answer.
            longest: seconds that one try may take.

        Raises:
            UsageError, ImageError, OutputError: what was asked for cannot be.
            DeviceError: there is no server, or it cannot do it.
        """
        deadline = time.monotonic() + self._patience
        pause = 0.25
        while True:
            error: NstxError
            try:
                answer = self._ask(method, path, body, headers, most, longest)
                if answer.is_there:
                    return answer
                wait, error = answer.wait, self.error(answer)
            except (OSError, http.client.HTTPException) as failure:
                pause = min(2 * pause, 5.0)
                wait = None if is_lasting(failure) else pause
                error = self.away(failure)
                error.__cause__ = failure
            if wait is None or time.monotonic() + wait > deadline:
                raise error
            time.sleep(wait)

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Iterator[str] | Answer]:
        """Yield the lines of an answer as they come, or the answer where it is no stream; errors as connections have."""
        with self._connection() as connection, contextlib.ExitStack() as block:
            with _ending_in(connection, self._timeout):
                connection.request("GET", self._prefix + path, headers={**self._headers, **headers})
                response = block.enter_context(connection.getresponse())
                answer = None if response.status == 200 else _read(response, _MOST)
            kind = response.headers.get_content_type()
            if answer is None and kind != "text/event-stream":
                raise DeviceError(
                    f"expected a stream of events, got {describe_kind(kind)}; try the server's address"
                )
            yield _lines(response) if answer is None else answer

    def error(self, answer: Answer) -> NstxError:
        """Return the error that an answer tells of."""
        return answer.error(has_token=bool(self._headers))

    def away(self, error: Exception) -> NstxError:
        """Return the error of a connection that failed."""
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        got = printable(reason)[:200]
        if isinstance(error, ssl.SSLCertVerificationError):
            advice = "SSL_CERT_FILE with a certificate that it is signed by"
        elif isinstance(error, ssl.SSLError):
            advice = "http:// in place of https://"
        elif is_lasting(error):
            got, advice = "no HTTP", "https:// in place of http://, or another port"
        else:
            advice = "'nstx serve', or --server"
        return DeviceError(f"expected a server of nstx at {self._name}, got: {got}; try {advice}")

    def _ask(
        self,
        method: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str] | None,
        most: int,
        longest: float,
    ) -> Answer:
        with self._connection() as connection, _ending_in(connection, longest):
            every = {**self._headers, **(headers or {})}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # A server that refuses may answer before it has read all.
                content = None if body is None else body()
                connection.request(method, self._prefix + path, content, every)
            with connection.getresponse() as response:
                return _read(response, most)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = self._kind(self._host, self._port, timeout=self._timeout)
        try:
            connection.connect()
            yield connection
        finally:
            connection.close()


def is_lasting(error: Exception) -> bool:
    """Whether what came of a connection would come again: another protocol, or a certificate of nobody's."""
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, ssl.SSLEOFError)
    others = (http.client.BadStatusLine, http.client.LineTooLong, http.client.UnknownProtocol)
    return isinstance(error, others) and not isinstance(error, http.client.RemoteDisconnected)


def _split(server: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(server)
        host = parts.hostname or ""
        host.encode("idna")
        is_right = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc) is not None
        is_right = is_right and bool(host) and parts.port != 0
        if is_right and not (parts.query or parts.fragment) and re.fullmatch("[!-~]*", parts.path):
            return parts
    except ValueError:  # of its port, brackets, or a name that is too long
        pass
    raise UsageError(
        f"expected a server's address, got {printable(server)[:80]!r}; try {DEFAULT}",
        setting="server",
    )


@contextlib.contextmanager
def _ending_in(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Cut a connection off whose block takes longer, though something may come byte by byte: `TimeoutError`."""
    taken: socket.socket = connection.sock
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(taken, socket.SHUT_RDWR)  # below TLS, which another thread reads

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        if not is_late.is_set():
            raise
        raise TimeoutError(f"no whole answer within {seconds:g} s") from error
    finally:
        timer.cancel()
    if is_late.is_set():
        raise TimeoutError(f"no whole answer within {seconds:g} s")


def _read(response: http.client.HTTPResponse, most: int) -> Answer:
    """Return an answer whose body has at most so many bytes; `DeviceError` of a larger one."""
    data = bytearray()
    while piece := response.read(min(_CHUNK, most + 1 - len(data))):
        data += piece
        if len(data) > most:
            raise DeviceError(
                f"expected an answer of at most {most} bytes, got a larger one; try the server's address"
            )
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, bytes(data))


def _lines(response: http.client.HTTPResponse) -> Iterator[str]:
    while line := response.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise DeviceError(
                f"expected lines of at most {_LONGEST_LINE} bytes, got a longer one; try the server's address"
            )
        if line.endswith(b"\n"):  # else the connection ended within it
            yield line.decode("utf-8", "replace").rstrip("\r\n")
