"""The bar that shows how a run goes."""

import contextlib
from typing import TYPE_CHECKING, Self

from .console import Console
from .formats import format_cost, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from nstx.engine.transfer.progress import Step


class ProgressBar:
    """A bar with the cost and the time left, where stderr is a terminal; else nothing.

    A step's share of the bar is its number of pixels, so that the time left is right although
    coarse scales are fast.

    Args:
        console: quiet ones show no bar.
        areas: pixels of each scale, coarse first.
        shares: steps of each scale.
        title: of what is being done, before all else.
    """

    def __init__(
        self, console: Console, areas: list[int], shares: tuple[int, ...], title: str = ""
    ) -> None:
        self._title = f"{printable(title)}  " if title else ""
        self._areas = areas
        self._total = sum(area * share for area, share in zip(areas, shares, strict=True))
        self._ends = [
            sum(a * s for a, s in zip(areas[: k + 1], shares[: k + 1], strict=True))
            for k in range(len(areas))
        ]
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._scale, self._within = 1, 0
        self._console = console
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Show the bar."""
        if not self._console.animated:
            return self
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        rich = self._stack.enter_context(self._console.moving())
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            console=rich,
            transient=True,
            # Else rich would send to the terminal what a report prints into a file.
            redirect_stdout=False,
        )
        self._bar.start()
        self._task = self._bar.add_task(f"{self._title}starting", total=self._total, detail="")
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
        self._stack.close()

    def show(self, step: "Step") -> None:
        """Move the bar to a step."""
        if self._bar is None or self._task is None:
            return
        if step.scale != self._scale:
            self._scale, self._within = step.scale, 0
        self._within += 1
        start = self._ends[step.scale - 2] if step.scale > 1 else 0
        height, width = step.picture.shape[:2]
        self._bar.update(
            self._task,
            completed=start + self._within * self._areas[step.scale - 1],
            description=f"{self._title}{width}×{height}",
            detail=f"step {step.step}/{step.steps}  cost {format_cost(step.cost.total)}",
        )
