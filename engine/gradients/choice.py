"""Which gradient backend a run uses, on which device and at which precision.

``auto`` is ONNX Runtime on the CPU, where it is faster than PyTorch's autograd and starts sooner,
and PyTorch on accelerators and for precisions that ONNX Runtime lacks (on the CPU it has fp32, on
CUDA tf32 and fp16 as well). On a CPU with bf16 units the precision ``auto`` is bf16, checked
against fp32 as the run goes (`nstx.engine.gradients.checked`), unless the run is so short that
PyTorch's start takes longer than is saved, or is the assignment's, whose costs are published. On
CUDA it goes by the device's compute capability (`nstx.engine.devices.precisions.fast_precision`),
checked too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nstx.models.errors import DeviceError

from ..devices.device import Device, choose_provider_on, settle
from ..devices.machine import Capability, Processor, is_there
from ..settings import BackendName, Precision, Settings

LARGEST_ERROR = 0.25
"""Of a checked gradient, chosen by experiments: see docs/precision.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionPolicy:
    """When a low precision is chosen, and how wrong its gradients may be: the usual, on this machine.

    Attributes:
        capability: of the CUDA device; None asks PyTorch.
        least_bf16_work: steps times pixels from which bf16 on the CPU saves time: on two cores 4 seconds
            of a million, and PyTorch takes 1 to 2 seconds longer to start than ONNX Runtime.
        largest_error: of a checked gradient, ‖g − g₃₂‖ / ‖g₃₂‖; beyond it fp32 may take over.
    """

    processor: Processor = field(default_factory=Processor)
    capability: Capability | None = None
    least_bf16_work: int = 2_000_000
    largest_error: float = LARGEST_ERROR


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """A backend with its device and the precision of its convolutions.

    Attributes:
        largest_error: of its gradients, which are checked against fp32, as in `PrecisionPolicy`; None
            where nothing is checked.
        regions: how many there are with styles of their own, whose positions count by shares, as masks and
            transparency have them; 0 where all positions count alike.
    """

    name: BackendName
    device: Device
    precision: Precision
    largest_error: float | None = None
    regions: int = 0

    @property
    def checked(self) -> bool:
        """Whether gradients are checked against fp32."""
        return self.largest_error is not None


def choose_backend(
    settings: Settings,
    size: Sequence[int] | None = None,
    policy: PrecisionPolicy | None = None,
    *,
    regions: int = 0,
) -> BackendChoice:
    """Return the backend, device and precision of a run: the same each time on the same machine.

    Without a size (height, width) no precision is chosen that must be checked. `DeviceError` if what was
    asked for is not there.
    """
    return with_regions(_choose(settings, size, policy), regions)


def with_regions(choice: BackendChoice, regions: int) -> BackendChoice:
    """Return a choice, which has no regions yet, for so many; `DeviceError` if its backend has none at its precision."""
    if not regions:
        return choice
    if choice.name == "onnx" and choice.precision != "fp32":
        raise DeviceError(
            f"expected fp32 for masks and transparency by the backend onnx on {choice.device}, got "
            f"{choice.precision}; try --precision fp32, or --backend torch",
            setting="precision",
        )
    return replace(choice, regions=regions)


def _choose(
    settings: Settings, size: Sequence[int] | None, policy: PrecisionPolicy | None
) -> BackendChoice:
    device = settle(settings.device)
    policy = policy or PrecisionPolicy()
    if size is not None and _is_worth_bf16(settings, device, size, policy):
        return BackendChoice("torch", device, "bf16", policy.largest_error)
    name = settings.backend
    if name == "auto":
        on_cpu = device.is_cpu and settings.precision in ("auto", "fp32")
        name = "onnx" if (on_cpu and is_there("onnxruntime")) or not is_there("torch") else "torch"
    if name == "onnx":
        return _choose_onnx(settings, device)
    return _choose_torch(settings, size, policy)


def _is_free(settings: Settings) -> bool:
    """Whether a low precision, which is checked, may be chosen."""
    free = settings.precision == "auto" and settings.backend in ("auto", "torch")
    # The assignment's own runs, whose Adam is without bounds or whose pixels are not preprocessed as
    # published, are there for its published numbers.
    return free and settings.clip and settings.objective.preprocessing == "published"


def _is_worth_bf16(
    settings: Settings, device: Device, size: Sequence[int], policy: PrecisionPolicy
) -> bool:
    work = settings.steps * size[0] * size[1]
    if not device.is_cpu or not _is_free(settings) or work < policy.least_bf16_work:
        return False
    if not policy.processor.bf16_units or not is_there("torch"):
        return False
    from ..devices.precisions import settle_bf16

    # Units are of no use to a PyTorch that does not reach them.
    return settle_bf16(policy.processor) == "packed"


def _choose_torch(
    settings: Settings, size: Sequence[int] | None, policy: PrecisionPolicy
) -> BackendChoice:
    try:
        from ..devices.precisions import choose_precision, cuda_capability, fast_precision
    except ImportError as error:
        raise DeviceError(
            f"expected PyTorch for the backend torch, got none ({error}); try --backend onnx, or "
            "'pip install torch'",
            setting="backend",
        ) from error
    device = settle(settings.device, by_torch=True)
    capability = (policy.capability or cuda_capability(device)) if device.is_cuda else None
    precision = choose_precision(device, settings.precision, policy.processor, capability)
    if size is None or not _is_free(settings) or capability is None:
        return BackendChoice("torch", device, precision)
    precision = fast_precision(capability)
    largest_error = None if precision == "fp32" else policy.largest_error
    return BackendChoice("torch", device, precision, largest_error)


def _choose_onnx(settings: Settings, device: Device) -> BackendChoice:
    choose_provider_on(device)
    supported = ("fp32",) if device.is_cpu else ("fp32", "tf32", "fp16")
    if settings.precision not in ("auto", *supported):
        raise DeviceError(
            f"expected {', '.join(supported)} for the backend onnx on {device}, "
            f"got {settings.precision}; try --precision auto, or --backend torch",
            setting="precision",
        )
    precision: Precision = "fp32" if settings.precision == "auto" else settings.precision
    check_statistics(settings, device)
    return BackendChoice("onnx", device, precision)


def check_statistics(settings: Settings, device: Device) -> None:
    """Check that ONNX Runtime computes an objective's statistics; `DeviceError` if it would round them.

    Matrix products of its graphs but for Gram matrices would be in TF32 or fp16 there, too.
    """
    if settings.precision in ("auto", "fp32") or settings.objective.compares_grams_alone:
        return
    raise DeviceError(
        f"expected fp32 for style statistics other than gram by the backend onnx on {device}, "
        f"got {settings.precision}; try --precision fp32, or --backend torch",
        setting="precision",
    )


def runs_ahead(choice: BackendChoice) -> bool:
    """Whether steps may be begun before the costs of earlier ones are known.

    On CUDA, unless they are checked. In fp16 a solver that is ahead waits none the less, as seeds depend on each
    step's result.
    """
    return choice.name == "torch" and choice.device.is_cuda and not choice.checked
