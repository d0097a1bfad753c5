"""The gradient backend of a job: opened for it, or shared with another job."""

from collections.abc import Sequence
from dataclasses import replace

from nstx.models.errors import DeviceError, UsageError

from ..devices.machine import is_there
from ..devices.memory import memory_errors
from ..gradients.choice import BackendChoice, PrecisionPolicy, choose_backend, with_regions
from ..gradients.opening import BackendFactory
from ..planning.fitting import fit_settings
from ..settings import Settings
from ..tiled.opening import open_by_tiles


class UnsharedError(UsageError):
    """Settings that cannot share the backend of others."""


def open_for(
    settings: Settings, size: Sequence[int], choice: BackendChoice, *, regions: int = 0
) -> BackendFactory:
    """Return the backend of what `fit_memory` returned, for a result of this height and width."""
    with memory_errors(size):
        return open_by_tiles(settings, with_regions(choice, regions))


def fit_memory(
    settings: Settings,
    size: Sequence[int],
    policy: PrecisionPolicy | None = None,
    *,
    regions: int = 0,
) -> tuple[Settings, BackendChoice]:
    """Return settings by which memory holds a result of this height and width, and their backend without regions.

    The memory is that of so many regions whose positions count by shares.
    Where it holds none by PyTorch and ``auto`` may be another backend, it is ONNX Runtime, which takes less.
    `DeviceError` if it holds none at all.
    """
    choice = choose_backend(settings, size, policy)
    try:
        return fit_settings(settings, size, with_regions(choice, regions)), choice
    except DeviceError:
        sparing = spare_memory(settings, choice)
        if sparing is None:
            raise
        choice = choose_backend(sparing, size, policy)
        return fit_settings(sparing, size, with_regions(choice, regions)), choice


def spare_memory(settings: Settings, choice: BackendChoice) -> Settings | None:
    """Return settings by a backend that takes less memory than the one that was chosen; None if there is none."""
    is_free = settings.backend == "auto" and settings.precision in ("auto", "fp32")
    if choice.name == "onnx" or not (is_free and choice.device.is_cpu and is_there("onnxruntime")):
        return None
    return replace(settings, backend="onnx")


def share_backend(
    opened: BackendFactory,
    before: Settings,
    settings: Settings,
    choice: BackendChoice,
    *,
    regions: int = 0,
) -> BackendFactory:
    """Return a backend that was opened for other settings; `UnsharedError` if these need one of their own.

    The choice is `fit_memory`'s of these settings.
    """
    differing = backend_differences(opened, before, settings, choice)
    if opened.choice.regions != regions:
        differing.append(
            "mask or transparency" if opened.choice.regions + regions <= 1 else "number of regions"
        )
    if differing:
        raise UnsharedError(
            f"expected settings that share a backend, got another {', '.join(differing)}; "
            "try without like"
        )
    return opened


def backend_differences(
    opened: BackendFactory,
    before: Settings,
    settings: Settings,
    choice: BackendChoice,
) -> list[str]:
    """Return what keeps settings, and `fit_memory`'s choice for them, from sharing a backend with those before."""
    names = ("device", "precision", "backend", "threads", "weights", "tile")
    differing = [name for name in names if getattr(before, name) != getattr(settings, name)]
    objectives = (before.objective, settings.objective)
    if objectives[0].with_unit_weights() != objectives[1].with_unit_weights():
        differing.append("objective (but for its weights)")
    if not differing and with_regions(choice, opened.choice.regions) != opened.choice:
        differing.append("amount of work, so that auto is another backend")
    return differing
