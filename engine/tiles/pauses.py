"""Moments within a long evaluation at which whoever waits for it may end it: between two tiles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_between: ContextVar[Callable[[], None] | None] = ContextVar("between", default=None)


@contextmanager
def pausing(call: Callable[[], None]) -> Iterator[None]:
    """Have something called at each pause of what a block computes in this thread; it may raise, to end that."""
    token = _between.set(call)
    try:
        yield
    finally:
        _between.reset(token)


def pause() -> None:
    """Call what `pausing` names, if there is something."""
    call = _between.get()
    if call is not None:
        call()
