"""How a run goes: a bar on a terminal, elsewhere a line now and then, and a word before a long run."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from nstx.engine.sizes import split_steps
from nstx.models.printable import printable

from .console import Console, Pace
from .formats import format_bytes, format_cost, format_count, format_minutes

if TYPE_CHECKING:
    from nstx.engine.gradients.choice import BackendChoice
    from nstx.engine.transfer.progress import Step

LONG_SECONDS = 20.0
"""From here on a run is long, and a word is said of it."""

_MEASURED_SECONDS = 1.0  # of steps, from which the rest of a run is estimated

# What a step takes besides its pixels, in pixels. On a CPU, by the quickest steps of both backends on two cores at
# sizes of 128 to 512; on an accelerator it is most of a small picture's step.
_BESIDES, _BESIDES_ACCELERATED = 2_000, 30_000

# The first step of a scale also evaluates its start, and finds memory: it takes as long as so many others.
_FIRST = 2.5


class Forecast:
    """How much of a run is done, and how long the rest takes: a step's time goes by its pixels.

    The first step of a scale takes longer than others, as may one in which a precision is checked: nothing is
    concluded from the first and the longest, and until there is more, the time of the scale before holds.

    Args:
        sizes: height and width of each scale, coarse first.
        steps: of the run, over all scales.
        choice: what computes it.
        earlier: that a run goes on from, which took no time.

    Attributes:
        total: pixels of all steps.
        done: of them, those of the steps that were made.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        steps: int,
        choice: "BackendChoice",
        earlier: Sequence["Step"] = (),
    ) -> None:
        besides = _BESIDES if choice.device.is_cpu else _BESIDES_ACCELERATED
        self._areas = [height * width + besides for height, width in sizes]
        shares = zip(self._areas, split_steps(steps, len(sizes)), strict=True)
        areas = [round(area * (share + _FIRST - 1)) if share else 0 for area, share in shares]
        *self._starts, self.total = itertools.accumulate(areas, initial=0)
        self.done = 0
        self._scale = earlier[-1].scale if earlier else 0
        # Steps of the scale, and those of them whose time is known.
        self._made, self._timed = sum(step.scale == self._scale for step in earlier), 0
        self._before = earlier[-1].seconds if earlier else 0.0
        self._began = self._last = self._longest = 0.0
        # Of a unit of work, as it was measured last.
        self._pace: float | None = None
        # An accelerator's steps at a coarse scale take about as long as those at a fine one.
        self._waits = not choice.device.is_cpu and len(sizes) > 1

    def take(self, step: "Step") -> None:
        """Count a step."""
        if step.scale != self._scale:
            self._scale, self._made, self._timed = step.scale, 0, 0
        seconds = step.seconds - self._before
        if self._timed:
            self._longest = max(self._longest, seconds - self._last)
        else:
            self._began, self._longest = seconds, 0.0
        self._made, self._timed = self._made + 1, self._timed + 1
        self._last = seconds
        area = self._areas[step.scale - 1]
        self.done = self._starts[step.scale - 1] + round((self._made + _FIRST - 1) * area)
        seconds = self._last - self._began - self._longest
        if seconds >= _MEASURED_SECONDS and not (self._waits and self._scale == 1):
            self._pace = seconds / ((self._timed - 2) * area)

    @property
    def share(self) -> float:
        """Of the work that is done, 0–1."""
        return self.done / self.total

    @property
    def seconds_left(self) -> float | None:
        """Until the last step; None before enough was measured."""
        pace = self._pace
        if pace is None and not self._waits and self._last > LONG_SECONDS / 2:
            pace = (
                self._last / self.done
            )  # it is long until there is more to go by than a first step
        return None if pace is None else (self.total - self.done) * pace


@contextlib.contextmanager
def show_steps(
    console: Console,
    sizes: Sequence[tuple[int, int]],
    steps: int,
    choice: "BackendChoice",
    title: str = "",
    earlier: Sequence["Step"] = (),
    memory: int = 0,
    on_forecast: Callable[[float], None] | None = None,
) -> Iterator[Callable[["Step"], None]]:
    """Show how a run goes; the function that is yielded takes each step.

    On a terminal that is a bar with the cost and the time left, elsewhere a line now and then. A step's
    share of both is its number of pixels, so that they are right although coarse scales are fast. As
    soon as a run is known to take long, a line says how long, at which size and with how much memory.

    Args:
        console: shows it.
        sizes: height and width of each scale, coarse first.
        steps: of the run, over all scales.
        choice: what computes it.
        title: what is being done; stands before all else.
        earlier: steps that the run goes on from.
        memory: bytes that it takes on a CPU, about.
        on_forecast: called after each step with the seconds left, once these are known.
    """
    title = f"{printable(title)}  " if title else ""
    forecast, pace = Forecast(sizes, steps, choice, earlier), Pace()
    is_announced = False
    with console.bar(f"{title}starting", forecast.total) as update:

        def show(step: "Step") -> None:
            nonlocal is_announced
            forecast.take(step)
            height, width = sizes[step.scale - 1]
            detail = f"step {step.step}/{step.steps}  cost {format_cost(step.cost.total)}"
            place = f"{title}{width}×{height}"
            update(completed=forecast.done, description=place, detail=detail)
            left = forecast.seconds_left
            if left is not None and not is_announced:
                is_announced = True
                if left > LONG_SECONDS:
                    console.log(f"{title}{_describe(sizes, steps, choice, left, memory)}")
                    pace.restart()
            if left is not None and on_forecast is not None:
                on_forecast(left)
            if not console.animated and pace.is_due(forecast.share) and step.step < step.steps:
                ahead = "" if left is None else f", {format_minutes(left)} left"
                console.log(f"{place}  {detail}, {forecast.share:.0%}{ahead}")

        yield show


def _describe(
    sizes: Sequence[tuple[int, int]],
    steps: int,
    choice: "BackendChoice",
    seconds: float,
    memory: int = 0,
) -> str:
    """Say what is known of a run that takes long."""
    height, width = sizes[-1]
    text = f"{format_minutes(seconds)} for {width}×{height} pixels"
    if len(sizes) > 1:
        text += f" in {format_count(len(sizes), 'scale')}"
    text += f" and {format_count(steps, 'step')}"
    if not (choice.device.is_cpu and memory):
        return text
    return f"{text}, with some {format_bytes(memory)} of memory"
