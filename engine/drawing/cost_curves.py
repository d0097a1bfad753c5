"""Cost curves of several runs in one picture, drawn with Matplotlib where it is installed."""

import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..devices.machine import is_there

_DISTINCT = 10  # colours that Matplotlib's "tab10" has


def can_draw_curves() -> bool:
    """Whether Matplotlib is installed; it is not imported."""
    return is_there("matplotlib")


def draw_cost_curves(traces: Mapping[str, Sequence[Mapping[str, Any]]], title: str = "") -> bytes:
    """Return a PNG of the total cost over the steps, on a logarithmic axis, a line for each run.

    Costs at different sizes of the picture do not compare, so a line is broken where it grows.
    Steps, by the run's label, are those of `nstx.engine.transfer.progress.trace_line`; costs of 0
    are left out. `ImportError` if Matplotlib is missing.
    """
    # Unless somebody listens, what it says of its own cache and fonts goes nowhere.
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())
    # Without pyplot there is neither global state nor a choice of windowing system.
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    many = len(traces) > _DISTINCT
    colours = colormaps["viridis" if many else "tab10"]
    figure = Figure(figsize=(14 if many else 10, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for index, (label, lines) in enumerate(traces.items()):
        colour = colours(index / len(traces) if many else index)
        axes.plot(*_broken_line(lines), color=colour, linewidth=1.8, label=_literal(label))
    if any(line["total"] > 0 for lines in traces.values() for line in lines):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="total cost, at the size of the step", title=_literal(title))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if many:
        figure.legend(loc="outside right upper", fontsize=7, ncols=-(-len(traces) // 32))
    else:
        axes.legend(loc="upper right", frameon=False)
    buffer = io.BytesIO()
    # Without its version and the date, equal curves are equal bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _broken_line(lines: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Return steps and costs, with a gap where a scale begins."""
    steps: list[float] = []
    costs: list[float] = []
    scale = None
    for line in lines:
        if scale is not None and line["scale"] != scale:
            steps.append(math.nan)
            costs.append(math.nan)
        scale = line["scale"]
        steps.append(line["step"])
        costs.append(line["total"] if line["total"] > 0 else math.nan)
    return steps, costs


def _literal(text: str) -> str:
    # A dollar sign begins a formula, and a label with an underscore first is left out of a legend.
    return text.replace("$", r"\$").lstrip("_")
