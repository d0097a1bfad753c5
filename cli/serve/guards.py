"""Who may ask: the names that a server is asked by, its token, and no page of another origin."""

import hmac
import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import refuse

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.IGNORECASE)
_SAFE = ("GET", "HEAD", "OPTIONS")
GUARDED = ("/v1", "/metrics")
"""Beginnings of the paths that want a token."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every answer."""


def is_loopback(host: str) -> bool:
    """Whether an address that a server is bound to is that of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may ask.

    Attributes:
        token: that everybody has to show; None lets everybody.
        names: by which the server may be asked; None lets any.
    """

    token: str | None = None
    names: Collection[str] | None = _LOCAL_NAMES


class Guard:
    """Lets requests through that may be answered; `Access` says which. Answers HEAD as GET, without a body."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        is_head = scope["method"] == "HEAD" and not path.endswith("/events")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                written = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    written.setdefault(name, value)
                written.setdefault("Cache-Control", "no-cache")
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        if problem := self._find_problem(scope["method"], path, headers):
            reason, detail = problem
            extra = {"WWW-Authenticate": "Bearer"} if reason == "unauthorized" else None
            await refuse(scope, receive, answer, reason, detail, extra)
            return
        inner = {**scope, "method": "GET"} if is_head else scope
        await self._app(inner, receive, answer)

    def _find_problem(self, method: str, path: str, headers: Headers) -> tuple[str, str] | None:
        host = _HOST.fullmatch(headers.get("host", ""))
        if self._access.names is not None:
            name = host[1].strip("[]").lower() if host else ""
            if name not in self._access.names:
                detail = "expected a Host of this machine, as localhost, got another; try http://localhost"
                return "misdirected", detail
        origin = headers.get("origin")
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
            is_foreign = True
        if is_foreign and method not in _SAFE:
            detail = "expected a page of this server's own, or no page, got one of another origin"
            return "cross-origin", detail
        if path.startswith(GUARDED) and not self._has_token(headers):
            detail = "expected 'Authorization: Bearer' with the server's token, got none or another"
            return "unauthorized", detail
        return None

    def _has_token(self, headers: Headers) -> bool:
        token = self._access.token
        if token is None:
            return True
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(shown.strip().encode(), token.encode())
        return scheme.lower() == "bearer" and is_right
