"""``-``: a picture from standard input, and the result to standard output.

Both are files in a folder of this process's own meanwhile, so that all else is as with files.
"""

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from nstx.models.errors import ImageError, OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.files import write_output
from nstx.models.storage.leftovers import removed_at_exit

from ..choices import split_style, style_file
from ..streams import stdout_error

PIPE = Path("-")
_MOST_BYTES, _CHUNK = 2**30, 2**20


@dataclass(frozen=True, slots=True)
class Files:
    """What a command line names, with files in place of every ``-``.

    Attributes:
        stdin: the file that holds what standard input has; None if no picture is ``-``.
    """

    content: Path | None
    styles: tuple[str, ...]
    output: Path
    stdin: Path | None = None


@contextlib.contextmanager
def pipes(content: Path | None, styles: Sequence[str], output: Path) -> Iterator[Files]:
    """Read standard input, if a picture is ``-``; what is yielded has files in its place.

    Where the output is ``-``, whoever has written its file calls `send`.

    Raises:
        UsageError: two pictures are ``-``.
        ImageError: standard input is closed, empty or a terminal, or has more than 1 GiB.
        OutputError: standard output is closed or a terminal, or there is no folder for temporary files.
    """
    named = [content, *(style_file(split_style(style)[0]) for style in styles)]
    if PIPE not in (*named, output):
        yield Files(content, tuple(styles), output)
        return
    if named.count(PIPE) > 1:
        raise UsageError(f"expected one picture from -, got {named.count(PIPE)}; try a file")
    if output == PIPE and (kind := _no_data(sys.stdout)):
        raise OutputError(
            f"expected standard output to lead to a file for -o -, got {kind}; try -o out.png"
        )
    with _own_folder() as folder:
        source = folder / "stdin"
        if PIPE in named:
            _receive(source)
        yield Files(
            source if content == PIPE else content,
            tuple(_put_in_place(style, source) for style in styles),
            folder / "stdout.png" if output == PIPE else output,
            source if PIPE in named else None,
        )


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """Make a folder for the time of a block, which is removed however the process ends."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="nstx-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(
            f"expected a folder for temporary files, got: {error.strerror or error}; try TMPDIR"
        ) from error
    with folder as name, removed_at_exit(Path(name)):
        yield Path(name)


def _put_in_place(style: str, source: Path) -> str:
    path, weight = split_style(style)
    if style_file(path) != PIPE:
        return style
    layers = str(path).removeprefix(str(PIPE))
    return f"{source}{layers}:{weight}"


def _no_data(stream: TextIO | None) -> str:
    """Say why a standard stream carries no picture; empty if it may."""
    if stream is None:
        return "one that is closed"
    return "a terminal" if stream.isatty() else ""


def _receive(path: Path) -> None:
    """Write what standard input has to a file."""
    if kind := _no_data(sys.stdin):
        raise ImageError(f"expected a picture from standard input, got {kind}; try '- < photo.jpg'")
    source: BinaryIO = sys.stdin.buffer
    size = 0
    try:
        with path.open("wb") as file:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > _MOST_BYTES:
                    raise ImageError(
                        "expected a picture of at most 1 GiB from standard input, got more; try a file"
                    )
                file.write(chunk)
        if not size:
            raise ImageError(
                "expected a picture from standard input, got nothing; try '- < photo.jpg'"
            )
    except OSError as error:
        raise ImageError(
            f"expected to keep what standard input has in {printable(path.parent)}, got: "
            f"{error.strerror or error}; try a file"
        ) from error


def send(path: Path) -> None:
    """Write a file's bytes to standard output.

    `OutputError` if it cannot be written; the message says where a copy is then.
    """
    picture = path.read_bytes()
    try:
        _write_all(sys.stdout.buffer, picture)
    except OSError as error:
        from nstx.engine.pictures.rescue import rescue  # NumPy is not for every command line

        raise rescue(
            stdout_error(error), path.name, lambda place: write_output(place, picture)
        ) from error


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """Write bytes on a stream that may take a part of them at a time, as unbuffered ones do when a signal comes."""
    rest = memoryview(data)
    while rest:
        size = stream.write(rest)
        if size is None:  # of a raw stream that does not wait
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        rest = rest[size:]
    stream.flush()
