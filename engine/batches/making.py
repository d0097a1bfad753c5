"""How a worker makes the jobs that it has claimed: prepared on one backend, run together or alone, published."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from nstx.models.errors import ImageError, NstxError, OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.cache import keeps_cache

from ..checkpoints.keeper import Checkpoints
from ..jobs.ledger import Ledger, LostClaimError
from ..jobs.records import Claim
from ..manifests.places import note_inputs
from ..pictures.reading import read_image
from ..pictures.writing import check_output_size, write_image
from ..preparation.backends import UnsharedError
from ..transfer.batch import run_batch
from ..transfer.job import Job, prepare_job
from ..transfer.progress import Step
from ..transfer.result import Result
from ..transfer.run import run_job
from .asked import AskedJob, take_asked
from .folder import BatchFolder, digest_of
from .heart import Heart
from .results import (
    UnplacedError,
    as_asked,
    describe_error,
    describe_result,
    make_place,
    put_result,
    unplaced,
)

_log = logging.getLogger("nstx")

_Ready = tuple[Claim, AskedJob, Job]


class Telling(Protocol):
    """What is told of jobs as they go."""

    def __call__(self, event: str, job: str, **details: Any) -> None:
        """Tell of one that is ``begun``, made a ``step``, has ``succeeded``, ``failed`` or was ``released``."""


class Maker:
    """Makes jobs, one group of claims after the other; one gradient backend serves as many as it can.

    Args:
        folder: of the batch.
        ledger: opened for this thread.
        heart: that beats for what is claimed.
        tell: takes events.
        threads: of the CPU, for jobs that do not say how many.
        max_memory: bytes of main memory, for jobs that do not say how many.
        checkpoint_every: minutes from one checkpoint to the next of a job that runs alone; None keeps none.
    """

    def __init__(
        self,
        folder: BatchFolder,
        ledger: Ledger,
        heart: Heart,
        tell: Telling,
        *,
        threads: int | None = None,
        max_memory: int | None = None,
        checkpoint_every: float | None = None,
    ) -> None:
        self._folder, self._ledger, self._heart, self._tell = folder, ledger, heart, tell
        self._threads, self._most_memory = threads, max_memory
        self._every = checkpoint_every
        self._last: Job | None = None

    def make(self, claims: Sequence[Claim]) -> None:
        """Make what is claimed, and end each job or give it back.

        `OutputError` if nothing can be written: that is no job's fault.
        """
        ready = []
        for claim in claims:
            if self._heart.should_stop([claim]):
                continue  # whoever stops releases all
            with self._failing(claim):
                if self._acknowledge(claim):
                    continue
                asked = take_asked(claim)
                self._folder.place(asked.output)
                ready.append((claim, asked, self._prepare(claim, asked)))
        for group in _group(ready):
            if len(group) == 1 or not self._make_together(group):
                for item in group:
                    self._make_alone(item)

    def _acknowledge(self, claim: Claim) -> bool:
        """End a job whose result an earlier attempt has made, and put into its place or was about to."""
        if claim.sha256 is None:
            return False
        place = self._folder.place(claim.id)
        if digest_of(place) == claim.sha256:
            self._ledger.acknowledge(claim)
        elif part := self._folder.find_part(claim.sha256):
            make_place(place)
            try:
                self._ledger.acknowledge(claim, partial(put_result, part, place))
            except UnplacedError:
                if part.exists():
                    raise
                return False  # the earlier attempt lived on, and has just taken it away
        else:
            return False
        self._heart.drop(claim)
        self._tell("succeeded", claim.id)
        return True

    def _prepare(self, claim: Claim, asked: AskedJob) -> Job:
        try:
            job = self._open(asked, self._last)
        except UnsharedError:
            self._last = None  # so that its memory is free before another backend is opened
            job = self._open(asked, None)
        self._last = job
        _check_files(claim, job)
        with unplaced():
            check_output_size(Path(asked.output), *job.sizes[-1])
        if keeps_cache(job.settings.use_cache):
            note_inputs(job)
        return job

    def _open(self, asked: AskedJob, like: Job | None) -> Job:
        settings = asked.settings
        # No result depends on these but for rounding.
        settings = replace(
            settings,
            threads=settings.threads or self._threads,
            max_memory=settings.max_memory or self._most_memory,
        )
        path = asked.content
        content = read_image(path, wide=True) if asked.keep_profile else path
        return prepare_job(
            content, list(asked.styles), settings, mask=asked.mask, regions=asked.regions,
            style_for={colour: list(blend) for colour, blend in asked.style_for.items()} or None, like=like,
        )  # fmt: skip

    def _make_together(self, group: Sequence[_Ready]) -> bool:
        """Make jobs as one batch; return whether that went well: alone, the one that fails fails by itself."""
        claims = [claim for claim, _, _ in group]
        follow = [self._follow(claim) for claim in claims]
        try:
            results = run_batch(
                [job for _, _, job in group],
                on_step=lambda index, step: follow[index](step),
                should_stop=partial(self._heart.should_stop, claims),
            )
        except OutputError:
            raise
        except Exception:  # noqa: BLE001  (whose fault it is shows alone)
            return False
        for item, result in zip(group, results, strict=True):
            with self._failing(item[0]):
                self._publish(item, result)
        return True

    def _make_alone(self, item: _Ready) -> None:
        claim = item[0]
        if self._heart.should_stop([claim]):
            return
        with self._failing(claim), contextlib.ExitStack() as block:
            self._run(item, self._keep(item, block))

    def _keep(self, item: _Ready, block: contextlib.ExitStack) -> Checkpoints | None:
        """Return what a job goes on from, and is kept in until a block ends; None if it is not kept."""
        if self._every is None:
            return None
        claim, _, job = item
        name, folder = printable(claim.id), self._folder.checkpoint(claim.id)
        try:
            kept = block.enter_context(Checkpoints(folder, self._every))
        except OutputError as error:
            # A worker that hangs has lost the job, and has its checkpoint still.
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            _log.warning("%s begins anew, and is not kept as it goes: %s", name, error)
            return None
        try:
            kept.begin(job)
        except UsageError as error:  # of the job as it was asked for before, or damaged
            _log.warning("%s begins anew, not from its checkpoint: %s", name, error)
            kept.remove()
            kept = block.enter_context(Checkpoints(folder, self._every))
            kept.begin(job)
        return kept

    def _run(self, item: _Ready, kept: Checkpoints | None) -> None:
        claim, _, job = item
        follow, noted = self._follow(claim), False

        def on_step(step: Step) -> None:
            nonlocal noted
            follow(step)
            if kept is not None and kept.step is not None and not noted:
                noted = True
                self._ledger.note_checkpoint(claim, kept.folder.name)

        result = run_job(
            job,
            on_step=on_step,
            should_stop=partial(self._heart.should_stop, [claim]),
            checkpoint=kept,
        )
        self._publish(item, result)
        if kept is not None and result.is_complete:
            kept.remove()

    def _follow(self, claim: Claim) -> Callable[[Step], None]:
        self._tell("begun", claim.id)

        def follow(step: Step) -> None:
            progress = {"step": step.step, "steps": step.steps, "cost": step.cost.total}
            self._heart.note(claim.id, progress)
            self._tell("step", claim.id, **progress)

        return follow

    def _publish(self, item: _Ready, result: Result) -> None:
        """Write a result beside its place, and have the ledger put it there; one that was interrupted is let be."""
        claim, asked, job = item
        if not result.is_complete or self._heart.is_lost(claim):
            return
        place = self._folder.place(asked.output)
        part = self._folder.part(claim.fence, place.suffix)
        write_image(part, as_asked(asked, job, result.picture), **asked.saving)
        try:
            digest = digest_of(part)
            if digest is None:
                raise OutputError(
                    f"expected to read {printable(part)} back, got nothing; try another disk"
                )
            make_place(place)
            described = describe_result(result)
            self._ledger.publish(claim, digest, described, partial(put_result, part, place))
        except Exception:
            part.unlink(missing_ok=True)
            raise
        self._heart.drop(claim)
        self._tell("succeeded", claim.id, **described)

    @contextlib.contextmanager
    def _failing(self, claim: Claim) -> Iterator[None]:
        """End a job by an error that it raises; what nobody foresaw is raised on, and the job may be tried again.

        That nothing can be written is raised on too, and ends no job.
        """
        try:
            yield
        except LostClaimError:
            self._heart.drop(claim)
        except UnplacedError as error:
            self._fail(claim, error)
        except OutputError:
            raise
        except (NstxError, MemoryError) as error:
            self._fail(claim, error)
        except Exception as error:
            self._fail(claim, error, again=True)
            self._heart.release()  # the attempt of the others does not count
            raise

    def _fail(self, claim: Claim, error: BaseException, *, again: bool = False) -> None:
        details = describe_error(error)
        again = self._ledger.fail(claim, details, again=again)
        self._heart.drop(claim)
        self._tell("failed", claim.id, again=again, error=details)


def _check_files(claim: Claim, job: Job) -> None:
    """Check that a job is made of the files that it was planned with."""
    planned = claim.request.get("files")
    now = sorted({item.sha256 for item in job.inputs if item.sha256 is not None})
    if planned is not None and planned != now:
        raise ImageError(
            "expected the pictures that the batch was planned with, got files that have changed since; "
            "try the same command again"
        )


def _group(ready: Sequence[_Ready]) -> list[list[_Ready]]:
    """Return jobs in groups that can be one batch: of one backend and equal scales."""
    groups: dict[object, list[_Ready]] = {}
    for item in ready:
        groups.setdefault((id(item[2].opened), item[2].sizes), []).append(item)
    return list(groups.values())
