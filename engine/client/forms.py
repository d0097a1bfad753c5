"""The form that a job is asked for with: files are read as they are sent."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nstx.models.errors import ImageError
from nstx.models.printable import file_name, printable

from .transport import Body

_CHUNK = 1 << 18


def make_form(
    files: Sequence[tuple[str, Path]], options: Mapping[str, Any]
) -> tuple[Body, dict[str, str]]:
    """Return a form and its headers; of paths the server is told the last parts.

    `ImageError` if there is no such file.
    """
    boundary = uuid.uuid4().hex
    parts: list[tuple[bytes, Path | bytes, int]] = []
    for kind, path in files:
        # Without quotes, and what would need others.
        name = file_name(path.name) or kind
        head = f'Content-Disposition: form-data; name="{kind}"; filename="{name}"'
        parts.append((_head(boundary, head), path, _size_of(path)))
    data = json.dumps(dict(options)).encode()
    head = 'Content-Disposition: form-data; name="options"'
    parts.append((_head(boundary, head), data, len(data)))
    end = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + size + 2 for head, _, size in parts) + len(end)

    def body() -> Iterator[bytes]:
        for head, content, size in parts:
            yield head
            yield from [content] if isinstance(content, bytes) else _read(content, size)
            yield b"\r\n"
        yield end

    return body, {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(length),
    }


def _head(boundary: str, line: str) -> bytes:
    return f"--{boundary}\r\n{line}\r\n\r\n".encode()


def _size_of(path: Path) -> int:
    try:
        if path.is_file():
            return path.stat().st_size
        reason = "no file"
    except (OSError, ValueError) as error:
        reason = printable(getattr(error, "strerror", None) or error)
    raise ImageError(f"expected a file at {printable(path)}, got {reason}; try another path")


def _read(path: Path, size: int) -> Iterable[bytes]:
    """Yield a file of a size that was told already."""
    with path.open("rb") as file:
        while size and (piece := file.read(min(size, _CHUNK))):
            size -= len(piece)
            yield piece
    if size:
        raise ImageError(
            f"expected {printable(path)} as it was, got a file that has become shorter; try again"
        )
