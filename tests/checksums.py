"""Lets a process compute the checksum of the same many bytes once, however many tests have them checked.

Most runs check a hundred megabytes, of a graph or of weights, for which a processor without instructions
for SHA-256 takes a third of a second. Whether bytes are those that are known, a CRC-32 of all of them says
in a tenth of that; what a test has damaged has another. A file that has not been written for a while is the same
where its place, its length and its times are.
"""

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstx.models.storage import seals

_LARGE = 1 << 20
_BLOCK = 1 << 18
_SETTLED = 1.0  # seconds; the clock of a file system goes in steps

_digests: dict[tuple[object, ...], Any] = {}


def _once(key: tuple[object, ...], compute: Callable[[], Any]) -> Any:
    if key not in _digests:
        _digests[key] = compute()
    return _digests[key]


def _digest_bytes(data: bytes) -> str:
    if len(data) < _LARGE:
        return _really_digest_bytes(data)
    key = ("bytes", len(data), zlib.crc32(data))
    digest: str = _once(key, lambda: _really_digest_bytes(data))
    return digest


def _digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    key = ("arrays", *((name, _describe(array)) for name, array in sorted(arrays.items())))
    digest: str = _once(key, lambda: _really_digest_arrays(arrays))
    return digest


def _describe(array: NDArray[Any]) -> tuple[int, int]:
    return array.nbytes, zlib.crc32(np.ascontiguousarray(array).data)


def identify(file: Any) -> tuple[object, ...] | None:
    """Return what tells a large file from all others and from itself before a change; None if it is new or small."""
    try:
        status = os.fstat(file.fileno())
    except OSError:  # it is in memory
        return None
    if status.st_size < _LARGE or time.time() - status.st_ctime < _SETTLED:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest_file(file: Any, algorithm: Any, /, **options: Any) -> Any:
    if identity := identify(file):
        key = ("identity", algorithm, file.tell(), *identity)
        return _once(key, lambda: _digest_content(file, algorithm, **options)).copy()
    return _digest_content(file, algorithm, **options)


def _digest_content(file: Any, algorithm: Any, /, **options: Any) -> Any:
    start = file.tell()
    size, crc, block = 0, 0, bytearray(_BLOCK)
    while count := file.readinto(block):
        size, crc = size + count, zlib.crc32(memoryview(block)[:count], crc)
    key = ("file", algorithm, size, crc)
    if size < _LARGE or key not in _digests:
        file.seek(start)
    if size < _LARGE:
        return _really_digest_file(file, algorithm, **options)
    return _once(key, lambda: _really_digest_file(file, algorithm, **options)).copy()


_really_digest_bytes, _really_digest_arrays = seals.digest_bytes, seals.digest_arrays
_really_digest_file: Callable[..., Any] = hashlib.file_digest
seals.digest_bytes = _digest_bytes
seals.digest_arrays = _digest_arrays
hashlib.file_digest = _digest_file
