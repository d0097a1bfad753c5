"""Sessions of graphs that are built from weights and kept, and of exported files.

Building a graph takes the weights, and optimising it for a processor some time more. So on the CPU
the optimised graph is kept, under a key of what it computes, from which weights, and on which
processor with which ONNX Runtime; a later run needs neither the weights nor the onnx package.
Graphs for CUDA are kept as they were built, and TensorRT keeps its engines in folders of their own.
"""

import logging
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from nstx.export.graphs.feature_graph import FeatureGraph
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.runtime.model_bytes import MOST_BYTES, check_features, read_metadata
from nstx.export.runtime.providers import Provider
from nstx.export.runtime.session import SessionChoices, open_session, runtime_version
from nstx.export.tiles.tile_graph import TileGraph
from nstx.models.errors import ModelError
from nstx.models.printable import printable
from nstx.models.storage.cache import cache_folder, keeps_cache, mark_used, remove, warn_unkept
from nstx.models.storage.inputs import read_input
from nstx.models.storage.plain_data import parse_json, take_numbers
from nstx.models.storage.seals import digest_bytes, digest_json, seal_is_right
from nstx.models.weights.copies import OWN_FORMAT

from ..devices.machine import instruction_sets
from .kept_graphs import find_graph, keep_graph, part_folder

_log = logging.getLogger("nstx")

