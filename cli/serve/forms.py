"""The form that a job is asked for with, read within limits as it comes."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import NamedTuple, cast

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from nstx.engine.archive.limits import MOST_OPTIONS, MOST_PARTS, UPLOAD_SECONDS
from nstx.engine.service.refusals import Refusal, explain_disk
from nstx.engine.service.sent import MOST_FILES, SentFile
from nstx.models.printable import file_name

# A string of structured fields, RFC 8941.
_KEY = re.compile(r'\s*"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"\s*')
_DRAINED = 1.0  # seconds for the rest of a body that is not wanted


class Form(NamedTuple):
    """What was sent: files by their kinds, with their names, and options as they are written."""

    files: list[SentFile]
    options: str | None


class UploadTimeout(Exception):  # noqa: N818
    """An upload took too long."""


def read_key(request: Request) -> str | None:
    """Return the Idempotency-Key of a request; None without one, `Refusal` if it cannot be."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    match = _KEY.fullmatch(values[0])
    if match is None or len(values) > 1:
        raise Refusal(
            "bad-request",
            'expected one Idempotency-Key of 1 … 255 characters in quotes, got another; try "a-new-key"',
        )
    return match[1]


@contextlib.asynccontextmanager
async def reading_form(request: Request, most: int) -> AsyncIterator[Form]:
    """Read a form of at most so many bytes; what lies on the disk of it is gone after the block.

    `Refusal` or `UploadTimeout` if it cannot be read.
    """
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            data = await _parse(request, most)
    except TimeoutError:
        raise UploadTimeout from None
    try:
        yield await _sort(data)
    finally:
        await data.close()


async def discard(request: Request, most: int) -> None:
    """Take what still comes of a body, up to a limit, so that whoever sends it comes to read the answer."""
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_DRAINED):
            async for chunk in request.stream():
                most -= len(chunk)
                if most < 0:
                    return


class _WholeParser(MultiPartParser):
    """Refuses a form without its last boundary, which may be the beginning of one."""

    _is_whole = False

    def on_end(self) -> None:
        """Take note of the last boundary."""
        self._is_whole = True

    async def parse(self) -> FormData:
        """Return the parts; `MultiPartException` of a damaged form."""
        data = await super().parse()
        if not self._is_whole:
            await data.close()
            raise MultiPartException("no last boundary")
        return data


async def _parse(request: Request, most: int) -> FormData:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refusal(
            "unsupported-media-type",
            "expected a form, multipart/form-data, got another body; try curl -F",
        )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > most:
        await discard(request, most)
        raise _too_large(most)
    parser = _WholeParser(
        request.headers, _limited(request, most),  # type: ignore[arg-type]
        max_files=MOST_PARTS, max_fields=MOST_PARTS, max_part_size=MOST_OPTIONS,
    )  # fmt: skip
    try:
        return await parser.parse()
    except ClientDisconnect as error:
        raise Refusal("bad-request", "expected a whole form, got a part of one") from error
    except OSError as error:  # large parts lie on the disk meanwhile
        await discard(request, most)
        raise explain_disk(error) from error
    except MultiPartException as error:
        await discard(request, most)
        if error.message.startswith("Too many") or "exceeded maximum" in error.message:
            raise Refusal(
                "too-large",
                f"expected at most {MOST_PARTS} parts, and options of {MOST_OPTIONS} bytes, got more; try fewer",
            ) from error
        raise Refusal(
            "bad-request", "expected a form that can be read, got a damaged one; try curl -F"
        ) from error


async def _limited(request: Request, most: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            await discard(request, most)
            raise _too_large(most)
        yield chunk


def _too_large(most: int) -> Refusal:
    return Refusal(
        "too-large",
        f"expected a form of at most {most} bytes, got a larger one; try smaller pictures",
    )


async def _sort(data: FormData) -> Form:
    files: list[SentFile] = []
    options: str | None = None
    for name, value in data.multi_items():
        is_file = isinstance(value, UploadFile)
        if name == "options":
            if options is not None:
                raise Refusal("unprocessable", "expected options once, got them twice; try once")
            options = await _read_text(value) if isinstance(value, UploadFile) else value
        elif name not in MOST_FILES or not is_file:
            kinds = ", ".join(MOST_FILES)
            raise Refusal(
                "unprocessable",
                f"expected files as {kinds}, and options, got a part of another kind; try content and style, or targets",
            )
        else:
            file = cast("UploadFile", value)
            files.append(SentFile(name, file.file, file_name(file.filename or "")))
    return Form(files, options)


async def _read_text(file: UploadFile) -> str:
    data = await file.read(MOST_OPTIONS + 1)
    if len(data) > MOST_OPTIONS:
        raise Refusal(
            "too-large", f"expected options of at most {MOST_OPTIONS} bytes, got more; try fewer"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refusal("unprocessable", "expected options in UTF-8, got another text") from error
