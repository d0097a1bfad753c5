"""Jobs of a service as its clients see them; what a server says is looked at here, and nowhere else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

from nstx.models.errors import (
    DeviceError,
    ImageError,
    ModelError,
    NstxError,
    NumericalError,
    OutputError,
    UsageError,
    WeightsError,
)
from nstx.models.printable import printable
from nstx.models.storage.plain_data import (
    parse_json,
    take_choice,
    take_field,
    take_flag,
    take_list,
    take_number,
    take_object,
    take_text,
    take_whole,
)

Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
Format = Literal["png", "jpg", "webp", "avif", "tiff"]
FINAL = ("succeeded", "failed", "canceled")
MOST_PICTURE = 1 << 31
"""Bytes of a picture."""

_ERRORS: dict[str, type[NstxError]] = {
    kind.__name__: kind
    for kind in (UsageError, ImageError, WeightsError, ModelError, DeviceError, OutputError, NumericalError)
}  # fmt: skip
_LARGEST = 2**53
_LONGEST_SIDE = 1 << 20
_LONGEST_MESSAGE = 1000
_MOST_JOBS = 1000  # of a page
_MOST_COSTS = 64
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteResult:
    """What is known of a job's picture.

    Attributes:
        complete: whether it is the result; else the picture so far.
        bytes: of its file.
        sha256: of its file, in hexadecimal digits; None of a picture so far.
        width: in pixels, as ``height``; None if that is not known, as the others.
        steps: that were made.
        stopped: why no more were.
        cost: at the end, by its parts.
        initial_cost: before the first step.
        seconds: that it took.
    """

    complete: bool
    bytes: int
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    stopped: str | None = None
    cost: Mapping[str, Any] | None = None
    initial_cost: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteJob:
    """A job of a service as it stood when it was asked.

    Attributes:
        id: of 32 hexadecimal digits.
        format: of the result's file.
        position: how many jobs wait before it; None unless it waits itself.
        step: the last that is known; 0 before the first.
        steps: the largest number that there can be.
        cost: at that step.
        width: of the result; None where only the worker will know, as ``height``.
        result: what is known of the picture, whole or so far; None if there is none.
        error: why it failed: type and message, which can be printed.
        data: all that the server said, as it said it.
    """

    id: str
    status: Status
    format: Format = "png"
    position: int | None = None
    step: int = 0
    steps: int | None = None
    cost: float | None = None
    width: int | None = None
    height: int | None = None
    result: RemoteResult | None = None
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
            raise _ERRORS.get(self.error["type"], DeviceError)(self.error["message"])


class RemoteEvent(NamedTuple):
    """Something that happened to a job: ``status``, ``step``, ``preview``, ``gap``, or how it ended."""

    number: int
    kind: str
    data: Mapping[str, Any]


class RemotePage(NamedTuple):
    """Jobs, the newest first, and where those before them are; None at the end."""

    jobs: tuple[RemoteJob, ...]
    next: int | None


def read_job(data: Any, job: str | None = None) -> RemoteJob:
    """Return a job from what a server said, that of an id where one is asked for; `DeviceError` if that is none."""
    return _reading(lambda: _take_job(data, job))


def read_page(data: Any) -> RemotePage:
    """Return a page of jobs from what a server said; `DeviceError` if that is none."""

    def take() -> RemotePage:
        jobs = [_take_job(item) for item in take_list(data, "jobs", _MOST_JOBS)]
        cursor = take_field(data, "next")
        return RemotePage(
            tuple(jobs), None if cursor is None else int(take_text(data, "next", "[0-9]{1,18}"))
        )

    return _reading(take)


def read_event(number: int, kind: str, text: str, job: str) -> RemoteEvent | None:
    """Return an event of a job from what a server said; None if it is of a kind that is not known.

    `DeviceError` if it is none.
    """
    if kind not in ("status", "step", "preview", "gap", *FINAL):
        return None
    return _reading(lambda: RemoteEvent(number, kind, _take_event(kind, parse_json(text), job)))


def _take_event(kind: str, data: Any, job: str) -> Mapping[str, Any]:
    if kind == "status":
        return {"status": take_text(data, "status", "queued|running")}
    if kind == "step":
        step, steps = (take_whole(data, name, 0, _LARGEST) for name in ("step", "steps"))
        return {"step": step, "steps": steps, "cost": float(take_number(data, "cost"))}
    if kind == "preview":
        url = take_text(data, "url", "[!-~]{1,200}")
        return {"step": take_whole(data, "step", 0, _LARGEST), "url": url}
    if kind == "gap":
        return {"oldest": take_whole(data, "oldest", 0, _LARGEST)}
    if _take_job(data, job).status != kind:
        raise ValueError("it ended otherwise than it says")
    return cast("Mapping[str, Any]", data)


def _take_job(data: Any, job: str | None = None) -> RemoteJob:
    name = take_text(data, "id", "[0-9a-f]{32}")
    if job not in (None, name):
        raise ValueError("it is another one")
    progress = {} if take_field(data, "progress") is None else take_object(data, "progress")
    return RemoteJob(
        id=name,
        status=cast("Status", take_choice(data, "status", get_args(Status))),
        format=cast("Format", take_choice(data, "format", get_args(Format))),
        position=_take_count(data, "position"),
        step=_take_count(progress, "step") or 0,
        steps=_take_count(data, "steps"),
        cost=_take_amount(progress, "cost"),
        width=_take_count(data, "width", _LONGEST_SIDE),
        height=_take_count(data, "height", _LONGEST_SIDE),
        result=_take_result(data),
        error=_take_error(data),
        data=data,
    )


def _take_result(data: Any) -> RemoteResult | None:
    if take_field(data, "result") is None:
        return None
    result = take_object(data, "result")
    return RemoteResult(
        complete=take_flag(result, "complete"),
        bytes=take_whole(result, "bytes", 0, MOST_PICTURE),
        sha256=None if result.get("sha256") is None else take_text(result, "sha256", "[0-9a-f]{64}"),
        width=_take_count(result, "width", _LONGEST_SIDE),
        height=_take_count(result, "height", _LONGEST_SIDE),
        steps=_take_count(result, "steps"),
        stopped=None if result.get("stopped") is None else take_text(result, "stopped", "[ -~]{0,100}"),
        cost=None if result.get("cost") is None else _take_costs(result, "cost"),
        initial_cost=_take_amount(result, "initial_cost"),
        seconds=_take_amount(result, "seconds"),
    )  # fmt: skip


def _take_costs(data: Any, name: str) -> Mapping[str, Any]:
    """Return costs by their names, and those of layers within."""
    costs = take_object(data, name)
    if len(costs) > _MOST_COSTS or not all(key.isidentifier() for key in costs):
        raise ValueError(f"{name!r} has other parts than a cost")
    return {
        key: _take_costs(costs, key) if isinstance(value, dict) else float(take_number(costs, key))
        for key, value in costs.items()
    }


def _take_error(data: Any) -> Mapping[str, str] | None:
    if take_field(data, "error") is None:
        return None
    error = take_object(data, "error")
    message = printable(take_text(error, "message"))[:_LONGEST_MESSAGE]
    return {"type": take_text(error, "type", "[A-Za-z]{0,60}"), "message": message}


def _take_count(data: Mapping[str, Any], name: str, most: int = _LARGEST) -> int | None:
    return None if data.get(name) is None else take_whole(data, name, 0, most)


def _take_amount(data: Mapping[str, Any], name: str) -> float | None:
    return None if data.get(name) is None else float(take_number(data, name))


def _reading(take: Callable[[], _T]) -> _T:
    try:
        return take()
    except ValueError as error:
        raise DeviceError(
            f"expected an answer of a server of this version of nstx, got another ({printable(error)[:100]}); try its "
            "address"
        ) from error
