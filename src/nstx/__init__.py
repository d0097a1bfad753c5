"""Neural style transfer (Gatys et al. 2015): an optimised inference-and-gradient engine.

The public names, loaded when they are first used, so that ``import nstx`` costs nothing::

    from nstx import choose_settings, read_image, stylize, write_image

    photo, painting = read_image("photo.jpg"), read_image("painting.jpg")
    result = stylize(photo, [(painting, 1.0)], choose_settings(size=512))
    write_image("out.png", result.pixels)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine.cost import Cost
    from .engine.evaluation import evaluate_picture
    from .engine.image_files import write_image
    from .engine.images import Picture, read_image
    from .engine.job import Job, prepare_job, prepare_job_from_targets
    from .engine.progress import Step
    from .engine.settings import Settings, choose_settings
    from .engine.target_files import read_targets, write_targets
    from .engine.transfer import Result, run_job, stylize
    from .models.errors import (
        DeviceError,
        ImageError,
        NstxError,
        NumericalError,
        OutputError,
        UsageError,
        WeightsError,
    )
    from .models.objective import LayerWeight, Objective
    from .models.weights import Weights, load_weights

__version__ = "0.1.0"

__all__ = [
    "Cost",
    "DeviceError",
    "ImageError",
    "Job",
    "LayerWeight",
    "NstxError",
    "NumericalError",
    "Objective",
    "OutputError",
    "Picture",
    "Result",
    "Settings",
    "Step",
    "UsageError",
    "Weights",
    "WeightsError",
    "choose_settings",
    "evaluate_picture",
    "load_weights",
    "prepare_job",
    "prepare_job_from_targets",
    "read_image",
    "read_targets",
    "run_job",
    "stylize",
    "write_image",
    "write_targets",
]

_MODULES = {
    "Cost": "engine.cost",
    "DeviceError": "models.errors",
    "ImageError": "models.errors",
    "Job": "engine.job",
    "LayerWeight": "models.objective",
    "NstxError": "models.errors",
    "NumericalError": "models.errors",
    "Objective": "models.objective",
    "OutputError": "models.errors",
    "Picture": "engine.images",
    "Result": "engine.transfer",
    "Settings": "engine.settings",
    "Step": "engine.progress",
    "UsageError": "models.errors",
    "Weights": "models.weights",
    "WeightsError": "models.errors",
    "choose_settings": "engine.settings",
    "evaluate_picture": "engine.evaluation",
    "load_weights": "models.weights",
    "prepare_job": "engine.job",
    "prepare_job_from_targets": "engine.job",
    "read_image": "engine.images",
    "read_targets": "engine.target_files",
    "run_job": "engine.transfer",
    "stylize": "engine.transfer",
    "write_image": "engine.image_files",
    "write_targets": "engine.target_files",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
