"""A client of a service: ask for a picture, watch it, have it."""

import http.client
import json
import math
import os
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from nstx.models.arguments import check_type
from nstx.models.errors import DeviceError, OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.files import write_output
from nstx.models.values import refuse

from ..choices import Choices
from .answers import Answer
from .forms import make_form
from .pictures import check_picture
from .records import FINAL, RemoteEvent, RemoteJob, Status, read_event, read_job, read_page
from .transport import DEFAULT, Transport, is_lasting

_MOST_EVENT = 4 << 20  # bytes
_LONGEST_PICTURE = 3600.0  # seconds for one to come
_MOST_PROBLEM = 1 << 20  # bytes of what comes in place of a picture
_DIGITS = 16  # of the number of an event
_LONGEST_ID = 200
_SILENCE = 40.0
"""Seconds without a heartbeat after which a stream is opened anew."""


class Client:
    """Asks a server that ``nstx serve`` runs; see docs/serve.md.

    Args:
        server: its address.
        token: that it asks for; None takes ``NSTX_SERVE_TOKEN`` of the environment, if it is there.
        patience: seconds for which a server that is busy, or away, is asked again.

    All methods raise `DeviceError` where there is no such server or it cannot answer, and `UsageError` or `ImageError`
    where it refuses what is asked for.
    """

    def __init__(
        self, server: str = DEFAULT, *, token: str | None = None, patience: float = 60.0
    ) -> None:
        check_type("server", server, str, f"nstx.Client({DEFAULT!r})")
        check_type("token", token, str | None, "token=None")
        check_type("patience", patience, float, "patience=60")
        token = os.environ.get("NSTX_SERVE_TOKEN") if token is None else token
        if token is not None and not (token.isascii() and token.isprintable()):
            raise UsageError("expected a token of printable ASCII, got another; try another one")
        if not 0 <= patience < math.inf:
            raise refuse("seconds of 0 or more", "patience", patience, 60)
        self._transport = Transport(server, token, timeout=_SILENCE, patience=patience)
        self._patience = patience

    def submit(
        self,
        content: str | os.PathLike[str] | None = None,
        styles: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        *,
        targets: str | os.PathLike[str] | None = None,
        style_masks: Sequence[str | os.PathLike[str] | None] = (),
        mask: str | os.PathLike[str] | None = None,
        regions: str | os.PathLike[str] | None = None,
        key: str | None = None,
        options: Mapping[str, Any] | None = None,
        **choices: Unpack[Choices],
    ) -> RemoteJob:
        """Ask for a picture, and return its job, which waits.

        Args:
            content: the photograph's file.
            styles: a painting's file, or several.
            targets: a file of `nstx.write_targets`, in place of all pictures.
            style_masks: the file of a mask for each painting, or None: what of it counts.
            mask: the file of a mask, or ``alpha``.
            regions: the file of a map of colours.
            key: by which the server knows the same request again; None makes one.
            options: other fields of docs/serve.md, such as ``preset``, ``format`` or ``styles``.
            choices: of `nstx.Settings`, as ``size=512``.
        """
        check_type("styles", styles, Path | str | Sequence[Path | str], "'painting.jpg'")
        paintings = [styles] if isinstance(styles, str | os.PathLike) else [*styles]
        chosen = {name: value for name, value in choices.items() if value is not None}
        fields = {**(options or {}), **chosen}
        if targets is None:
            check_type("content", content, Path | str, "'photo.jpg'")
            files = [
                ("content", Path(content or "")),
                *(("style", Path(path)) for path in paintings),
            ]
        else:
            check_type("targets", targets, Path | str, "'targets.safetensors'")
            files = [("targets", Path(targets))]
            if content is not None or paintings or style_masks or mask or regions:
                raise UsageError(
                    "expected pictures, or targets, got both; try one of the two", setting="targets"
                )
        if style_masks:
            fields["styles"] = _mask_styles(fields.get("styles"), style_masks, len(paintings))
            files += [("style_mask", Path(path)) for path in style_masks if path is not None]
        if mask == "alpha":
            fields["mask"] = mask
        elif mask is not None:
            files.append(("mask", Path(mask)))
        if regions is not None:
            files.append(("regions", Path(regions)))
        body, headers = make_form(files, fields)
        named = json.dumps(key or uuid.uuid4().hex)
        answer = self._transport.ask(
            "POST", "/v1/jobs", body=body, headers={**headers, "Idempotency-Key": named}
        )
        return read_job(answer.json())

    def find(self, job: str) -> RemoteJob:
        """Return a job as it stands."""
        return read_job(self._transport.ask("GET", _place(job)).json(), job)

    def jobs(self, status: Status | None = None) -> Iterator[RemoteJob]:
        """Yield all jobs that the server keeps, or those of a status, the newest first."""
        cursor: int | None = None
        while True:
            query = {"limit": "100", "status": status, "cursor": cursor}
            text = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
            page = read_page(self._transport.ask("GET", f"/v1/jobs?{text}").json())
            yield from page.jobs
            if page.next is None:
                return
            if cursor is not None and page.next >= cursor:
                raise DeviceError(
                    "expected pages of jobs that go on, got the same ones again; try the server's address"
                )
            cursor = page.next

    def cancel(self, job: str) -> RemoteJob:
        """Cancel a job; its picture so far is kept by the server."""
        return read_job(self._transport.ask("POST", f"{_place(job)}/cancel").json(), job)

    def events(self, job: str, after: int = 0) -> Iterator[RemoteEvent]:
        """Yield what happens to a job, after an event of a number, until it ends; whatever happens to connections."""
        heard, pause = time.monotonic(), 0.25
        while True:
            failure: Exception | None = None
            try:
                headers = {"Last-Event-ID": str(after)} if after else {}
                with self._transport.stream(f"{_place(job)}/events", headers) as lines:
                    if isinstance(lines, Answer):
                        if lines.status == 204:
                            return
                        failure = self._transport.error(lines)
                        if lines.wait is None:
                            raise failure
                        pause = max(pause, lines.wait)
                        lines = iter(())
                    for event in _parse(lines, job, after):
                        heard, pause = time.monotonic(), 0.25
                        after = event.number or after
                        yield event
                        if event.kind in FINAL:
                            return
            except (OSError, http.client.HTTPException) as error:
                failure = error
                if is_lasting(error):
                    raise self._transport.away(error) from error
            if failure is not None and time.monotonic() > heard + self._patience:
                raise DeviceError(
                    "expected a server that tells of its job, got none any more; try later: the job goes on"
                ) from failure
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def wait(
        self, job: str, on_event: Callable[[RemoteEvent], object] = lambda event: None
    ) -> RemoteJob:
        """Wait until a job has ended, and return it; ``on_event`` takes what happens meanwhile."""
        for event in self.events(job):
            on_event(event)
        return self.find(job)

    def result(self, job: str) -> bytes:
        """Return a job's picture, as its file; of one that was stopped, the picture so far.

        `OutputError` if there is none.
        """
        standing = self.find(job)
        known = standing.result
        if known is None:
            raise OutputError(
                f"expected a job with a picture, got one that is {standing.status}; try again once it has ended"
            )
        place = f"{_place(job)}/result"
        answer = self._transport.ask(
            "GET", place, most=max(known.bytes, _MOST_PROBLEM), longest=_LONGEST_PICTURE
        )
        check_picture(answer, standing, known)
        return answer.data

    def save(self, job: str, path: str | os.PathLike[str]) -> None:
        """Write a job's picture, whole or not at all; errors as `result`, and `OutputError` if it cannot be written."""
        write_output(Path(path), self.result(job))


