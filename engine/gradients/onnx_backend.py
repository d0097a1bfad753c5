"""The gradient by ONNX Runtime, from the graph of `nstx.export.graphs.build_gradient`; without PyTorch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nstx.export.graphs.feature_graph import INPUT_NAME
from nstx.export.graphs.gradient_graph import (
    AREAS_INPUT,
    LAPLACIAN_INPUTS,
    GradientGraph,
    content_input,
    root_input,
    shares_input,
    style_input,
)
from nstx.export.runtime.exactness import check_fp32
from nstx.export.runtime.providers import giving_back, import_onnxruntime
from nstx.export.runtime.session import RuntimePrecision, SessionChoices, run_session
from nstx.models.cost import Cost, check_cost, combine_costs
from nstx.models.errors import UsageError
from nstx.models.objective import Objective
from nstx.models.vgg19 import find_layer

from ..devices.arrays import NUMPY, Array, ArrayT
from ..devices.device import choose_provider_on
from ..pictures.picture import Batch
from ..sessions.session import Session, open_graph
from ..settings import Settings
from .ahead import take_weights
from .backend import GradientBackend, Problems, check_batch, check_regions, gradient_error
from .choice import BackendChoice

LARGEST = "largest"
"""Beside a graph's outputs, the gradient's largest value of each picture."""

# In float32 values: outputs begin at multiples of 256 bytes, as if each were allocated by itself.
_ALIGNMENT = 64


def runtime_precision(choice: BackendChoice) -> RuntimePrecision:
    """Return a choice's precision as ONNX Runtime's; `choose_backend` gives it no other."""
    assert choice.precision != "bf16"
    return choice.precision


def describe_planar(
    objective: Objective, precision: RuntimePrecision, *, regions: int = 0
) -> GradientGraph:
    """Return the graph that serves all weights of a cost: only whether a part counts is built in."""
    return GradientGraph(
        objective=replace(objective.with_unit_weights(), tv_weight=0.0),
        precision="fp16" if precision == "fp16" else "fp32",
        regions=regions,
    )


def open_gradient_session(
    settings: Settings, choice: BackendChoice, weights_sha256: str
) -> Session[GradientGraph]:
    """Return a session of the cost with its gradient; weights are loaded only to build its graph."""
    precision = runtime_precision(choice)
    graph = describe_planar(settings.objective, precision, regions=choice.regions)

    def build() -> bytes:
        from nstx.export.graphs.build_gradient import build_gradient_model

        # No name holds the weights, which the model has.
        return bytes(build_gradient_model(graph, take_weights(settings)).SerializeToString())

    choices = SessionChoices(
        provider=choose_provider_on(choice.device),
        threads=settings.threads,
        precision=runtime_precision(choice),
        in_order=True,
    )
    if choices.precision == "fp32":
        check_fp32(choices.provider)
    return open_graph(
        graph, build, choices, weights_sha256=weights_sha256, use_cache=settings.use_cache
    )


class OnnxBackend(GradientBackend):
    """Costs and gradients by ONNX Runtime, in a session that all scales share.

    Targets are moved to the device once. ``gives_back`` is whether no memory is kept from one evaluation for the
    next, as by tiles a later one needs it for other sessions. `UsageError` if the problems are no batch
    (`check_batch`).
    """

    def __init__(
        self, session: Session[GradientGraph], problems: Problems, *, gives_back: bool = False
    ) -> None:
        self._session, self._options = session, giving_back() if gives_back else None
        provider = session.provider
        self._objectives = [objective for objective, _ in problems]
        fixed = describe_problems(problems, regions=session.graph.regions)
        make = import_onnxruntime().OrtValue.ortvalue_from_numpy
        self._place = (provider.device, provider.index)
        # The arrays are kept, as ONNX Runtime uses those of the CPU where they are.
        self._arrays = {name: np.ascontiguousarray(value) for name, value in fixed.items()}
        self._fixed = {
            name: run_session(make, provider, value, *self._place)
            for name, value in self._arrays.items()
        }

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Implement `GradientBackend`."""
        outputs = self._run(NUMPY.fetch(pixels))
        costs = report_costs(self._objectives, outputs)
        if not np.isfinite(outputs["gradient"]).all():
            raise gradient_error()
        return costs, cast(ArrayT, outputs["gradient"])

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Implement `GradientBackend`."""
        # With the gradient, which ONNX Runtime computes whether or not it is fetched. A session of
        # the cost alone would take a third of the time, but a third more memory for the whole run,
        # and a run needs a cost alone two or three times.
        return report_costs(self._objectives, self._run(NUMPY.fetch(pixels)))

    def _run(self, pixels: Batch) -> dict[str, NDArray[np.float32]]:
        values = run_session(self._call, self._session.provider, pixels)
        return dict(zip(self._session.graph.outputs, values, strict=True))

    def _call(self, pixels: Batch) -> list[NDArray[np.float32]]:
        binding = self._session.runner.io_binding()
        make = import_onnxruntime().OrtValue.ortvalue_from_numpy
        binding.bind_ortvalue_input(
            INPUT_NAME, make(np.ascontiguousarray(pixels, np.float32), *self._place)
        )
        for name, value in self._fixed.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._session.graph.outputs:
            binding.bind_output(name, "cpu")
        self._session.runner.run_with_iobinding(binding, self._options)
        values: list[NDArray[np.float32]] = binding.copy_outputs_to_cpu()
        return values


def describe_problems(problems: Problems, *, regions: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return a batch's weights and targets as inputs of a planar graph.

    `UsageError` if the problems are no batch (`check_batch`), or have regions and the graph has none.
    """
    objectives = [objective for objective, _ in problems]
    targets = [of_picture for _, of_picture in problems]
    first = check_batch(objectives, [(t.height, t.width) for t in targets])
    inputs: dict[str, NDArray[np.float32]] = {
        name: np.array([getattr(objective, name) for objective in objectives], np.float32)
        for name in GradientGraph(objective=first).weights
    }
    if first.laplacian_weight > 0:
        details = [detail for picture in targets if (detail := picture.laplacian) is not None]
        inputs[LAPLACIAN_INPUTS[1]] = _stack(details)
    for name in first.content_names:
        inputs[content_input(name)] = _stack([picture.content[name] for picture in targets])
    for name in first.style_names:
        inputs[style_input(name)] = _stack([picture.style[name] for picture in targets])
    for name in GradientGraph(objective=first).root_layers:
        inputs[root_input(name)] = _stack([picture.root(name) for picture in targets])
    count = check_regions(targets)
    if count != max(1, regions):
        raise UsageError(
            f"expected targets of {regions} regions for such a graph, got {count}; try another graph"
        )
    if not regions and any(picture.shares for picture in targets):
        raise UsageError(
            "expected targets without regions for a graph that has none, got some; try --backend torch"
        )
    if regions > 1:
        inputs[AREAS_INPUT] = np.array([picture.areas for picture in targets], np.float32)
    for name in first.style_names if regions else ():
        size = find_layer(name).output_size(
            targets[0].height, targets[0].width, first.pool_rounding
        )
        inputs[shares_input(name)] = _stack([picture.shares_of(name, size) for picture in targets])
    return inputs


