"""A result of a batch on its way to its place, and what the ledger keeps of it, or of an error."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from nstx.models.errors import NstxError, OutputError
from nstx.models.printable import printable
from nstx.models.storage.files import make_folder

from ..jobs.ledger import Ledger
from ..jobs.records import Claim
from ..pictures.picture import Picture
from ..transfer.job import Job
from ..transfer.result import Result
from .asked import AskedJob
from .folder import REPLACES, BatchFolder, digest_of

_NO_ROOM = {
    getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EMFILE", "ENFILE")
}
"""What is wrong with more than one place."""


class UnplacedError(OutputError):
    """A result that cannot be put into its place, where those of other jobs may be put into theirs."""


def as_asked(asked: AskedJob, job: Job, picture: Picture) -> Picture:
    """Return a picture whose manifest has the threads that were asked for, where it is the same with any.

    So it is with ONNX Runtime, by which the file is that of a run alone.
    """
    if picture.manifest is None or job.opened.choice.name != "onnx":
        return picture
    settings = {**picture.manifest["settings"], "threads": asked.settings.threads}
    return replace(picture, manifest={**picture.manifest, "settings": settings})


@contextlib.contextmanager
def unplaced() -> Iterator[None]:
    """Turn an error of writing, in a block, into one of the one result; unless nothing can be written on the disk."""
    try:
        yield
    except OutputError as error:
        if _is_of_all(error.__cause__):
            raise
        raise UnplacedError(str(error)) from error


def make_place(place: Path) -> None:
    """Make the folder that a result goes into; errors as `put_result`."""
    with unplaced():
        make_folder(place.parent)


def put_result(part: Path, place: Path) -> None:
    """Move a result, which is whole and safe on the disk, into its place.

    Raises:
        UnplacedError: it cannot be put there.
        OutputError: nothing can be written on the disk.
    """
    try:
        part.replace(place)
    except OSError as error:
        kind = OutputError if _is_of_all(error) else UnplacedError
        raise kind(
            f"expected a file that can be replaced at {printable(place)}, got: {error.strerror or error}; "
            "try another name"
        ) from error
    if hasattr(os, "O_DIRECTORY"):  # a system on which a folder can be synchronised, too
        with contextlib.suppress(OSError):
            handle = os.open(place.parent, os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def check_untouched(place: Path, claim: Claim) -> None:
    """Check that a result replaces what it was planned to replace; `UnplacedError` if somebody has changed that since."""
    known = (None, claim.request.get(REPLACES), claim.sha256)
    if REPLACES in claim.request and digest_of(place) not in known:
        raise UnplacedError(
            f"expected {printable(place)} as it was when the batch was planned, got a file that was changed since; "
            "try to move it away"
        )


def place_result(
    ledger: Ledger,
    claim: Claim,
    part: Path,
    place: Path,
    *,
    digest: str | None,
    described: Mapping[str, Any],
) -> None:
    """Have the ledger put a result that lies beside its place there; where that fails, it is removed.

    Args:
        ledger: of the batch.
        claim: of the job.
        part: the result, whole and safe on the disk.
        place: where it belongs.
        digest: its sha256 as it was read back; None if it could not be.
        described: what the ledger keeps of it (`describe_result`).

    Raises:
        LostClaimError: another worker has the job.
        UnplacedError: it cannot be put there.
        OutputError: nothing can be written, or read back.
    """
    try:
        if digest is None:
            raise OutputError(
                f"expected to read {printable(part)} back, got nothing; try another disk"
            )
        check_untouched(place, claim)
        make_place(place)
        ledger.publish(claim, digest, described, partial(put_result, part, place))
    except Exception:
        part.unlink(missing_ok=True)
        raise


def acknowledge(folder: BatchFolder, ledger: Ledger, claim: Claim) -> bool:
    """End a job whose result an earlier attempt has made, and put into its place or was about to; return whether it did."""
    if claim.sha256 is None:
        return False
    place = folder.place(claim.id)
    if digest_of(place) == claim.sha256:
        ledger.acknowledge(claim)
        return True
    part = folder.find_part(claim.sha256)
    if part is None:
        return False
    make_place(place)
    try:
        ledger.acknowledge(claim, partial(put_result, part, place))
    except UnplacedError:
        if part.exists():
            raise
        return False  # the earlier attempt lived on, and has just taken it away
    return True


def _is_of_all(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def describe_result(result: Result) -> dict[str, Any]:
    """Return what the ledger keeps of a result, as plain data."""
    start = result.initial_cost
    return {
        "width": result.picture.width,
        "height": result.picture.height,
        "cost": asdict(result.cost),
        "initial_cost": None if start is None else start.total,
        "steps": result.steps,
        "stopped": result.stopped,
        "seconds": round(result.seconds, 4),
        "finished": round(time.time(), 3),
    }


def describe_error(error: BaseException) -> Mapping[str, Any]:
    """Return what the ledger keeps of an error: its type and message."""
    if isinstance(error, NstxError):
        kind = next(k.__name__ for k in type(error).__mro__ if k.__module__ == NstxError.__module__)
        return {"type": kind, "message": str(error)}
    if isinstance(error, MemoryError):
        message = (
            "expected memory for the job, got too little; try fewer --workers, or a smaller size"
        )
        return {"type": "DeviceError", "message": message}
    return {"type": type(error).__name__, "message": printable(error)[:1000]}
