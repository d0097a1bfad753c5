"""Sessions that are built from the weights, and kept in the cache folder ready to run.

Building a graph takes the weights, and optimising it for a processor some time more. So on the CPU
the optimised graph is kept, under a name that says what it computes, from which weights, and on
which processor with which ONNX Runtime; a later run needs neither the weights nor the onnx package.
Graphs for CUDA are kept as they were built, and TensorRT keeps its engines in folders of their own.
"""

import contextlib
import hashlib
import json
import logging
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..export.feature_graph import FeatureGraph
from ..export.providers import Provider
from ..export.session import SessionChoices, open_session, runtime_version
from ..models.cache import cache_folder, find_entries, mark_used, remove, sweep_litter
from ..models.errors import ModelError
from ..models.files import PART_PREFIX, PART_SUFFIX, write_atomically
from ..models.weight_readers import OWN_FORMAT
from ..models.weights import Weights
from .feature_sessions import FeatureSession, describe_session, engine_folder

_log = logging.getLogger("nstx")

SESSION_NAME = r"[0-9a-f]{32}-[0-9a-f]{64}\.onnx"

# Each is about as large as the weights that it needs, 0.3 to 80 MB.
_MOST_KEPT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSessions:
    """Sessions that are built from weights, and kept in the cache folder.

    Attributes:
        weights_sha256: of the weight file.
        load: returns the weights; called only if a graph must be built.
        template: pooling, rounding, precision and input of the graphs; its outputs do not count.
        provider: that runs them.
        threads: of the CPU; None takes the physical cores.
        use_cache: whether the cache folder is read and written.
        fixed_shape: (batch, height, width) if the sessions will see no other.
    """

    weights_sha256: str
    load: Callable[[], Weights]
    template: FeatureGraph
    provider: Provider
    threads: int | None = None
    use_cache: bool = True
    fixed_shape: tuple[int, int, int] | None = None

    def open(self, activations: tuple[str, ...], grams: tuple[str, ...]) -> FeatureSession:
        """See `nstx.engine.feature_sessions.SessionSource`."""
        graph = replace(self.template, activations=activations, grams=grams)
        key = self._key(graph)
        choices = self._choices(graph, key)
        kept = _find_kept(key) if self.use_cache else None
        if kept is not None:
            try:
                return self._open(kept, replace(choices, optimised=self._optimises))
            except ModelError as error:
                _log.warning("%s cannot be used and is built again: %s", kept, error)
        return self._build(graph, key, choices)

    @property
    def _optimises(self) -> bool:
        """Whether what is kept is optimised: sizes and devices that can change are left open."""
        return self.provider.kind == "cpu" and self.fixed_shape is None

    def _choices(self, graph: FeatureGraph, key: str) -> SessionChoices:
        return SessionChoices(
            provider=self.provider,
            threads=self.threads,
            fixed_shape=self.fixed_shape,
            planar=graph.input == "network",
            engine_folder=engine_folder(self.provider, self.use_cache, key, self.fixed_shape),
        )

    def _open(self, model: bytes | Path, choices: SessionChoices) -> FeatureSession:
        session = open_session(model, choices)
        return describe_session(session, self.provider, "the cache", self.weights_sha256)

    def _build(self, graph: FeatureGraph, key: str, choices: SessionChoices) -> FeatureSession:
        from ..export.build_features import build_feature_model

        model = build_feature_model(graph, self.load()).SerializeToString()
        if not self.use_cache:
            return self._open(model, choices)
        if not self._optimises:
            _keep(key, model)
            return self._open(model, choices)
        try:
            with _part_folder() as folder:
                optimised = folder / "optimised.onnx"
                opened = self._open(model, replace(choices, keep_optimised=optimised))
                _keep(key, optimised.read_bytes())
        except (ModelError, OSError) as error:
            # The kept graph only saves time: a full disk must not stop the work.
            _tell_unwritable(error)
            opened = self._open(model, choices)
        return opened

    def _key(self, graph: FeatureGraph) -> str:
        parts = {
            "graph": asdict(graph),
            "weights": self.weights_sha256,
            "description": graph.kind,
            "reader": OWN_FORMAT,
            "runtime": runtime_version(),
            "provider": self.provider.name,
            "processor": _processor() if self._optimises else "",
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _processor() -> str:
    """Return what an optimised graph depends on: the processor's instruction sets."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _sessions_folder() -> Path:
    return cache_folder() / "sessions"


def _tell_unwritable(error: Exception) -> None:
    folder = _sessions_folder()
    _log.warning("%s cannot be written (%s); graphs are built each time", folder, error)


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
    from ..export.graph import read_metadata

    try:
        said = read_metadata(path)
    except ModelError:
        return {}
    names = ("activations", "grams", "pooling", "pool_rounding", "precision", "input")
    return {name: said[name] for name in (*names, "weights_sha256") if name in said}


def kept_is_sound(path: Path) -> bool:
    """Whether a kept graph is what the checksum in its name says.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stem.endswith(f"-{digest}")


def _find_kept(key: str) -> Path | None:
    """Return a kept graph, or None where there is none or it is damaged (it is then built again).

    Its name ends with its checksum, so that ONNX Runtime can read the file itself.
    """
    for path in _sessions_folder().glob(f"{key}-*.onnx"):
        try:
            if kept_is_sound(path):
                mark_used(path)
                return path
            _log.warning("%s is damaged and is built again", path)
            path.unlink(missing_ok=True)
        except OSError:
            # Another process may remove it in the meantime.
            continue
    return None


def _keep(key: str, model: bytes) -> None:
    """Write a graph under its checksum, and remove those that were not used for the longest."""
    folder = _sessions_folder()
    try:
        write_atomically(folder / f"{key}-{hashlib.sha256(model).hexdigest()}.onnx", model)
    except OSError as error:
        _tell_unwritable(error)
        return
    sweep_litter(folder)
    for old in sorted(find_entries(folder, SESSION_NAME))[:-_MOST_KEPT]:
        remove(old.path)
