"""Takes a job from a stranger: within limits, once, and so that it is kept from the moment that it is taken."""

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nstx.models.values import describe

from ..archive.describing import note_of, with_names
from ..archive.events import EventTable
from ..archive.folder import FORMATS, ServiceFolder, name_of
from ..archive.limits import SPARE_DISK, ServiceLimits, disk_needed
from ..batches.asked import AskedJob
from ..checkpoints.manifest import read_settings
from ..jobs.ledger import Ledger
from ..jobs.records import JobRecord, NewJob
from ..targets.paintings import join_painting
from .inspection import Inspection
from .options import JobOptions, check_beside_targets, check_steps, read_options
from .refusals import Refusal, explain, explain_disk, refuse_full
from .sent import Files, check_files, digest_form

_CHUNK = 1 << 20
_ATTEMPTS = 4


class Intake:
    """Takes jobs, from any thread.

    Args:
        folder: of the service.
        limits: that jobs keep to.
        machine: settings that the server chooses.
        inspection: looks at what was sent.
    """

    def __init__(
        self,
        folder: ServiceFolder,
        limits: ServiceLimits,
        machine: Mapping[str, Any],
        inspection: Inspection,
    ) -> None:
        self._folder, self._limits, self._machine = folder, limits, machine
        self._inspection = inspection
        self._keys: set[str] = set()
        self._lock = threading.Lock()

    def take(self, files: Files, options: str | None, key: str | None) -> tuple[JobRecord, bool]:
        """Return the job that was taken, and whether it is new; one of the same key and form is not.

        `Refusal` if it is not taken: then nothing is left of it.
        """
        job = uuid.uuid4().hex if key is None else _id_of(key)
        with self._only(job), Ledger(self._folder.batch.ledger) as ledger:
            payload = digest_form(files, options)
            if key is not None and (earlier := find_job(ledger, job)) is not None:
                if note_of(earlier).get("payload") != payload:
                    raise Refusal(
                        "key-reused",
                        "expected the form that came with this Idempotency-Key before, got another; try another key",
                    )
                return earlier, False
            self.check_queue(ledger)
            return self._take(ledger, job, files, options, payload), True

    def check_queue(self, ledger: Ledger) -> None:
        """Raise `Refusal` if no more jobs may wait."""
        counts = ledger.counts()
        if counts["queued"] >= self._limits.max_queue:
            raise Refusal(
                "queue-full",
                f"expected at most {self._limits.max_queue} jobs that wait, got one more; try again later",
                retry_after=max(1, min(30, counts["queued"] // 20)),
            )

    @contextlib.contextmanager
    def _only(self, job: str) -> Iterator[None]:
        with self._lock:
            if job in self._keys:
                raise Refusal(
                    "key-in-use",
                    "expected an Idempotency-Key of no request that is being taken just now, got one; try again",
                    retry_after=1,
                )
            self._keys.add(job)
        try:
            yield
        finally:
            with self._lock:
                self._keys.discard(job)

    def _take(
        self, ledger: Ledger, job: str, files: Files, text: str | None, payload: str
    ) -> JobRecord:
        check_files(files)
        kinds = [sent.kind for sent in files]
        styles = kinds.count("style")
        options = read_options(text, styles, self._limits, self._machine)
        if "regions" not in kinds:
            _check_no_region(options)
        if "targets" in kinds:
            check_beside_targets(options)
        place = self._folder.uploads(job)
        names: dict[str, str] = {}
        try:
            paths, size = self._keep(place, files, names)
            new, (width, height) = self._inspection.plan(
                _ask(job, paths, options), self._limits.max_pixels, options.chosen
            )
            settings = read_settings(new.request["settings"])
            check_steps(settings, self._limits)
            self._check_disk(disk_needed(size, width * height))
            note = {
                "options": options.given, "payload": payload, "format": options.format,
                "names": names, "width": width, "height": height, "steps": settings.most_steps,
            }  # fmt: skip
            new = replace(new, attempts=_ATTEMPTS, request={**new.request, "service": note})
            return self._add(ledger, job, new)
        except BaseException as error:
            shutil.rmtree(place, ignore_errors=True)
            if isinstance(error, OSError):
                raise explain_disk(error) from error
            # Other errors of ours are of the ledger, and no fault of whoever asks.
            if isinstance(error, Refusal):
                message = with_names(self._folder.without_paths(str(error), job), names)
                raise explain(error, message) from error
            raise

    def _keep(
        self, place: Path, files: Files, names: dict[str, str]
    ) -> tuple[dict[str, list[Path]], int]:
        """Write what was sent, under names of our own, so that the disk has it; return paths and bytes.

        ``names`` takes what strangers call it, by these.
        """
        place.mkdir(parents=True)
        paths: dict[str, list[Path]] = {}
        size = 0
        for kind, file, name in files:
            path = place / f"{kind}-{len(paths.get(kind, [])) + 1}"
            if name is not None and name != kind:
                names[path.name] = name
            file.seek(0)
            with path.open("wb") as out:
                shutil.copyfileobj(file, out, _CHUNK)
                out.flush()
                os.fsync(out.fileno())
                size += out.tell()
            paths.setdefault(kind, []).append(path)
        return paths, size

    def _check_disk(self, needed: int) -> None:
        if needed > self._limits.max_disk:
            raise Refusal(
                "too-large",
                f"expected a job that takes at most {self._limits.max_disk} bytes of the disk, got one of {needed}; "
                "try a smaller size",
                setting="size",
            )
        if self._folder.free < needed + SPARE_DISK:
            raise refuse_full()

    def _add(self, ledger: Ledger, job: str, new: NewJob) -> JobRecord:
        with self._lock:  # so that the queue does not grow between a look and this
            self.check_queue(ledger)
            events = EventTable(self._folder.events)
            try:
                ledger.add([new])
                events.append([(job, "status", {"status": "queued"})])
            finally:
                events.close()
        record = ledger.find(new.id)
        assert record is not None
        return record


def find_job(ledger: Ledger, job: str) -> JobRecord | None:
    """Return a job by its id; None if there is none."""
    records = (ledger.find(name_of(job, picture)) for picture in FORMATS)
    return next((record for record in records if record is not None), None)


def _ask(job: str, paths: Mapping[str, Sequence[Path]], options: JobOptions) -> AskedJob:
    plain, by_colour = [], dict[str, list[tuple[Path, float]]]()
    masks = _match_masks(options, paths.get("style_mask", ()))
    for path, style, mask_of_style in zip(
        paths.get("style", ()), options.styles, masks, strict=True
    ):
        painting = Path(join_painting(path, style.layers, mask_of_style)), style.weight
        if style.region is None:
            plain.append(painting)
        else:
            by_colour.setdefault(style.region, []).append(painting)
    mask = next(iter(paths.get("mask", ())), None)
    return AskedJob(
        content=next(iter(paths.get("content", ())), None),
        targets=next(iter(paths.get("targets", ())), None),
        styles=tuple(plain),
        output=name_of(job, options.format),
        settings=options.settings,
        mask="alpha" if options.by_alpha else None if mask is None else str(mask),
        regions=next(iter(paths.get("regions", ())), None),
        style_for={colour: tuple(blend) for colour, blend in by_colour.items()},
        depth=options.depth,
        keep_profile=options.keep_profile,
        manifest=options.manifest,
    )


def _match_masks(options: JobOptions, masks: Sequence[Path]) -> list[str | None]:
    """Return the mask of each style, in the order of those that have one; of all where none is said to have one."""
    masked = [style.mask for style in options.styles]
    if len(masks) == len(masked) and not any(masked):
        masked = [True] * len(masked)
    if len(masks) != sum(masked):
        raise Refusal(
            "unprocessable",
            f"expected a style_mask for each style of which 'mask' is true, {sum(masked)}, got {len(masks)}; try "
            '{"styles": [{"mask": true}]}',
            setting="styles",
        )
    left = iter(masks)
    return [str(next(left)) if has_mask else None for has_mask in masked]


def _check_no_region(options: JobOptions) -> None:
    for style in options.styles:
        if style.region is not None:
            raise Refusal(
                "unprocessable",
                f"expected a map of colours, regions, with the region {describe(style.region)}, got none; try to send one",
                setting="styles",
            )


def _id_of(key: str) -> str:
    return hashlib.sha256(b"nstx Idempotency-Key\0" + key.encode()).hexdigest()[:32]
