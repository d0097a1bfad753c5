"""``nstx optimize --from OUT.png``: a run again, from what its picture says of it and what the command line names anew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from nstx.engine.checkpoints.runs import make_manifest
from nstx.engine.choices import choose_settings
from nstx.engine.manifests.lookup import ROLES, find_input, find_mask, find_weights
from nstx.engine.manifests.reading import PictureManifest, read_manifest
from nstx.engine.pictures.picture import InputFile
from nstx.engine.pictures.writing import DEEP_SUFFIXES
from nstx.engine.regions.maps import read_colour, write_colour
from nstx.engine.regions.masks import ALPHA
from nstx.engine.settings import INITS, Settings
from nstx.engine.targets.paintings import join_painting
from nstx.engine.transfer.job import Job
from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.version import __version__
from nstx.models.weights.sources import EMBEDDED

from ..choices import split_style, style_file
from ..console import Console
from ..grouped import Group, option_names
from ..options import shared as options
from ..options.regions import Regions
from ..sources import COMMAND_LINE
from .request import Recording

_G = TypeVar("_G", bound=Group)


class _Inputs:
    """The files of a manifest, each looked for when it is asked for, where the cache knows if it is used."""

    def __init__(self, manifest: PictureManifest, *, use_cache: bool) -> None:
        self.manifest, self.use_cache = manifest, use_cache
        items = manifest.run.inputs
        if other := sorted({item.role for item in items} - {*ROLES}):
            raise UsageError(
                f"expected a manifest of {', '.join(ROLES)} in {printable(manifest.picture)}, got "
                f"{printable(', '.join(other))}, which this version does not know; try that of the picture"
            )
        self.of = {role: [item for item in items if item.role == role] for role in ROLES}

    def find(self, item: InputFile, advice: str) -> Path:
        return find_input(item, self.manifest, use_cache=self.use_cache, advice=self._ask(advice))

    def find_mask(self, item: InputFile, advice: str) -> Path | None:
        """Return the file of a style's own mask; None if it has none."""
        if item.mask is None:
            return None
        return find_mask(item, self.manifest, use_cache=self.use_cache, advice=self._ask(advice))

    def _ask(self, advice: str) -> str:
        again = f"--from {printable(self.manifest.picture)}"
        # Of an argument there has to be the whole.
        return advice if advice.startswith("--") else f"'nstx optimize {advice} {again}'"

    def find_first(self, role: str, advice: str) -> Path | None:
        return next((self.find(item, advice) for item in self.of[role]), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """What a run is asked to do again: pictures and options as if a command line had named them.

    Attributes:
        inputs: of the manifest that it comes from.
    """

    content: Path | None
    styles: list[str]
    region: Regions
    recording: Recording
    inputs: _Inputs

    @property
    def manifest(self) -> PictureManifest:
        """What the picture says that is made again."""
        return self.inputs.manifest

    def choose_settings(self, objective: options.Objective, *groups: Group) -> Settings:
        """Return the settings of the manifest, but for those that the command line names.

        If it names a preset, they begin anew. `UsageError` if they cannot be, or a file of them is not to be had.
        """
        if objective.sources["preset"] == COMMAND_LINE:
            return options.settings_of(objective, *groups)
        inputs, run = self.inputs, self.manifest.run
        choices = options.choices_of(*map(_as_named, (objective, *groups)))
        del choices["preset"]
        # Whether the cache is used is this machine's matter, and so is how much memory there is.
        choices["use_cache"] = inputs.use_cache
        choices["max_memory"] = options.choices_of(*groups)["max_memory"]
        base = replace(run.settings, large=True)  # its pictures were read once
        if choices["init"] is None and base.init not in INITS:
            base = replace(base, init=str(inputs.find_first("init", "--init FILE")))
        if choices["weights"] is None and base.weights != EMBEDDED:
            base = replace(base, weights=find_weights(self.manifest, use_cache=inputs.use_cache))
        return choose_settings(base, **choices)


def repeat(
    picture: Path,
    content: Path | None,
    styles: Sequence[str],
    output: Path | None,
    *,
    region: Regions,
    recording: Recording,
    use_cache: bool,
) -> Repeated:
    """Return what is to be done to make a picture again.

    What the command line names goes before what the manifest has; environment and configuration count for nothing
    that the manifest has. `UsageError` if there is none that can be used, or a file of it is not to be had.
    """
    manifest = read_manifest(picture)
    inputs = _Inputs(manifest, use_cache=use_cache)
    region, recording = _as_named(region), _as_saved(recording, manifest, output)
    if content is None and not styles and recording.targets is None:
        recording = replace(recording, targets=inputs.find_first("targets", "--targets FILE"))
    if recording.targets is None:
        content = content or inputs.find_first("content", "CONTENT")
        styles = _take_styles(styles, inputs)
        region = _take_region(region, inputs)
    return Repeated(
        content=content, styles=[*styles], region=region, recording=recording, inputs=inputs
    )


def _as_named(group: _G) -> _G:
    """Return a group without values but those that the command line names; None stands for no value."""
    others = {
        name: None for name in option_names(type(group)) if group.sources[name] != COMMAND_LINE
    }
    return replace(group, **others)  # type: ignore[arg-type]


def _as_saved(recording: Recording, manifest: PictureManifest, output: Path | None) -> Recording:
    """Return how a picture is saved as that of a manifest was, where the format of the output has it."""
    changes: dict[str, Any] = {}
    suffix = "" if output is None else output.suffix.lower()
    if recording.sources["targets"] != COMMAND_LINE:
        changes["targets"] = None
    if recording.sources["depth"] != COMMAND_LINE:
        is_deep = manifest.depth is not None and suffix in DEEP_SUFFIXES
        changes["depth"] = str(manifest.depth) if is_deep else "auto"
    if recording.sources["keep_profile"] != COMMAND_LINE:
        changes["keep_profile"] = manifest.keep_profile and suffix != ".npy"
    return replace(recording, **changes)


def _take_styles(named: Sequence[str], inputs: _Inputs) -> list[str]:
    """Return styles with their weights: of those that are named, as many and without weights, the manifest's.

    So it is with their layers and masks.
    """
    items = [item for item in inputs.of["style"] if item.colors is None]
    if not named:
        return [_write_style(inputs.find(item, "CONTENT STYLE..."), item, inputs) for item in items]
    if len(named) == len(items) and all(
        style_file(split_style(text)[0]) == Path(text) for text in named
    ):
        return [_write_style(text, item, inputs) for text, item in zip(named, items, strict=True)]
    return [*named]


def _write_style(path: str | Path, item: InputFile, inputs: _Inputs) -> str:
    weight = 1.0 if item.weight is None else item.weight
    advice = "CONTENT STYLE@MASK..." if item.colors is None else "--style-for COLOUR=STYLE@MASK"
    mask = inputs.find_mask(item, advice)
    return f"{join_painting(path, item.layers, None if mask is None else str(mask))}:{weight!r}"


def _take_region(region: Regions, inputs: _Inputs) -> Regions:
    """Return where styles apply: what is named, and else what the manifest has."""
    if region.mask is None:
        region = replace(region, mask=_find_mask(inputs))
    if region.regions is None:
        region = replace(region, regions=inputs.find_first("regions", "--regions MAP"))
    named = region.style_for or []
    colours = {write_colour(read_colour(text.partition("=")[0])) for text in named}
    texts = [
        f"{colour}={_write_style(inputs.find(item, '--style-for COLOUR=STYLE'), item, inputs)}"
        for item in inputs.of["style"]
        for colour in (item.colors or "").split(",")
        if colour and colour not in colours
    ]
    return replace(region, style_for=[*named, *texts] or None)


def _find_mask(inputs: _Inputs) -> str | None:
    # The mask that is the content's own transparency has the checksum of the content.
    contents = {item.sha256 for item in inputs.of["content"]}
    if any(item.path == ALPHA and item.sha256 in contents for item in inputs.of["mask"]):
        return ALPHA
    path = inputs.find_first("mask", "--mask PICTURE")
    return None if path is None else str(path)


def tell_differences(console: Console, manifest: PictureManifest, job: Job) -> None:
    """Say in what a job is another than the one that a picture was made by."""
    if not manifest.is_complete:
        console.warn(f"{printable(manifest.picture)} is unfinished: its whole run is made")
    for text in _describe_differences(manifest, job):
        console.log(text)


def _describe_differences(manifest: PictureManifest, job: Job) -> Iterator[str]:
    """Yield, in words, in what a job is another than the one that a picture was made by; of pictures, and rounding."""
    run, place = manifest.run, printable(manifest.picture)
    for role in dict.fromkeys(item.role for item in (*run.inputs, *job.inputs)):
        before = [item for item in run.inputs if item.role == role]
        after = [item for item in job.inputs if item.role == role]
        names = ", ".join(printable(item.path) for item in after) or "none"
        if [item.sha256 for item in before] != [item.sha256 for item in after]:
            yield f"another {role} than that of {place}: {names}"
        elif [item.mask_sha256 for item in before] != [item.mask_sha256 for item in after]:
            yield f"another mask of a {role} than in {place}"
        elif [(item.weight, item.colors, item.layers) for item in before] != [
            (item.weight, item.colors, item.layers) for item in after
        ]:
            yield f"another weight or place of a {role} than in {place}"
    if run.weights_sha256 != job.opened.weights_sha256:
        yield f"other weights of the network than those of {place}"
    now = make_manifest(job)
    roundings = [
        f"{name} {printable(now.backend[name])} instead of {printable(run.backend[name])}"
        for name in ("backend", "device", "precision")
        if now.backend[name] != run.backend[name]
    ]
    if now.backend["backend"] == run.backend["backend"]:  # else it has libraries of its own
        roundings += run.roundings(now)
    if manifest.version != __version__:
        roundings.insert(0, f"nstx {__version__} instead of {manifest.version}")
    if roundings:
        yield f"the last digits may differ from those of {place}: {'; '.join(roundings)}"
