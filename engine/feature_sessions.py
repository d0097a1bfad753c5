"""ONNX Runtime sessions of VGG-19's features: from an exported file, or built and kept in the cache.

Building a graph takes the weights, and optimising it for a processor some time more. So on the CPU
the optimised graph is kept, under a name that says what it computes, from which weights, and on
which processor with which ONNX Runtime; a later run needs neither the weights nor the onnx package.
Graphs for CUDA are kept as they were built, and TensorRT keeps its engines beside them.
"""

import contextlib
import hashlib
import json
import logging
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..export.feature_graph import FeatureGraph
from ..export.providers import CPU, Provider
from ..export.session import SessionChoices, open_session, runtime_version
from ..models.cache import cache_folder
from ..models.errors import ModelError
from ..models.files import write_atomically
from ..models.weights import Weights

_log = logging.getLogger("nstx")

# Each is about as large as the weights that it needs, so that the folder stays under half a GB.
_MOST_KEPT = 8


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSession:
    """A graph that is ready to run.

    Attributes:
        session: the `onnxruntime.InferenceSession`.
        graph: what it computes.
        mean: the network's mean colour, RGB.
        provider: that runs it.
    """

    session: Any
    graph: FeatureGraph
    mean: tuple[float, float, float]
    provider: Provider


