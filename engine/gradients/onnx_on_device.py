"""The gradient by ONNX Runtime on CUDA, on PyTorch's tensors: pictures and gradients stay on the device.

Sessions are of one shape each, so that all sizes are constants and a CUDA graph can hold a whole step; the
latest are kept. ONNX Runtime computes on a stream of PyTorch's, which waits for the pictures' stream before
a step and is waited for after it, both on the device: the host waits once, for the costs.
"""

import functools
import itertools
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from nstx.export.graphs.feature_graph import INPUT_NAME
from nstx.export.graphs.gradient_graph import GradientGraph
from nstx.export.interleaved.interleaved_inputs import interleave_inputs
from nstx.export.runtime.exactness import check_fp32
from nstx.export.runtime.providers import Provider, import_onnxruntime
from nstx.export.runtime.session import (
    RuntimePrecision,
    SessionChoices,
    run_session,
    runtime_version,
)
from nstx.models.cost import Cost
from nstx.models.errors import DeviceError
from nstx.models.objective import Objective

from ..devices.arrays import Array, ArrayT
from ..devices.torch_arrays import Arrival
from ..kernels.support import KernelSupport
from ..sessions.session import Session, open_graph
from .backend import GradientBackend, Problems, check_batch, gradient_error
from .onnx_backend import (
    LARGEST,
    arrange_costs,
    describe_planar,
    describe_problems,
    report_costs,
)

if TYPE_CHECKING:
    from nstx.models.weights.load import Weights

_log = logging.getLogger("nstx")

Shape = tuple[int, int, int]
"""Pictures, height and width."""

_KEPT_SESSIONS = 4
"""One for each scale, with which the costs of a run's start and end are measured too."""

_ids = itertools.count(1)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OnDevice:
    """Opens sessions on a device.

    Attributes:
        stream: that ONNX Runtime computes on; None on the CPU. On a stream of its own it frees memory in
            a callback of CUDA's, which CUDA forbids and which ends the process.
        capture: whether CUDA graphs are used.
        reason: why they are not, where they are not.
    """

    objective: Objective
    weights: "Weights"
    precision: RuntimePrecision
    provider: Provider
    stream: torch.cuda.Stream | None
    threads: int | None = None
    use_cache: bool = True
    capture: bool = True
    reason: str = "CUDA graphs are switched off"

    def __post_init__(self) -> None:
        assert self.stream is not None or self.provider.device == "cpu"

    @property
    def device(self) -> torch.device:
        """As PyTorch names it."""
        return torch.device(self.provider.device, self.provider.index)

    def describe_graph(self, height: int, width: int, *, variation: bool) -> GradientGraph:
        """Return the graph for pictures of a size: interleaved where tensor cores compute.

        Whether the total ``variation`` counts is built into interleaved graphs alone.
        """
        planar = describe_planar(self.objective, self.precision)
        objective = planar.objective
        if (
            self.precision == "fp32"
            or objective.pooling == "max"
            or not objective.compares_grams_alone
        ):
            return planar
        least = 2 ** sum(layer.kind == "pool" for layer in objective.network)
        even = height % least == 0 and width % least == 0
        objective = replace(objective, tv_weight=float(variation))
        return replace(planar, objective=objective, layout="interleaved", even=even)

    def open(self, shape: Shape, variation: bool) -> "Opened":
        """Return the session of a shape; `describe_graph` has ``variation``."""
        graph = self.describe_graph(*shape[1:], variation=variation)
        choices = SessionChoices(
            provider=self.provider,
            threads=self.threads,
            fixed_shape=shape,
            precision=self.precision,
            interleaved=graph.layout == "interleaved",
            stream=None if self.stream is None else self.stream.cuda_stream,
            capture=self.capture,
            in_order=True,
        )

        def build() -> bytes:
            if graph.layout == "interleaved":
                from nstx.export.interleaved.build_interleaved import build_interleaved as make
            else:
                from nstx.export.graphs.build_gradient import build_gradient_model as make
            model: bytes = make(graph, self.weights).SerializeToString()
            return model

        load = partial(
            open_graph, graph, build, weights_sha256=self.weights.sha256, use_cache=self.use_cache
        )
        try:
            return Opened(load(choices), "" if self.capture else self.reason)
        except DeviceError as error:
            if not self.capture:
                raise
            # Where ONNX Runtime leaves a node to the CPU it refuses to capture, when the graph is loaded.
            session = load(replace(choices, capture=False))
            _log.warning("the gradient is not captured in a CUDA graph: %s", error)
            return Opened(session, str(error))


@dataclass(frozen=True, slots=True)
class Opened:
    """A session, and why its steps are not captured in a CUDA graph; empty where they are."""

    session: Session[GradientGraph]
    reason: str


class DeviceBackends:
    """Makes backends, which share a device's latest sessions."""

    def __init__(self, opening: OnDevice) -> None:
        self.opening = opening
        self._open = functools.lru_cache(_KEPT_SESSIONS)(opening.open)
        self._latest: Opened | None = None

    def __call__(self, problems: Problems) -> "OnnxDeviceBackend":
        """Return the backend of a batch."""
        return OnnxDeviceBackend(self, problems)

    def open(self, shape: Shape, variation: bool) -> Opened:
        """Return the session of a shape, which may be there already."""
        self._latest = self._open(shape, variation)
        return self._latest

    def give_up_capture(self, error: DeviceError) -> None:
        """Open sessions that are not captured from here on, as one could not be, for a reason."""
        if self.opening.capture:
            _log.warning("the gradient is not captured in a CUDA graph: %s", error)
            self.opening = replace(self.opening, capture=False, reason=str(error))
            self._open = functools.lru_cache(_KEPT_SESSIONS)(self.opening.open)

    def describe(self) -> KernelSupport | None:
        """Return what computes a step, and why it is not captured; None before there is a session."""
        if self._latest is None:
            return None
        layout, reason = self._latest.session.graph.layout, self._latest.reason
        how = "not captured" if reason else "captured"
        return KernelSupport(f"onnxruntime {runtime_version()}, {layout}, {how}", reason)


