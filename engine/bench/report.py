"""What the reports of all benchmarks have in common."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nstx.models.errors import DeviceError

from ..devices.machine import describe_machine, package_versions


def make_report(
    settings: Mapping[str, Any], rows: Sequence[dict[str, Any]], *, interrupted: bool, **more: Any
) -> dict[str, Any]:
    """Return a report as plain data.

    Args:
        settings: of the benchmark.
        rows: what was measured; a row that failed has ``error``.
        interrupted: whether the benchmark ended early.
        more: fields of one benchmark alone.

    Returns:
        ``machine``, ``packages``, ``settings``, the fields of ``more``, ``rows`` and
        ``interrupted``.

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
    """Return the first answer's ``error`` among those that have one; None if none has."""
    return next(({"error": answer["error"]} for answer in answers if "error" in answer), None)


def pair_with_eager(
    rows: Sequence[dict[str, Any]], *cell: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each row with the row of eager PyTorch in the same cell, if both succeeded.

    Args:
        rows: of a report, one for each variant in each cell.
        cell: names of the fields that identify a cell.
    """
    measured = [row for row in rows if "error" not in row]
    eager = {
        tuple(row[name] for name in cell): row for row in measured if row["variant"] == "torch"
    }
    for row in measured:
        base = eager.get(tuple(row[name] for name in cell))
        if base is not None:
            yield row, base
