"""The bar that shows how a run goes."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from nstx.engine.sizes import split_steps
from nstx.models.printable import printable

from .console import Console
from .formats import format_cost

if TYPE_CHECKING:
    from nstx.engine.transfer.progress import Step


@contextlib.contextmanager
def show_steps(
    console: Console, sizes: Sequence[tuple[int, int]], steps: int, title: str = ""
) -> Iterator[Callable[["Step"], None]]:
    """Show a bar with the cost and the time left; the function that is yielded takes each step.

    A step's share of the bar is its number of pixels, so that the time left is right although
    coarse scales are fast.

    Args:
        console: shows the bar, where stderr is a terminal.
        sizes: height and width of each scale, coarse first.
        steps: of the run, over all scales.
        title: what is being done; stands before all else.
    """
    shares = zip(sizes, split_steps(steps, len(sizes)), strict=True)
    areas = [height * width * share for (height, width), share in shares]
    *starts, total = itertools.accumulate(areas, initial=0)
    title = f"{printable(title)}  " if title else ""
    made: Counter[int] = Counter()
    with console.bar(f"{title}starting", total) as update:

        def show(step: "Step") -> None:
            made[step.scale] += 1
            height, width = sizes[step.scale - 1]
            update(
                completed=starts[step.scale - 1] + made[step.scale] * height * width,
                description=f"{title}{width}×{height}",
                detail=f"step {step.step}/{step.steps}  cost {format_cost(step.cost.total)}",
            )

        yield show
