"""Reports of a run: as plain data; and in words, where a low precision did not suffice, or it may not repeat itself."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from ..gradients.backend import PrecisionCheck, PrecisionPlan
from ..gradients.choice import BackendChoice
from ..kernels.support import describe_kernels

if TYPE_CHECKING:
    from .job import Job
    from .result import Result


def describe_run(job: "Job", result: "Result") -> dict[str, object]:
    """Return what every report of a run has in common, as plain data; sizes are in pixels."""
    choice, checks = job.opened.choice, result.checks
    reason = why_not_repeatable(choice, job.extractor)
    height, width = job.sizes[-1]
    return {
        "width": width,
        "height": height,
        "scales": [{"width": width, "height": height} for height, width in job.sizes],
        "steps": result.steps,
        "evaluations": result.evaluations,
        "stopped": result.stopped,
        "cleaned": result.cleaned,
        "initial_cost": result.initial_cost and result.initial_cost.total,
        "device": str(choice.device),
        "precision": precision_after(checks, choice.precision),
        "precision_schedule": describe_schedule(job.opened.plan, checks, result.seconds),
        "backend": choice.name,
        "kernels": describe_kernels(job.opened.kernels()),
        "deterministic": reason is None,
        "not_deterministic_because": reason,
        "mask": _describe_mask(job),
        "regions": _describe_regions(job),
        "targets": {"content": job.loaded.content, "style": list(job.loaded.styles)},
    }


def _describe_mask(job: "Job") -> dict[str, float] | None:
    """Return which share of the result's pixels may change, and how much of them shows; None without a mask."""
    region = job.targets[-1].region
    if region is None or region.mask is None:
        return None
    assert region.cover is not None
    return {
        "share": float(np.mean(region.mask > 0)),
        "coverage": float(np.mean(region.cover, dtype=np.float64)),
    }


def _describe_regions(job: "Job") -> list[dict[str, object]] | None:
    """Return each region's colours in its map, and its area, of all of them; None where there is one, without a map.

    Of a targets file, colours are not known.
    """
    areas = job.targets[-1].areas
    if len(areas) == 1 and not job.regions:
        return None
    colours = job.regions or [()] * len(areas)
    return [
        {"colors": list(of_region), "area": area}
        for of_region, area in zip(colours, areas, strict=False)
    ]


def precision_after(checks: Sequence[PrecisionCheck], precision: str) -> str:
    """Return the precision that a run is in after checks, which began in another."""
    return checks[-1].continues_in if checks else precision


def describe_schedule(
    plan: PrecisionPlan | None, checks: Sequence[PrecisionCheck], seconds: float
) -> dict[str, object] | None:
    """Return the precisions of a run, and its checks; None where there are none.

    ``seconds`` are the run's: the share that checks took counts the evaluations that they were made at.
    """
    if plan is None:
        return None
    took = sum(check.seconds for check in checks)
    # JSON has no infinity.
    entries = [
        {**asdict(check), "error": check.error if math.isfinite(check.error) else None}
        for check in checks
    ]
    return {
        "begins_in": plan.stages[0],
        "falls_back_to": plan.stages[1],
        "stages": list(plan.stages),
        "exact_by": plan.exact_by,
        "check_seconds": took,
        "check_share": took / seconds if seconds else None,
        "checks": entries,
    }


def describe_fallbacks(checks: Sequence[PrecisionCheck]) -> list[str]:
    """Return a sentence for each time that another precision took over."""
    return [
        f"{check.precision} did not suffice at {check.width}×{check.height} (error of the "
        f"gradient {check.error:.2g}, expected at most {check.bound}), so {check.continues_in} took over at "
        f"evaluation {check.evaluation} there"
        for check in checks
        if not check.kept
    ]


def why_not_repeatable(
    choice: BackendChoice, extractor: tuple[str, str] | None = None
) -> str | None:
    """Return why an equal run may end in other bytes on the same machine; None where it does not.

    PyTorch on CUDA repeats itself, as each of its operators does that a run goes through. cuDNN is asked for
    deterministic algorithms, which its heuristics choose and no stopwatch
    (`nstx.engine.devices.torch_device.TorchDevice.numerics`). cuBLAS repeats itself on one stream, with the
    workspace of its own that PyTorch gives it, and cuFFT always. PyTorch's reductions add in a fixed order,
    and the backward passes of 2×2 poolings gather: no two windows overlap. Nothing is scattered by atomic
    additions. Precisions are chosen by rule.

    Args:
        choice: of the backend.
        extractor: that computed targets in this run, with what it runs on; None if all were there.
    """
    if choice.device.is_mps:
        return "PyTorch does not promise it on MPS"
    if choice.device.is_cuda and choice.name == "onnx":
        return "ONNX Runtime does not ask cuDNN for deterministic algorithms"
    if choice.device.is_cuda and _tunes():
        return "PyTorch's TunableOp chooses matrix products by the time that they take"
    if extractor is not None and choice.device.is_cuda and extractor[0] != "torch":
        return (
            f"targets were computed by {extractor[0]} on {extractor[1]}, which may round otherwise "
            "another time; from the cache they stay the same"
        )
    return None


def _tunes() -> bool:
    import torch

    return torch.cuda.tunable.is_enabled()
