"""Opening a gradient backend: its weights, network or graph, for the batches of problems of a run."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nstx.export.runtime.session import usable_threads
from nstx.models.objective import Objective
from nstx.models.weights.load import Weights, weights_digest

from ..devices.arrays import NUMPY, Arrays
from ..devices.device import choose_provider_on, torch_has
from ..devices.memory import keep_freed_memory
from ..kernels.support import KernelSupport
from ..settings import Precision, Settings
from .ahead import take_weights
from .backend import GradientBackend, PrecisionPlan, Problems
from .choice import BackendChoice, runs_ahead

if TYPE_CHECKING:
    from ..devices.torch_device import TorchDevice, TorchPrecision

_log = logging.getLogger("nstx")

Wrap = Callable[[partial[Any]], Callable[..., Any]]
"""See `open_backend`."""

_KERNEL_PRECISIONS = ("bf16", "fp16", "tf32")


@dataclass(frozen=True, slots=True, eq=False)
class BackendFactory:
    """Makes gradient backends that share weights, network and session.

    Attributes:
        mean: the network's mean colour, RGB.
        make: returns the backend of a batch.
        make_coarse: the same for a coarse scale, whose result is but a start; None where it is the same.
        arrays: that pictures are best kept as, so that they stay where the gradient is computed.
        runs_ahead: whether steps may be begun before the costs of earlier ones are there.
        plan: the precisions of a run whose gradients are checked; None where they are not.
        kernels: returns what computes a step on CUDA; None elsewhere, and before it is known.
    """

    choice: BackendChoice
    weights_sha256: str
    mean: tuple[float, float, float]
    make: Callable[[Problems], GradientBackend]
    arrays: Arrays = NUMPY
    runs_ahead: bool = False
    plan: PrecisionPlan | None = None
    kernels: Callable[[], KernelSupport | None] = lambda: None
    make_coarse: Callable[[Problems], GradientBackend] | None = None

    def bind(self, problems: Problems, scale: int, scales: int) -> GradientBackend:
        """Return the backend of a batch at one of several scales, counted from 0; -1 is the last."""
        is_coarse = scale % scales < scales - 1
        return ((is_coarse and self.make_coarse) or self.make)(problems)


def open_backend(
    settings: Settings, choice: BackendChoice, wrap: "Wrap | None" = None
) -> BackendFactory:
    """Load what a backend needs: its weights, and its network or graph.

    ``wrap`` makes of what makes backends, whose first argument is a network or session, what does in its place.
    """
    wrap = wrap or (lambda make: make)
    if choice.name == "torch":
        return _open_torch(settings, choice, wrap)
    # Its graphs on a device know no regions.
    if choice.device.is_cuda and torch_has(choice.device) and not choice.regions:
        return _open_onnx_on_device(settings, choice)
    from .onnx_backend import OnnxBackend, open_gradient_session

    weights_sha256 = weights_digest(settings.weights, settings.objective.preprocessing)
    session = open_gradient_session(settings, choice, weights_sha256)
    make = partial(OnnxBackend, session, gives_back=settings.tile is not None)
    return BackendFactory(choice, weights_sha256, session.mean, wrap(make))


def _open_onnx_on_device(settings: Settings, choice: BackendChoice) -> BackendFactory:
    """Open ONNX Runtime's backend of PyTorch's tensors, which PyTorch's solvers work on."""
    import torch

    from ..devices.cuda_graph import graphs_are_allowed
    from ..devices.torch_arrays import TorchArrays
    from .onnx_backend import runtime_precision
    from .onnx_on_device import OnDevice, open_on_device

    weights = take_weights(settings)
    device = torch.device(str(choice.device))
    opening = OnDevice(
        objective=settings.objective,
        weights=weights,
        precision=runtime_precision(choice),
        provider=choose_provider_on(choice.device),
        stream=torch.cuda.Stream(device),  # type: ignore[no-untyped-call]
        threads=settings.threads,
        use_cache=settings.use_cache,
        capture=graphs_are_allowed(),
    )
    make, arrays = open_on_device(opening), TorchArrays(device)
    return BackendFactory(choice, weights.sha256, weights.mean, make, arrays, kernels=make.describe)


