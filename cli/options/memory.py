"""How much memory a run takes: options that commands share."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from nstx.engine.settings import CHOICES

from ..grouped import Group, Help


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(Group):
    """How much of a picture is evaluated at once."""

    panel: ClassVar[str | None] = "Machine"

    tile: Annotated[
        int | None,
        Help(
            "Side in pixels, a multiple of 16 from 64 on, of tiles that pictures larger than it are evaluated by, one at a time: "
            "less memory, more time, the same picture. On the CPU, or CUDA by PyTorch; without it, tiles are used where memory needs them."
        ),
    ] = None
    history: Annotated[
        str,
        Help(
            "Where L-BFGS keeps the steps that it goes by, 240 bytes a pixel: auto, memory, disk. The picture is the "
            "same. auto is the disk where memory holds them by no tiles, or by small ones alone. On the CPU, or by --tile.",
            values=CHOICES["history"],
        ),
    ] = "auto"
    max_memory: Annotated[
        str | None,
        Help(
            "Main memory that the run may take, as 4GiB, 4096MiB or 4e9; without it, what is free. On the CPU.",
            metavar="BYTES",
        ),
    ] = None
