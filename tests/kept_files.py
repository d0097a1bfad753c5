"""Lets a process read the large files of the cache that tests share once.

Their use is not noted in their times, by which it is known that they are what they were.
"""

from pathlib import Path
from typing import Any

from checksums import identify

from nstx.engine.sessions import kept_graphs
from nstx.models.weights import load

_copies: dict[tuple[object, ...], Any] = {}


def _read_copy(file: Any) -> Any:
    """Read the weights' copy that was read last no second time."""
    identity = identify(file)
    if identity is None:
        return _really_read_copy(file)
    if identity not in _copies:
        copy = _really_read_copy(file)
        _copies.clear()
        _copies[identity] = copy
    tensors, mean = _copies[identity]
    return dict(tensors), mean


def _mark_used(path: Path) -> None:
    if path.parents[1] != shared_cache:
        _really_mark_used(path)


shared_cache: Path | None = None
"""The cache folder of all tests, once there is one."""

_weights: Any = load
_graphs: Any = kept_graphs
_really_read_copy, _really_mark_used = _weights.read_copy, _weights.mark_used
_weights.read_copy = _read_copy
_weights.mark_used = _graphs.mark_used = _mark_used
