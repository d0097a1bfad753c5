"""The passes over tiles by ONNX Runtime, without PyTorch."""

from collections.abc import Mapping, Sequence

import numpy as np

from nstx.export.graphs.feature_graph import INPUT_NAME
from nstx.export.graphs.gradient_graph import content_input
from nstx.export.runtime.providers import giving_back
from nstx.export.runtime.session import SessionChoices, run_session
from nstx.export.tiles.tile_graph import TileGraph, TilePart, scale_input, tile_name
from nstx.models.objective import Objective
from nstx.models.vgg19 import find_layer

from ..devices.device import choose_provider_on
from ..gradients.ahead import take_weights
from ..gradients.choice import BackendChoice
from ..sessions.session import Session, open_graph
from ..settings import Settings
from .passes import Slopes, TilePasses, TileSums, TileTask, Values


def open_tile_session(
    settings: Settings, choice: BackendChoice, weights_sha256: str, part: TilePart
) -> Session[TileGraph]:
    """Return a session of one of the passes; weights are loaded only to build its graph."""
    objective = settings.objective.with_unit_weights()
    graph = TileGraph(objective=objective, part=part, regions=max(1, choice.regions))

    def build() -> bytes:
        from nstx.export.tiles.build_tile import build_tile_model

        # No name holds the weights, which the model has.
        return bytes(build_tile_model(graph, take_weights(settings)).SerializeToString())

    choices = SessionChoices(
        provider=choose_provider_on(choice.device), threads=settings.threads, in_order=True
    )
    return open_graph(
        graph, build, choices, weights_sha256=weights_sha256, use_cache=settings.use_cache
    )


class OnnxPasses(TilePasses):
    """A network's passes in two sessions, of which the one that rests keeps no memory."""

    def __init__(self, sums: Session[TileGraph], gradient: Session[TileGraph]) -> None:
        self._sums, self._gradient = sums, gradient
        self.objective: Objective = sums.graph.objective

    def sums(self, task: TileTask) -> TileSums:
        """Implement `TilePasses`."""
        graph = self._sums.graph
        outputs = _run(self._sums, self._inputs(task))
        style, content = dict[str, Values](), dict[str, Values]()
        for name in self.objective.style_names:
            parts = []
            for region, total in enumerate(self._totals(name, task)):
                part = outputs[tile_name("gram", region, name)]
                if name in graph.moment_layers:
                    part = _join(part, outputs[tile_name("mean", region, name)], total)
                parts.append(part)
            style[name] = np.stack(parts, 1).reshape(-1, *parts[0].shape[1:])
        for name in self.objective.content_names:
            inner = outputs[name][:, :, *task.places[name]]
            difference = (inner - task.content[name]).reshape(len(inner), -1)
            content[name] = np.square(difference, out=difference).sum(1, dtype=np.float64)
        return TileSums(style, content)

    def gradient(self, task: TileTask, slopes: Slopes) -> Values:
        """Implement `TilePasses`."""
        inputs = self._inputs(task)
        for name, slope in slopes.style.items():
            twice = (2 * slope).astype(np.float32)
            for region, part in enumerate(_split(twice, task)):
                if name in self._gradient.graph.moment_layers:
                    inputs[tile_name("border", region, name)] = part[:, :-1, -1:]
                    part = part[:, :-1, :-1]
                inputs[tile_name("slope", region, name)] = part
        for name, scale in slopes.content.items():
            target = task.content[name]
            scales = np.broadcast_to(
                scale.astype(np.float32)[:, None, None, None], (len(scale), 1, *target.shape[2:])
            )
            inputs[content_input(name)] = self._spread(target, name, task)
            inputs[scale_input(name)] = self._spread(scales, name, task)
        gradient: Values = _run(self._gradient, inputs)["gradient"]
        return gradient

    def _inputs(self, task: TileTask) -> dict[str, Values]:
        """Return the pixels, and shares that are 0 beyond a tile's inner positions."""
        inputs = {INPUT_NAME: task.pixels}
        for name in self.objective.style_names:
            shares = task.shares.get(name)
            if shares is None:
                rows, columns = task.places[name]
                size = (rows.stop - rows.start, columns.stop - columns.start)
                shares = np.full((len(task.pixels), *size), 1 / task.positions[name], np.float32)
            for region, part in enumerate(_split(shares, task)):
                inputs[tile_name("shares", region, name)] = self._spread(part, name, task)
        return inputs

    def _totals(self, name: str, task: TileTask) -> Sequence[Values]:
        """Return the sum of a tile's shares, (batch), of each region."""
        if name in task.shares:
            return _split(task.shares[name].sum((1, 2), dtype=np.float64), task)
        rows, columns = task.places[name]
        count = (rows.stop - rows.start) * (columns.stop - columns.start)
        return [np.full(len(task.pixels), count / task.positions[name])]

    def _spread(self, values: Values, name: str, task: TileTask) -> Values:
        """Return values of inner positions (…, h, w) among zeros for the others."""
        _, height, width, _ = task.pixels.shape
        size = find_layer(name).output_size(height, width, self.objective.pool_rounding)
        spread = np.zeros((*values.shape[:-2], *size), np.float32)
        spread[..., *task.places[name]] = values
        return spread


def _split(values: Values, task: TileTask) -> Sequence[Values]:
    """Return what there is of each region, (batch, …), of values (batch · regions, …)."""
    regions = values.reshape(len(task.pixels), task.regions, *values.shape[1:])
    return [regions[:, region] for region in range(task.regions)]


def _join(gram: Values, mean: Values, total: Values) -> Values:
    """Return moments of a tile, (batch, channels + 1, channels + 1)."""
    top = np.concatenate([gram, mean], 2)
    corner = total.astype(gram.dtype)[:, None, None]
    bottom = np.concatenate([mean.transpose(0, 2, 1), corner], 2)
    joined: Values = np.concatenate([top, bottom], 1)
    return joined


def _run(session: Session[TileGraph], inputs: Mapping[str, Values]) -> dict[str, Values]:
    contiguous = {name: np.ascontiguousarray(value, np.float32) for name, value in inputs.items()}
    names = list(session.graph.outputs)
    # Else each session would keep what its largest tile took, while the other works.
    values = run_session(session.runner.run, session.provider, names, contiguous, giving_back())
    return dict(zip(names, values, strict=True))
