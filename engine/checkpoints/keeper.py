"""Keeps how far a run is in a folder: every few minutes, and when it is asked to end.

A checkpoint is written beside its place, and replaces the one before when it lies on the disk: there is always a
whole one. What cannot be written costs a warning, and the run goes on.
"""

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from nstx.models.arguments import with_example
from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.storage.files import (
    PART_PREFIX,
    PART_SUFFIX,
    check_file,
    check_new_files,
    make_folder,
    write_atomically,
)
from nstx.models.storage.locks import locked
from nstx.models.values import check_number, refuse

from ..devices.arrays import Array
from ..gradients.backend import GradientBackend
from ..solvers.memory import SolverMemory, State, fetch_state
from ..targets.sealed_arrays import stream_arrays
from .contents import BACKEND, PICTURE, REACHED, SOLVER, Contents
from .manifest import Manifest
from .reached import Reached
from .reading import NAME, read_checkpoint
from .runs import Run, describe_kept

_log = logging.getLogger("nstx")

MINUTES = 5.0
"""Between two checkpoints."""

_LONGEST_MINUTES = 1e6
_FIRST = 0.1
"""The share of the time between two checkpoints after which the first comes, so that there soon is one."""

_MARK = "checkpoint-"

SHARE = 20
"""A checkpoint that takes long is written more seldom: of so many parts of the time, one is for writing."""


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot:
    """A state after a step, which refers to arrays that nothing changes any more."""

    reached: Reached
    solver: State
    backend: Mapping[str, np.ndarray[Any, Any]]
    picture: Array | None


class Following(Protocol):
    """What is asked of a run's progress."""

    @property
    def picture(self) -> Array | None:
        """The picture after the last step."""

    def reach(self) -> Reached:
        """Return how far the run is; later steps do not change it."""


