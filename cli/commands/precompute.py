"""``nstx precompute``: targets without optimising."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstx.models.errors import ImageError, NstxError, OutputError, UsageError, about
from nstx.models.printable import printable
from nstx.models.storage.files import check_distinct, check_output

from ..choices import split_style, split_styles_for, style_file, style_files
from ..console import Console
from ..errors.exits import describe_failure, failure_json
from ..formats import format_bytes, format_count, format_seconds
from ..grouped import Group, Help, SeveralValues, grouped, without
from ..options import regions
from ..options import shared as options
from ..sources import flag_of

if TYPE_CHECKING:
    from nstx.engine.settings import Settings
    from nstx.engine.targets.loader import TargetLoader
    from nstx.engine.targets.precompute import PrecomputedPicture

app = typer.Typer(add_completion=False)

_Styles = list[tuple[Path, float]]
"""Style pictures with their weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures(Group):
    """Whose targets are computed, and where they go besides the cache."""

    contents: Annotated[
        list[str] | None,
        Help(
            "Content pictures, or folders of them; all values up to the next option.",
            ("--content",),
        ),
    ] = None
    styles: Annotated[
        list[str] | None, Help("Likewise style pictures; with -o, PATH:weight.", ("--style",))
    ] = None
    output: Annotated[
        Path | None,
        Help(
            "Also write all that 'nstx optimize --targets' needs, for one content, to a file.",
            ("--output", "-o"),
            metavar="FILE.safetensors",
        ),
    ] = None

    def paths(self, *, has_more_styles: bool = False) -> tuple[list[Path], _Styles]:
        """Return the contents, and the styles with their weights, of which there may be more; folders are opened."""
        from nstx.engine.targets.precompute import find_pictures

        contents, styles = self.contents or [], self.styles or []
        if not contents and not styles:
            raise UsageError(
                "expected pictures, got none; try --content photo.jpg --style painting.jpg"
            )
        if not all([*contents, *styles]):
            raise UsageError("expected pictures, got an empty name; try --content photo.jpg")
        with about("content"):
            pictures = find_pictures([Path(text) for text in contents])
        weighted: _Styles = []
        with about("style"):
            for place, weight in map(split_style, styles):
                is_layered = style_file(place) != place
                files = [place] if is_layered else find_pictures([place])
                weighted += [(path, weight) for path in files]
        if self.output is not None and (len(pictures) != 1 or not (weighted or has_more_styles)):
            raise UsageError(
                f"expected one content and its styles for -o, got {format_count(len(pictures), 'content')} "
                f"and {format_count(len(weighted), 'style')}; try without -o, which fills the cache"
            )
        return pictures, weighted


@app.command(cls=SeveralValues)
@grouped
def precompute(
    pictures: Pictures,
    objective: Annotated[
        options.Objective,
        without("content_weight", "style_weight", "tv_weight", "laplacian_weight"),
    ],
    colours: options.Colours,
    region: regions.Regions,
    size: options.Size,
    machine: Annotated[options.Machine, without("precision", "backend")],
    shown: options.Output,
) -> None:
    """Compute the targets of contents and styles ahead of the runs that will need them.

    They go to the cache, where 'nstx optimize' finds them. What is there already is not computed.
    """
    began = time.perf_counter()
    from nstx.engine.targets.loader import TargetLoader

    console = shown.console()
    if pictures.output is None and machine.no_cache:
        raise UsageError("expected the cache or a file to write to, got neither; try -o FILE")
    if pictures.output is None and region.of_command_line:
        flags = ", ".join(map(flag_of, region.of_command_line))
        raise UsageError(
            f"expected a file to write to for {flags}, as what the cache has is the same with any, got none; "
            "try -o FILE"
        )
    settings = options.settings_of(objective, colours, size, machine)
    # Before the loader, which reads the weights: a mistake in the pictures is an error at once.
    contents, styles = pictures.paths(has_more_styles=bool(region.style_for))
    loader = TargetLoader(settings)
    if pictures.output is None:
        data = _fill_cache(contents, styles, settings, loader, console)
    else:
        data = _write_file(pictures.output, contents, styles, settings, loader, console, region)
    extractor = loader.extractor
    data |= {
        "colors": settings.colors,
        "extractor": extractor and {"name": extractor[0], "runs_on": extractor[1]},
        "weights": {"source": settings.weights, "sha256": loader.weights_sha256},
        "seconds": round(time.perf_counter() - began, 4),
    }
    failure = _complaint(data)
    console.result(data | failure_json(failure), _describe)
    if failure is not None:
        raise failure


