"""Jobs of a service as its clients see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast, get_args

from nstx.models import errors
from nstx.models.errors import DeviceError, NstxError
from nstx.models.printable import printable

Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
FINAL = ("succeeded", "failed", "canceled")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteJob:
    """A job of a service as it stood when it was asked.

    Attributes:
        id: of 32 hexadecimal digits.
        position: how many jobs wait before it; None unless it waits itself.
        step: the last that is known; 0 before the first.
        steps: the largest number that there can be.
        cost: at that step.
        width: of the result; None where only the worker will know, as ``height``.
        result: what is known of the picture, whole or so far; None if there is none.
        error: why it failed: type and message.
        data: all that the server said.
    """

    id: str
    status: Status
    position: int | None = None
    step: int = 0
    steps: int | None = None
    cost: float | None = None
    width: int | None = None
    height: int | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    def check(self) -> None:
        """Raise the error by which the job failed, if it did, or `DeviceError` if it was canceled."""
        if self.status == "canceled":
            raise DeviceError("expected a job that is made, got one that was canceled; try again")
        if self.error is not None:
            kind = getattr(errors, str(self.error.get("type")), DeviceError)
            is_known = isinstance(kind, type) and issubclass(kind, NstxError)
            raise (kind if is_known else DeviceError)(printable(self.error.get("message"))[:1000])


class RemoteEvent(NamedTuple):
    """Something that happened to a job: ``status``, ``step``, ``preview``, ``gap``, or how it ended."""

    number: int
    kind: str
    data: Mapping[str, Any]


def read_job(data: Any) -> RemoteJob:
    """Return a job from what a server said; `DeviceError` if that is none."""
    try:
        progress = data["progress"] or {}
        status = data["status"]
        if status not in get_args(Status):
            raise ValueError(status)
        return RemoteJob(
            id=str(data["id"]),
            status=cast("Status", status),
            position=data["position"],
            step=int(progress.get("step", 0)),
            steps=data["steps"],
            cost=progress.get("cost"),
            width=data["width"],
            height=data["height"],
            result=data["result"],
            error=data["error"],
            data=data,
        )
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        raise DeviceError(
            "expected a job of a server of this version of nstx, got something else; try its address"
        ) from error
