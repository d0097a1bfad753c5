"""Options of ``nstx submit`` about the server that is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..grouped import Group, Help


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking(Group):
    """Which server is asked, and for how long."""

    panel: ClassVar[str | None] = "Server"

    server: Annotated[str, Help("Its address.", metavar="URL")] = "http://127.0.0.1:8642"
    token_file: Annotated[
        Path | None,
        Help(
            "A file with the token that it asks for; or NSTX_SERVE_TOKEN in the environment.",
            metavar="FILE",
        ),
    ] = None
    patience: Annotated[
        float, Help("Seconds for which a server that is busy, or away, is asked again.")
    ] = 600
    detach: Annotated[
        bool, Help("Leave when the job is taken, and print its id, in place of waiting.")
    ] = False
