"""What is worth a warning before a run: sizes that pictures have little for."""

import logging
from collections.abc import Sequence

from nstx.models.presets import PRESETS
from nstx.models.printable import printable

from ..artefacts.grain import LEAST_SIDE, Grain
from ..pictures.picture import Picture
from ..settings import Settings

_ENLARGED = 1.5  # times the photograph, along a side

_log = logging.getLogger("nstx")


def warn_of_uncleaned(
    settings: Settings, size: tuple[int, ...], grain: Grain | None, otherwise: str = ""
) -> None:
    """Log why a result will not be cleaned. Of the smallest, only where a preset does not clean by itself."""
    if not settings.clean or not settings.most_steps:
        return
    if min(size) < LEAST_SIDE:
        if not getattr(PRESETS.get(settings.preset), "clean", False):
            _log.warning("the result is not cleaned: it is under %d pixels on a side", LEAST_SIDE)
    elif grain is None:
        reason = f"no painting shows {LEAST_SIDE} pixels on both sides {otherwise}".strip()
        _log.warning("the result is not cleaned: %s", reason)


def warn_of_enlargement(content: Picture, size: Sequence[int]) -> None:
    """Log that a result is much larger than its photograph: the time goes into what is not there."""
    height, width = content.size
    if size[0] > _ENLARGED * height or size[1] > _ENLARGED * width:
        _log.warning(
            "%s has %d×%d pixels and is enlarged to %d×%d; a smaller size takes less time",
            printable(content.path), width, height, size[1], size[0],
        )  # fmt: skip
