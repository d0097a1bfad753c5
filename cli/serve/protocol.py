"""HTTP/1.1 as uvicorn reads it, with what it leaves open: time for a request's head, connections in all, and errors as problems."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from nstx.engine.archive.limits import HEAD_SECONDS, MOST_CONNECTIONS

from .problems import MEDIA_TYPE, describe


class Protocol(H11Protocol):
    """One connection."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            detail = f"expected at most {MOST_CONNECTIONS} connections, got one more; try again"
            self._refuse(503, "unavailable", detail, [("Retry-After", "5")])
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._expect_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # within an answer that has begun
            return
        detail = "expected a request of HTTP/1.1, got what is none; try curl"
        self._refuse(400, "bad-request", detail)

    def _expect_head(self) -> None:
        self._cancel()
        self._head = self.loop.call_later(HEAD_SECONDS, self._end_without_head)

    def _end_without_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _cancel(self) -> None:
        if self._head is not None:
            self._head.cancel()

    def _refuse(
        self, status: int, reason: str, detail: str, more: list[tuple[str, str]] | None = None
    ) -> None:
        """Send a problem, and end; by hand, as there may be no request that h11 would let us answer."""
        problem: dict[str, Any] = describe(reason, detail, "/")
        body = json.dumps(problem).encode()
        headers = [
            ("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(body))), ("Connection", "close"),
            ("X-Content-Type-Options", "nosniff"), *(more or []),
        ]  # fmt: skip
        lines = [
            f"HTTP/1.1 {status} {problem['title']}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