@with_example("'a-folder'")
class Checkpoints:
    """The checkpoint of one run, in a folder that it has for itself for the time of a block.

    Args:
        folder: made if it is not there.
        minutes: between two checkpoints, at least; none takes more than a twentieth of the time. The first comes after
            a tenth of them.
        request: what whoever asks for the run needs to go on with it, as plain data.

    Attributes:
        folder: of the checkpoint.
        earlier: what the run goes on from, once it has begun; None if it begins anew.
        step: of the checkpoint that lies there; None if there is none.

    `UsageError` if the minutes cannot be.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        minutes: float = MINUTES,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self._request = Path(folder), request
        self._seconds = 60 * check_minutes(minutes)
        self.earlier: Contents | None = None
        self.step: int | None = None
        self._due = math.inf
        self._run: tuple[Run, Manifest] | None = None
        self._memory = SolverMemory()
        self._backend: GradientBackend | None = None
        self._progress: Following | None = None
        self._latest: _Snapshot | None = None
        self._writing, self._block = threading.Lock(), contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Make the folder and lock it; `OutputError` if that fails, or another run has it."""
        check_new_files(self.folder)
        make_folder(self.folder)
        check_file(self._path)
        self._block.enter_context(locked([self._path]))
        self._sweep()
        return self

    def __exit__(self, *_: object) -> None:
        self._block.close()

    def _sweep(self) -> None:
        """Remove what killed runs left half written here: nobody writes it, as the folder is locked."""
        for part in self.folder.glob(f"{PART_PREFIX}{_MARK}*{PART_SUFFIX}"):
            with contextlib.suppress(OSError):
                part.unlink()

    @property
    def _path(self) -> Path:
        return self.folder / NAME

    def begin(self, run: Run) -> Contents | None:
        """Return what a run goes on from, if there is a checkpoint; `UsageError` if it cannot go on from that.

        Of a run that has begun already, the same.
        """
        if self._run is None:
            manifest = describe_kept(run, self._request)
            if os.path.lexists(self._path):
                self.earlier = read_checkpoint(self.folder, run, manifest)
                self.step = len(self.earlier.reached.steps)
            self._run = run, manifest
            self._due = time.monotonic() + self._seconds * _FIRST
            _check_length(manifest)
        return self.earlier

    def watch(
        self, backend: GradientBackend, progress: Following, earlier: Contents | None
    ) -> SolverMemory:
        """Return the memory of a solver that begins with a backend, or goes on from something earlier."""
        self._backend, self._progress = backend, progress
        self._memory = SolverMemory(None if earlier is None else earlier.solver)
        self._memory.is_due, self._memory.keep = lambda: self._is_due, self._keep
        if earlier is not None:
            size = earlier.picture.shape[:2]
            checks = [c for c in earlier.reached.checks if (c.height, c.width) == size]
            backend.resume(earlier.backend, checks)
        return self._memory

    def leave(self) -> None:
        """Let go of solver and backend, which have ended."""
        self._memory, self._backend, self._progress = SolverMemory(), None, None

    def take(self) -> None:
        """Take note of a step that was made, and write a checkpoint if it is time."""
        if not self.is_kept or self._memory.is_ahead:
            return
        if self._is_due:
            self._keep()
        elif not self._is_costly:
            self._latest = self._look()

    def may_stop(self, step: int) -> bool:
        """Whether a run may stop after a step: else it makes one more, of which there will be a checkpoint.

        On a device, where steps are short, the state of a solver is fetched after a step that is due.
        """
        if not self.is_kept or not self._is_costly or step == 0:
            return True
        if self._latest is not None and len(self._latest.reached.steps) == step:
            return True
        self._due = -math.inf
        return False

    def write(self) -> None:
        """Write a checkpoint of the last step that is known, unless it lies there; a failure is a warning.

        Any thread may call this.
        """
        with self._writing:
            snapshot = self._latest
            if snapshot is None or len(snapshot.reached.steps) == self.step:
                return
            began = time.monotonic()
            try:
                write_atomically(self._path, self._pack(snapshot), mark=_MARK)
                self.step = len(snapshot.reached.steps)
            except OSError as error:
                _log.warning(
                    "the checkpoint in %s could not be written (%s); the run goes on, and the one before stays",
                    printable(self.folder), printable(error.strerror or error),
                )  # fmt: skip
            ended = time.monotonic()
            self._due = ended + max(self._seconds, SHARE * (ended - began))

    def remove(self) -> None:
        """Remove the checkpoint of a run that is done, and the folder if nothing else lies in it."""
        with self._writing, contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._sweep()
            self._latest = self.step = None
            self._block.close()
            self.folder.rmdir()

    @property
    def is_kept(self) -> bool:
        """Whether a run has begun that is kept."""
        return self._run is not None

    @property
    def _is_due(self) -> bool:
        return time.monotonic() >= self._due

    @property
    def _is_costly(self) -> bool:
        """Whether a solver changes its state in place, so that it must be fetched to be kept."""
        assert self._run is not None
        return self._run[0].opened.arrays.must_be_awaited or self._memory.is_ahead

    def _keep(self) -> None:
        self._latest = self._look()
        self.write()

    def _look(self) -> _Snapshot:
        progress, backend = self._progress, self._backend
        assert progress is not None
        assert backend is not None
        picture = progress.picture if self._memory.is_ahead else None
        return _Snapshot(progress.reach(), self._memory.export(), backend.export(), picture)

    def _pack(self, snapshot: _Snapshot) -> Iterator[bytes | memoryview]:
        assert self._run is not None
        run, manifest = self._run
        arrays = run.opened.arrays
        reached = snapshot.reached.to_arrays(manifest.settings.objective)
        parts = {
            REACHED: reached, SOLVER: fetch_state(snapshot.solver, arrays), BACKEND: snapshot.backend
        }  # fmt: skip
        named = {
            prefix + name: value for prefix, part in parts.items() for name, value in part.items()
        }
        if snapshot.picture is not None:
            named[PICTURE] = arrays.fetch(snapshot.picture)
        return stream_arrays(named, manifest.to_json())


def check_minutes(value: float) -> float:
    """Return the minutes between two checkpoints; `UsageError` if they cannot be."""
    minutes = check_number("checkpoint_every", value)
    if not 0 <= minutes <= _LONGEST_MINUTES:
        raise refuse(f"0 … {_LONGEST_MINUTES:g} minutes", "checkpoint_every", minutes, 5)
    return minutes


def _check_length(manifest: Manifest) -> None:
    try:
        next(stream_arrays({}, manifest.to_json()))
    except ValueError as error:
        raise UsageError(
            f"expected a run that a checkpoint can describe, got one that it cannot ({printable(error)}); "
            "try fewer styles, or shorter paths"
        ) from error
