"""What can begin before a command line is parsed: PyTorch's libraries, which take longest of all to load."""

import os
from collections.abc import Sequence

from nstx.models.errors import UsageError

from .file import find_config

_NAMED_LATER = ("--device", "--backend", "--from", "-h", "--help")
"""Options by which a run may be none on the first device, or none at all; the environment's follow."""

_VARIABLES = ("NSTX_DEVICE", "NSTX_BACKEND", "NSTX_FROM")


def begin_ahead(arguments: Sequence[str]) -> None:
    """Begin to load libraries if a command line is that of a run whose device and backend nothing names.

    Where something does, or a configuration file might, they are begun when the settings are known. Nothing here
    is an error: whatever is wrong is told where the command line is parsed.
    """
    if arguments[:1] != ["optimize"] or any(map(os.environ.get, _VARIABLES)):
        return
    if any(word.startswith(_NAMED_LATER) for word in arguments):
        return
    try:
        if find_config() is not None:
            return
    except (UsageError, OSError):
        return
    from nstx.engine.gradients.ahead import begin_libraries

    begin_libraries()
