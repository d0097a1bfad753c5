"""A job of a service as plain data, as it is told to whoever asked for it."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nstx.models.storage.plain_data import parse_json

from ..jobs.records import JobRecord
from .folder import ServiceFolder, job_of

_OF_RESULT = ("width", "height", "steps", "stopped", "cost", "initial_cost", "seconds")
_OURS = re.compile(r"\b[a-z_]+-[0-9]\b")
_MOST_NOTE = 1 << 20  # bytes


def describe_job(record: JobRecord, folder: ServiceFolder, ahead: int | None) -> dict[str, Any]:
    """Return a job; ``ahead`` is how many wait before it, if it waits itself."""
    job = job_of(record.id)
    mine, names = note_of(record), names_of(record.request)
    result = describe_picture(record, folder)
    place = f"/v1/jobs/{job}"
    return {
        "id": job,
        "name": names.get("content-1", names.get("targets-1")),
        "status": record.state,
        "created": _moment(record.created),
        "started": _moment(record.started),
        "ended": _moment(record.ended),
        "position": ahead if record.state == "queued" else None,
        "attempts": record.attempts,
        "options": mine.get("options", {}),
        "format": mine.get("format", "png"),
        "width": mine.get("width"),
        "height": mine.get("height"),
        "steps": mine.get("steps"),
        "progress": record.progress,
        "result": result,
        "error": _describe_error(record, folder) if record.state == "failed" else None,
        "links": {
            "self": place,
            "events": f"{place}/events",
            "cancel": f"{place}/cancel",
            **{
                name: f"{place}/{name}" if folder.shown(job, f"{name}.jpg").is_file() else None
                for name in ("preview", "before")
            },
            "result": None if result is None else f"{place}/result",
        },
    }


def note_of(record: JobRecord) -> Mapping[str, Any]:
    """Return what the service has noted with a job: its options, and which form it came by."""
    note = record.request.get("service")
    return note if isinstance(note, dict) else {}


def names_of(request: Mapping[str, Any]) -> Mapping[str, str]:
    """Return what strangers call the files of a job, by our names for them."""
    note = request.get("service")
    names = note.get("names") if isinstance(note, dict) else None
    return names if isinstance(names, dict) else {}


def with_names(text: str, names: Mapping[str, str]) -> str:
    """Return a message with the names of files that whoever sent them knows."""
    return _OURS.sub(lambda match: names.get(match[0], match[0]), text)


def find_picture(record: JobRecord, folder: ServiceFolder) -> Path | None:
    """Return the file of a job's picture: the result, or of one that was stopped its picture so far."""
    if record.state == "succeeded":
        path = folder.result(record.id)
    elif record.state in ("failed", "canceled"):
        path = folder.partial(record.id)
    else:
        return None
    return path if path.is_file() else None


def describe_picture(record: JobRecord, folder: ServiceFolder) -> dict[str, Any] | None:
    """Return what is known of a job's picture, if there is one."""
    path = find_picture(record, folder)
    if path is None:
        return None
    is_complete = record.state == "succeeded"
    known = record.result or {} if is_complete else read_note(path)
    try:
        size = path.stat().st_size
    except OSError:
        return None
    return {
        "complete": is_complete,
        "bytes": size,
        "sha256": record.sha256 if is_complete else None,
        **{name: known.get(name) for name in _OF_RESULT},
    }


def note_beside(path: Path) -> Path:
    """Return the place of what is known of a picture so far."""
    return path.with_suffix(".json")


def read_note(path: Path) -> Mapping[str, Any]:
    """Return what lies beside a picture so far; nothing where it cannot be read."""
    try:
        with note_beside(path).open("rb") as file:
            data = parse_json(file.read(_MOST_NOTE))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _describe_error(record: JobRecord, folder: ServiceFolder) -> dict[str, str]:
    error = record.error or {}
    message = folder.without_paths(str(error.get("message", "")), job_of(record.id))
    message = with_names(message, names_of(record.request))
    return {"type": str(error.get("type", "")), "message": message}


def _moment(seconds: float | None) -> str | None:
    """Return seconds since 1970 as RFC 3339 has them, in UTC."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