def _write_file(
    output: Path,
    contents: list[Path],
    styles: _Styles,
    settings: "Settings",
    loader: "TargetLoader",
    console: Console,
    region: regions.Regions,
) -> dict[str, Any]:
    """Write the targets file of one content, and return its fields of ``--json``."""
    from nstx.engine.regions.masks import mask_file
    from nstx.engine.targets.files import SUFFIXES
    from nstx.engine.targets.precompute import precompute_file
    from nstx.models.weights.sources import split_source

    check_output(output, SUFFIXES)
    by_colour = split_styles_for(region.style_for or ())
    files = (
        *contents,
        split_source(settings.weights)[0],
        *(
            file
            for blend in (styles, *by_colour.values())
            for path, _ in blend
            for file in style_files(path)
        ),
        mask_file(region.mask),
        region.regions,
    )
    check_distinct([output], list(filter(None, files)))
    with console.working("computing targets"):
        sizes, loaded, read = precompute_file(
            output, contents[0], styles, settings, loader, region.mask, region.regions, by_colour
        )
    return {
        "output": str(output),
        "bytes": output.stat().st_size,
        "scales": [{"width": w, "height": h} for h, w in sizes],
        "targets": {"content": loaded.content, "style": list(loaded.styles)},
        "pictures": [],
        "inputs": [asdict(item) for item in read],
    }


def _fill_cache(
    contents: list[Path],
    weighted: _Styles,
    settings: "Settings",
    loader: "TargetLoader",
    console: Console,
) -> dict[str, Any]:
    """Compute the targets that the cache lacks, and return the fields of ``--json``."""
    from nstx.engine.colours.modes import shares_targets
    from nstx.engine.targets.precompute import precompute_targets

    styles, done = list(dict.fromkeys(path for path, _ in weighted)), 0
    # Where styles are matched to contents, each pair has targets of its own.
    pairs = 1 if shares_targets(settings.colors) else len(contents)
    with console.counting("computing targets", len(contents) + len(styles) * pairs) as advance:

        def on_picture(picture: "PrecomputedPicture") -> None:
            nonlocal done
            done += picture.source is not None
            advance(picture.path.name)
            if picture.error is not None:
                console.warn(f"{picture.path} was left out: {_message(picture)}")

        try:
            outcomes = precompute_targets(contents, styles, settings, loader, on_picture)
        except (KeyboardInterrupt, SystemExit):
            console.warn(f"interrupted; the targets of {format_count(done, 'picture')} are kept")
            raise
    return {
        "output": None,
        "kept": loader.keeps,
        "pictures": [_picture_json(picture) for picture in outcomes],
        "inputs": [asdict(picture.input) for picture in outcomes if picture.input],
    }


def _picture_json(picture: "PrecomputedPicture") -> dict[str, Any]:
    return {
        "path": str(picture.path),
        "role": picture.role,
        "matched_to": picture.matched_to and str(picture.matched_to),
        "sizes": [{"width": w, "height": h} for h, w in picture.sizes],
        "targets": picture.source,
        "error": _message(picture),
    }


def _message(picture: "PrecomputedPicture") -> str | None:
    return None if picture.error is None else describe_failure(picture.error).message


def _describe(data: dict[str, Any]) -> str:
    seconds = format_seconds(data["seconds"])
    if data["output"] is not None:
        return (
            f"saved {data['output']}  {format_bytes(data['bytes'])}, "
            f"{format_count(len(data['scales']), 'scale')}, in {seconds}"
        )
    sources = [picture["targets"] for picture in data["pictures"]]
    text = f"targets of {format_count(len(sources), 'picture')}: {sources.count('miss')} computed"
    if sources.count("hit"):
        text += f", {sources.count('hit')} already in the cache"
    if data["extractor"] is not None:
        text += f", by {data['extractor']['name']} on {data['extractor']['runs_on']}"
    if any(picture["matched_to"] for picture in data["pictures"]):
        text += ", none of the styles' shared among contents, as each is matched to one"
    return f"{text}, in {seconds}"


def _complaint(data: dict[str, Any]) -> NstxError | None:
    """Return what is wrong if a picture was left out or nothing could be kept, or None."""
    if not data.get("kept", True):
        return OutputError(
            "expected to keep the targets, got a cache that takes none; try another "
            "NSTX_CACHE_DIR or NSTX_CACHE_LIMIT, by the warnings"
        )
    left_out = [printable(item["path"]) for item in data["pictures"] if item["error"] is not None]
    if left_out:
        return ImageError(
            f"expected pictures that can be used, got {len(left_out)} of {len(data['pictures'])} "
            f"that cannot: {', '.join(left_out[:3])}{' …' if left_out[3:] else ''}; "
            "try others, or mend these by the warnings"
        )
    return None
