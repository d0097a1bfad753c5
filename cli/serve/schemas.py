"""What answers look like, for OpenAPI."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nstx.engine.archive.limits import MOST_STYLES
from nstx.engine.jobs.records import FINAL, State

Format = Literal["png", "jpg", "webp", "avif", "tiff"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Progress(_Body):
    """How far a job is."""

    step: int
    steps: int
    cost: float | None


class JobError(_Body):
    """Why a job failed."""

    type: str
    message: str


class ResultOfJob(_Body):
    """What is known of a job's picture."""

    complete: bool = Field(description="False of the picture so far of a job that was stopped.")
    bytes: int
    sha256: str | None
    width: int | None
    height: int | None
    steps: int | None
    stopped: str | None
    cost: dict[str, Any] | None
    initial_cost: float | None
    seconds: float | None


class Links(_Body):
    """Paths of what belongs to a job; null while there is nothing."""

    self: str
    events: str
    cancel: str
    preview: str | None
    before: str | None
    result: str | None


class Job(_Body):
    """A job as it stands."""

    id: str = Field(pattern="^[0-9a-f]{32}$")
    name: str | None = Field(description="Of the photograph, or the targets, as it was sent.")
    status: State
    created: str
    started: str | None
    ended: str | None
    position: int | None
    attempts: int
    options: dict[str, Any]
    format: Format
    width: int | None
    height: int | None
    steps: int | None
    progress: Progress | None
    result: ResultOfJob | None
    error: JobError | None
    links: Links


class JobPage(_Body):
    """Jobs, the newest first."""

    jobs: list[Job]
    next: str | None = Field(description="What cursor is for the next page; null at the end.")


class Health(_Body):
    """Whether the server answers, or takes jobs."""

    status: str


class ServiceInfo(_Body):
    """What may be asked for."""

    version: str
    presets: list[str]
    formats: list[str]
    inits: list[str]
    colors: list[str]
    options: list[str]
    files: dict[str, int]
    limits: dict[str, float]
    workers: int
    queue: dict[str, int]
    ready: bool


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    setting: str | None = None


_OF_JOB = ("get_job", "get_events", "preview", "before", "result", "cancel_job", "delete_job")
LINKS: dict[str, Any] = {
    name: {"operationId": name, "parameters": {"job": "$response.body#/id"}} for name in _OF_JOB
}
"""What may be asked of a job that an answer tells of."""

EVENT: dict[str, Any] = {
    "title": "Event", "type": "object", "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]{1,16}$"},
        "event": {"enum": ["status", "step", "preview", "gap", *FINAL]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}  # fmt: skip
"""Each event of a stream."""

_FILE = {"type": "string", "format": "binary"}
# Properties stand above the choice, and that excludes nothing, for what reads the schema to make a form by it.
_PARTS: dict[str, Any] = {
    "type": "object",
    "description": "Of pictures, or of targets and options alone.",
    "additionalProperties": False,
    "properties": {
        "content": _FILE,
        "style": {"type": "array", "minItems": 1, "maxItems": MOST_STYLES, "items": _FILE},
        "style_mask": {"type": "array", "maxItems": MOST_STYLES, "items": _FILE},
        "mask": _FILE,
        "regions": _FILE,
        "targets": _FILE,
        "options": {"type": "string", "contentMediaType": "application/json"},
    },
    "anyOf": [{"required": ["content", "style"]}, {"required": ["targets"]}],
}
_FORMS = {"multipart/form-data": {"schema": _PARTS}}
FORM: dict[str, Any] = {"requestBody": {"required": True, "content": _FORMS}}
"""The form that a job is asked for with."""
