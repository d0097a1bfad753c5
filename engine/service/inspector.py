"""What looks at the files of strangers: ``python -m nstx.engine.service.inspector``.

Lines of JSON on stdin ask, lines on stdout answer. It reads headers of pictures alone, and targets files
whole, with little memory; whoever asks ends it where it takes long.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image

from nstx.models.errors import ImageError, NstxError, UsageError, about
from nstx.models.storage.inputs import read_input
from nstx.models.storage.plain_data import take_object, take_text, take_whole
from nstx.models.weights.load import weights_digest

from ..batches.asked import AskedJob, read_asked
from ..batches.planning import Planner
from ..choices import choose_settings
from ..formats.identify import HEIC, NPY, TIFF, identify_format
from ..formats.tiff_directories import HEIGHT, WIDTH, read_pages
from ..pictures.decoding import DECODER_ERRORS, check_pixels, quiet_decoder, read_size
from ..pictures.reading import MOST_BYTES
from ..preparation.inputs import check_needs_no_styles
from ..sizes import choose_sizes
from ..targets.files import check_targets, read_targets
from .inspection import READY, Chosen
from .refusals import Refusal

_MEMORY = 4 << 30
"""Bytes of address space."""


def inspect(
    planner: Planner, asked: AskedJob, most_pixels: int, chosen: Chosen = None
) -> dict[str, Any]:
    """Return what the ledger needs to know of a job, and the size of its result.

    `Refusal` where a file is no picture, or it or the result has too many pixels; other errors as of planning, and of a
    targets file that cannot be, or is of something else than what is ``chosen``.
    """
    asked, (height, width) = (_plan_pictures if asked.targets is None else _plan_targets)(
        asked, chosen, most_pixels
    )
    scaled = asked.settings.style_scale if asked.styles else 0.0
    if max(height * width, (scaled * max(height, width)) ** 2) > most_pixels:
        raise Refusal(
            "too-large",
            f"expected a result, and styles, of at most {most_pixels} pixels on this server, got {width}×{height}"
            f"{f' and styles of {scaled:g} times that' if scaled > 1 else ''}; try a smaller size",
            setting="size",
        )
    (job,) = planner.plan([asked])
    return {**asdict(job), "width": width, "height": height}


def _plan_pictures(
    asked: AskedJob, chosen: Chosen, most_pixels: int
) -> tuple[AskedJob, tuple[int, int]]:
    """Return a job as it is, and height and width of its result."""
    sizes = {path: _look(path, most_pixels) for path in asked.files}
    assert asked.content is not None
    styles = [sizes[path] for path in asked.style_files]
    return asked, choose_sizes(sizes[asked.content], styles, asked.settings)[-1]


@about("targets")
def _plan_targets(
    asked: AskedJob, chosen: Chosen, most_pixels: int
) -> tuple[AskedJob, tuple[int, int]]:
    """Return a job with the settings of its targets, and height and width of its result."""
    assert asked.targets is not None
    saved = read_targets(asked.targets)
    settings = asked.settings
    if chosen is not None:
        settings = choose_settings(saved.chosen, **chosen)
    check_needs_no_styles(settings, None)
    weights = weights_digest(settings.weights, settings.objective.preprocessing)
    check_targets(saved, settings.objective, weights, colors=settings.colors)
    counts = [target.height * target.width for target in saved.targets]
    if max(counts) > counts[-1]:
        raise UsageError(
            f"expected targets from coarse to fine, got {max(counts)} pixels before {counts[-1]}; "
            "try 'nstx precompute' again"
        )
    return replace(asked, settings=settings), (saved.targets[-1].height, saved.targets[-1].width)


def _look(path: Path, most_pixels: int) -> tuple[int, int]:
    """Return height and width of a picture by its header."""
    data = read_input(path, kind="a picture", most_bytes=MOST_BYTES, error=ImageError)
    try:
        kind = identify_format(data, path)
    except ImageError as error:
        raise Refusal("unsupported-media-type", str(error)) from error
    if kind == NPY:
        raise Refusal(
            "unsupported-media-type",
            f"expected a picture in {path}, got an array of NumPy's, which this server does not take; try PNG",
        )
    try:
        if kind not in (TIFF, HEIC):
            # Before its orientation is looked for, for which Pillow decodes a PNG.
            check_pixels(_stored_size(data, kind), len(data), kind, path, most_pixels)
        size = _tiff_size(data) if kind == TIFF else read_size(data, kind, path)
        if size is not None:
            check_pixels((size[1], size[0]), len(data), kind, path, most_pixels)
    except ImageError as error:
        raise Refusal("too-large", str(error)) from error
    if size is None:
        why = ", which needs an extra of the server's" if kind == HEIC else ""
        raise ImageError(
            f"expected a whole picture in {path}, got damaged {kind}{why}; try to fetch or save it again"
        )
    return size


def _stored_size(data: bytes, kind: str) -> tuple[int, int]:
    """Return width and height as a header has them; of a damaged one nothing."""
    try:
        with _any_size(), quiet_decoder(), Image.open(io.BytesIO(data), formats=[kind]) as image:
            return image.size
    except DECODER_ERRORS:
        return 0, 0


@contextmanager
def _any_size() -> Iterator[None]:
    """Have Pillow read headers of pictures that are too large, so that this can be told."""
    most = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = most


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    try:
        pages = read_pages(io.BytesIO(data)).chain
        sizes = [(page.number(HEIGHT), page.number(WIDTH)) for page in pages]
    except ValueError:
        return None
    return max(sizes, key=lambda size: size[0] * size[1])


def answer(planner: Planner, line: str) -> dict[str, Any]:
    """Return the answer to a line: what was found, or why not, as plain data."""
    try:
        data = json.loads(line)
        asked = read_asked(take_object(data, "asked"), take_text(data, "output"))
        chosen = None if data["chosen"] is None else take_object(data, "chosen")
        return inspect(planner, asked, take_whole(data, "most_pixels", 1, 2**31), chosen)
    except Refusal as error:
        return {"reason": error.reason, "message": str(error), "setting": error.setting}
    except NstxError as error:
        return {"reason": "unprocessable", "message": str(error), "setting": error.setting}
    except (MemoryError, RecursionError, ValueError, OSError) as error:
        message = f"expected files that can be used, got: {type(error).__name__}; try other ones"
        return {"reason": "unprocessable", "message": message, "setting": None}


def _limit() -> None:
    """Have little memory, and leave no core behind."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer lines until there are no more."""
    handle = os.dup(1)
    os.dup2(2, 1)
    _limit()
    planner = Planner()
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(READY)
        out.flush()
        for line in sys.stdin:
            out.write(json.dumps(answer(planner, line)) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
