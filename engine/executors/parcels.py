"""Jobs on their way to a machine that has none of their files, which go with them as bytes, one time each."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nstx.models.weights.sources import EMBEDDED, join_source, split_source

from ..batches.asked import AskedJob, Styles, read_asked, take_asked
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
        request: of the job, as plain data; a file that goes with it has the path ``NUMBER/NAME``.
    """

    id: str
    kind: str
    request: Mapping[str, Any]


def pack_jobs(claims: Sequence[Claim]) -> tuple[list[Parcel], list[Path]]:
    """Return parcels of claims, and the files that go with them, by their numbers.

    `UsageError` of a job that cannot be.
    """
    numbers: dict[Path, int] = {}
    parcels = []
    for claim in claims:

        def place(path: Path) -> Path:
            return Path(str(numbers.setdefault(path, len(numbers))), path.name)

        moved = move_files(take_asked(claim), place)
        request = json.loads(json.dumps(moved.to_json()))
        request["files"] = claim.request.get("files")
        parcels.append(Parcel(id=claim.id, kind=claim.kind, request=request))
    return parcels, list(numbers)


def unpack_job(parcel: Parcel, root: Path, fingerprint: str) -> NewJob:
    """Return the job of a parcel whose files lie under ``root``; tried again after what nobody foresaw."""
    moved = move_files(read_asked(parcel.request, parcel.id), lambda path: root / path)
    request = {**moved.to_json(), "files": parcel.request["files"]}
    return NewJob(
        id=parcel.id, kind=parcel.kind, fingerprint=fingerprint, request=request, attempts=2
    )


def move_files(asked: AskedJob, move: Move) -> AskedJob:
    """Return a job whose files are elsewhere."""
    mask = mask_file(asked.mask)
    return replace(
        asked,
        content=move(asked.content),
        styles=_move_styles(asked.styles, move),
        settings=_move_settings(asked.settings, move),
        mask=asked.mask if mask is None else str(move(mask)),
        regions=None if asked.regions is None else move(asked.regions),
        style_for={colour: _move_styles(blend, move) for colour, blend in asked.style_for.items()},
    )


def _move_styles(styles: Styles, move: Move) -> Styles:
    moved = []
    for path, weight in styles:
        file, _ = split_painting(path)
        layers = str(path)[len(file) :]
        moved.append((Path(f"{move(Path(file))}{layers}"), weight))
    return tuple(moved)


def _move_settings(settings: Settings, move: Move) -> Settings:
    if settings.init not in INITS:
        settings = replace(settings, init=str(move(Path(settings.init))))
    if settings.weights != EMBEDDED:
        file, convention = split_source(settings.weights)
        settings = replace(settings, weights=join_source(str(move(Path(file))), convention))
    return settings