def open_on_device(opening: OnDevice) -> DeviceBackends:
    """Return what makes backends; `DeviceError` if fp32 would not be fp32."""
    if opening.precision == "fp32":
        check_fp32(opening.provider)
    return DeviceBackends(opening)


class OnnxDeviceBackend(GradientBackend):
    """Costs and gradients by ONNX Runtime, of tensors that stay on their device.

    Attributes:
        captures: whether steps are captured in a CUDA graph.
    """

    def __init__(self, sessions: DeviceBackends, problems: Problems) -> None:
        self._objectives = [objective for objective, _ in problems]
        targets = [of_picture for _, of_picture in problems]
        check_batch(self._objectives, [(t.height, t.width) for t in targets])
        shape = (len(targets), targets[0].height, targets[0].width)
        objective = self._objectives[0]
        self._sessions, self._shape, self._has_run = sessions, shape, False
        self._session, self.captures = self._open()
        self._device, self._stream = sessions.opening.device, sessions.opening.stream
        self._pixels = torch.zeros((*shape, 3), device=self._device)
        self._gradient = torch.zeros_like(self._pixels)
        inputs = {INPUT_NAME: self._pixels}
        graph, arrays = self._session.graph, describe_problems(problems)
        if graph.layout == "interleaved":
            arrays = interleave_inputs(graph, arrays, shape[1:])
        for name in graph.inputs[1:]:
            inputs[name] = torch.from_numpy(np.ascontiguousarray(arrays[name])).to(self._device)
        # Costs lie behind one another, so that they are fetched at once, with the largest values last.
        self._layout = arrange_costs(objective, graph.outputs, shape[0])
        self._costs = torch.zeros(self._layout.end, device=self._device)
        outputs = {name: self._costs[place] for name, place in self._layout.places.items()}
        self._largest = outputs.pop(LARGEST)
        # ONNX Runtime knows their addresses only.
        self._inputs, self._outputs = inputs, {**outputs, "gradient": self._gradient}
        self._bind()

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Implement `GradientBackend`; waits for the device once."""
        arrival = Arrival(self._evaluate(pixels))
        # Before it waits, so that a device has the copy to do meanwhile.
        gradient = self._gradient.clone()
        if self._follower is not None and isinstance(pixels, torch.Tensor):
            self._follower(pixels, gradient)
        fetched = self._layout.unpack(arrival.wait().numpy())
        costs = report_costs(self._objectives, fetched)
        if not np.isfinite(fetched[LARGEST]).all():
            raise gradient_error()
        same_kind = gradient if isinstance(pixels, torch.Tensor) else gradient.cpu().numpy()
        return costs, cast(ArrayT, same_kind)

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Implement `GradientBackend`; with the gradient, which is computed in any case."""
        values = self._evaluate(pixels).cpu().numpy()
        return report_costs(self._objectives, self._layout.unpack(values))

    def _open(self) -> tuple[Session[GradientGraph], bool]:
        """Return the session of these pictures, and whether it is captured."""
        opened = self._sessions.open(self._shape, self._objectives[0].tv_weight > 0)
        return opened.session, not opened.reason

    def _bind(self) -> None:
        """Tell the session where inputs and outputs lie."""
        self._binding = binding = self._session.runner.io_binding()
        kind, index = self._device.type, self._device.index or 0
        for name, tensor in self._inputs.items():
            shape, address = list(tensor.shape), tensor.data_ptr()
            binding.bind_input(name, kind, index, np.float32, shape, address)
        for name, tensor in self._outputs.items():
            shape = list(self._layout.shapes.get(name, tensor.shape))
            binding.bind_output(name, kind, index, np.float32, shape, tensor.data_ptr())
        self._options = import_onnxruntime().RunOptions()
        if self._stream is not None:
            # A captured graph has the addresses of one backend; sessions are shared.
            self._options.add_run_config_entry("gpu_graph_id", str(next(_ids)))
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def _evaluate(self, pixels: Array) -> torch.Tensor:
        """Evaluate pictures; return the costs with the gradients' largest values, on the device."""
        on_device: Any = nullcontext() if self._stream is None else torch.cuda.device(self._device)
        with on_device, torch.no_grad():
            if isinstance(pixels, torch.Tensor):
                self._pixels.copy_(pixels)
            else:
                self._pixels.copy_(torch.from_numpy(np.ascontiguousarray(pixels, np.float32)))
            self._run()
            torch.linalg.vector_norm(self._gradient, torch.inf, (1, 2, 3), out=self._largest)
        return self._costs

    def _run(self) -> None:
        """Run the session once; one whose first run fails is opened again and not captured."""
        try:
            self._run_session()
        except DeviceError as error:
            # The first run captures. Another thread of the process that allocates meanwhile spoils it.
            if self._has_run or not self.captures:
                raise
            self._sessions.give_up_capture(error)
            self._session, self.captures = self._open()
            self._bind()
            self._run_session()
        self._has_run = True

    def _run_session(self) -> None:
        run, provider = self._session.runner.run_with_iobinding, self._session.provider
        if self._stream is None:
            run_session(run, provider, self._binding, self._options)
            return
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        run_session(run, provider, self._binding, self._options)
        current.wait_stream(self._stream)
