"""Why a service does not do what it is asked for."""

from typing import Literal

from nstx.models.errors import NstxError

Reason = Literal[
    "bad-request",
    "not-found",
    "key-in-use",
    "not-finished",
    "too-large",
    "unsupported-media-type",
    "unprocessable",
    "key-reused",
    "queue-full",
    "unavailable",
    "disk-full",
]


class Refusal(NstxError):  # noqa: N818  (it refuses; nothing went wrong)
    """What is asked for is not done.

    Attributes:
        reason: in a word.
        retry_after: seconds after which it may be; None where that would not help.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        setting: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, setting=setting)
        self.reason: Reason = reason
        self.retry_after = retry_after


def explain(error: NstxError, message: str) -> Refusal:
    """Return the refusal of a job by an error, in other words; of its pictures or options unless it says otherwise."""
    if isinstance(error, Refusal):
        return Refusal(error.reason, message, setting=error.setting, retry_after=error.retry_after)
    return Refusal("unprocessable", message, setting=error.setting)
