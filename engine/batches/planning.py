"""From what is asked for to jobs of the ledger: what each depends on, and which may share a batch."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nstx.models.errors import ImageError, NstxError, UsageError
from nstx.models.objective import objective_to_json
from nstx.models.storage.inputs import read_input
from nstx.models.storage.seals import digest_json
from nstx.models.version import __version__
from nstx.models.vgg19 import Preprocessing
from nstx.models.weights.load import weights_digest

from ..checkpoints.manifest import write_settings
from ..formats.identify import HEIC, NPY, TIFF, identify_format
from ..jobs.records import NewJob
from ..pictures.decoding import read_size
from ..pictures.reading import MOST_BYTES
from ..settings import BY_ROUNDING, INITS, Settings
from ..sizes import choose_sizes
from ..targets.files import read_targets
from ..targets.paintings import WeightedPaths, split_painting
from .asked import AskedJob

_MISSING = "missing"


class _File(NamedTuple):
    """What is known of a picture's file: nothing of one that cannot be read; its size where its header tells it.

    Of a targets file, the sizes of its scales and the shares of its regions.
    """

    sha256: str | None = None
    size: tuple[int, int] | None = None
    scales: tuple[tuple[int, int], ...] = ()
    areas: tuple[float, ...] = ()


class Planner:
    """Makes jobs of what is asked for. Each file is read once, however many jobs it is for, unless it changes.

    A picture that cannot be read is no error here: its job will fail.
    """

    def __init__(self) -> None:
        self._files: dict[tuple[Path, bool], tuple[tuple[int, ...], _File]] = {}
        self._weights: dict[tuple[str, Preprocessing], str] = {}

    def plan(self, asked: Iterable[AskedJob], attempts: int = 3) -> Iterator[NewJob]:
        """Yield the job of each; `WeightsError` if there are no weights."""
        for item in asked:
            yield self._plan(item.absolute(), attempts)

    def _plan(self, asked: AskedJob, attempts: int) -> NewJob:
        settings = asked.settings
        weights = self._weights_of(settings)
        digests = [
            self._look(path, is_targets=path == asked.targets).sha256 for path in asked.files
        ]
        request = asked.to_json()
        plain = {k: v for k, v in write_settings(settings).items() if k not in BY_ROUNDING}
        depends = {
            "version": __version__,
            "files": [digest or _MISSING for digest in digests],
            "weights": weights,
            # Paths say nothing that the checksums do not.
            "settings": {**plain, "weights": None, "init": plain["init"] if plain["init"] in INITS else "a picture"},
            "mask": asked.mask if asked.mask == "alpha" else asked.mask is not None,
            "regions": asked.regions is not None,
            "shares": _shares(asked.styles),
            "style_for": [[colour, _shares(blend)] for colour, blend in asked.style_for.items()],
            "saving": dict(asked.saving),
            **({} if asked.targets is None else {"targets": True}),
        }  # fmt: skip
        known = None if None in digests else sorted({digest for digest in digests if digest})
        return NewJob(
            id=asked.output,
            kind=self._kind(asked, weights),
            fingerprint=digest_json(depends),
            request={**request, "files": known},
            attempts=attempts,
        )

    def _kind(self, asked: AskedJob, weights: str) -> str:
        """Return what jobs have in common that may be one batch: the size of the result, and what computes it."""
        settings = asked.settings
        names = ("device", "precision", "backend", "extractor", "threads", "tile")
        objective = objective_to_json(settings.objective.with_unit_weights())
        machine = [getattr(settings, name) for name in names]
        regions = [asked.mask is not None, len(asked.style_for), asked.regions is not None]
        return digest_json([self._sizes_of(asked), objective, machine, weights, regions])[:32]

    def _sizes_of(self, asked: AskedJob) -> object:
        """Return the sizes of a job's scales, or what stands for them where they are not known."""
        if asked.targets is not None:
            targets = self._look(asked.targets, is_targets=True)
            return [targets.scales or str(asked.targets), len(targets.areas)]
        assert asked.content is not None
        photograph = self._look(asked.content)
        if photograph.size is None:
            return photograph.sha256 or str(asked.content)
        styles = [self._look(file).size for file in asked.style_files]
        try:
            return choose_sizes(photograph.size, [size for size in styles if size], asked.settings)
        except NstxError:
            return "none"  # the job will say why

    def _weights_of(self, settings: Settings) -> str:
        key = settings.weights, settings.objective.preprocessing
        if key not in self._weights:
            self._weights[key] = weights_digest(*key)
        return self._weights[key]

    def _look(self, path: Path, *, is_targets: bool = False) -> _File:
        try:
            status = path.stat()
        except (OSError, ValueError):
            return _File()
        mark = (status.st_mtime_ns, status.st_size, status.st_ino)
        key = path, is_targets
        if key not in self._files or self._files[key][0] != mark:
            self._files[key] = mark, (_look_at_targets if is_targets else _look)(path)
        return self._files[key][1]


def _shares(styles: WeightedPaths) -> list[Any]:
    """Return of each style what is not in its file: its weight, the layers that it counts in, whether it has a mask."""
    named = [(weight, split_painting(path)) for path, weight in styles]
    return [[weight, path.layers, *[True] * (path.mask is not None)] for weight, path in named]


def _look_at_targets(path: Path) -> _File:
    try:
        saved = read_targets(path)
    except UsageError:
        return _File()  # the job will say why
    assert saved.file is not None
    scales = tuple((target.height, target.width) for target in saved.targets)
    return _File(saved.file.sha256, scales[-1], scales, saved.targets[-1].areas)


def _look(path: Path) -> _File:
    try:
        data = read_input(path, kind="a picture", most_bytes=MOST_BYTES, error=ImageError)
    except ImageError:
        return _File()
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        kind = identify_format(data, path)
    except ImageError:
        return _File(sha256)
    return _File(sha256, None if kind in (HEIC, NPY, TIFF) else read_size(data, kind, path))
