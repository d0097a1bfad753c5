"""Where in the photograph the style applies: options that commands share."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ..grouped import Group, Help


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions(Group):
    """Where the style applies."""

    panel: ClassVar[str | None] = "Regions"

    mask: Annotated[
        str | None,
        Help(
            "Where the style applies: a picture that is white there, and black where CONTENT stays as it is; or "
            "alpha, CONTENT's own transparency.",
            metavar="PICTURE",
            values=("alpha",),
        ),
    ] = None
