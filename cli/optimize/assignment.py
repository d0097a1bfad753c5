"""What the deeplearning.ai assignment prints while it runs."""

from typing import TYPE_CHECKING

from nstx.models.errors import UsageError

if TYPE_CHECKING:
    from nstx.engine.transfer.progress import Step

REPORTS = ("bar", "assignment")
"""What a person sees of the steps: a bar that moves, or also the assignment's lines."""

_EVERY = 20


def check_report(name: str) -> None:
    """Check that a report is known.

    Raises:
        UsageError: it is not.
    """
    if name not in REPORTS:
        raise UsageError(f"expected a report of {', '.join(REPORTS)}, got {name!r}; try assignment")


def describe_iteration(step: "Step") -> str | None:
    """Return the four lines that the assignment prints after a step, or None after the others.

    Iterations count from 0, so that the first step is iteration 0; every twentieth is printed, with
    the costs of the picture that it led to.
    """
    iteration = step.step - 1
    if iteration % _EVERY:
        return None
    return (
        f"Iteration {iteration} :\n"
        f"total cost = {_format(step.cost.total)}\n"
        f"content cost = {_format(step.cost.content)}\n"
        f"style cost = {_format(step.cost.style)}"
    )


def _format(value: float) -> str:
    """Write a number as NumPy wrote a float32 at the time: ``5.05035e+09``, ``18026.0``."""
    text = f"{value:.6g}"
    return text if "." in text or "e" in text else f"{text}.0"
