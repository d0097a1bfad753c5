"""What is asked for of one picture of a batch, as it lies in the ledger."""

import os
from collections.abc import Callable, Mapping, Sequence
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
from ..checkpoints.runs import with_moved_files
from ..jobs.records import Claim
from ..pictures.writing import Depth, Saving
from ..regions.masks import mask_file
from ..settings import INITS, Settings
from ..targets.paintings import WeightedPaths, move_painting, split_painting, weigh_style

_MOST_STYLES = 1000

OneStyle = str | os.PathLike[str] | tuple[str | os.PathLike[str], float]
"""A style picture's path, or that with a weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedJob:
    """A picture that is to be made: of a content and styles, or of targets. `UsageError` of both, or of neither.

    Attributes:
        output: its name, of `nstx.engine.batches.names.check_name`.
        mask: a picture's path, or ``alpha``.
        regions: a map of the content.
        style_for: styles by its colours.
        targets: a file of `write_targets`, whose sizes, mask and regions are those of the run.
        depth: of the result's file; None as the content has.
        keep_profile: whether the result has the content's colour profile.
        manifest: whether its file says what it was made from.
    """

    content: Path | None = None
    styles: WeightedPaths = ()
    output: str
    settings: Settings
    targets: Path | None = None
    mask: str | None = None
    regions: Path | None = None
    style_for: Mapping[str, WeightedPaths] = field(default_factory=dict)
    depth: Depth | None = None
    keep_profile: bool = False
    manifest: bool = True

    def __post_init__(self) -> None:
        if self.targets is None:
            if self.content is None:
                raise UsageError(
                    "expected a content and styles, or targets, got neither; try content='photo.jpg'"
                )
            return
        if self.content is not None or self.styles:
            raise UsageError(
                "expected a content and styles, or targets, got both; try one of the two",
                setting="targets",
            )
        names = ("mask", "regions", "style_for", "keep_profile")
        if own := [name for name in names if getattr(self, name)]:
            raise UsageError(
                f"expected targets without {', '.join(own)}, as they have their own, or none, got both; try the "
                "pictures",
                setting=own[0],
            )

    @property
    def files(self) -> list[Path]:
        """The pictures that are read, or the targets file."""
        blends = [path for blend in self.style_for.values() for path, _ in blend]
        others = (mask_file(self.mask), self.regions)
        init = [] if self.settings.init in INITS else [Path(self.settings.init)]
        placed = [Path(split_painting(path).file) for path in blends]
        blends += [path for path, _ in self.styles]
        masks = [mask for path in blends if (mask := split_painting(path).mask) is not None]
        first = filter(None, (self.targets, self.content))
        named = [*first, *self.style_files, *placed, *filter(None, others), *init]
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
        return self.moved(Path.absolute)

    def moved(self, move: Callable[[Path], Path]) -> "AskedJob":
        """Return it with its files elsewhere."""
        mask = mask_file(self.mask)
        return replace(
            self,
            content=None if self.content is None else move(self.content),
            targets=None if self.targets is None else move(self.targets),
            styles=_move(self.styles, move),
            settings=with_moved_files(self.settings, move),
            mask=self.mask if mask is None else str(move(mask)),
            regions=None if self.regions is None else move(self.regions),
            style_for={colour: _move(blend, move) for colour, blend in self.style_for.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, but for its output."""
        return {
            "content": None if self.content is None else str(self.content),
            "targets": None if self.targets is None else str(self.targets),
            "styles": _write(self.styles),
            "settings": write_settings(self.settings),
            "mask": self.mask,
            "regions": None if self.regions is None else str(self.regions),
            "style_for": {colour: _write(blend) for colour, blend in self.style_for.items()},
            **self.saving,
        }


@check_arguments
def ask_job(
    content: str | os.PathLike[str] | None,
    styles: OneStyle | Sequence[OneStyle],
    output: str,
    settings: Settings,
    *,
    targets: str | os.PathLike[str] | None = None,
    mask: str | os.PathLike[str] | None = None,
    regions: str | os.PathLike[str] | None = None,
    style_for: Mapping[str, OneStyle | Sequence[OneStyle]] | None = None,
    depth: Depth | None = None,
    keep_profile: bool = False,
) -> AskedJob:
    """Return a picture that is to be made in a batch, by the paths of its files; these are read later.

    `UsageError` of a weight that is not above 0, and of what does not go together.

    Args:
        content: the content picture; None where there are targets.
        styles: a style picture, or several, each by itself or as ``(path, weight)``; where there are targets ``()``.
        output: the result's name within the batch's folder, with ``/`` between its parts.
        settings: of the run. Sizes are those of targets where there are some, whose objective and weights these have to
            have: `choose_settings` of ``read_targets(…).chosen`` has the objective.
        targets: a file of `write_targets` in place of content, styles, mask and regions.
        mask: where the styles apply; ``alpha`` is the content's transparency.
        regions: a map of the content.
        style_for: styles by its colours.
        depth: of the result's file, 8 or 16; None as the content has.
        keep_profile: whether the result has the content's colour profile.
    """
    by_colour = {colour: _take(blend) for colour, blend in (style_for or {}).items()}
    return AskedJob(
        content=None if content is None else Path(content), styles=_take(styles), output=output,
        settings=settings, targets=None if targets is None else Path(targets),
        mask=None if mask is None else os.fspath(mask),
        regions=None if regions is None else Path(regions),
        style_for=by_colour, depth=depth, keep_profile=keep_profile,
    )  # fmt: skip


def _take(styles: OneStyle | Sequence[OneStyle]) -> WeightedPaths:
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
    data = {"targets": None, **data}  # which jobs of earlier ledgers know nothing of
    by_colour = take_object(data, "style_for")
    depth = take_field(data, "depth")
    if depth not in (None, 8, 16):
        raise ValueError("its depth is neither 8 nor 16")
    return AskedJob(
        content=_read_path(data, "content"),
        styles=_read(take_list(data, "styles", _MOST_STYLES)),
        output=output,
        settings=settings,
        mask=None if take_field(data, "mask") is None else take_text(data, "mask"),
        regions=_read_path(data, "regions"),
        targets=_read_path(data, "targets"),
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


def _move(styles: WeightedPaths, move: Callable[[Path], Path]) -> WeightedPaths:
    return tuple((Path(move_painting(path, move)), weight) for path, weight in styles)


def _write(styles: WeightedPaths) -> list[list[Any]]:
    return [[str(path), weight] for path, weight in styles]


def _read_path(data: Any, name: str) -> Path | None:
    return None if take_field(data, name) is None else Path(take_text(data, name))


def _read(items: Sequence[Any]) -> WeightedPaths:
    styles = []
    for item in items:
        path, weight = take_list({"style": item}, "style", 2)
        number = float(take_number({"weight": weight}, "weight", 0))
        styles.append((Path(take_text({"path": path}, "path")), number))
    return tuple(styles)
