"""How a worker makes the jobs that it has claimed: prepared on one backend, run together or alone, published."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from nstx.models.errors import DeviceError, NstxError, OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.cache import keeps_cache

from ..checkpoints.keeper import Checkpoints
from ..jobs.ledger import Ledger, LostClaimError
from ..jobs.records import Claim
from ..manifests.places import note_inputs
from ..pictures.picture import Picture
from ..pictures.writing import check_output_size, write_image
from ..preparation.backends import UnsharedError
from ..preparation.inputs import take_content
from ..targets.files import read_targets
from ..transfer.batch import run_batch
from ..transfer.job import Job, prepare_job
from ..transfer.progress import Step
from ..transfer.result import Result
from ..transfer.run import run_job
from ..transfer.saved import prepare_job_from_targets
from .asked import AskedJob, take_asked
from .folder import BatchFolder, digest_of
from .heart import Heart
from .results import (
    UnplacedError,
    acknowledge,
    as_asked,
    describe_error,
    describe_result,
    place_result,
    unplaced,
)
from .together import BatchSizes, Meter, Ready, check_files, group_jobs

_log = logging.getLogger("nstx")


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
        sizes: learns how fast how many jobs are together.
        threads: of the CPU, for jobs that do not say how many.
        max_memory: bytes of main memory, for jobs that do not say how many.
        checkpoint_every: minutes from one checkpoint to the next of a job that runs alone; None keeps none.
        notes_places: whether the cache notes where pictures are, so that they are there for a result that is repeated.
    """

    def __init__(
        self,
        folder: BatchFolder,
        ledger: Ledger,
        heart: Heart,
        tell: Telling,
        *,
        sizes: BatchSizes | None = None,
        threads: int | None = None,
        max_memory: int | None = None,
        checkpoint_every: float | None = None,
        notes_places: bool = True,
    ) -> None:
        self._folder, self._ledger, self._heart, self._tell = folder, ledger, heart, tell
        self._sizes = sizes or BatchSizes()
        self._threads, self._most_memory = threads, max_memory
        self._every, self._notes = checkpoint_every, notes_places
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
                if acknowledge(self._folder, self._ledger, claim):
                    self._heart.drop(claim)
                    self._tell("succeeded", claim.id)
                    continue
                asked = take_asked(claim)
                self._folder.place(asked.output)
                ready.append((claim, asked, self._prepare(claim, asked)))
        for group in group_jobs(ready):
            self._sizes.fit(group[0][0], group[0][2])
            self._make_group(group)

    def _make_group(self, group: Sequence[Ready]) -> None:
        """Make jobs as one batch, or as smaller ones where memory does not hold it, or each by itself."""
        if len(group) == 1:
            self._make_alone(group[0])
        elif (half := self._make_together(group)) is not None:
            self._sizes.limit(group[0][0].kind, half)
            for at in range(0, len(group), half):
                self._make_group(group[at : at + half])

    def _prepare(self, claim: Claim, asked: AskedJob) -> Job:
        try:
            job = self._open(asked, self._last)
        except UnsharedError:
            self._last = None  # so that its memory is free before another backend is opened
            job = self._open(asked, None)
        self._last = job
        check_files(claim, job)
        with unplaced():
            check_output_size(Path(asked.output), *job.sizes[-1])
        if self._notes and keeps_cache(job.settings.use_cache):
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
        if asked.targets is not None:
            return prepare_job_from_targets(read_targets(asked.targets), settings, like=like)
        path = asked.content
        assert path is not None
        content = take_content(path, settings, wide=True) if asked.keep_profile else path
        return prepare_job(
            content, list(asked.styles), settings, mask=asked.mask, regions=asked.regions,
            style_for={colour: list(blend) for colour, blend in asked.style_for.items()} or None, like=like,
        )  # fmt: skip

    def _make_together(self, group: Sequence[Ready]) -> int | None:
        """Make jobs as one batch; return how many are to be tried together if that went wrong.

        Alone, the one whose fault it is fails by itself. The error is not returned, as what was called holds its
        arrays: of a device that is full, these would be missing to what is tried next.
        """
        claims, meter = [claim for claim, _, _ in group], Meter()
        follow = [self._follow(claim) for claim in claims]

        def on_step(index: int, step: Step) -> None:
            follow[index](step)
            meter.take(index, step)

        try:
            results = run_batch(
                [job for _, _, job in group],
                on_step=on_step,
                should_stop=partial(self._heart.should_stop, claims),
            )
        except OutputError:
            raise
        except Exception as error:  # noqa: BLE001  (whose fault it is shows alone)
            return len(group) // 2 if isinstance(error, DeviceError) else 1
        self._sizes.note(claims[0].kind, len(group), meter.rate)
        for item, result in zip(group, results, strict=True):
            with self._failing(item[0]):
                self._publish(item, result)
        return None

    def _make_alone(self, item: Ready) -> None:
        claim = item[0]
        if self._heart.should_stop([claim]):
            return
        with self._failing(claim), contextlib.ExitStack() as block:
            self._run(item, self._keep(item, block))

    def _keep(self, item: Ready, block: contextlib.ExitStack) -> Checkpoints | None:
        """Return what a job goes on from, and is kept in until a block ends; None if it is not kept."""
        if self._every is None:
            return None
        claim, _, job = item
        name, folder = printable(claim.id), self._folder.checkpoint(claim.id)
        if claim.checkpoint is not None and not folder.exists():
            _log.warning("%s begins anew: the checkpoint that was noted of it is gone", name)
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

    def _run(self, item: Ready, kept: Checkpoints | None) -> None:
        claim, _, job = item
        follow, meter, noted = self._follow(claim), Meter(), False

        def on_step(step: Step) -> None:
            nonlocal noted
            follow(step)
            meter.take(0, step)
            if kept is not None and kept.step is not None and not noted:
                noted = True
                self._ledger.note_checkpoint(claim, kept.folder.name)

        result = run_job(
            job,
            on_step=on_step,
            should_stop=partial(self._heart.should_stop, [claim]),
            checkpoint=kept,
        )
        self._sizes.note(claim.kind, 1, meter.rate)
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

    def _publish(self, item: Ready, result: Result) -> None:
        """Write a result beside its place, and have the ledger put it there; one that was interrupted is let be."""
        claim, asked, job = item
        if not result.is_complete or self._heart.is_lost(claim):
            return
        place = self._folder.place(asked.output)
        part = self._folder.part(claim.fence, place.suffix)
        write_image(part, self._finish(claim, asked, job, result.picture), **asked.saving)
        described = describe_result(result)
        place_result(self._ledger, claim, part, place, digest=digest_of(part), described=described)
        self._heart.drop(claim)
        self._tell("succeeded", claim.id, **described)

    def _finish(self, claim: Claim, asked: AskedJob, job: Job, picture: Picture) -> Picture:
        """Return a picture as it is saved."""
        return as_asked(asked, job, picture)

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
        try:
            again = self._ledger.fail(claim, details, again=again)
        except LostClaimError:
            return  # whoever has the job now says what comes of it
        finally:
            self._heart.drop(claim)
        self._tell("failed", claim.id, again=again, error=details)