def _open_torch(settings: Settings, choice: BackendChoice, wrap: Wrap) -> BackendFactory:
    import torch

    from ..devices.torch_arrays import TorchArrays
    from ..devices.torch_device import TorchDevice

    device = TorchDevice(choice.device, choice.precision)
    if settings.threads is not None:
        torch.set_num_threads(usable_threads(settings.threads))
    weights = take_weights(settings)
    # Autograd is the plain path; the written-out pass is for what autograd is slow at.
    place = choice.device
    by_hand = place.is_cuda or (place.is_cpu and choice.precision == "bf16")
    if by_hand and place.is_cpu:
        keep_freed_memory()

    kernels = choose_kernels(choice, settings.objective)

    @functools.cache  # what a precision needs is made once, when it is needed
    def backends(precision: "TorchPrecision") -> Callable[..., Any]:
        at = replace(device, precision=precision)
        make = _torch_backends(settings.objective, weights, at, by_hand=by_hand, kernels=kernels)
        return wrap(make)

    # MPS, whose Fourier transforms came late, computes gradients only.
    arrays = NUMPY if place.is_mps else TorchArrays(device.torch_device)
    make = backends(choice.precision)
    ahead = runs_ahead(choice)
    factory = BackendFactory(
        choice, weights.sha256, weights.mean, make, arrays, ahead, kernels=lambda: kernels
    )
    if choice.largest_error is None:
        return factory
    from .checked import CheckedBackend, Schedule

    plan = plan_precisions(choice)
    checked, coarse = (
        partial(
            CheckedBackend, plan, backends, largest_error=choice.largest_error,
            schedule=Schedule.on(place, is_coarse=is_coarse),
        )
        for is_coarse in (False, True)
    )  # fmt: skip
    return replace(factory, make=checked, make_coarse=coarse, plan=plan)


def plan_precisions(choice: BackendChoice) -> PrecisionPlan:
    """Return what a checked run goes through: TF32 comes before fp32 where the device has it."""
    from ..devices.precisions import supported_precisions

    if choice.device.is_cuda and "tf32" in supported_precisions(choice.device):
        stages: tuple[Precision, ...] = (choice.precision, "tf32", "fp32")
        return PrecisionPlan(tuple(dict.fromkeys(stages)), "tf32x3")
    return PrecisionPlan((choice.precision, "fp32"))


def _torch_backends(
    objective: Objective,
    weights: Weights,
    device: "TorchDevice",
    *,
    by_hand: bool,
    kernels: KernelSupport | None,
) -> partial[Any]:
    # Kernels compare Gram matrices alone: see `choose_kernels`.
    if kernels is not None and kernels.works and device.precision in _KERNEL_PRECISIONS:
        from .fused import FusedBackend, FusedPass

        return partial(FusedBackend, FusedPass(weights, objective, device))
    if by_hand:
        from .backprop import BackpropBackend, BackwardPass

        return partial(BackpropBackend, BackwardPass(weights, objective, device))
    from ..features.torch_network import TorchNetwork
    from .torch_gradient import AutogradBackend

    # Autograd knows PyTorch's own convolutions alone.
    network = TorchNetwork(weights, objective.layers, *objective.poolings, device, fused=False)
    return partial(AutogradBackend, network)


def choose_kernels(choice: BackendChoice, objective: Objective) -> KernelSupport | None:
    """Return what computes what lies between the convolutions of a backend; None where it has no choice.

    In fp32 that is PyTorch: convolutions take so much longer there that nothing would be gained. So it is for
    other style statistics than Gram matrices, of which there are no kernels. Where Triton fails it is PyTorch,
    too, with a warning.
    """
    if choice.name != "torch" or not choice.device.is_cuda:
        return None
    if choice.precision not in _KERNEL_PRECISIONS:
        return KernelSupport("torch", f"{choice.precision} would gain nothing by kernels")
    if choice.regions:
        return KernelSupport("torch", "masks and transparency have no kernels")
    if objective.laplacian_weight > 0:
        return KernelSupport("torch", "the Laplacian has no kernels")
    if not objective.compares_grams_alone:
        others = sorted({*objective.statistics.values()} - {"gram"})
        return KernelSupport("torch", f"style statistic {', '.join(others)} has no kernels")
    from ..kernels.availability import kernel_support

    support = kernel_support(choice.device.index)
    if support.is_fault:
        _log.warning("kernels are PyTorch's operators, which are slower: %s", support.reason)
    return support
