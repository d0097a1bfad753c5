"""Options of ``nstx serve``: where it is, who may ask, and what is taken from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..grouped import Group, Help


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving(Group):
    """Where the server is, and who may ask it."""

    panel: ClassVar[str | None] = "Server"

    host: Annotated[
        str, Help("The address to listen at; any but this machine's own needs a token.")
    ] = "127.0.0.1"
    port: Annotated[int, Help("The port; 0 takes any that is free.")] = 8642
    token_file: Annotated[
        Path | None,
        Help(
            "A file with the token that everybody has to show; or NSTX_SERVE_TOKEN in the environment.",
            metavar="FILE",
        ),
    ] = None
    state: Annotated[
        Path | None,
        Help(
            "The folder of all that the server keeps; made if need be. [default: in the platform's folder for data]",
            metavar="DIR",
        ),
    ] = None
    workers: Annotated[
        int | None,
        Help("Processes that make pictures. [default: as of 'nstx batch']", metavar="N"),
    ] = None
    batch: Annotated[
        int,
        Help(
            "Pictures of one size and objective that a worker evaluates together, which are not kept as they go; for GPUs.",
            metavar="N",
        ),
    ] = 1
    open: Annotated[bool, Help("Open the page in a browser.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Group):
    """What is taken from those who ask."""

    panel: ClassVar[str | None] = "Limits"

    max_queue: Annotated[int, Help("Jobs that may wait; more are to come again.")] = 100
    max_upload: Annotated[
        str, Help("Bytes of what is sent with a job, as 64MiB.", metavar="BYTES")
    ] = "64MiB"
    max_pixels: Annotated[int, Help("Pixels of a picture that is sent, and of a result.")] = (
        40_000_000
    )
    max_steps: Annotated[int, Help("Steps of a job.")] = 2000
    max_seconds: Annotated[float, Help("Seconds that a job may run.")] = 3600
    max_disk: Annotated[
        str, Help("Bytes of the disk that a job may take, as 16GiB.", metavar="BYTES")
    ] = "16GiB"
    keep_hours: Annotated[
        float, Help("Hours for which a job that has ended is kept, with its picture.")
    ] = 24
    keep_bytes: Annotated[
        str,
        Help(
            "Bytes that all jobs that have ended may take; the oldest are removed.",
            metavar="BYTES",
        ),
    ] = "10GiB"
