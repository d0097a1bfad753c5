"""What the results of a comparison depend on: its pictures, and digests of them and of settings."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
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
from ..pictures.reading import MOST_BYTES
from ..preparation.inputs import check_start
from ..regions.masks import ALPHA, mask_file
from ..settings import BY_ROUNDING, INITS, Settings
from .plan import COMPARABLE, ComparisonRun
from .records import RunKey

# What one comparison varies. The scales follow from the start, of which a picture has one only.
_VARIED = (*COMPARABLE, "scales")

# A result does not depend on these settings, but for rounding.
_WITHOUT_EFFECT = (*BY_ROUNDING, "tile")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of the content picture, of the style pictures with their weights, and of a mask, as it is named."""

    content: Path
    styles: tuple[tuple[Path, float], ...]
    mask: str | None = None

    @property
    def title(self) -> str:
        """The pictures' names in a sentence: ``a in the style of b:2 and c``."""
        styles = [
            path.stem if weight == 1 else f"{path.stem}:{weight:g}" for path, weight in self.styles
        ]
        return printable(f"{self.content.stem} in the style of {' and '.join(styles)}")


class RunDigests:
    """Keys of runs; each picture and weight file is read once.

    ``content`` is the sha256 of the content picture's file, and ``styles`` are those of the style
    pictures' files, with their weights. `ImageError` if a picture cannot be read.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._digest_picture = cache(_digest_picture)
        self._digest_weights = cache(weights_digest)
        self.content = self._digest_picture(inputs.content)
        self.styles = [(self._digest_picture(path), weight) for path, weight in inputs.styles]

    def inputs(self, settings: Iterable[Settings]) -> list[InputFile]:
        """Return what a report says of the pictures, with those that runs start from."""
        starts = dict.fromkeys(run.init for run in settings if run.init not in INITS)
        content, styles = self._inputs.content, self._inputs.styles
        return [
            self._describe("content", content),
            *(self._describe("style", path, weight) for path, weight in styles),
            *self._describe_mask(),
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

    def _describe(self, role: str, path: Path, weight: float | None = None) -> InputFile:
        digest = self._digest_picture(path)
        return InputFile(role=role, path=str(path), sha256=digest, weight=weight)

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
        masked = {"mask": [self._inputs.mask == ALPHA, *masks]} if masks else {}
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
        path, kind="a picture", most_bytes=MOST_BYTES, error=ImageError, advice="another path"
    )
