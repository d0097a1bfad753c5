"""Where memory does not hold an evaluation after all: smaller tiles take its place, and the run goes on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from numpy.typing import NDArray

from nstx.models.cost import Cost

from ..devices.arrays import Array, ArrayT
from ..devices.memory import give_back_cached, is_exhausted
from ..gradients.backend import Follower, GradientBackend, PrecisionCheck, Problems
from ..tiles.layout import SIDES

_log = logging.getLogger("nstx")

_Result = TypeVar("_Result")


@dataclass(slots=True)
class TileSide:
    """The side of the tiles that large pictures are evaluated by now; None evaluates them whole."""

    value: int | None

    def shrink(self, size: Sequence[int]) -> bool:
        """Take the next smaller tile for a picture (height, width); return whether there is one."""
        before = max(size) if self.value is None else min(self.value, max(size))
        smaller = [side for side in SIDES if side < before]
        self.value = smaller[0] if smaller else self.value
        return bool(smaller)


class ShrinkingBackend(GradientBackend):
    """A backend in whose place another one comes, by smaller tiles, where memory does not hold an evaluation.

    That is warned of once, when an evaluation has succeeded. What was learnt of a precision is not taken over: it is
    checked anew.

    Args:
        make: makes a backend of problems by tiles of the side that there is now.
        side: of the tiles, for all backends of a run.
        problems: of a batch, of one size.
    """

    def __init__(
        self, make: Callable[[Problems], GradientBackend], side: TileSide, problems: Problems
    ) -> None:
        self._make, self._side, self._problems = make, side, problems
        self._made: GradientBackend | None = None
        self._earlier: list[PrecisionCheck] = []
        self._begun = self._before = 0
        # Problems that are no batch are refused here.
        self.approximate = self._evaluate(lambda backend: backend.approximate)

    @property
    def _backend(self) -> GradientBackend:
        """That of tiles of the side that there is now."""
        if self._made is None:
            self._made = self._make(self._problems)
            self._made.lead(self._follower)
        return self._made

    @property
    def checks(self) -> Sequence[PrecisionCheck]:  # type: ignore[override]
        """Those of this backend and of those before it."""
        own = () if self._made is None else self._made.checks
        if not self._earlier:
            return own
        later = [replace(check, evaluation=check.evaluation + self._before) for check in own]
        return [*self._earlier, *later]

    def costs_and_gradients(self, pixels: ArrayT) -> tuple[Sequence[Cost], ArrayT]:
        """Implement `GradientBackend`."""
        self._begun += 1
        return self._evaluate(lambda backend: backend.costs_and_gradients(pixels))

    def costs(self, pixels: Array) -> Sequence[Cost]:
        """Implement `GradientBackend`."""
        return self._evaluate(lambda backend: backend.costs(pixels))

    def lead(self, follower: Follower | None) -> None:
        """Implement `GradientBackend`."""
        super().lead(follower)
        self._backend.lead(follower)

    def export(self) -> Mapping[str, NDArray[Any]]:
        """Implement `GradientBackend`."""
        return self._backend.export()

    def resume(self, earlier: Mapping[str, NDArray[Any]], checks: Sequence[PrecisionCheck]) -> None:
        """Implement `GradientBackend`."""
        self._backend.resume(earlier, checks)

    def _evaluate(self, evaluate: Callable[[GradientBackend], _Result]) -> _Result:
        shrinks = False
        while True:
            try:
                result = evaluate(self._backend)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_exhausted(error) or not self._side.shrink(self._size):
                    raise
            # Here no traceback holds what the evaluation had computed.
            self._drop()
            shrinks = True
        if shrinks:
            _log.warning(
                "memory did not hold an evaluation of %d×%d pixels; the run goes on by tiles of %d, to the same picture",
                self._size[1], self._size[0], self._side.value,
            )  # fmt: skip
        return result

    @property
    def _size(self) -> tuple[int, int]:
        targets = self._problems[0][1]
        return targets.height, targets.width

    def _drop(self) -> None:
        """Free the backend, before another one is made in its place."""
        self._earlier, self._before = list(self.checks), max(0, self._begun - 1)
        self._made = None
        give_back_cached()
