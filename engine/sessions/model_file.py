"""Sessions of one exported file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nstx.export.graphs.feature_graph import gram_name
from nstx.export.runtime.providers import CPU, Provider
from nstx.export.runtime.session import SessionChoices, open_session
from nstx.models.errors import ModelError
from nstx.models.storage.seals import digest_bytes, seal_is_right

from .feature_sessions import FeatureSession, describe_session, engine_folder


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
        """See `nstx.engine.sessions.feature_sessions.SessionSource`."""
        model = self._read()
        choices = SessionChoices(provider=self.provider, threads=self.threads)
        if self.provider.kind == "tensorrt":
            digest = digest_bytes(model)
            folder = engine_folder(self.provider, self.use_cache, digest, None)
            choices = replace(choices, planar=self._is_planar(), engine_folder=folder)
        session = open_session(self.path, choices)
        opened = describe_session(session, self.provider, str(self.path), self.weights_sha256)
        self._check_seal(session, model)
        wanted = (*activations, *map(gram_name, grams))
        missing = [name for name in wanted if name not in opened.graph.outputs]
        if missing:
            raise ModelError(
                f"expected the outputs {', '.join(missing)} in {self.path}, got "
                f"{', '.join(opened.graph.outputs)}; try 'nstx export features' with these layers"
            )
        return opened

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"expected an ONNX model at {self.path}, got: {error.strerror or error}; "
                f"try 'nstx export features -o {self.path.stem}.onnx'"
            ) from error

    def _check_seal(self, session: Any, model: bytes) -> None:
        """Check the file against the checksum that it carries: a graph loads with any weights."""
        found = session.get_modelmeta().custom_metadata_map.get("file_sha256", "")
        if not seal_is_right(model, found):
            raise ModelError(
                f"expected {self.path} as it was exported, got a file that was changed or damaged; "
                "try to export or fetch it again"
            )

    def _is_planar(self) -> bool:
        session = open_session(self.path, SessionChoices(optimised=True))
        return describe_session(session, CPU, str(self.path), None).graph.input == "network"


def model_activations(path: Path) -> tuple[str, ...]:
    """Return the layers whose activations an exported file has.

    Raises:
        ModelError: the file cannot be used, or has none.
    """
    opened = ModelFile(path=path, provider=CPU).open((), ())
    if not opened.graph.activations:
        raise ModelError(
            f"expected activations in {path}, got {', '.join(opened.graph.outputs)}; "
            "try 'nstx export features --layers …', as Gram matrices are not drawn"
        )
    return opened.graph.activations
