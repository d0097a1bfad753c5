"""Why a service does not do what it is asked for."""

import errno
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

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


def explain(error: Refusal, message: str) -> Refusal:
    """Return a refusal in other words."""
    return Refusal(error.reason, message, setting=error.setting, retry_after=error.retry_after)


def explain_disk(error: OSError) -> Refusal:
    """Return the refusal of what could not be kept."""
    if error.errno in _FULL:
        return refuse_full()
    return Refusal(
        "unavailable",
        f"expected a server that can write its folder, got: {error.strerror or type(error).__name__}; try again later",
        retry_after=10,
    )


def refuse_full() -> Refusal:
    """Return the refusal of what there is no room for."""
    return Refusal(
        "disk-full",
        "expected room for the job on the server's disk, got too little; try again later, or a smaller size",
        retry_after=60,
    )
