"""How a result is saved: options that commands share."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from nstx.models.errors import UsageError
from nstx.models.values import describe

from ..grouped import Group, Help

DEPTHS = ("auto", "8", "16")
"""Bits of a channel of a picture that is saved; ``auto``: as the content has, where the format holds them."""


def check_depths(depth: str) -> None:
    """Raise `UsageError` if a depth is none of `DEPTHS`."""
    if depth not in DEPTHS:
        raise UsageError(
            f"expected a depth of {', '.join(DEPTHS)}, got {describe(depth)}; try 16",
            setting="depth",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Group):
    """How the picture is saved."""

    panel: ClassVar[str | None] = "Output"

    depth: Annotated[
        str,
        Help(
            "Bits of each channel of the saved pictures: auto, 8, 16. auto is 16 for a CONTENT of more than 8 "
            "bits in a format that holds them (.png, .tif), else 8.",
            values=DEPTHS,
        ),
    ] = "auto"
    keep_profile: Annotated[
        bool,
        Help(
            "Save in the colours of CONTENT's profile, such as Display P3 or Adobe RGB, and embed it; sRGB's if "
            "it has none."
        ),
    ] = False
    no_manifest: Annotated[
        bool,
        Help(
            "Leave out what the picture's file says of its run: names and checksums of its pictures, all settings, "
            "versions."
        ),
    ] = False
