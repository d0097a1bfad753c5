"""The options of what ``nstx optimize`` reads beside the pictures, and writes beside the result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..grouped import Group, Help


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(Group):
    """What is read beside the pictures, and written or shown beside the result."""

    panel: ClassVar[str | None] = "Output"

    targets: Annotated[
        Path | None,
        Help(
            "Optimise from a file of 'nstx precompute', without CONTENT and STYLE.", metavar="FILE"
        ),
    ] = None
    save_every: Annotated[
        int | None,
        Help("Also save the picture every N steps, as OUT_0020.png.", metavar="N"),
    ] = None
    animate: Annotated[
        Path | None,
        Help("Also save how the picture develops: FILE.gif, .webp or .mp4.", metavar="FILE"),
    ] = None
    trace: Annotated[
        Path | None,
        Help("Also write a line of JSON per step: step, costs, seconds.", metavar="FILE.jsonl"),
    ] = None
    save_init: Annotated[
        Path | None,
        Help(
            "Also save the start at the result's size, before the first step; as .npy, --init FILE "
            "begins the same run again.",
            metavar="FILE",
        ),
    ] = None
    report: Annotated[
        str,
        Help(
            "bar, or assignment: every 20 iterations the costs, as the deeplearning.ai assignment "
            "prints them, on stdout (with --json on stderr; with --quiet not at all)."
        ),
    ] = "bar"
