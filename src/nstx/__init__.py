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
    from .engine.drawing.feature_sheets import write_feature_sheets
    from .engine.features.activations import ExtractedFeatures, extract_features
    from .engine.features.opening import Extraction, open_extractor
    from .engine.gradients.backend import PrecisionCheck
    from .engine.pictures.picture import Picture
    from .engine.pictures.reading import read_image
    from .engine.pictures.writing import write_image
    from .engine.settings import Settings, choose_settings
    from .engine.targets.files import read_targets, write_targets
    from .engine.transfer.batch import run_batch
    from .engine.transfer.evaluation import evaluate_picture
    from .engine.transfer.job import Job, prepare_job, prepare_job_from_targets
    from .engine.transfer.progress import Step
    from .engine.transfer.run import Result, run_job, stylize
    from .export.features import export_features
    from .export.graphs.feature_graph import FeatureGraph
    from .export.parity import ParityReport
    from .models.cost import Cost
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
    from .models.weights.load import Weights, load_weights

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
    "Cost": "models.cost",
    "DeviceError": "models.errors",
    "ExtractedFeatures": "engine.features.activations",
    "Extraction": "engine.features.opening",
    "FeatureGraph": "export.graphs.feature_graph",
    "ImageError": "models.errors",
    "Job": "engine.transfer.job",
    "LayerWeight": "models.objective",
    "ModelError": "models.errors",
    "NstxError": "models.errors",
    "NumericalError": "models.errors",
    "Objective": "models.objective",
    "OutputError": "models.errors",
    "ParityReport": "export.parity",
    "Picture": "engine.pictures.picture",
    "PrecisionCheck": "engine.gradients.backend",
    "Result": "engine.transfer.run",
    "Settings": "engine.settings",
    "Step": "engine.transfer.progress",
    "UsageError": "models.errors",
    "Weights": "models.weights.load",
    "WeightsError": "models.errors",
    "choose_settings": "engine.settings",
    "evaluate_picture": "engine.transfer.evaluation",
    "export_features": "export.features",
    "extract_features": "engine.features.activations",
    "load_weights": "models.weights.load",
    "open_extractor": "engine.features.opening",
    "prepare_job": "engine.transfer.job",
    "prepare_job_from_targets": "engine.transfer.job",
    "read_image": "engine.pictures.reading",
    "read_targets": "engine.targets.files",
    "run_batch": "engine.transfer.batch",
    "run_job": "engine.transfer.run",
    "stylize": "engine.transfer.run",
    "write_feature_sheets": "engine.drawing.feature_sheets",
    "write_image": "engine.pictures.writing",
    "write_targets": "engine.targets.files",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
