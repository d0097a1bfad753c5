"""Which gradient backend a run uses, on which device and at which precision; and opening it.

``auto`` is ONNX Runtime on the CPU, where it is faster than PyTorch's autograd and starts sooner, and
PyTorch on accelerators and for precisions that ONNX Runtime lacks. On a CPU with bf16 units the precision
``auto`` is bf16, checked against fp32 as the run goes (`nstx.engine.gradients.checked`), unless the run is so
short that PyTorch's start takes longer than is saved, or is the assignment's, whose costs are published. On
CUDA it is what the device's convolutions are fastest in (`nstx.engine.devices.speed`), checked likewise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nstx.models.errors import DeviceError
from nstx.models.objective import Objective
from nstx.models.weights.load import Weights, load_weights, weights_digest

from ..devices.arrays import NUMPY, Arrays
from ..devices.device import Device, choose_provider_on, settle
from ..devices.machine import Processor, is_there, this_processor
from ..devices.memory import keep_freed_memory, memory_errors
from ..settings import BackendName, Precision, Settings
from ..targets.targets import Targets
from .backend import BatchBackend

if TYPE_CHECKING:
    from ..devices.torch_device import TorchDevice
    from .torch_gradient import TorchGradient


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """A backend with its place.

    Attributes:
        name: ``torch`` or ``onnx``.
        device: where it runs.
        precision: of the convolutions: ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        checked: whether it is checked against fp32, which takes over where it does not suffice.
    """

    name: BackendName
    device: Device
    precision: Precision
    checked: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class OpenedBackend:
    """A backend that is ready.

    Attributes:
        choice: what it is.
        weights_sha256: of the weight file.
        mean: the network's mean colour, RGB.
        make: returns the gradient of a batch: an objective and targets for each of its pictures.
        arrays: that pictures are best kept as, so that they stay where the gradient is computed.
        runs_ahead: whether steps may be begun before the costs of earlier ones are there.
    """

    choice: BackendChoice
    weights_sha256: str
    mean: tuple[float, float, float]
    make: Callable[[Sequence[tuple[Objective, Targets]]], BatchBackend]
    arrays: Arrays = NUMPY
    runs_ahead: bool = False


def choose_backend(
    settings: Settings,
    size: Sequence[int] | None = None,
    processor: Processor | None = None,
) -> BackendChoice:
    """Return the backend, device and precision of a run; on CUDA it may measure some precisions.

    Args:
        settings: of the run.
        size: height and width of the result; None chooses no precision that must be checked.
        processor: what the CPU can do; None asks this machine's.

    Raises:
        UsageError: a name is unknown.
        DeviceError: what was asked for is not there, or has too little memory to measure.
    """
    device = settle(settings.device)
    processor = processor or this_processor()
    if size is not None and _is_worth_bf16(settings, device, size, processor):
        return BackendChoice("torch", device, "bf16", checked=True)
    name = settings.backend
    if name == "auto":
        on_cpu = device.is_cpu and settings.precision in ("auto", "fp32")
        name = "onnx" if (on_cpu and is_there("onnxruntime")) or not is_there("torch") else "torch"
    if name == "onnx":
        return _choose_onnx(settings, device)
    return _choose_torch(settings, size, processor)


def _is_free(settings: Settings) -> bool:
    """Whether a low precision, which is checked, may be chosen."""
    free = settings.precision == "auto" and settings.backend in ("auto", "torch")
    # The assignment's own Adam, the one without bounds, is there for its published numbers.
    return free and settings.clip


def _is_worth_bf16(
    settings: Settings, device: Device, size: Sequence[int], processor: Processor
) -> bool:
    work = settings.steps * size[0] * size[1]
    if not device.is_cpu or not _is_free(settings) or work < processor.least_bf16_work:
        return False
    if not processor.bf16_units or not is_there("torch"):
        return False
    from ..devices.precisions import settle_bf16

    # Units are of no use to a PyTorch that does not reach them.
    return settle_bf16(processor) == "packed"


def _choose_torch(
    settings: Settings, size: Sequence[int] | None, processor: Processor
) -> BackendChoice:
    try:
        from ..devices.precisions import choose_precision
    except ImportError as error:
        raise DeviceError(
            f"expected PyTorch for --backend torch, got none ({error}); try --backend onnx, or "
            "'pip install torch'"
        ) from error
    device = settle(settings.device, by_torch=True)
    precision = choose_precision(device, settings.precision, processor)
    if size is None or not _is_free(settings) or not device.is_cuda:
        return BackendChoice("torch", device, precision)
    from ..devices.speed import fastest_precision

    with memory_errors(size):
        precision = fastest_precision(device)
    return BackendChoice("torch", device, precision, checked=precision != "fp32")


def _choose_onnx(settings: Settings, device: Device) -> BackendChoice:
    choose_provider_on(device)
    supported = ("fp32",) if device.is_cpu else ("fp32", "fp16")
    if settings.precision not in ("auto", *supported):
        raise DeviceError(
            f"expected {', '.join(supported)} for --backend onnx on {device}, "
            f"got {settings.precision}; try --precision auto, or --backend torch"
        )
    precision: Precision = "fp32" if settings.precision == "auto" else settings.precision
    return BackendChoice("onnx", device, precision)


def runs_ahead(choice: BackendChoice) -> bool:
    """Whether steps may be begun before the costs of earlier ones are known.

    On CUDA, unless they are checked, or in fp16, whose seeds depend on each step's result.
    """
    on_cuda = choice.name == "torch" and choice.device.is_cuda
    return on_cuda and not choice.checked and choice.precision != "fp16"


def open_backend(settings: Settings, choice: BackendChoice) -> OpenedBackend:
    """Load what a backend needs.

    Raises:
        WeightsError: the weights cannot be loaded.
        ModelError, DeviceError: a graph cannot be loaded, or memory does not suffice.
    """
    return _open_onnx(settings, choice) if choice.name == "onnx" else _open_torch(settings, choice)


def _open_torch(settings: Settings, choice: BackendChoice) -> OpenedBackend:
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
    make = _torch_maker(settings.objective, weights, device, by_hand)
    # Of MPS, whose Fourier transforms came late, nothing is asked but gradients.
    arrays = NUMPY if place.is_mps else TorchArrays(device.torch_device)
    opened = OpenedBackend(choice, weights.sha256, weights.mean, make, arrays, runs_ahead(choice))
    if not choice.checked:
        return opened
    from .checked import CheckedBackend

    exact = replace(device, precision="fp32")
    make_exact = _torch_maker(settings.objective, weights, exact, by_hand)
    return replace(
        opened,
        make=lambda problems: CheckedBackend(
            make(problems), make_exact(problems), choice.precision
        ),
    )


def _torch_maker(
    objective: Objective, weights: Weights, device: "TorchDevice", by_hand: bool
) -> "Callable[[Sequence[tuple[Objective, Targets]]], TorchGradient]":
    """Return what makes backends: with the backward pass written out, or by autograd."""
    from ..features.torch_network import TorchNetwork
    from .autograd import TorchBackend
    from .backprop import BackpropBackend, BackpropNetwork

    if by_hand:
        passes = BackpropNetwork(weights, objective, device)
        return lambda problems: BackpropBackend(passes, problems)
    network = TorchNetwork(
        weights, objective.layers, objective.pooling, objective.pool_rounding, device
    )
    return lambda problems: TorchBackend(network, device, problems)


def _open_onnx(settings: Settings, choice: BackendChoice) -> OpenedBackend:
    from .onnx_backend import OnnxBackend, open_gradient_session

    weights_sha256 = weights_digest(settings.weights)
    provider = choose_provider_on(choice.device)
    opened = open_gradient_session(
        settings.objective,
        weights_sha256,
        lambda: load_weights(settings.weights, use_cache=settings.use_cache),
        provider,
        precision="fp16" if choice.precision == "fp16" else "fp32",
        threads=settings.threads,
        use_cache=settings.use_cache,
    )
    return OpenedBackend(
        choice,
        weights_sha256,
        opened.mean,
        lambda problems: OnnxBackend(opened, problems),
    )
