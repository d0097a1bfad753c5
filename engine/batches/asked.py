"""What is asked for of one picture of a batch, as it lies in the ledger."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from nstx.models.arguments import check_arguments
from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.storage.plain_data import (
    take_field,
    take_flag,
    take_list,
    take_number,
    take_object,
    take_text,
)

from ..checkpoints.manifest import read_settings, write_settings
from ..checkpoints.runs import with_absolute_paths
from ..jobs.records import Claim
from ..pictures.writing import Depth, Saving
from ..regions.masks import mask_file
from ..settings import INITS, Settings
from ..targets.paintings import absolute_painting, split_painting, weigh_style

_MOST_STYLES = 1000

OneStyle = str | os.PathLike[str] | tuple[str | os.PathLike[str], float]
"""A style picture's path, or that with a weight."""

Styles = tuple[tuple[Path, float], ...]
"""Style pictures with their weights; a path may name layers and a mask (`nstx.engine.targets.paintings`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedJob:
    """A picture that is to be made.

    Attributes:
        output: its name, of `nstx.engine.batches.names.check_name`.
        mask: a picture's path, or ``alpha``.
        regions: a map of the content.
        style_for: styles by its colours.
        depth: of the result's file; None as the content has.
        keep_profile: whether the result has the content's colour profile.
        manifest: whether its file says what it was made from.
    """

    content: Path
    styles: Styles
    output: str
    settings: Settings
    mask: str | None = None
    regions: Path | None = None
    style_for: Mapping[str, Styles] = field(default_factory=dict)
    depth: Depth | None = None
    keep_profile: bool = False
    manifest: bool = True

    @property
    def files(self) -> list[Path]:
        """The pictures that are read."""
        blends = [path for blend in self.style_for.values() for path, _ in blend]
        others = (mask_file(self.mask), self.regions)
        init = [] if self.settings.init in INITS else [Path(self.settings.init)]
        placed = [Path(split_painting(path).file) for path in blends]
        blends += [path for path, _ in self.styles]
        masks = [mask for path in blends if (mask := split_painting(path).mask) is not None]
        named = [self.content, *self.style_files, *placed, *filter(None, others), *init]
        return [*named, *map(Path, masks)]

    @property
    def style_files(self) -> list[Path]:
        """The files of the styles, whose paths may name layers and masks."""
        return [Path(split_painting(path).file) for path, _ in self.styles]

    @property
    def saving(self) -> Saving:
        """How the result is saved."""
        return {"depth": self.depth, "keep_profile": self.keep_profile, "manifest": self.manifest}

    def absolute(self) -> "AskedJob":
        """Return it with paths from the root on."""
        mask = mask_file(self.mask)
        return replace(
            self,
            content=self.content.absolute(),
            styles=_absolutes(self.styles),
            settings=with_absolute_paths(self.settings),
            mask=self.mask if mask is None else str(mask.absolute()),
            regions=None if self.regions is None else self.regions.absolute(),
            style_for={colour: _absolutes(blend) for colour, blend in self.style_for.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, but for its output."""
        return {
            "content": str(self.content),
            "styles": _write(self.styles),
            "settings": write_settings(self.settings),
            "mask": self.mask,
            "regions": None if self.regions is None else str(self.regions),
            "style_for": {colour: _write(blend) for colour, blend in self.style_for.items()},
            **self.saving,
        }


@check_arguments
def ask_job(
    content: str | os.PathLike[str],
    styles: OneStyle | Sequence[OneStyle],
    output: str,
    settings: Settings,
    *,
    mask: str | os.PathLike[str] | None = None,
    regions: str | os.PathLike[str] | None = None,
    style_for: Mapping[str, OneStyle | Sequence[OneStyle]] | None = None,
    depth: Depth | None = None,
    keep_profile: bool = False,
) -> AskedJob:
    """Return a picture that is to be made in a batch, by the paths of its files; these are read later.

    `UsageError` of a weight that is not above 0.

    Args:
        content: the content picture.
        styles: a style picture, or several, each by itself or as ``(path, weight)``.
        output: the result's name within the batch's folder, with ``/`` between its parts.
        settings: of the run.
        mask: where the styles apply; ``alpha`` is the content's transparency.
        regions: a map of the content.
        style_for: styles by its colours.
        depth: of the result's file, 8 or 16; None as the content has.
        keep_profile: whether the result has the content's colour profile.
    """
    by_colour = {colour: _take(blend) for colour, blend in (style_for or {}).items()}
    return AskedJob(
        content=Path(content), styles=_take(styles), output=output, settings=settings,
        mask=None if mask is None else os.fspath(mask),
        regions=None if regions is None else Path(regions),
        style_for=by_colour, depth=depth, keep_profile=keep_profile,
    )  # fmt: skip


def _take(styles: OneStyle | Sequence[OneStyle]) -> Styles:
    """Return styles as a job has them."""
    if isinstance(styles, str | os.PathLike) or (
        isinstance(styles, tuple) and len(styles) == 2 and isinstance(styles[1], int | float)
    ):
        styles = [styles]
    pairs = [weigh_style(item) for item in styles]
    return tuple((Path(path), weight) for path, weight in pairs)


def read_asked(data: Any, output: str) -> AskedJob:
    """Return a job from plain data; `ValueError` if a part of it cannot be."""
    settings = read_settings(take_object(data, "settings"))
    by_colour = take_object(data, "style_for")
    depth = take_field(data, "depth")
    if depth not in (None, 8, 16):
        raise ValueError("its depth is neither 8 nor 16")
    regions = None if take_field(data, "regions") is None else Path(take_text(data, "regions"))
    return AskedJob(
        content=Path(take_text(data, "content")),
        styles=_read(take_list(data, "styles", _MOST_STYLES)),
        output=output,
        settings=settings,
        mask=None if take_field(data, "mask") is None else take_text(data, "mask"),
        regions=regions,
        style_for={name: _read(take_list(by_colour, name, _MOST_STYLES)) for name in by_colour},
        depth=cast("Depth | None", depth),
        keep_profile=take_flag(data, "keep_profile"),
        manifest=take_flag(data, "manifest"),
    )


def take_asked(claim: Claim) -> AskedJob:
    """Return the job of a claim; `UsageError` if a part of it cannot be."""
    try:
        return read_asked(claim.request, claim.id)
    except ValueError as error:
        raise UsageError(
            f"expected a job of this version of nstx in the ledger, got one that cannot be ({printable(error)}); "
            "try the same command again"
        ) from error


def _absolutes(styles: Styles) -> Styles:
    return tuple((Path(absolute_painting(path)), weight) for path, weight in styles)


def _write(styles: Styles) -> list[list[Any]]:
    return [[str(path), weight] for path, weight in styles]


def _read(items: Sequence[Any]) -> Styles:
    styles = []
    for item in items:
        path, weight = take_list({"style": item}, "style", 2)
        number = float(take_number({"weight": weight}, "weight", 0))
        styles.append((Path(take_text({"path": path}, "path")), number))
    return tuple(styles)
