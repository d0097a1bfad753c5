"""What a targets file chooses, beside which some options cannot stand: for the commands that take one."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nstx.engine.settings import COLORS
from nstx.models.errors import UsageError, about
from nstx.models.presets import Preset

from ..sources import COMMAND_LINE, flag_of
from .regions import Regions
from .shared import Colours, Objective, Size

if TYPE_CHECKING:
    from nstx.engine.targets.files import SavedTargets


def read_saved(path: Path, size: Size, region: Regions) -> "SavedTargets":
    """Read a targets file, which has its sizes and mask; others may stand in a configuration only."""
    check_targets_alone(size, region)
    from nstx.engine.targets.files import read_targets

    with about("targets"):
        return read_targets(path)


def check_targets_alone(size: Size, region: Regions) -> None:
    """Raise `UsageError` if a command line names what targets have themselves."""
    if region.of_command_line:
        flags = ", ".join(map(flag_of, region.of_command_line))
        raise UsageError(
            f"expected --targets without {flags}, as they have their own, got both; try 'nstx precompute' with it"
        )

    names = [name for name, source in size.sources.items() if source == COMMAND_LINE]
    if names:
        flags = ", ".join(map(flag_of, names))
        raise UsageError(
            f"expected --targets without sizes, got {flags}; try 'nstx precompute' with it"
        )


def saved_preset(objective: Objective, saved: Preset | None) -> Preset | None:
    """Return the preset of a targets file, with its objective, unless another was asked for."""
    return None if objective.sources["preset"] == COMMAND_LINE else saved


def saved_colours(colours: Colours, saved: Preset | None) -> Colours:
    """Return the option, unless a configuration has one that a targets file has no targets for: then the file's."""
    if saved is None or colours.colors not in COLORS or colours.sources["colors"] == COMMAND_LINE:
        return colours
    from nstx.engine.targets.files import compared_in

    return colours if compared_in(colours.colors) == saved.colors else replace(colours, colors=None)
