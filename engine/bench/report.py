"""What the reports of all benchmarks have in common."""

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from nstx.models.errors import DeviceError

from ..devices.machine import describe_machine, package_versions

_LONGEST_ERROR = 300  # characters


def make_report(
    settings: Mapping[str, Any], rows: Sequence[dict[str, Any]], *, interrupted: bool, **more: Any
) -> dict[str, Any]:
    """Return the report of what was measured, as plain data.

    Args:
        settings: what was to be measured.
        rows: what was; one that failed has ``error``.
        interrupted: whether it was ended early.
        more: fields of this benchmark alone.

    Returns:
        ``machine``, ``packages``, ``settings``, those of its own, ``rows`` and ``interrupted``.

    Raises:
        DeviceError: all rows failed.
    """
    if rows and all("error" in row for row in rows):
        raise DeviceError(
            f"expected something to measure, got: {rows[0]['error']}; try other --variants"
        )
    return {
        "machine": describe_machine(),
        "packages": package_versions(),
        "settings": settings,
        **more,
        "rows": rows,
        "interrupted": interrupted,
    }


def first_error(answers: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """Return the error of the first answer that has one; None if all are measurements."""
    return next(({"error": each["error"]} for each in answers if "error" in each), None)


def error_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the last that a failed process said on stderr, or else its exit code, as an error."""
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return {"error": said[-1][:_LONGEST_ERROR]}
