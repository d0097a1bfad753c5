"""Opening a gradient backend: its weights, network or graph, for the batches of problems of a run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from nstx.models.objective import Objective
from nstx.models.weights.load import Weights, load_weights, weights_digest

from ..devices.arrays import NUMPY, Arrays
from ..devices.memory import keep_freed_memory
from ..settings import Settings
from .backend import GradientBackend, Problems
from .choice import BackendChoice, runs_ahead

if TYPE_CHECKING:
    from ..devices.torch_device import TorchDevice
    from .torch_gradient import TorchGradient


@dataclass(frozen=True, slots=True, eq=False)
class BackendFactory:
    """Makes gradient backends that share weights, network and session.

    Attributes:
        mean: the network's mean colour, RGB.
        make: returns the backend of a batch.
        arrays: that pictures are best kept as, so that they stay where the gradient is computed.
        runs_ahead: whether steps may be begun before the costs of earlier ones are there.
    """

    choice: BackendChoice
    weights_sha256: str
    mean: tuple[float, float, float]
    make: Callable[[Problems], GradientBackend]
    arrays: Arrays = NUMPY
    runs_ahead: bool = False


def open_backend(settings: Settings, choice: BackendChoice) -> BackendFactory:
    """Load what a backend needs: its weights, and its network or graph."""
    if choice.name == "torch":
        return _open_torch(settings, choice)
    from .onnx_backend import OnnxBackend, open_gradient_session

    weights_sha256 = weights_digest(settings.weights)
    session = open_gradient_session(settings, choice, weights_sha256)
    return BackendFactory(choice, weights_sha256, session.mean, partial(OnnxBackend, session))


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
    make = _torch_backends(settings.objective, weights, device, by_hand=by_hand)
    # MPS, whose Fourier transforms came late, computes gradients only.
    arrays = NUMPY if place.is_mps else TorchArrays(device.torch_device)
    factory = BackendFactory(choice, weights.sha256, weights.mean, make, arrays, runs_ahead(choice))
    largest_error = choice.largest_error
    if largest_error is None:
        return factory
    from .checked import CheckedBackend

    exact_device = replace(device, precision="fp32")
    make_exact = _torch_backends(settings.objective, weights, exact_device, by_hand=by_hand)
    return replace(
        factory,
        make=lambda problems: CheckedBackend(
            make(problems), make_exact(problems), choice.precision, largest_error
        ),
    )


def _torch_backends(
    objective: Objective, weights: Weights, device: "TorchDevice", *, by_hand: bool
) -> "Callable[[Problems], TorchGradient]":
    if by_hand:
        from .backprop import BackpropBackend, BackwardPass

        return partial(BackpropBackend, BackwardPass(weights, objective, device))
    from ..features.torch_network import TorchNetwork
    from .torch_gradient import AutogradBackend

    network = TorchNetwork(weights, objective.layers, *objective.poolings, device)
    return partial(AutogradBackend, network)
