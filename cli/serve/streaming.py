"""Events of a job as server-sent events, from the table that they are kept in."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nstx.engine.archive.limits import MOST_STREAMS
from nstx.engine.jobs.records import FINAL
from nstx.engine.service.refusals import Refusal
from nstx.engine.service.service import Service

HEARTBEAT = 10
"""Seconds from one comment to the next."""

_RETRY = 2000  # milliseconds until a browser comes again
_POLL = 0.25
_LARGEST = 2**53
_Event = partial(ServerSentEvent, sep="\n")


class Streams:
    """Streams of events.

    Attributes:
        open: how many there are.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.open = 0

    def respond(self, request: Request, job: str, after: str | None) -> Response:
        """Return the stream of a job's events after one of a number; 204 where there will be none."""
        number = _read_number(request.headers.get("last-event-id", after))
        self._service.find(job)
        if number and self._service.is_over(job, number):
            return Response(status_code=204)
        if self.open >= MOST_STREAMS:
            raise Refusal(
                "unavailable",
                f"expected at most {MOST_STREAMS} streams of events, got one more; try GET of the job",
                retry_after=5,
            )
        return _Counted(
            self,
            self._stream(job, number),
            ping=HEARTBEAT,
            ping_message_factory=_ping,
            sep="\n",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _stream(self, job: str, number: int) -> AsyncIterator[ServerSentEvent]:
        try:
            yield _Event(comment="nstx", retry=_RETRY)
            while True:
                for event in self._service.events(job, number):
                    if event.number > number + 1:
                        gap = json.dumps({"oldest": event.number})
                        yield _Event(event="gap", data=gap)
                    number = event.number
                    data = json.dumps(event.data)
                    yield _Event(id=str(number), event=event.kind, data=data)
                    if event.kind in FINAL:
                        return
                if self._service.draining:
                    return
                self._service.find(job)  # it may have been forgotten meanwhile
                await asyncio.sleep(_POLL)
        except Refusal:
            return


class _Counted(EventSourceResponse):
    """A stream that counts among those that are open, from when it was granted."""

    def __init__(self, streams: Streams, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._streams = streams
        streams.open += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1


def _read_number(text: str | None) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > 16 or int(text) > _LARGEST:
        raise Refusal(
            "bad-request",
            "expected the number of an event in Last-Event-ID, or after, got another text; try 0",
        )
    return int(text)


def _ping() -> ServerSentEvent:
    return _Event(comment=datetime.now(UTC).isoformat(timespec="seconds"))
