"""Reports of a run: as plain data, and in words where fp32 took over from a low precision."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..gradients.backend import PrecisionCheck
from ..gradients.choice import BackendChoice

if TYPE_CHECKING:
    from .job import Job
    from .run import Result


def describe_run(job: "Job", result: "Result") -> dict[str, object]:
    """Return what every report of a run has in common, as plain data; sizes are in pixels."""
    choice, checks = job.opened.choice, result.checks
    height, width = job.sizes[-1]
    return {
        "width": width,
        "height": height,
        "scales": [{"width": width, "height": height} for height, width in job.sizes],
        "steps": result.steps,
        "evaluations": result.evaluations,
        "stopped": result.stopped,
        "initial_cost": result.initial_cost.total,
        "device": str(choice.device),
        # That the run ended in.
        "precision": "fp32" if checks and not checks[-1].kept else choice.precision,
        "precision_schedule": describe_schedule(choice, checks),
        "backend": choice.name,
        "targets": {"content": job.loaded.content, "style": list(job.loaded.styles)},
    }


def describe_schedule(
    choice: BackendChoice, checks: Sequence[PrecisionCheck]
) -> dict[str, object] | None:
    """Return the precision that scales begin in, and its checks; None where it is not checked."""
    if not choice.checked:
        return None
    # JSON has no infinity.
    entries = [
        {**asdict(check), "error": check.error if math.isfinite(check.error) else None}
        for check in checks
    ]
    return {"begins_in": choice.precision, "falls_back_to": "fp32", "checks": entries}


def describe_fallbacks(checks: Sequence[PrecisionCheck]) -> list[str]:
    """Return a sentence for each scale at which fp32 took over."""
    return [
        f"{check.precision} did not suffice at {check.width}×{check.height} (error of the "
        f"gradient {check.error:.2g}, expected at most {check.bound}), so fp32 took over at "
        f"evaluation {check.evaluation} there"
        for check in checks
        if not check.kept
    ]
