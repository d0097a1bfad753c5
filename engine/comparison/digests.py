"""What the results of a comparison depend on: its pictures, and digests of them and of settings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from nstx.models.errors import ImageError, about
from nstx.models.objective import objective_to_json
from nstx.models.printable import printable
from nstx.models.storage.inputs import digest_input
from nstx.models.storage.seals import digest_json
from nstx.models.version import __version__
from nstx.models.weights.load import weights_digest

from ..pictures.picture import InputFile
from ..preparation.inputs import check_start
from ..regions.maps import read_colour, write_colour
from ..regions.masks import ALPHA, mask_file
from ..settings import BY_ROUNDING, INITS, Settings
from ..streaming.reduced import MOST_LARGE_BYTES
from ..targets.paintings import WeightedPaths, split_painting
from .plan import COMPARABLE, ComparisonRun
from .records import RunKey

# What one comparison varies. The scales follow from the start, of which a picture has one only.
_VARIED = (*COMPARABLE, "scales")

# A result does not depend on these settings, but for rounding.
_WITHOUT_EFFECT = (*BY_ROUNDING, "tile")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a comparison.

    Attributes:
        mask: as it is named.
        regions: a map of the content.
        style_for: styles by its colours.
    """

    content: Path
    styles: WeightedPaths
    mask: str | None = None
    regions: Path | None = None
    style_for: Mapping[str, WeightedPaths] = field(default_factory=dict)

    @property
    def paintings(self) -> Iterator[tuple[str | None, Path, float]]:
        """All styles, each with its colour in the map and its weight."""
        for path, weight in self.styles:
            yield None, path, weight
        for colour, blend in self.style_for.items():
            for path, weight in blend:
                yield colour, path, weight

    @property
    def files(self) -> list[Path]:
        """The files that are read."""
        paintings = [file for _, path, _ in self.paintings for file in split_painting(path).files]
        others = (mask_file(self.mask), self.regions)
        return [self.content, *map(Path, paintings), *filter(None, others)]

    @property
    def title(self) -> str:
        """The pictures' names in a sentence: ``a in the style of b:2 and c``."""
        named = [
            (Path(split_painting(path).file).stem, weight) for _, path, weight in self.paintings
        ]
        styles = [name if weight == 1 else f"{name}:{weight:g}" for name, weight in named]
        return printable(f"{self.content.stem} in the style of {' and '.join(styles)}")


class RunDigests:
    """Keys of runs; each picture and weight file is read once.

    ``content`` is the sha256 of the content picture's file, ``styles`` are those of the style
    pictures' files, with their weights, and ``regions`` what is so of a map. `ImageError` if a picture cannot be read.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._digest_picture = cache(_digest_picture)
        self._digest_weights = cache(weights_digest)
        self.content = self._digest_picture(inputs.content)
        self.styles = self._digest_styles(inputs.styles)
        self.regions: list[object] = []
        if inputs.regions is not None:
            with about("regions"):
                self.regions += [self._digest_picture(inputs.regions)]
            with about("style_for"):
                blends = inputs.style_for.items()
                self.regions += [[text, self._digest_styles(blend)] for text, blend in blends]

    def inputs(self, settings: Iterable[Settings]) -> list[InputFile]:
        """Return what a report says of the pictures, with those that runs start from."""
        starts = dict.fromkeys(run.init for run in settings if run.init not in INITS)
        regions = self._inputs.regions
        return [
            self._describe("content", self._inputs.content),
            *(self._describe_style(*style) for style in self._inputs.paintings),
            *self._describe_mask(),
            *([] if regions is None else [self._describe("regions", regions)]),
            *(self._describe("init", Path(start)) for start in starts),
        ]

    def _describe_mask(self) -> list[InputFile]:
        mask, file = self._inputs.mask, mask_file(self._inputs.mask)
        if mask is None:
            return []
        if file is None:
            return [InputFile(role="mask", path=mask, sha256=self.content)]
        with about("mask"):
            return [self._describe("mask", file)]

    def _describe(self, role: str, path: Path) -> InputFile:
        return InputFile(role=role, path=str(path), sha256=self._digest_picture(path))

    def _describe_style(self, colour: str | None, path: Path, weight: float) -> InputFile:
        named = split_painting(path)
        described = self._describe("style", Path(named.file))
        if colour is not None:
            colour = write_colour(read_colour(colour))
        mask = None if named.mask is None else self._digest_picture(Path(named.mask))
        return replace(described, weight=weight, colors=colour, mask=named.mask, mask_sha256=mask)

    def _digest_styles(self, styles: WeightedPaths) -> list[tuple[object, float]]:
        """Return the sha256 of each style with its weight; of one with a mask of its own, two."""
        digests = [
            ([self._digest_picture(Path(file)) for file in split_painting(path).files], weight)
            for path, weight in styles
        ]
        return [(files if files[1:] else files[0], weight) for files, weight in digests]

    @about("init")
    def _digest_start(self, init: str) -> str:
        check_start(init)
        return self._digest_picture(Path(init))

    def key(self, run: ComparisonRun) -> RunKey:
        """Return what a run is of."""
        settings = run.settings
        fields = {k: v for k, v in asdict(settings).items() if k not in _WITHOUT_EFFECT}
        # The contents of files count, however their paths are written.
        if settings.init not in INITS:
            fields["init"] = self._digest_start(settings.init)
        if not settings.stretch:
            del fields["stretch"]  # of before there was a choice, so that its results are known
        if not settings.clean:
            del fields["clean"]  # likewise
        if settings.colors == "style":
            del fields["colors"]  # likewise
        fields["objective"] = objective_to_json(settings.objective)
        fields["weights"] = self._digest_weights(settings.weights)
        pictures = {"content": self.content, "styles": self.styles}
        weights = run.weigh([weight for _, weight in self.styles])
        styles = [(digest, w) for (digest, _), w in zip(self.styles, weights, strict=True) if w > 0]
        masks = [item.sha256 for item in self._describe_mask()]
        masked: dict[str, object] = {}
        if masks:
            masked["mask"] = [self._inputs.mask == ALPHA, *masks]
        if self.regions:
            masked["regions"] = self.regions
        request = {"content": self.content, "styles": styles, "settings": fields, **masked}
        objective = {k: v for k, v in fields["objective"].items() if k not in _VARIED}
        objective["style_layers"] = [
            {k: v for k, v in item.items() if k != "statistic"}
            for item in objective["style_layers"]
        ]
        common = {k: v for k, v in fields.items() if k not in _VARIED} | {"objective": objective}
        return RunKey(
            digest=digest_json({"version": __version__, **request}),
            request=digest_json(request),
            comparison=digest_json({**pictures, "settings": common, **masked}),
        )


def _digest_picture(path: Path) -> str:
    return digest_input(
        path, kind="a picture", most_bytes=MOST_LARGE_BYTES, error=ImageError, advice="another path"
    )
