"""Whether what a server hands over is the picture that it says: looked at before anything is replaced by it."""

import hashlib
from pathlib import Path

from nstx.models.errors import ImageError, OutputError

from ..formats.identify import identify_format
from ..pictures.decoding import MOST_PIXELS
from ..pictures.reading import decode_file
from ..pictures.samples import Samples
from .answers import Answer, describe_kind
from .records import RemoteJob, RemoteResult

_KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "avif": "AVIF", "tiff": "TIFF"}
_NAME = Path("the server's answer")


def check_picture(answer: Answer, job: RemoteJob, known: RemoteResult) -> None:
    """Raise `OutputError` unless an answer is the picture of a job: its bytes, its format and size, whole.

    One of more pixels than a picture may have that is read (`MOST_PIXELS`, twice) cannot be looked at, and is refused.
    """
    if not answer.kind.startswith("image/"):
        raise _damaged(describe_kind(answer.kind))
    if len(answer.data) != known.bytes:
        raise _damaged(f"{len(answer.data)} bytes instead of {known.bytes}")
    if known.sha256 not in (None, hashlib.sha256(answer.data).hexdigest()):
        raise _damaged("a damaged one")
    try:
        kind = identify_format(answer.data, _NAME)
        if kind != _KINDS[job.format]:
            raise _damaged(f"{kind} instead of {job.format}")
        picture = decode_file(answer.data, kind, _NAME, 2 * MOST_PIXELS)
    except ImageError as error:
        raise OutputError(str(error)) from error
    if isinstance(picture, Samples):
        height, width = picture.values.shape[:2]
    else:
        width, height = picture.size
    if known.width is not None and (width, height) != (known.width, known.height):
        raise _damaged(f"one of {width}×{height}")


def _damaged(got: str) -> OutputError:
    return OutputError(f"expected a picture as it was made, got {got}; try again")
