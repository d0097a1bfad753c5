"""Jobs on their way to a machine that has none of their files, which go with them as bytes, one time each."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..batches.asked import take_asked
from ..jobs.records import Claim, NewJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A job without its files.

    Attributes:
        id: of the job.
        kind: of the job.
        request: of the job, as plain data; a file that goes with it has the path ``ROOT/NUMBER/NAME``.
        root: what stands for the folder of all files; text that is found nowhere else.
    """

    id: str
    kind: str
    request: Mapping[str, Any]
    root: str


def pack_jobs(claims: Sequence[Claim]) -> tuple[list[Parcel], list[Path]]:
    """Return parcels of claims, and the files that go with them, by their numbers.

    `UsageError` of a job that cannot be.
    """
    numbers: dict[Path, int] = {}
    root = uuid.uuid4().hex
    parcels = []
    for claim in claims:

        def place(path: Path) -> Path:
            return Path(root, str(numbers.setdefault(path, len(numbers))), path.name)

        moved = take_asked(claim).moved(place)
        request = json.loads(json.dumps(moved.to_json()))
        request["files"] = claim.request.get("files")
        parcels.append(Parcel(id=claim.id, kind=claim.kind, request=request, root=root))
    return parcels, list(numbers)


def unpack_job(parcel: Parcel, folder: Path, fingerprint: str) -> NewJob:
    """Return the job of a parcel whose files lie in a folder; tried again after what nobody foresaw."""
    here = json.dumps(str(folder))[1:-1]
    request = json.loads(json.dumps(parcel.request).replace(parcel.root, here))
    return NewJob(
        id=parcel.id, kind=parcel.kind, fingerprint=fingerprint, request=request, attempts=2
    )
