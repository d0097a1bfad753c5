"""What ``nstx optimize`` is asked to do, checked before anything is read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from nstx.engine.settings import Settings
from nstx.models.errors import UsageError, about
from nstx.models.storage.files import check_distinct, check_file, check_output
from nstx.models.values import describe

from ..choices import split_style, split_styles_for, style_files
from ..grouped import Group, Help
from ..options.saving import Saved, check_depths

if TYPE_CHECKING:
    from nstx.engine.manifests.reading import PictureManifest
    from nstx.engine.pictures.writing import Depth, Saving
    from nstx.engine.targets.files import SavedTargets

REPORTS = ("bar", "assignment")
"""What a person sees of the steps: a bar that moves, or also the assignment's lines."""


_MOST_SNAPSHOTS = 10_000
"""Pictures that are saved on the way; each name is looked at before a run begins, a thousand in 0.05 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(Saved):
    """What is read beside the pictures, and written or shown beside the result."""

    panel: ClassVar[str | None] = "Output"

    targets: Annotated[
        Path | None,
        Help(
            "Optimise from a file of 'nstx precompute', without CONTENT and STYLE.", metavar="FILE"
        ),
    ] = None
    save_every: Annotated[
        int | None, Help("Also save the picture every N steps, as OUT_0020.png.", metavar="N")
    ] = None
    animate: Annotated[
        Path | None,
        Help("Also save how the picture develops: FILE.gif, .webp or .mp4.", metavar="FILE"),
    ] = None
    trace: Annotated[
        Path | None,
        Help("Also write a line of JSON per step: step, costs, seconds.", metavar="FILE.jsonl"),
    ] = None
    save_init: Annotated[
        Path | None,
        Help(
            "Also save the start at the result's size, before the first step; as .npy, --init FILE "
            "begins the same run again.",
            metavar="FILE",
        ),
    ] = None
    watch: Annotated[
        Path | None,
        Help(
            "Also keep the latest picture in FILE, written anew every few seconds, to look at.",
            metavar="FILE",
        ),
    ] = None
    force: Annotated[
        bool,
        Help(
            "Let a run replace files of its outputs' names even if it is interrupted or fails; else they "
            "stay, and what it leaves is OUT.unfinished.png and so on."
        ),
    ] = False
    report: Annotated[
        str,
        Help(
            "bar, or assignment: every 20 iterations the costs, as the deeplearning.ai assignment "
            "prints them, on stdout (with --json on stderr; with --quiet not at all).",
            values=REPORTS,
        ),
    ] = "bar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping(Group):
    """Where a run is kept as it goes."""

    panel: ClassVar[str | None] = "Output"

    checkpoint: Annotated[
        Path | None,
        Help(
            "Keep the run in the folder DIR as it goes, and when it is interrupted: 'nstx resume DIR' goes on from "
            "there, as does the same command, to the same result. Once that is saved, it is removed.",
            metavar="DIR",
        ),
    ] = None
    no_checkpoint: Annotated[
        bool,
        Help(
            "Do without the checkpoint, in the cache folder, of a run that is predicted to take over ten minutes."
        ),
    ] = False
    checkpoint_every: Annotated[
        float, Help("Minutes from one checkpoint to the next.", metavar="MINUTES")
    ] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeRequest:
    """Pictures or targets, settings, and where the results go.

    Attributes:
        content: None if ``saved`` has it.
        styles: each as ``PATH`` or ``PATH:weight``.
        to_stdout: whether ``output`` goes to standard output afterwards.
        mask: where the styles apply, a picture or ``alpha``; None everywhere, or where ``saved`` has it.
        regions: a map of the content.
        style_for: styles by its colours, each as ``COLOUR=PATH`` or ``COLOUR=PATH:weight``.
        stdin: the file that holds a picture from standard input, if one does.
        saved: the targets file that ``recording`` names.
        began: when the command began, a reading of ``time.perf_counter``.
        checkpoint: the folder in which the run is kept; None keeps a long one in the cache.
        no_checkpoint: that does without.
        checkpoint_every: minutes from one checkpoint to the next.
        repeats: the manifest of the picture that is made again, if it is one.
    """

    content: Path | None
    styles: tuple[str, ...]
    output: Path
    recording: Recording
    saved: "SavedTargets | None"
    settings: Settings
    began: float
    to_stdout: bool = False
    stdin: Path | None = None
    checkpoint: Path | None = None
    no_checkpoint: bool = False
    checkpoint_every: float = 5.0
    mask: str | None = None
    repeats: "PictureManifest | None" = None
    regions: Path | None = None
    style_for: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from nstx.engine.drawing.animation import check_animation
        from nstx.engine.pictures.writing import SUFFIXES, check_depth

        recording = self.recording
        if self.checkpoint is not None and (self.to_stdout or self.stdin is not None):
            raise UsageError(
                "expected files for --checkpoint, which can be read and written later, got -; try out.png",
                setting="checkpoint",
            )
        if recording.save_every is not None and recording.save_every < 1:
            raise UsageError(
                f"expected 1 or more steps between saved pictures, got {recording.save_every}; "
                "try --save-every 10",
                setting="save_every",
            )
        if (count := len(self._saved_steps())) > _MOST_SNAPSHOTS:
            raise UsageError(
                f"expected {_MOST_SNAPSHOTS} saved pictures or fewer, got {count}; "
                f"try --save-every {-(-self.settings.steps // _MOST_SNAPSHOTS)}",
                setting="save_every",
            )
        if recording.report not in REPORTS:
            raise UsageError(
                f"expected a report of {', '.join(REPORTS)}, got {describe(recording.report)}; "
                "try assignment",
                setting="report",
            )
        check_depths(recording.depth)
        check_output(self.output, SUFFIXES)
        if recording.depth == "16":
            with about("depth"):
                check_depth(16, self.output.suffix.lower())
        if recording.keep_profile:
            with about("keep_profile"):
                self._check_profile()
        checks: dict[str, Callable[[Path], None]] = {
            "animate": check_animation,
            "trace": partial(check_output, suffixes=(".jsonl", ".json", ".txt")),
            "save_init": partial(check_output, suffixes=SUFFIXES),
            "watch": partial(check_output, suffixes=SUFFIXES),
        }
        for name, check in checks.items():
            path = getattr(recording, name)
            if path is not None:
                with about(name):
                    check(path)
        self._check_distinct()
        for path in self._snapshots():
            check_file(path)

    def saving(self, path: Path) -> "Saving":
        """Return how a picture is saved there: as was asked for, as far as its format goes."""
        from nstx.engine.pictures.writing import DEEP_SUFFIXES

        suffix, recording = path.suffix.lower(), self.recording
        depth: Depth | None = 16 if recording.depth == "16" and suffix in DEEP_SUFFIXES else 8
        return {
            "depth": None if recording.depth == "auto" else depth,
            "keep_profile": recording.keep_profile and suffix != ".npy",
            "manifest": not recording.no_manifest,
        }

    def snapshot(self, step: int) -> Path:
        """Return where the picture after a step goes."""
        return self.output.with_name(f"{self.output.stem}_{step:04d}{self.output.suffix}")

    @property
    def outputs(self) -> list[Path]:
        """All that is written, but for the snapshots."""
        recording = self.recording
        paths = (self.output, recording.animate, recording.trace, recording.save_init)
        return [path for path in (*paths, recording.watch) if path is not None]

    def _check_profile(self) -> None:
        from nstx.engine.pictures.writing import check_profiled

        check_profiled(self.output.suffix.lower())
        if self.saved is not None:
            raise UsageError(
                "expected CONTENT, whose profile is kept, got targets, which have none; try the pictures"
            )

    def _saved_steps(self) -> range:
        every = self.recording.save_every or self.settings.steps + 1
        return range(every, self.settings.steps + 1, every)

    def _snapshots(self) -> Iterator[Path]:
        return map(self.snapshot, self._saved_steps())

    def _check_distinct(self) -> None:
        from nstx.engine.regions.masks import mask_file
        from nstx.models.weights.sources import split_source

        recording, settings = self.recording, self.settings
        by_colour = split_styles_for(self.style_for).values()
        named = [split_style(style)[0] for style in self.styles]
        named += [path for blend in by_colour for path, _ in blend]
        styles = [file for path in named for file in style_files(path)]
        files = [Path(settings.init), split_source(settings.weights)[0]]
        picture = None if self.repeats is None else self.repeats.picture
        inputs = (
            self.content, recording.targets, *styles, *files, mask_file(self.mask), self.regions, picture,
        )  # fmt: skip
        check_distinct([*self.outputs, *self._snapshots()], list(filter(None, inputs)))
