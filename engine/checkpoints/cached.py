"""Checkpoints of long runs that nobody asked to keep: in the cache, from when a run is known to take long."""

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from nstx.models.errors import NstxError, OutputError
from nstx.models.storage.cache import (
    cache_folder,
    cache_limit,
    find_entries,
    keeps_cache,
    remove,
    warn_unkept,
)
from nstx.models.storage.locks import locked
from nstx.models.storage.seals import digest_json

from ..settings import Settings
from .contents import Contents
from .keeper import MINUTES, Checkpoints
from .manifest import write_settings
from .reading import NAME, find_manifest
from .runs import Run, with_absolute_paths

_log = logging.getLogger("nstx")

LONG_SECONDS = 600.0
"""From here on a run is kept without being asked."""

CHECKPOINT_NAME = r"[0-9a-f]{32}/"
"""Folders of the cache, each of one request with its settings."""


class CachedCheckpoints(Checkpoints):
    """The checkpoint of a run in the cache: none, until it is to be kept, or one that is there already.

    What cannot be kept or gone on with costs a warning. Checkpoints of other runs make room, those that were not
    written for the longest first, so that all take what the cache may or no more than this one.

    Args:
        request: as of `Checkpoints`.
        settings: of the run; they and the request name its folder.
        minutes: as of `Checkpoints`.
    """

    def __init__(
        self, request: Mapping[str, Any], settings: Settings, minutes: float = MINUTES
    ) -> None:
        named = {"request": request, "settings": write_settings(with_absolute_paths(settings))}
        super().__init__(cache_folder() / "checkpoints" / digest_json(named)[:32], minutes, request)
        self._is_open = False
        self._waiting: Run | None = None

    def __enter__(self) -> Self:
        """Lock the folder, if there is a checkpoint in it."""
        if os.path.lexists(self._path):
            self._open()
        return self

    def begin(self, run: Run) -> Contents | None:
        """Return what a run goes on from, as `Checkpoints`; what it cannot go on from is removed."""
        if not self._is_open:
            self._waiting = run
            return None
        try:
            return super().begin(run)
        except NstxError as error:
            _log.warning("the run begins anew: %s", error)
            self._begin_anew(run)
            return None

    def keep(self) -> bool:
        """Keep the run from now on; False if it is kept already, or cannot be."""
        run, self._waiting = self._waiting, None
        if run is None or not self._open():
            return False
        self._begin_anew(run)
        return self.is_kept

    def write(self) -> None:
        """Write a checkpoint, as `Checkpoints`, and have others make room for it."""
        is_first = self.step is None
        super().write()
        if is_first and self.step is not None:
            _make_room(self.folder)

    def _open(self) -> bool:
        try:
            super().__enter__()
        except (OSError, OutputError) as error:
            warn_unkept(self.folder.parent.parent, error)
            return False
        self._is_open = True
        return True

    def _begin_anew(self, run: Run) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        try:
            if not os.path.lexists(self._path):
                super().begin(run)
        except NstxError as error:
            _log.warning("the run is not kept: %s", error)


def may_keep(settings: Settings) -> bool:
    """Whether the cache takes checkpoints."""
    return keeps_cache(settings.use_cache) and cache_limit() > 0


def _make_room(own: Path) -> None:
    """Remove checkpoints of other runs, but for those that are being written, until all are within the limit."""
    entries = sorted(find_entries(own.parent, CHECKPOINT_NAME))
    excess = sum(entry.size_bytes for entry in entries) - cache_limit()
    for entry in entries:
        if excess > 0 and entry.path != own:
            with contextlib.suppress(OutputError), locked([entry.path / NAME]):
                excess -= entry.size_bytes if remove(entry.path) else 0


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """Return what an entry of the cache is of, as plain data; empty if it is damaged or of another version."""
    try:
        manifest = find_manifest(folder)
    except NstxError:
        return {}
    height, width = manifest.sizes[-1] if manifest.sizes else (0, 0)
    output = (manifest.request or {}).get("output")
    return {"output": str(output), "width": width, "height": height}


def checkpoint_is_sound(folder: Path) -> bool:
    """Whether an entry can be read, or has nothing in it yet."""
    return not os.path.lexists(folder / NAME) or bool(describe_checkpoint(folder))