GraphT = TypeVar("GraphT", FeatureGraph, GradientGraph, TileGraph)
"""The description of a graph, which its model file carries in the metadata."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Session(Generic[GraphT]):
    """A loaded graph with its description.

    Attributes:
        runner: the `onnxruntime.InferenceSession`.
        mean: the network's mean colour, RGB.
    """

    runner: Any
    graph: GraphT
    mean: tuple[float, float, float]
    provider: Provider
    metadata: Mapping[str, str]


def load_session(
    model: bytes | Path,
    graph_type: type[GraphT],
    choices: SessionChoices,
    *,
    weights_sha256: str | None = None,
    place: str = "the cache",
) -> Session[GraphT]:
    """Load a model and check its kind and, unless None, its weights; ``place`` is for messages."""
    runner = open_session(model, choices)
    try:
        metadata: Mapping[str, str] = runner.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise ModelError(
            f"expected metadata of UTF-8 in {place}, got others; try to export it again"
        ) from error
    graph, mean = _describe(metadata, graph_type, place, weights_sha256)
    inputs = tuple(value.name for value in runner.get_inputs())
    outputs = tuple(value.name for value in runner.get_outputs())
    if sorted(inputs) != sorted(graph.inputs) or sorted(outputs) != sorted(graph.outputs):
        raise ModelError(
            f"expected the inputs and outputs that {place} describes, got others; "
            "try to export it again"
        )
    return Session(
        runner=runner, graph=graph, mean=mean, provider=choices.provider, metadata=metadata
    )


def _describe(
    metadata: Mapping[str, str], graph_type: type[GraphT], place: str, weights_sha256: str | None
) -> tuple[GraphT, tuple[float, float, float]]:
    """Return the graph that metadata describe, and the mean colour; `ModelError` if they do not."""
    graph = graph_type.from_metadata(metadata, place)
    actual = metadata.get("weights_sha256", "")
    if weights_sha256 is not None and actual != weights_sha256:
        raise ModelError(
            f"expected a model of the weights {weights_sha256[:12]}… in {place}, got one of "
            f"{printable(actual[:12]) or 'unknown'}…; try to export it again with the same --weights"
        )
    try:
        colours = {"mean": parse_json(metadata["mean"])}
        red, green, blue = take_numbers(colours, "mean", 3, 0, 255)
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"expected a mean colour in {place}, got none; try to export it again"
        ) from error
    return graph, (red, green, blue)


def open_graph(
    graph: GraphT,
    build: Callable[[], bytes],
    choices: SessionChoices,
    *,
    weights_sha256: str,
    use_cache: bool,
) -> Session[GraphT]:
    """Open the session of a graph that is kept in the cache, or else built and kept there.

    ``build`` returns the model's bytes; it is called only where the cache has none. Without
    ``use_cache`` the graph is always built, and not kept.
    """

    def load(model: bytes | Path, choices: SessionChoices) -> Session[GraphT]:
        session = load_session(model, type(graph), choices, weights_sha256=weights_sha256)
        if session.graph != graph:
            raise ModelError(
                f"expected the graph {graph}, got {session.graph}; try to build it again"
            )
        return session

    if not keeps_cache(use_cache):
        return load(build(), choices)
    key = _graph_key(graph, weights_sha256, choices)
    choices = replace(choices, engine_folder=_engine_folder(key, choices))
    as_kept = replace(choices, optimised=_is_optimised(choices))
    if kept := find_graph(key):
        try:
            return load(kept, as_kept)
        except ModelError as error:
            if os.path.lexists(kept):  # else another process has just emptied the cache
                _log.warning("%s cannot be used and is built again: %s", printable(kept), error)
                remove(kept)
    return _open_built(build, load, key, choices, as_kept)


def _open_built(
    build: Callable[[], bytes],
    load: Callable[[bytes | Path, SessionChoices], Session[GraphT]],
    key: str,
    choices: SessionChoices,
    as_kept: SessionChoices,
) -> Session[GraphT]:
    """Build a graph, keep it in the cache, and open it there."""
    # Bytes of a graph are let go of as soon as may be: there are a hundred megabytes of them.
    try:
        ready = _optimise(build(), choices) if as_kept.optimised else build()
    except (ModelError, OSError) as error:
        # The kept graph only saves time: a full disk must not stop the work. ONNX Runtime then says
        # that the model is none; if it really is none, the next line raises.
        session = load(build(), choices)
        unsaved = isinstance(error, ModelError)
        warn_unkept(cache_folder(), "ONNX Runtime could not save the graph" if unsaved else error)
        return session
    kept = keep_graph(key, ready)
    if kept is None:
        return load(ready, as_kept)
    del ready
    try:
        return load(kept, as_kept)
    except ModelError:
        if os.path.lexists(kept):
            raise
        return load(build(), choices)  # another process has just emptied the cache


def open_model_file(
    path: Path, choices: SessionChoices, *, weights_sha256: str | None, use_cache: bool
) -> Session[FeatureGraph]:
    """Open the session of an exported file, of these weights or (None) of any.

    ``use_cache`` lets TensorRT keep its engines in the cache folder. `ModelError` if the file
    cannot be read, was changed since its export, or is another model.
    """
    place = printable(path)
    advice = f"'nstx export features -o {printable(path.stem)}.onnx'"
    model = read_input(
        path, kind="an ONNX model", most_bytes=MOST_BYTES, error=ModelError, advice=advice
    )
    _check_export(model, place, weights_sha256)
    if choices.provider.kind == "tensorrt":
        # Its engines are built for a layout, so another session is asked for it first.
        on_cpu = load_session(path, FeatureGraph, SessionChoices(optimised=True), place=place)
        folder = _engine_folder(digest_bytes(model), choices) if keeps_cache(use_cache) else None
        planar = on_cpu.graph.input == "network"
        choices = replace(choices, planar=planar, engine_folder=folder)
    return load_session(path, FeatureGraph, choices, weights_sha256=weights_sha256, place=place)


def _check_export(model: bytes, place: str, weights_sha256: str | None) -> None:
    """Check all that an exported file says of itself, before ONNX Runtime sees it; `ModelError`."""
    try:
        metadata = read_metadata(model)
    except ValueError as error:
        raise ModelError(
            f"expected an ONNX model in {place}, got another file ({printable(error)[:200]}); "
            "try to export or fetch it again"
        ) from error
    _describe(metadata, FeatureGraph, place, weights_sha256)
    # A graph loads with any weights in it: only the checksum that the file carries can tell.
    if not seal_is_right(model, metadata.get("file_sha256", "")):
        raise ModelError(
            f"expected the model {place} as it was exported, got a file that was changed or damaged; "
            "try to export or fetch it again"
        )
    try:
        check_features(model)
    except ValueError as error:
        raise ModelError(
            f"expected a model of 'nstx export features' in {place}, got another "
            f"({printable(error)[:200]}); try to export it again"
        ) from error


def _graph_key(graph: GraphT, weights_sha256: str, choices: SessionChoices) -> str:
    parts = {
        "graph": graph.key(),
        "description": graph.kind,
        "weights": weights_sha256,
        "reader": OWN_FORMAT,
        "runtime": runtime_version(),
        "provider": choices.provider.name,
        "processor": _processor() if _is_optimised(choices) else "",
    }
    if choices.in_order:
        parts["order"] = "late"
    return digest_json(parts)[:32]


def _optimise(model: bytes, choices: SessionChoices) -> bytes:
    """Return a graph as ONNX Runtime optimises it for this processor, in the chosen order."""
    with part_folder() as folder:
        written = folder / "optimised.onnx"
        open_session(model, replace(choices, keep_optimised=written))
        del model
        if not choices.in_order:
            return written.read_bytes()
        from nstx.export.nodes.node_order import order_for_memory

        return order_for_memory(written.read_bytes())


def _is_optimised(choices: SessionChoices) -> bool:
    """Whether the kept graph is an optimised one: not where its sizes or its device may change."""
    return choices.provider.kind == "cpu" and choices.fixed_shape is None


def _processor() -> str:
    """Return what an optimised graph depends on: the processor's instruction sets."""
    return instruction_sets() or f"{platform.machine()} {platform.node()}"


def _engine_folder(model: str, choices: SessionChoices) -> Path | None:
    """Return where TensorRT keeps its engines of a model, or None."""
    if choices.provider.kind != "tensorrt":
        return None
    sizes = "x".join(map(str, choices.fixed_shape)) if choices.fixed_shape else "free"
    folder = cache_folder() / "tensorrt" / f"{model[:32]}-{sizes}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark_used(folder)
    except OSError as error:
        warn_unkept(cache_folder(), error)
        return None
    return folder