def _mask_styles(
    styles: Sequence[Mapping[str, Any]] | None, masks: Sequence[object], count: int
) -> list[dict[str, Any]]:
    """Return what is said of each style, with whether it has a mask."""
    if isinstance(masks, str | os.PathLike) or len(masks) != count:
        raise UsageError(
            f"expected a list of {count} style_masks, one for each style, or None, got another; try [None]",
            setting="style_masks",
        )
    given = [{}] * count if styles is None else styles
    return [{**style, "mask": path is not None} for style, path in zip(given, masks, strict=False)]


def _place(job: str) -> str:
    if not (len(job) <= _LONGEST_ID and job.isascii() and job.isprintable()):
        raise UsageError(
            f"expected the id of a job, got {printable(job)[:80]!r}; try one of jobs()"
        )
    return f"/v1/jobs/{urllib.parse.quote(job, safe='')}"


def _parse(lines: Iterable[str], job: str, after: int) -> Iterator[RemoteEvent]:
    """Yield the events of a stream after one of a number, by the rules of HTML's standard.

    `DeviceError` where they are none of the job's.
    """
    number, kind, data, size = 0, "", list[str](), 0
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data and (number > after or kind == "gap"):
                event = read_event(number, kind, "\n".join(data), job)
                after = max(after, number)
                if event is not None:
                    yield event
            number, kind, data, size = 0, "", [], 0
        elif name == "id" and value.isascii() and value.isdecimal() and len(value) <= _DIGITS:
            number = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
            size += len(value) + 1
            if size > _MOST_EVENT:
                raise DeviceError(
                    f"expected events of at most {_MOST_EVENT} bytes, got a larger one; try the server's address"
                )
