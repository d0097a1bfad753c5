"""Opening a gradient backend: its weights, network or graph, for the batches of problems of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from nstx.models.objective import Objective
from nstx.models.weights.load import Weights, load_weights, weights_digest

from ..devices.arrays import NUMPY, Arrays
from ..devices.device import choose_provider_on
from ..devices.memory import keep_freed_memory
from ..settings import Settings
from ..targets.targets import Targets
from .backend import GradientBackend
from .choice import BackendChoice, runs_ahead

if TYPE_CHECKING:
    from ..devices.torch_device import TorchDevice
    from .torch_gradient import TorchGradient

_Problems = Sequence[tuple[Objective, Targets]]


@dataclass(frozen=True, slots=True, eq=False)
class BackendFactory:
    """Makes gradient backends that share weights, network and session.

    Attributes:
        choice: what the backends are.
        weights_sha256: of the weight file.
        mean: the network's mean colour, RGB.
        make: returns the backend of a batch, from an objective and targets for each of its pictures.
        arrays: that pictures are best kept as, so that they stay where the gradient is computed.
        runs_ahead: whether steps may be begun before the costs of earlier ones are there.
    """

    choice: BackendChoice
    weights_sha256: str
    mean: tuple[float, float, float]
    make: Callable[[_Problems], GradientBackend]
    arrays: Arrays = NUMPY
    runs_ahead: bool = False


def open_backend(settings: Settings, choice: BackendChoice) -> BackendFactory:
    """Load what a backend needs.

    Raises:
        WeightsError: the weights cannot be loaded.
        ModelError, DeviceError: a graph cannot be loaded, or memory does not suffice.
    """
    return _open_onnx(settings, choice) if choice.name == "onnx" else _open_torch(settings, choice)


def _open_torch(settings: Settings, choice: BackendChoice) -> BackendFactory:
    import torch

    from ..devices.torch_arrays import TorchArrays
    from ..devices.torch_device import TorchDevice

    device = TorchDevice(choice.device, choice.precision)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    weights = load_weights(settings.weights, use_cache=settings.use_cache)
    # Autograd is the plain path; the written-out pass is for what autograd is slow at.
    place = choice.device
    by_hand = place.is_cuda or (place.is_cpu and choice.precision == "bf16")
    if by_hand and place.is_cpu:
        keep_freed_memory()
    torch_backends = _backprop_backends if by_hand else _autograd_backends
    make = torch_backends(settings.objective, weights, device)
    # Of MPS, whose Fourier transforms came late, nothing is asked but gradients.
    arrays = NUMPY if place.is_mps else TorchArrays(device.torch_device)
    factory = BackendFactory(choice, weights.sha256, weights.mean, make, arrays, runs_ahead(choice))
    if choice.largest_error is None:
        return factory
    make_exact = torch_backends(settings.objective, weights, replace(device, precision="fp32"))
    make_checked = _checked_backends(make, make_exact, choice.precision, choice.largest_error)
    return replace(factory, make=make_checked)


def _autograd_backends(
    objective: Objective, weights: Weights, device: "TorchDevice"
) -> "Callable[[_Problems], TorchGradient]":
    from ..features.torch_network import TorchNetwork
    from .autograd import AutogradBackend

    network = TorchNetwork(
        weights, objective.layers, objective.pooling, objective.pool_rounding, device
    )
    return partial(AutogradBackend, network)


def _backprop_backends(
    objective: Objective, weights: Weights, device: "TorchDevice"
) -> "Callable[[_Problems], TorchGradient]":
    from .backprop import BackpropBackend, BackwardPass

    return partial(BackpropBackend, BackwardPass(weights, objective, device))


def _checked_backends(
    make: "Callable[[_Problems], TorchGradient]",
    make_exact: "Callable[[_Problems], TorchGradient]",
    precision: str,
    largest_error: float,
) -> Callable[[_Problems], GradientBackend]:
    from .checked import CheckedBackend

    return lambda problems: CheckedBackend(
        make(problems), make_exact(problems), precision, largest_error
    )


def _open_onnx(settings: Settings, choice: BackendChoice) -> BackendFactory:
    from .onnx_backend import OnnxBackend, open_gradient_session

    weights_sha256 = weights_digest(settings.weights)
    opened = open_gradient_session(
        settings.objective,
        weights_sha256,
        lambda: load_weights(settings.weights, use_cache=settings.use_cache),
        choose_provider_on(choice.device),
        precision="fp16" if choice.precision == "fp16" else "fp32",
        threads=settings.threads,
        use_cache=settings.use_cache,
    )
    return BackendFactory(choice, weights_sha256, opened.mean, partial(OnnxBackend, opened))
