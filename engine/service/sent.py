"""What is sent with a form: which files there may be, and by which digest it is known again."""

import hashlib
import json
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from ..archive.limits import MOST_STYLES
from .refusals import Refusal

MOST_FILES = {
    "content": 1,
    "style": MOST_STYLES,
    "style_mask": MOST_STYLES,
    "mask": 1,
    "regions": 1,
    "targets": 1,
}
"""Of each kind that a form may have."""

_CHUNK = 1 << 20


class SentFile(NamedTuple):
    """What was sent: of a kind of `MOST_FILES`, read from where it stands; ``name`` is one of `file_name`, to be shown."""

    kind: str
    file: BinaryIO
    name: str | None = None


Files = Sequence[SentFile]


def check_files(files: Files) -> None:
    """Raise `Refusal` of files that do not make one job."""
    kinds = [sent.kind for sent in files]
    for kind in kinds:
        most = MOST_FILES.get(kind)
        if most is None or kinds.count(kind) > most:
            expected = ", ".join(f"at most {count} {name}" for name, count in MOST_FILES.items())
            raise Refusal(
                "unprocessable",
                f"expected files of {expected}, got {kinds.count(kind)} of another kind or one too many; try one content "
                "and one style",
            )
    if "targets" in kinds and len(kinds) > 1:
        raise Refusal(
            "unprocessable",
            "expected content and style, or targets, got both; try one of the two",
            setting="targets",
        )
    for kind in ("content", "style"):
        if kind not in kinds and "targets" not in kinds:
            raise Refusal(
                "unprocessable", f"expected a file {kind}, got none; try a picture", setting=kind
            )


def digest_form(files: Files, options: str | None) -> str:
    """Return the sha256 of a form, whatever its order of parts of different kinds."""
    parts = [[sent.kind, _digest_file(sent.file)] for sent in files]
    text = json.dumps([sorted(parts, key=lambda part: part[0]), options or ""])
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_file(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
