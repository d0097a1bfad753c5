"""What nstx logs, collected."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_messages() -> Iterator[list[str]]:
    """Collect what the package's logger gets in a block, in place of its handlers; it need not propagate."""
    messages: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("nstx")
    before, logger.handlers = logger.handlers, [Keeper()]
    try:
        yield messages
    finally:
        logger.handlers = before
