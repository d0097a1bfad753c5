"""ONNX graphs that are built from the weights and kept in the cache folder, ready to run.

Building a graph takes the weights, and optimising it for a processor some time more. So on the CPU
the optimised graph is kept, under a name that says what it computes, from which weights, and on
which processor with which ONNX Runtime; a later run needs neither the weights nor the onnx package.
Graphs for CUDA are kept as they were built, and TensorRT keeps its engines in folders of their own.
"""

import contextlib
import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from nstx.export.runtime.session import SessionChoices, open_session, runtime_version
from nstx.models.errors import ModelError
from nstx.models.storage.cache import Found, cache_folder, find_entries, mark_used, remove
from nstx.models.storage.files import PART_PREFIX, PART_SUFFIX, write_atomically
from nstx.models.storage.seals import digest_bytes, digest_file, digest_json
from nstx.models.weights.readers import OWN_FORMAT

_log = logging.getLogger("nstx")

SESSION_NAME = r"[0-9a-f]{32}-[0-9a-f]{64}\.onnx"

# Each is about as large as the weights that it needs, 0.3 to 110 MB.
_MOST_KEPT = 12

_TWIN_SECONDS = 60.0

Opened = TypeVar("Opened")


def graph_key(description: Mapping[str, Any], weights_sha256: str, choices: SessionChoices) -> str:
    """Return what a kept graph is found by.

    Args:
        description: of what it computes, as plain data.
        weights_sha256: of the weight file.
        choices: how it is loaded.
    """
    parts = {
        **description,
        "weights": weights_sha256,
        "reader": OWN_FORMAT,
        "runtime": runtime_version(),
        "provider": choices.provider.name,
        "processor": _processor() if _is_optimised(choices) else "",
    }
    return digest_json(parts)[:32]


def open_kept(
    key: str,
    build: Callable[[], bytes],
    choices: SessionChoices,
    use: Callable[[Any], Opened],
    *,
    use_cache: bool,
) -> Opened:
    """Open the session of a kept graph; it is built and kept where there is none.

    Args:
        key: from `graph_key`.
        build: returns the model's bytes.
        choices: how it is loaded.
        use: takes the session and returns what the caller makes of it; raises `ModelError` if it
            is not what it should be, and it is then built again.
        use_cache: whether the cache folder is read and written; if not, it is built each time.

    Raises:
        ModelError, DeviceError: the graph cannot be loaded.
    """
    if not use_cache:
        return use(open_session(build(), choices))
    optimised = _is_optimised(choices)
    kept = _find_kept(key)
    if kept is not None:
        try:
            return use(open_session(kept, replace(choices, optimised=optimised)))
        except ModelError as error:
            _log.warning("%s cannot be used and is built again: %s", kept, error)
            remove(kept)
    model = build()
    if optimised:
        try:
            model = _optimise(model, choices)
        except (ModelError, OSError) as error:
            # The kept graph only saves time: a full disk must not stop the work. ONNX Runtime says
            # of it that the model is none; if it is none, the next line says so.
            opened = use(open_session(model, choices))
            unsaved = isinstance(error, ModelError)
            _tell_unwritable("ONNX Runtime could not save the graph" if unsaved else error)
            return opened
    kept = _keep(key, model)
    return use(open_session(kept or model, replace(choices, optimised=optimised)))


def _optimise(model: bytes, choices: SessionChoices) -> bytes:
    """Return a graph as ONNX Runtime optimises it for this processor, in the order that is wanted.

    Raises:
        ModelError: ONNX Runtime cannot load it, or cannot write where it should.
        OSError: the folder cannot be written.
    """
    with _part_folder() as folder:
        written = folder / "optimised.onnx"
        open_session(model, replace(choices, keep_optimised=written))
        optimised = written.read_bytes()
    if not choices.in_order:
        return optimised
    from nstx.export.graphs.node_order import order_for_memory

    return order_for_memory(optimised)


def _is_optimised(choices: SessionChoices) -> bool:
    """Whether what is kept is optimised: sizes and devices that can change are left open."""
    return choices.provider.kind == "cpu" and choices.fixed_shape is None


def _processor() -> str:
    """Return what an optimised graph depends on: the processor's instruction sets."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _sessions_folder() -> Path:
    return cache_folder() / "sessions"


def _tell_unwritable(error: Exception | str) -> None:
    folder, reason = _sessions_folder(), getattr(error, "strerror", None) or error
    _log.warning("%s cannot be written (%s); graphs are built each time", folder, reason)


@contextlib.contextmanager
def _part_folder() -> Iterator[Path]:
    """Make a folder for what is being written, where it is swept up if the process is killed."""
    sessions = _sessions_folder()
    sessions.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=sessions, prefix=PART_PREFIX, suffix=PART_SUFFIX, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def describe_kept(path: Path) -> dict[str, str]:
    """Return what a kept graph is of, as plain data; empty if it cannot be read."""
    from nstx.export.graphs.builder import read_metadata

    try:
        said = read_metadata(path)
    except ModelError:
        return {}
    names = ("kind", "activations", "grams", "content_layers", "style_layers", "gradient")
    more = ("pooling", "pool_rounding", "precision", "input", "weights_sha256")
    return {name: said[name] for name in (*names, *more) if name in said}


def kept_is_sound(path: Path) -> bool:
    """Whether a kept graph is what the checksum in its name says.

    Raises:
        OSError: it cannot be read.
    """
    return path.stem.endswith(f"-{digest_file(path)}")


def _find_kept(key: str) -> Path | None:
    """Return a kept graph, or None where there is none or it is damaged (it is then built again).

    Its name ends with its checksum, so that ONNX Runtime can read the file itself.
    """
    found = find_entries(_sessions_folder(), f"{key}-[0-9a-f]{{64}}\\.onnx")
    for _, path, _ in found:
        try:
            if kept_is_sound(path):
                mark_used(path)
                _remove_twins(found, path)
                return path
            _log.warning("%s is damaged and is built again", path)
            path.unlink(missing_ok=True)
        except OSError:
            # Another process may remove it in the meantime.
            continue
    return None


def _remove_twins(found: Sequence[Found], kept: Path) -> None:
    """Remove other files of the same graph, which processes that ran at once have left.

    Not while one of them may be about to open its own.
    """
    latest = time.time() - _TWIN_SECONDS
    for entry in found:
        if entry.path != kept and entry.used < latest:
            remove(entry.path)


def _keep(key: str, model: bytes) -> Path | None:
    """Write a graph under its checksum, and remove those that were not used for the longest.

    Returns the file, or None where none can be written.
    """
    folder = _sessions_folder()
    present = _find_kept(key)
    if present is not None:
        return present  # another process was first; its file may differ in bytes
    path = folder / f"{key}-{digest_bytes(model)}.onnx"
    try:
        write_atomically(path, model)
    except OSError as error:
        _tell_unwritable(error)
        return None
    for old in sorted(find_entries(folder, SESSION_NAME))[:-_MOST_KEPT]:
        remove(old.path)
    return path
