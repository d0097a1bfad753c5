"""Errors as RFC 9457 has them: ``application/problem+json``."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nstx.engine.service.refusals import Refusal
from nstx.models.errors import NstxError
from nstx.models.printable import printable

_log = logging.getLogger("nstx")

MEDIA_TYPE = "application/problem+json"

STATUSES: dict[str, int] = {
    "bad-request": 400,
    "unauthorized": 401,
    "cross-origin": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "upload-timeout": 408,
    "key-in-use": 409,
    "not-finished": 409,
    "too-large": 413,
    "unsupported-media-type": 415,
    "misdirected": 421,
    "unprocessable": 422,
    "key-reused": 422,
    "queue-full": 429,
    "internal": 500,
    "unavailable": 503,
    "disk-full": 507,
}
"""What the end of a problem's type stands for."""

# As RFC 9110 has them, which older Pythons do not.
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 415: "unsupported-media-type"}
_LONGEST = 1000  # characters of a detail


class ProblemResponse(JSONResponse):
    """A problem."""

    media_type = MEDIA_TYPE


def describe(reason: str, detail: str, place: str, *, setting: str | None = None) -> dict[str, Any]:
    """Return a problem's body."""
    status = STATUSES[reason]
    body = {
        "type": f"urn:nstx:problem:{reason}",
        "title": _TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": printable(detail)[:_LONGEST],
        "instance": printable(place)[:_LONGEST],
    }
    return body if setting is None else {**body, "setting": setting}


def respond(
    reason: str,
    detail: str,
    place: str,
    *,
    setting: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """Return the response of a problem."""
    body = describe(reason, detail, place, setting=setting)
    return ProblemResponse(body, STATUSES[reason], dict(headers or {}))


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    reason: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a problem, where there is no request yet."""
    await respond(reason, detail, scope["path"], headers=headers)(scope, receive, send)


def handle_problems(app: FastAPI) -> None:
    """Have all errors of an application answered as problems."""
    app.add_exception_handler(NstxError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(Exception, _answer_fault)


def _answer_error(request: Request, error: Exception) -> Response:
    place = request.url.path
    if isinstance(error, Refusal):
        wait = error.retry_after
        headers = {} if wait is None else {"Retry-After": str(wait)}
        return respond(error.reason, str(error), place, setting=error.setting, headers=headers)
    # The ledger cannot be read, or written: nothing that was asked for is to blame.
    _log.warning("%s", error)
    detail = "expected a server that can read and write its folder, got one that cannot; try again"
    return respond("unavailable", detail, place, headers={"Retry-After": "10"})


def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    place = request.url.path
    if error.status_code == 405:
        allowed = allowed_methods(request)
        detail = f"expected {allowed}, got {request.method}; try one of these"
        return respond("method-not-allowed", detail, place, headers={"Allow": allowed})
    reason = _BY_STATUS.get(error.status_code, "bad-request")
    detail = "expected a path of this server, got another; try /openapi.json, which has them all"
    return respond(reason, detail if reason == "not-found" else str(error.detail), place)


def _answer_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    detail = f"expected another {name}, got: {first['msg']}; try /openapi.json, which says which"
    return respond("unprocessable", detail, request.url.path, setting=name)


def _answer_fault(request: Request, error: Exception) -> Response:
    _log.error("a fault of nstx's own", exc_info=error)
    detail = "expected to answer, got a fault of nstx's own; try again, and tell its developers"
    return respond("internal", detail, request.url.path)


def allowed_methods(request: Request) -> str:
    """Return the methods that a path has, of all of its routes."""
    allowed: set[str] = set()
    for route in request.app.routes:
        pattern, methods = getattr(route, "path_regex", None), getattr(route, "methods", None)
        if pattern is not None and methods and pattern.match(request.url.path):
            allowed |= set(methods)
    if "GET" in allowed:
        allowed.add("HEAD")
    return ", ".join(sorted(allowed))
