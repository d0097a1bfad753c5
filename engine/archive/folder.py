"""The folder of a service: what was sent, the ledger with the results, what is shown meanwhile, and what happened."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nstx.models.storage.files import check_new_files, make_folder

from ..batches.folder import BatchFolder

FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "avif": ".avif", "tiff": ".tiff"}
"""Of results, with their suffixes."""

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ServiceFolder:
    """Where a service keeps all that it has; for it alone."""

    path: Path

    @property
    def batch(self) -> BatchFolder:
        """The folder of the results, with the ledger beside them."""
        return BatchFolder(self.path / "results")

    @property
    def events(self) -> Path:
        """The file of what happened."""
        return self.path / "events.sqlite"

    @property
    def _uploads(self) -> Path:
        return self.path / "uploads"

    @property
    def free(self) -> int:
        """Bytes that its disk has left."""
        return shutil.disk_usage(self.path).free

    def uploads(self, job: str) -> Path:
        """Return the folder of what was sent for a job."""
        return self._uploads / job

    def shown(self, job: str, name: str) -> Path:
        """Return where a picture of a job lies that is no result, such as ``preview.jpg``."""
        return self.path / "shown" / job / name

    def result(self, name: str) -> Path:
        """Return where a job's result is, by its name in the ledger."""
        return self.batch.place(name)

    def partial(self, name: str) -> Path:
        """Return where the picture so far is of a job that was stopped, by its name in the ledger."""
        return self.shown(job_of(name), f"partial{Path(name).suffix}")

    def without_paths(self, text: str, job: str) -> str:
        """Return a message about a job's files without where they lie, which strangers need not know."""
        return text.replace(f"{self.uploads(job)}/", "").replace(f"{self.path}/", "")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Have the folder, which is made if need be, for the time of a block; `OutputError` if another service has it."""
        check_new_files(self.path)
        for place in (self.path, self._uploads, self.path / "shown"):
            make_folder(place)
        with contextlib.suppress(OSError):
            self.path.chmod(0o700)  # pictures of other people
        with self.batch.alone():
            yield

    def known(self) -> set[str]:
        """Return the ids of the jobs of which something lies here besides their results."""
        places = [self._uploads, self.path / "shown"]
        names = {path.name for place in places for path in place.iterdir()}
        return {name for name in names if is_id(name)}

    def remove_uploads(self, job: str) -> None:
        """Remove what was sent for a job."""
        shutil.rmtree(self.uploads(job), ignore_errors=True)

    def remove_rest(self, job: str) -> None:
        """Remove what there is of a job besides its result and checkpoint."""
        self.remove_uploads(job)
        shutil.rmtree(self.path / "shown" / job, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove all that there is of a job, by its name in the ledger."""
        self.remove_rest(job_of(name))
        shutil.rmtree(self.batch.checkpoint(name), ignore_errors=True)
        with contextlib.suppress(OSError):
            self.result(name).unlink(missing_ok=True)

    def size(self, name: str) -> int:
        """Return the bytes that a job takes here."""
        job = job_of(name)
        places = [self.uploads(job), self.path / "shown" / job, self.batch.checkpoint(name)]
        files = [path for place in places if place.is_dir() for path in place.iterdir()]
        return sum(_bytes_of(path) for path in [*files, self.result(name)])


def is_id(text: str) -> bool:
    """Whether a text can be the id of a job."""
    return _ID.fullmatch(text) is not None


def name_of(job: str, picture: str) -> str:
    """Return the name that a job has in the ledger, which is that of its result in a format."""
    return f"{job}{FORMATS[picture]}"


def job_of(name: str) -> str:
    """Return the id of a job by its name in the ledger."""
    return name.partition(".")[0]


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