class SessionSource(Protocol):
    """Where an extractor gets its sessions from."""

    @property
    def provider(self) -> Provider:
        """That runs them."""
        ...

    def open(self, activations: tuple[str, ...], grams: tuple[str, ...]) -> FeatureSession:
        """Return a session that has these outputs, and perhaps others.

        Raises:
            UsageError: a layer is unknown.
            ModelError: the model cannot be loaded or has no such output.
            DeviceError: the provider is not there.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """Sessions of one exported file, whose outputs are fixed.

    Attributes:
        path: of the ``.onnx`` file.
        provider: that runs it.
        threads: of the CPU; None takes the physical cores.
        weights_sha256: of the weights that it must be of; None takes any.
        use_cache: whether TensorRT's engines are kept in the cache folder.
    """

    path: Path
    provider: Provider
    threads: int | None = None
    weights_sha256: str | None = None
    use_cache: bool = True

    def open(self, activations: tuple[str, ...], grams: tuple[str, ...]) -> FeatureSession:
        """See `SessionSource`."""
        try:
            with self.path.open("rb"):
                pass
        except OSError as error:
            raise ModelError(
                f"expected an ONNX model at {self.path}, got: {error.strerror or error}; "
                f"try 'nstx export features -o {self.path.stem}.onnx'"
            ) from error
        choices = SessionChoices(
            provider=self.provider,
            threads=self.threads,
            fp16=self.provider.kind == "tensorrt" and self._computes_in_fp16(),
            engine_folder=_engine_folder(self.provider, self.use_cache),
        )
        session = open_session(self.path, choices)
        opened = describe_session(session, self.provider, str(self.path), self.weights_sha256)
        wanted = FeatureGraph(activations=activations, grams=grams)
        missing = [name for name in wanted.outputs if name not in opened.graph.outputs]
        if missing:
            raise ModelError(
                f"expected the outputs {', '.join(missing)} in {self.path}, got "
                f"{', '.join(opened.graph.outputs)}; try 'nstx export features' with these layers"
            )
        return opened

    def _computes_in_fp16(self) -> bool:
        session = open_session(self.path, SessionChoices(optimised=True))
        return describe_session(session, CPU, str(self.path), None).graph.precision == "fp16"


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
        """See `SessionSource`."""
        graph = replace(self.template, activations=activations, grams=grams)
        kept = _find_kept(self._key(graph)) if self.use_cache else None
        if kept is not None:
            try:
                return self._open(kept, replace(self._choices(graph), optimised=self._optimises))
            except ModelError as error:
                _log.warning("%s cannot be used and is built again: %s", kept, error)
        return self._build(graph)

    @property
    def _optimises(self) -> bool:
        """Whether what is kept is optimised: sizes and devices that can change are left open."""
        return self.provider.kind == "cpu" and self.fixed_shape is None

    def _choices(self, graph: FeatureGraph) -> SessionChoices:
        return SessionChoices(
            provider=self.provider,
            threads=self.threads,
            fixed_shape=self.fixed_shape,
            fp16=graph.precision == "fp16",
            engine_folder=_engine_folder(self.provider, self.use_cache),
        )

    def _open(self, model: bytes | Path, choices: SessionChoices) -> FeatureSession:
        session = open_session(model, choices)
        return describe_session(session, self.provider, "the cache", self.weights_sha256)

    def _build(self, graph: FeatureGraph) -> FeatureSession:
        from ..export.build_features import build_feature_model

        model = build_feature_model(graph, self.load()).SerializeToString()
        choices = self._choices(graph)
        if not self.use_cache:
            return self._open(model, choices)
        if not self._optimises:
            _keep(self._key(graph), model)
            return self._open(model, choices)
        with tempfile.TemporaryDirectory(prefix="nstx-", ignore_cleanup_errors=True) as folder:
            optimised = Path(folder) / "optimised.onnx"
            try:
                opened = self._open(model, replace(choices, keep_optimised=optimised))
                _keep(self._key(graph), optimised.read_bytes())
            except (ModelError, OSError) as error:
                # The kept graph only saves time: a full disk must not stop the work.
                _log.warning("the optimised graph cannot be kept (%s)", error)
                opened = self._open(model, choices)
        return opened

    def _key(self, graph: FeatureGraph) -> str:
        parts = {
            "graph": asdict(graph),
            "weights": self.weights_sha256,
            "description": graph.kind,
            "runtime": runtime_version(),
            "provider": self.provider.name,
            "processor": _processor() if self._optimises else "",
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def describe_session(
    session: Any, provider: Provider, path: str, weights_sha256: str | None
) -> FeatureSession:
    """Return a session with what its model says of itself.

    Raises:
        ModelError: it is no model of features, or one of other weights.
    """
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    graph = FeatureGraph.from_metadata(metadata, path)
    found = metadata.get("weights_sha256", "")
    if weights_sha256 is not None and found != weights_sha256:
        raise ModelError(
            f"expected a model of the weights {weights_sha256[:12]}… in {path}, got one of "
            f"{found[:12] or 'unknown'}…; try 'nstx export features' with the same --weights"
        )
    try:
        red, green, blue = json.loads(metadata["mean"])
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"expected a mean colour in {path}, got none; try 'nstx export features' again"
        ) from error
    return FeatureSession(session, graph, (red, green, blue), provider)


def _engine_folder(provider: Provider, use_cache: bool) -> Path | None:
    """Return where TensorRT keeps its engines, or None where it is not to."""
    if provider.kind != "tensorrt" or not use_cache:
        return None
    folder = cache_folder() / "tensorrt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("%s cannot be made (%s); engines are built each time", folder, error)
        return None
    return folder


def _processor() -> str:
    """Return what an optimised graph depends on: the processor's instruction sets."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _sessions_folder() -> Path:
    return cache_folder() / "sessions"


def _find_kept(key: str) -> Path | None:
    """Return a kept graph, or None where there is none or it is damaged (it is then built again).

    Its name ends with its checksum, so that ONNX Runtime can read the file itself.
    """
    for path in _sessions_folder().glob(f"{key}-*.onnx"):
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if path.stem == f"{key}-{digest}":
                path.touch()
                return path
            _log.warning("%s is damaged and is built again", path)
            path.unlink(missing_ok=True)
        except OSError:
            # Another process may remove it in the meantime, or the folder be read-only.
            continue
    return None


def _keep(key: str, model: bytes) -> None:
    """Write a graph under its checksum, and remove those that were not used for the longest."""
    folder = _sessions_folder()
    try:
        write_atomically(folder / f"{key}-{hashlib.sha256(model).hexdigest()}.onnx", model)
        kept = sorted(folder.glob("*.onnx"), key=lambda file: file.stat().st_mtime)
        for old in kept[:-_MOST_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s cannot be written (%s); graphs are built each time", folder, error)
