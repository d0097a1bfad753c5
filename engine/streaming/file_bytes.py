"""A file's bytes, read where they are asked for: of a file of many gigabytes, no more is in memory."""

from typing import BinaryIO


class FileBytes:
    """The bytes of an open file, as slices of ``bytes`` have them.

    A map of the file's pages would end the process where the file becomes shorter meanwhile; this reads fewer bytes.

    Args:
        file: at any place, which is changed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, 2)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, span: slice, /) -> bytes:
        """Return the bytes from one place to another, fewer where the file ends."""
        start, stop, _ = span.indices(self._length)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))
