"""Jobs on their way to a machine that has none of their files, which go with them as bytes, one time each."""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nstx.models.weights.sources import EMBEDDED, join_source, split_source

from ..batches.asked import AskedJob, Styles, take_asked
from ..jobs.records import Claim, NewJob
from ..regions.masks import mask_file
from ..settings import INITS, Settings
from ..targets.paintings import split_painting

Move = Callable[[Path], Path]


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

        moved = move_files(take_asked(claim), place)
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


def move_files(asked: AskedJob, move: Move) -> AskedJob:
    """Return a job whose files are elsewhere."""
    mask = mask_file(asked.mask)
    return replace(
        asked,
        content=None if asked.content is None else move(asked.content),
        targets=None if asked.targets is None else move(asked.targets),
        styles=_move_styles(asked.styles, move),
        settings=_move_settings(asked.settings, move),
        mask=asked.mask if mask is None else str(move(mask)),
        regions=None if asked.regions is None else move(asked.regions),
        style_for={colour: _move_styles(blend, move) for colour, blend in asked.style_for.items()},
    )


def _move_styles(styles: Styles, move: Move) -> Styles:
    moved = []
    for path, weight in styles:
        named = split_painting(path)
        mask = None if named.mask is None else str(move(Path(named.mask)))
        there = named._replace(file=str(move(Path(named.file))), mask=mask)
        moved.append((Path(there.join()), weight))
    return tuple(moved)


def _move_settings(settings: Settings, move: Move) -> Settings:
    if settings.init not in INITS:
        settings = replace(settings, init=str(move(Path(settings.init))))
    if settings.weights != EMBEDDED:
        file, convention = split_source(settings.weights)
        settings = replace(settings, weights=join_source(str(move(Path(file))), convention))
    return settings
