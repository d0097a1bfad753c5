"""What a server answered: bounded, of the type that was asked for, and the errors that it tells of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nstx.models.errors import DeviceError, ImageError, NstxError, OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.plain_data import parse_json, take_text

_LONGEST = 1000
"""Characters of a message that are shown."""

_LONGEST_WAIT = 60
"""Seconds that a server may have a client wait."""

_AGAIN = (429, 502, 503, 504)
_OF_PICTURES = ("too-large", "unsupported-media-type")


@dataclass(frozen=True, slots=True)
class Problem:
    """What a server says of an error, by RFC 9457.

    Attributes:
        reason: the end of its type, such as ``queue-full``; empty where a server says nothing that can be read.
        detail: on one line, for a person.
        setting: that it is about.
    """

    reason: str
    detail: str
    setting: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        status: of HTTP.
        headers: by their names in small letters.
        data: the body.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def kind(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_there(self) -> bool:
        """Whether it has what was asked for."""
        return self.status in (200, 202)

    @property
    def wait(self) -> float | None:
        """Seconds after which it is worth while to ask again; None if it is not."""
        if self.status not in _AGAIN and self.problem.reason != "key-in-use":
            return None
        text = self.headers.get("retry-after", "")
        is_number = text.isascii() and text.isdecimal() and len(text) < 10
        return float(min(_LONGEST_WAIT, int(text))) if is_number else 2.0

    @property
    def problem(self) -> Problem:
        """The error that it tells of."""
        try:
            if self.kind != "application/problem+json":
                raise ValueError("no problem")
            data = parse_json(self.data)
            reason = take_text(data, "type").rpartition(":")[2]
            setting = data.get("setting")
            named = printable(setting)[:_LONGEST] if isinstance(setting, str) else None
            return Problem(reason, printable(take_text(data, "detail"))[:_LONGEST], named)
        except ValueError:
            redirection = "a redirection, " if 300 <= self.status < 400 else ""
            return Problem(
                "",
                f"expected an answer of nstx, got {redirection}status {self.status}; try its address",
            )

    def json(self) -> Any:
        """Return the plain data in it; `DeviceError` if that is none."""
        try:
            if self.kind != "application/json":
                raise ValueError("no JSON")
            return parse_json(self.data)
        except ValueError as error:
            raise DeviceError(
                f"expected JSON from a server of nstx, got {describe_kind(self.kind)} ({printable(error)[:100]}); try its "
                "address"
            ) from error

    def error(self, *, has_token: bool) -> NstxError:
        """Return the error that it tells of."""
        problem = self.problem
        if self.status == 401:
            shown = "another" if has_token else "none"
            return UsageError(
                f"expected a valid token of this server, got {shown}; try NSTX_SERVE_TOKEN in the environment, "
                "--token-file FILE or token=",
                setting="token",
            )
        kind: type[NstxError] = UsageError
        if problem.reason in _OF_PICTURES:
            kind = ImageError
        elif problem.reason == "not-finished":
            kind = OutputError
        elif not problem.reason or self.status >= 500 or self.status == 429:
            kind = DeviceError
        return kind(problem.detail, setting=problem.setting)


def describe_kind(kind: str) -> str:
    """Return a media type as it is shown."""
    return printable(kind)[:60] or "data of no type"
