"""Neural style transfer (Gatys et al. 2015): an optimised inference-and-gradient engine.

The public names, loaded when they are first used, so that ``import nstx`` costs nothing::

    from nstx import choose_settings, read_image, stylize, write_image

    photo, painting = read_image("photo.jpg"), read_image("painting.jpg")
    result = stylize(photo, [(painting, 1.0)], choose_settings(size=512))
    write_image("out.png", result.pixels)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .models.version import __version__ as __version__

if TYPE_CHECKING:
    from .engine.batch import run_batch
    from .engine.cost import Cost, PrecisionCheck
    from .engine.evaluation import evaluate_picture
    from .engine.extractors import Extraction, open_extractor
    from .engine.feature_sheets import write_feature_sheets
    from .engine.features import ExtractedFeatures, extract_features
    from .engine.image_files import write_image
    from .engine.images import Picture, read_image
    from .engine.job import Job, prepare_job, prepare_job_from_targets
    from .engine.progress import Step
    from .engine.settings import Settings, choose_settings
    from .engine.target_files import read_targets, write_targets
    from .engine.transfer import Result, run_job, stylize
    from .export.feature_graph import FeatureGraph
    from .export.features import export_features
    from .export.parity import ParityReport
    from .models.errors import (
        DeviceError,
        ImageError,
        ModelError,
        NstxError,
        NumericalError,
        OutputError,
        UsageError,
        WeightsError,
    )
    from .models.objective import LayerWeight, Objective
    from .models.weights import Weights, load_weights

__all__ = [
    "Cost",
    "DeviceError",
    "ExtractedFeatures",
    "Extraction",
    "FeatureGraph",
    "ImageError",
    "Job",
    "LayerWeight",
    "ModelError",
    "NstxError",
    "NumericalError",
    "Objective",
    "OutputError",
    "ParityReport",
    "Picture",
    "PrecisionCheck",
    "Result",
    "Settings",
    "Step",
    "UsageError",
    "Weights",
    "WeightsError",
    "choose_settings",
    "evaluate_picture",
    "export_features",
    "extract_features",
    "load_weights",
    "open_extractor",
    "prepare_job",
    "prepare_job_from_targets",
    "read_image",
    "read_targets",
    "run_batch",
    "run_job",
    "stylize",
    "write_feature_sheets",
    "write_image",
    "write_targets",
]

_MODULES = {
    "Cost": "engine.cost",
    "DeviceError": "models.errors",
    "ExtractedFeatures": "engine.features",
    "Extraction": "engine.extractors",
    "FeatureGraph": "export.feature_graph",
    "ImageError": "models.errors",
    "Job": "engine.job",
    "LayerWeight": "models.objective",
    "ModelError": "models.errors",
    "NstxError": "models.errors",
    "NumericalError": "models.errors",
    "Objective": "models.objective",
    "OutputError": "models.errors",
    "ParityReport": "export.parity",
    "Picture": "engine.images",
    "PrecisionCheck": "engine.cost",
    "Result": "engine.transfer",
    "Settings": "engine.settings",
    "Step": "engine.progress",
    "UsageError": "models.errors",
    "Weights": "models.weights",
    "WeightsError": "models.errors",
    "choose_settings": "engine.settings",
    "evaluate_picture": "engine.evaluation",
    "export_features": "export.features",
    "extract_features": "engine.features",
    "load_weights": "models.weights",
    "open_extractor": "engine.extractors",
    "prepare_job": "engine.job",
    "prepare_job_from_targets": "engine.job",
    "read_image": "engine.images",
    "read_targets": "engine.target_files",
    "run_batch": "engine.batch",
    "run_job": "engine.transfer",
    "stylize": "engine.transfer",
    "write_feature_sheets": "engine.feature_sheets",
    "write_image": "engine.image_files",
    "write_targets": "engine.target_files",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
