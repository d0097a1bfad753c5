"""Makes jobs as a batch does, and shows their pictures as they develop."""

import contextlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from nstx.models.errors import OutputError
from nstx.models.storage.files import write_atomically

from ..archive.describing import names_of, note_beside
from ..archive.folder import ServiceFolder, job_of
from ..batches.asked import AskedJob
from ..batches.making import Maker
from ..batches.results import describe_result
from ..jobs.records import Claim
from ..pictures.picture import Picture
from ..pictures.resizing import fit_box
from ..pictures.transparency import on_white, with_alpha
from ..pictures.writing import to_8_bit, write_image
from ..transfer.job import Job
from ..transfer.progress import Step
from ..transfer.result import Result

_BOX = (1024, 1024)
_EVERY = 1.0
"""Seconds from one picture of a job to the next."""

_SHARE = 20
"""A picture that takes long to draw comes more seldom: of so many parts of the time, one is for drawing."""


class ShowingMaker(Maker):
    """A `Maker` whose jobs are watched: it draws them as they develop, and keeps the picture of one that is stopped."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._place = ServiceFolder(self._folder.path.parent)
        self._due: dict[str, float] = {}

    def _prepare(self, claim: Claim, asked: AskedJob) -> Job:
        job = super()._prepare(claim, asked)
        photograph = Picture(job.colouring.finish(job.contents[-1]), job.alpha)
        self._draw(claim, "before", photograph)
        return job

    def _follow(self, claim: Claim) -> Callable[[Step], None]:
        follow = super()._follow(claim)

        def show(step: Step) -> None:
            follow(step)
            began = time.monotonic()
            if began < self._due.get(claim.id, 0.0):
                return
            self._draw(claim, "preview", step.to_picture())
            ended = time.monotonic()
            self._due[claim.id] = max(began + _EVERY, ended + _SHARE * (ended - began))
            self._tell("shown", claim.id, step=step.step)

        return show

    def _publish(self, item: tuple[Claim, AskedJob, Job], result: Result) -> None:
        claim, asked, job = item
        self._due.pop(claim.id, None)
        if not result.is_complete or self._heart.is_lost(claim):
            # What a worker leaves that is to end is made by another.
            if self._heart.is_lost(claim) and result.steps:
                self._keep_picture(claim, asked, job, result)
            self._tell("let_go", claim.id)
            return
        super()._publish(item, result)

    def _keep_picture(self, claim: Claim, asked: AskedJob, job: Job, result: Result) -> None:
        path = self._place.partial(claim.id)
        # It is no result, and the service goes on without it.
        with contextlib.suppress(OutputError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            note = json.dumps(describe_result(result)).encode()
            write_atomically(note_beside(path), note, sync=False)
            write_image(path, self._finish(claim, asked, job, result.picture), **asked.saving)

    def _finish(self, claim: Claim, asked: AskedJob, job: Job, picture: Picture) -> Picture:
        """Return a picture whose manifest has its files' names, as whoever sent them knows them."""
        picture = super()._finish(claim, asked, job, picture)
        names = names_of(claim.request)
        if picture.manifest is None or not names:
            return picture
        inputs = [
            {k: names.get(v, v) if k in ("path", "mask") else v for k, v in item.items()}
            for item in picture.manifest["inputs"]
        ]
        return replace(picture, manifest={**picture.manifest, "inputs": inputs})

    def _draw(self, claim: Claim, name: str, picture: Picture) -> None:
        """Draw a picture as it is looked at: small, in 8 bits, on white."""
        path = self._place.shown(job_of(claim.id), f"{name}.jpg")
        with contextlib.suppress(OSError):
            _draw(path, picture)


def _draw(path: Path, picture: Picture) -> None:
    pixels = on_white(with_alpha(to_8_bit(picture.pixels), picture.alpha))
    height, width = fit_box((pixels.shape[0], pixels.shape[1]), _BOX, enlarge=False)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    write_atomically(path, file.getvalue(), sync=False)
