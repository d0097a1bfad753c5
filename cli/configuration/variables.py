"""Environment variables that look like options of nstx and are none."""

import os
from collections.abc import Iterator
from typing import Any

from nstx.models.values import suggest

from ..session import session

_PREFIX = "NSTX_"
_OTHER_VARIABLES = (
    "NSTX_CACHE_DIR", "NSTX_CACHE_LIMIT", "NSTX_CONFIG", "NSTX_CUDA_GRAPHS", "NSTX_SERVE_TOKEN", "NSTX_TEST_DATA",
)  # fmt: skip
"""The environment variables that belong to no option."""


def check_variables(context: Any) -> None:
    """Warn of environment variables that look like options of nstx and are none."""
    unknown = {name for name in os.environ if name.startswith(_PREFIX)} - {*_OTHER_VARIABLES}
    known = {*_OTHER_VARIABLES}
    # All commands are imported only if something belongs to no option of the one that runs.
    for variables in _variables(context):
        known |= variables
        unknown -= variables
        if not unknown:
            return
    for name in sorted(unknown):
        # All share a beginning, which makes none near.
        ends = [other.removeprefix(_PREFIX).lower() for other in known]
        near = suggest(name.removeprefix(_PREFIX), ends, "").upper()
        advice = f"; did you mean {_PREFIX}{near}?" if near else ""
        session.warnings.append(f"nothing of nstx reads the environment variable {name}{advice}")


def _variables(context: Any) -> Iterator[set[str]]:
    """Yield the environment variables of the command that runs, then those of all."""
    group, running = context.command, context.invoked_subcommand
    yield _of_command(group.load(running)) if running in group.table else set()
    yield {name for _, command in group.load_all() for name in _of_command(command)}


def _of_command(command: Any) -> set[str]:
    commands = getattr(command, "commands", {"": command}).values()
    return {str(item.envvar) for one in commands for item in one.params if item.envvar}
