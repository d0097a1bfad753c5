"""What is told of a run's precision: as data, and where fp32 took over in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .backends import BackendChoice
from .cost import PrecisionCheck


def last_precision(choice: BackendChoice, checks: Sequence[PrecisionCheck]) -> str:
    """Return the precision that a run ended in."""
    return "fp32" if checks and not checks[-1].kept else choice.precision


def describe_schedule(
    choice: BackendChoice, checks: Sequence[PrecisionCheck]
) -> dict[str, Any] | None:
    """Return what each scale began in, and the checks; None where the precision is not checked."""
    if not choice.checked:
        return None
    # JSON has no infinity.
    found = [
        {**asdict(check), "error": check.error if math.isfinite(check.error) else None}
        for check in checks
    ]
    return {"begins_in": choice.precision, "falls_back_to": "fp32", "checks": found}


def describe_fallbacks(checks: Sequence[PrecisionCheck]) -> list[str]:
    """Return a sentence for each scale at which fp32 took over."""
    return [
        f"{check.precision} did not suffice at {check.width}×{check.height} (error of the "
        f"gradient {check.error:.2g}, expected at most {check.bound}), so fp32 took over at "
        f"evaluation {check.evaluation} there"
        for check in checks
        if not check.kept
    ]
