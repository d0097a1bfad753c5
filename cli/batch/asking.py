"""From options, folders and rows to the jobs of a batch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from nstx.engine.settings import Settings
from nstx.models.errors import UsageError, about
from nstx.models.presets import Preset

from ..choices import split_style, split_styles_for, style_file
from ..grouped import Group, Help, Option, group_options
from ..options import regions
from ..options import shared as options
from ..options.memory import Memory
from ..options.saving import Saved, check_depths
from ..options.targets import check_targets_alone, saved_colours, saved_preset
from ..sources import COMMAND_LINE

if TYPE_CHECKING:
    from nstx.engine.batches.asked import AskedJob
    from nstx.engine.pictures.writing import Depth

    from .rows import Row

_SIZES = ("size", "width", "height")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures(Group):
    """Which pictures are stylised, and where the results go."""

    contents: Annotated[
        list[str] | None,
        Help(
            "Photographs, or folders of them; all values up to the next option. Each is stylised with every style.",
            ("--content",),
        ),
    ] = None
    styles: Annotated[
        list[str] | None, Help("Likewise paintings, each by itself.", ("--style",))
    ] = None
    jobs: Annotated[
        Path | None,
        Help(
            "A file of jobs in place of --content and --style, a row a job: content and style, or targets; output, and "
            "options of this command by their names.",
            metavar="FILE.csv|.jsonl",
        ),
    ] = None
    output: Annotated[
        Path, Help("The folder of the results; made if need be.", ("--output", "-o"), metavar="DIR")
    ]
    name: Annotated[
        str,
        Help(
            "Names of results, with {content}, {style}, {index}, {size} and {preset}.",
            metavar="TEMPLATE",
        ),
    ] = "{content}_{style}.png"


Groups = Mapping[str, Group]
"""The groups of options that jobs have, by names."""

_KINDS: dict[str, type[Group]] = {
    "objective": options.Objective, "colours": options.Colours, "size": options.Size,
    "solver": options.Solver, "machine": options.Machine, "memory": Memory,
    "region": regions.Regions, "saved": Saved,
}  # fmt: skip
_OF_SETTINGS = ("objective", "colours", "size", "solver", "machine", "memory")


def row_options() -> dict[str, Option]:
    """Return the options that a row of a file may have."""
    return {
        name: option for kind in _KINDS.values() for name, option in group_options(kind).items()
    }


class Asking:
    """Makes jobs of options that all have, and of what a row has of its own.

    Attributes:
        count: of the jobs so far, which a name may have.
    """

    def __init__(self, groups: Groups, template: str) -> None:
        from nstx.engine.batches.names import check_template

        self._groups, self._template = groups, check_template(template)
        self._settings: dict[Any, Settings] = {}
        self._saved: dict[Any, Preset] = {}
        self.count = 0

    @property
    def settings(self) -> Settings:
        """The settings of a job that has no options of its own."""
        return self._choose(self._groups, {})

    def pairs(
        self, contents: Collection[str], styles: Collection[str], *, may_lack: bool = False
    ) -> list["AskedJob"]:
        """Return the jobs of every content with every style; errors as `find_pictures`."""
        self.count = 0
        from nstx.engine.targets.precompute import find_pictures

        with about("content"):
            photographs = find_pictures([Path(text) for text in contents], may_lack=may_lack)
        paintings: list[tuple[tuple[Path, float], ...]] = []
        with about("style"):
            for place, weight in map(split_style, styles):
                file = style_file(place)
                layers = str(place)[len(str(file)) :]
                paintings += [
                    ((Path(f"{path}{layers}"), weight),)
                    for path in find_pictures([file], may_lack=may_lack)
                ]
        region = cast("regions.Regions", self._groups["region"])
        blends = paintings or [()] * bool(region.style_for)
        are_named = bool(contents) and bool(styles or region.style_for)
        if not are_named or not (may_lack or (photographs and blends)):
            raise UsageError(
                "expected pictures and styles, got none; try --content photos --style paintings"
            )
        return [self._make(path, blend, {}, None) for path in photographs for blend in blends]

    def row(self, row: "Row") -> "AskedJob":
        """Return the job of a row; `UsageError` if it cannot be."""
        blend = tuple(map(split_style, row.styles))
        content, targets = (
            path if path is None else Path(path) for path in (row.content, row.targets)
        )
        return self._make(content, blend, row.options, row.output, targets)

    def _make(
        self,
        content: Path | None,
        styles: tuple[tuple[Path, float], ...],
        chosen: Mapping[str, object],
        output: str | None,
        targets: Path | None = None,
    ) -> "AskedJob":
        from nstx.engine.batches.asked import AskedJob
        from nstx.engine.batches.names import check_name, fill_name, style_name

        self.count += 1
        groups = {name: _with(group, chosen) for name, group in self._groups.items()}
        saved = None if targets is None else self._read(targets, groups)
        settings = self._choose(groups, chosen, saved)
        region = cast("regions.Regions", groups["region"])
        by_colour = split_styles_for(region.style_for or ())
        if output is None:
            blend = styles or [style for styles in by_colour.values() for style in styles]
            size = settings.size or "x".join(
                str(side) for side in (settings.width, settings.height) if side
            )
            output = fill_name(
                self._template,
                {
                    "content": (content or cast("Path", targets)).stem,
                    "style": style_name(path for path, _ in blend) if targets is None else "targets",
                    "index": self.count, "size": str(size), "preset": settings.preset,
                },
            )  # fmt: skip
        saving = cast("Saved", groups["saved"])
        return AskedJob(
            content=content, styles=styles, output=check_name(output), settings=settings, targets=targets,
            mask=region.mask, regions=region.regions,
            style_for={colour: tuple(blend) for colour, blend in by_colour.items()},
            depth=_take_depth(saving, output), keep_profile=saving.keep_profile,
            manifest=not saving.no_manifest,
        )  # fmt: skip

    def _choose(
        self, groups: Groups, chosen: Mapping[str, object], saved: Preset | None = None
    ) -> Settings:
        """Return the settings of groups, which many jobs share, as targets have them."""
        key = saved, *sorted((name, str(value)) for name, value in chosen.items())
        if key not in self._settings:
            objective = cast("options.Objective", groups["objective"])
            colours = cast("options.Colours", groups["colours"])
            groups = {**groups, "colours": saved_colours(colours, saved)}
            of_settings = [groups[name] for name in _OF_SETTINGS]
            preset = saved_preset(objective, saved)
            self._settings[key] = options.settings_of(*of_settings, preset=preset)
        return self._settings[key]

    def _read(self, path: Path, groups: Groups) -> Preset:
        """Return what a targets file chooses; `UsageError` if it cannot be, or stands beside other sizes or regions."""
        check_targets_alone(
            cast("options.Size", groups["size"]), cast("regions.Regions", groups["region"])
        )
        from nstx.engine.targets.files import read_targets

        with about("targets"):
            try:
                status = path.stat()
                mark = path, status.st_mtime_ns, status.st_size, status.st_ino
            except (OSError, ValueError):
                return read_targets(path).chosen  # which says why it cannot be
            if mark not in self._saved:
                self._saved[mark] = read_targets(path).chosen
            return self._saved[mark]


def _with(group: Group, chosen: Mapping[str, object]) -> Group:
    """Return a group with what a row has of its options."""
    own = {name: chosen[name] for name in group_options(type(group)).keys() & chosen.keys()}
    if not own:
        return group
    sources = {**group.sources, **dict.fromkeys(own, COMMAND_LINE)}
    # A size of one's own goes before those of all, whatever their form.
    others = [name for name in _SIZES if name not in own] if {*own} & {*_SIZES} else []
    return replace(group, sources=sources, **{**dict.fromkeys(others), **own})


def _take_depth(saved: Saved, output: str) -> "Depth | None":
    """Return the bits of a result's channels; errors where its format does not have what is asked for."""
    from nstx.engine.pictures.writing import check_depth, check_profiled

    suffix = Path(output).suffix.lower()
    check_depths(saved.depth)
    depth: Depth | None = {"16": 16, "8": 8}.get(saved.depth)  # type: ignore[assignment]
    if depth is not None:
        with about("depth"):
            check_depth(depth, suffix)
    if saved.keep_profile:
        with about("keep_profile"):
            check_profiled(suffix)
    return depth