def _stack(arrays: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    return np.stack(arrays).astype(np.float32, copy=False)


def report_costs(
    objectives: Sequence[Objective], outputs: Mapping[str, NDArray[np.float32]]
) -> list[Cost]:
    """Return each picture's cost, of a graph's outputs; `NumericalError` if one is not finite."""
    return [
        _cost(objective, {name: values[index] for name, values in outputs.items()})
        for index, objective in enumerate(objectives)
    ]


@dataclass(frozen=True, slots=True)
class CostLayout:
    """Where a batch's costs and largest values lie in one array, so that they are fetched at once.

    Attributes:
        shapes: of each output, with its name.
        places: where it lies.
        end: how long the array is.
    """

    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, slice]
    end: int

    def unpack(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the outputs in their shapes."""
        return {
            name: values[self.places[name]].reshape(shape) for name, shape in self.shapes.items()
        }


def arrange_costs(objective: Objective, outputs: Sequence[str], batch: int) -> CostLayout:
    """Return the layout of a graph's outputs but for the gradient, and of `LARGEST`, which is last."""
    columns = {
        "content_layers": (len(objective.content_names),),
        "style_layers": (len(objective.style_names),),
        "layers": (len(objective.content_names) + len(objective.style_names),),
    }
    names = [name for name in outputs if name != "gradient"]
    shapes = {name: (batch, *columns.get(name, ())) for name in (*names, LARGEST)}
    places, start = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        places[name] = slice(start, start + count)
        start += -(-count // _ALIGNMENT) * _ALIGNMENT
    return CostLayout(shapes, places, places[LARGEST].stop)


def _cost(objective: Objective, outputs: Mapping[str, NDArray[np.float32]]) -> Cost:
    def layers(kind: str, names: tuple[str, ...]) -> dict[str, float]:
        if not names:
            return {}
        if "layers" in outputs:
            of_all, count = outputs["layers"], len(names)
            values = of_all[:count] if kind == "content" else of_all[-count:]
        else:
            values = outputs[f"{kind}_layers"]
        return dict(zip(names, values.tolist(), strict=True))

    variation = float(outputs["total_variation"]) if objective.tv_weight > 0 else 0.0
    laplacian = float(outputs["laplacian"]) if objective.laplacian_weight > 0 else 0.0
    content = layers("content", objective.content_names)
    style = layers("style", objective.style_names)
    return check_cost(combine_costs(objective, content, style, variation, laplacian))
