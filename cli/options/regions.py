"""Where in the photograph the style applies: options that commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..grouped import Group, Help
from ..sources import COMMAND_LINE


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
    regions: Annotated[
        Path | None,
        Help(
            "A map of CONTENT, in which each region has a colour of its own; see --style-for.",
            metavar="MAP",
        ),
    ] = None
    style_for: Annotated[
        list[str] | None,
        Help(
            "The style where MAP has a colour, as '#ff0000=PATH' or 'red=PATH:weight'; can be repeated. Where it has "
            "other colours STYLE applies, or CONTENT stays as it is.",
            metavar="COLOUR=STYLE",
        ),
    ] = None

    @property
    def of_command_line(self) -> tuple[str, ...]:
        """Those that the command line has."""
        return tuple(name for name, source in self.sources.items() if source == COMMAND_LINE)
