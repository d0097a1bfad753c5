"""What looks at the files of strangers: ``python -m nstx.engine.service.inspector``.

Lines of JSON on stdin ask, lines on stdout answer. It reads headers alone, with little memory; whoever asks ends it where it
takes long.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from nstx.models.errors import ImageError, NstxError
from nstx.models.storage.inputs import read_input
from nstx.models.storage.plain_data import take_object, take_text, take_whole

from ..batches.asked import AskedJob, read_asked
from ..batches.planning import Planner
from ..formats.identify import HEIC, NPY, TIFF, identify_format
from ..pictures.decoding import DECODER_ERRORS, check_pixels, quiet_decoder, read_size
from ..pictures.reading import MOST_BYTES
from ..sizes import choose_sizes
from .inspection import READY
from .refusals import Refusal

_MEMORY = 4 << 30
"""Bytes of address space."""

_MOST_PAGES = 64


def inspect(planner: Planner, asked: AskedJob, most_pixels: int) -> dict[str, Any]:
    """Return what the ledger needs to know of a job, and the size of its result.

    `Refusal` where a file is no picture, or it or the result has too many pixels; other errors as of planning.
    """
    sizes = {path: _look(path, most_pixels) for path in asked.files}
    styles = [sizes[path] for path in asked.style_files]
    assert asked.content is not None
    height, width = choose_sizes(sizes[asked.content], styles, asked.settings)[-1]
    scaled = asked.settings.style_scale if styles else 0.0
    if max(height * width, (scaled * max(height, width)) ** 2) > most_pixels:
        raise Refusal(
            "too-large",
            f"expected a result, and styles, of at most {most_pixels} pixels on this server, got {width}×{height}"
            f"{f' and styles of {scaled:g} times that' if scaled > 1 else ''}; try a smaller size",
            setting="size",
        )
    (job,) = planner.plan([asked])
    return {**asdict(job), "width": width, "height": height}


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
    from tifffile import TiffFile, TiffPage

    try:
        with TiffFile(io.BytesIO(data), is_lsm=False, is_scanimage=False, is_ndpi=False) as file:
            pages = [file.pages[index] for index in range(min(len(file.pages), _MOST_PAGES))]
            whole = [page for page in pages if isinstance(page, TiffPage)]
            sizes = [(page.imagelength, page.imagewidth) for page in whole]
    except Exception:  # noqa: BLE001  (of a stranger's file, in a process for it)
        return None
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def answer(planner: Planner, line: str) -> dict[str, Any]:
    """Return the answer to a line: what was found, or why not, as plain data."""
    try:
        data = json.loads(line)
        asked = read_asked(take_object(data, "asked"), take_text(data, "output"))
        return inspect(planner, asked, take_whole(data, "most_pixels", 1, 2**31))
    except Refusal as error:
        return {"reason": error.reason, "message": str(error), "setting": error.setting}
    except NstxError as error:
        return {"reason": "unprocessable", "message": str(error), "setting": error.setting}
    except (MemoryError, RecursionError, ValueError, OSError) as error:
        message = f"expected files that can be used, got: {type(error).__name__}; try other ones"
        return {"reason": "unprocessable", "message": message, "setting": None}


def _limit() -> None:
    """Have little memory, and leave the processor to who answers."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.flush()


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
