"""The folder of a batch: results, and beside them, in a folder of its own, the ledger and what is not finished."""

import contextlib
import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nstx.models.errors import OutputError
from nstx.models.printable import printable
from nstx.models.storage.files import (
    PART_PREFIX,
    PART_SUFFIX,
    check_distinct,
    check_new_files,
    make_folder,
)
from nstx.models.storage.inputs import digest_input
from nstx.models.storage.locks import locked

from ..jobs.ledger import Ledger
from ..jobs.records import NewJob
from ..pictures.reading import MOST_BYTES
from .names import WORK, place_of

REPLACES = "replaces"
"""In a job's request: the checksum of the file that its result replaces; None where there was none."""


@dataclass(frozen=True, slots=True)
class BatchFolder:
    """Where the results of a batch go.

    ``.nstx-jobs`` in it holds the ledger, pictures that are to be renamed into their places, and checkpoints. All of
    it may be removed when the batch is done; then the same command would make every picture again.
    """

    path: Path

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.path / WORK / "ledger.sqlite"

    @property
    def _made(self) -> Path:
        return self.path / WORK / "made"

    def part(self, fence: int, suffix: str) -> Path:
        """Return where an attempt writes its picture, which no other attempt does."""
        return self._made / f"{fence}{suffix}"

    def checkpoint(self, job: str) -> Path:
        """Return the folder of a job's checkpoint."""
        return self.path / WORK / "kept" / hashlib.sha256(job.encode()).hexdigest()[:32]

    def place(self, name: str) -> Path:
        """Return where a result goes."""
        return place_of(self.path, name)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Have the folder, which is made if need be, for this batch alone for the time of a block.

        What killed workers have left half written is removed; what they had made and not put into its place stays.
        `OutputError` if another batch has the folder, or nothing can be written there.
        """
        check_new_files(self.path)
        make_folder(self.path / WORK)
        with locked([self.path / WORK]):
            make_folder(self._made)
            for part in self._made.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
                with contextlib.suppress(OSError):
                    part.unlink()
            yield

    def find_part(self, sha256: str) -> Path | None:
        """Return the picture of a checksum that an attempt has made, and not put into its place."""
        return next((path for path in self._made.iterdir() if digest_of(path) == sha256), None)

    def sweep(self) -> None:
        """Remove pictures that are in no place, as no job is left that they could be of."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self._made)

    def check_inputs(self, names: Collection[str], inputs: Collection[Path]) -> None:
        """Check that no result would replace a picture that is read; `OutputError` if one would."""
        check_distinct([self.path / name for name in names], list(inputs))

    def look(
        self, ledger: Ledger, names: Collection[str]
    ) -> tuple[set[str], dict[str, str | None]]:
        """Queue jobs again whose results are gone; return those whose results are not as they were made, and checksums.

        So it is with what was to be replaced, and has been changed since that was planned: its job does not wait any more.
        """
        gone, other, digests = list[str](), set[str](), dict[str, str | None]()
        for record in ledger:
            is_made = record.state == "succeeded"
            if record.id not in names or not (is_made or REPLACES in record.request):
                continue
            digest = digests[record.id] = digest_of(self.place(record.id))
            if digest is None:
                gone += [record.id] * is_made
            elif digest not in (record.sha256, None if is_made else record.request[REPLACES]):
                other.add(record.id)
        for name in gone:
            ledger.queue_again(name)
        for name in other:
            ledger.cancel(name)
        return other, digests

    def note_replaced(self, job: NewJob, digests: Mapping[str, str | None]) -> NewJob:
        """Return a job that says what stands in its result's place; `OutputError` if that is a folder.

        ``digests`` are checksums that are known.
        """
        place = self.place(job.id)
        if place.is_dir():
            raise OutputError(
                f"expected a file, or nothing, in a result's place, got the folder {printable(place)}; "
                "try another --name, or another output"
            )
        digest = digests[job.id] if job.id in digests else digest_of(place)
        return replace(job, request={**job.request, REPLACES: digest})


def digest_of(path: Path) -> str | None:
    """Return the sha256 of a result's file; None if there is none that can be read."""
    try:
        return digest_input(path, kind="a result", most_bytes=MOST_BYTES, error=OutputError)
    except (OutputError, OSError):
        return None
