"""What the results of a comparison depend on: its pictures, and digests of them and of settings."""

import stat
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from nstx.models.errors import ImageError
from nstx.models.storage.seals import digest_file, digest_json
from nstx.models.version import __version__
from nstx.models.weights.load import weights_digest

from ..settings import INITS, Settings

# A result does not depend on these settings, but for rounding.
_WITHOUT_EFFECT = ("threads", "use_cache")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of the content picture, and of the style pictures with their weights."""

    content: Path
    styles: tuple[tuple[Path, float], ...]

    @property
    def title(self) -> str:
        """The pictures' names in a sentence: ``a in the style of b:2 and c``."""
        styles = [
            path.stem if weight == 1 else f"{path.stem}:{weight:g}" for path, weight in self.styles
        ]
        return f"{self.content.stem} in the style of {' and '.join(styles)}"


class RunDigests:
    """Digests of runs; each picture and weight file is read once.

    ``content`` is the sha256 of the content picture's file, and ``styles`` are those of the style
    pictures' files, with their weights. `ImageError` if a picture cannot be read.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._digest_picture = cache(_digest_picture)
        self._digest_weights = cache(weights_digest)
        self.content = self._digest_picture(inputs.content)
        self.styles = [(self._digest_picture(path), weight) for path, weight in inputs.styles]

    def digest(self, settings: Settings) -> str:
        """Return the sha256 of the pictures' bytes, the settings and the package's version."""
        fields = {k: v for k, v in asdict(settings).items() if k not in _WITHOUT_EFFECT}
        # The contents of files count, however their paths are written.
        if settings.init not in INITS:
            fields["init"] = self._digest_picture(Path(settings.init))
        fields["weights"] = self._digest_weights(settings.weights)
        return digest_json(
            {
                "version": __version__,
                "content": self.content,
                "styles": self.styles,
                "settings": fields,
            }
        )


def _digest_picture(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise ImageError(f"expected a picture at {path}, got a device or pipe; try a file")
        return digest_file(path)
    except OSError as error:
        raise ImageError(
            f"expected a picture at {path}, got: {error.strerror or error}; try another path"
        ) from error
