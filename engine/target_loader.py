"""Targets of pictures: read from the store, or else computed and kept there."""

import logging
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..models.errors import NumericalError
from ..models.weights import Weights, weights_digest
from .extractors import Extraction, OpenedExtractor, open_extractor
from .images import Picture, WeightedPicture, resize_picture
from .memory import memory_errors
from .settings import Settings
from .sizes import style_size
from .target_store import Array, Statistic, TargetKey, TargetStore, as_stored
from .targets import Features, Targets, make_targets

_log = logging.getLogger("nstx")

TargetSource = Literal["hit", "miss", "file"]
"""Where a picture's targets came from: all of them from the cache, some computed, or a file."""

# Extractors with the precision that each computes in; TensorRT takes TF32 for fp32.
_COMPUTED_BY = {"onnx": "onnx fp32", "torch": "torch fp32", "tensorrt": "tensorrt tf32"}
# What satisfies a choice, in this order.
_ACCEPTED = {"auto": ("onnx", "torch")}

_Wanted = tuple[str, Statistic]


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """What is wanted of a picture, and at which sizes."""

    picture: Picture
    sizes: tuple[tuple[int, int], ...]
    wanted: tuple[_Wanted, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedTargets:
    """The targets of a run.

    Attributes:
        targets: of each scale, coarse first.
        content: where the content picture's came from; None if the objective needs none.
        styles: likewise, of each style picture.
    """

    targets: tuple[Targets, ...]
    content: TargetSource | None
    styles: tuple[TargetSource | None, ...]


class TargetLoader:
    """Loads targets; the weights and an extractor are opened only when one must be computed.

    Args:
        settings: objective, style scale, weights, extractor, threads, and whether the cache is
            used.
        device: for what must be computed, in place of the settings'.
        weights: if they are loaded already.

    Raises:
        WeightsError: the weights' file is missing or damaged.
        UsageError: the cache's limit, which the environment sets, is no size.
    """

    def __init__(
        self, settings: Settings, *, device: str | None = None, weights: Weights | None = None
    ) -> None:
        self._settings = settings
        self._device = settings.device if device is None else device
        self._weights = weights
        self.weights_sha256 = weights.sha256 if weights else weights_digest(settings.weights)
        self._store = TargetStore() if settings.use_cache else None
        self._opened: OpenedExtractor | None = None
        self._keeps = settings.use_cache
        self._written = 0

    @property
    def extractor(self) -> tuple[str, str] | None:
        """What computed targets and what it ran on; None if nothing had to be computed yet."""
        return None if self._opened is None else (self._opened.name, self._opened.runs_on)

    def load(
        self,
        content: Picture,
        styles: Sequence[WeightedPicture],
        sizes: Sequence[tuple[int, int]],
    ) -> LoadedTargets:
        """Return the targets of a content picture and its styles at each of a run's sizes.

        Raises:
            UsageError: a style picture would be too small.
            DeviceError, ModelError, WeightsError: as `nstx.engine.extractors.open_extractor`.
            NumericalError: a target is not finite.
        """
        requests = [self._content_request(content, sizes)]
        requests += [self._style_request(picture, sizes) for picture, _ in styles]
        (ours, content_source), *theirs = map(self._load, requests)
        targets = [
            make_targets(
                size,
                ours[index],
                [
                    (features[index], weight)
                    for (features, _), (_, weight) in zip(theirs, styles, strict=True)
                ],
            )
            for index, size in enumerate(sizes)
        ]
        return LoadedTargets(
            targets=tuple(targets),
            content=content_source,
            styles=tuple(source for _, source in theirs),
        )

    def load_content(
        self, picture: Picture, sizes: Sequence[tuple[int, int]]
    ) -> TargetSource | None:
        """Compute what is not stored of a content picture's activations at each size."""
        request = self._content_request(picture, sizes)
        return self._load(request)[1]

    def load_style(self, picture: Picture, sizes: Sequence[tuple[int, int]]) -> TargetSource | None:
        """Compute what is not stored of a style's Gram matrices for results of each size."""
        request = self._style_request(picture, sizes)
        return self._load(request)[1]

    def _content_request(self, picture: Picture, sizes: Sequence[tuple[int, int]]) -> _Request:
        names = self._settings.objective.content_names
        return _Request(picture, tuple(sizes), tuple((name, "activation") for name in names))

    def _style_request(self, picture: Picture, sizes: Sequence[tuple[int, int]]) -> _Request:
        scale = self._settings.style_scale
        own_sizes = tuple(style_size(picture.size, size, scale) for size in sizes)
        names = self._settings.objective.style_names
        return _Request(picture, own_sizes, tuple((name, "gram") for name in names))

    def _load(self, request: _Request) -> tuple[list[Features], TargetSource | None]:
        """Return the features of a picture at each size; what is not stored is computed."""
        digest = request.picture.digest if self._store and request.wanted else ""
        loaded = []
        source: TargetSource | None = "hit" if request.wanted else None
        for size in request.sizes:
            values = self._read_all(digest, size, request.wanted)
            missing = [each for each in request.wanted if each not in values]
            if missing:
                source = "miss"
                computed = self._compute(request.picture, size, missing)
                values.update(computed)
                for each, value in computed.items():
                    key = self._key(digest, size, each, self._open().name)
                    self._keep(key, value, _full_path(request.picture))
            loaded.append(_as_features(values))
        if source == "miss" and self._store and self._keeps:
            self._store.prune()
        return loaded, source

    def _read_all(
        self, digest: str, size: tuple[int, int], wanted: Sequence[_Wanted]
    ) -> dict[_Wanted, Array]:
        """Return what the store has of a picture at a size."""
        chosen = self._settings.extractor
        found: dict[_Wanted, Array] = {}
        if self._store is None:
            return found
        for each in wanted:
            for name in _ACCEPTED.get(chosen, (chosen,)):
                value = self._store.read(self._key(digest, size, each, name))
                if value is not None:
                    found[each] = value
                    break
        return found

    def _compute(
        self, picture: Picture, size: tuple[int, int], missing: Sequence[_Wanted]
    ) -> dict[_Wanted, Array]:
        layers = {
            statistic: [layer for layer, kind in missing if kind == statistic]
            for statistic in ("activation", "gram")
        }
        with memory_errors(size):
            features = self._open().extractor.extract(
                resize_picture(picture, *size), layers["activation"], layers["gram"]
            )
        computed: dict[_Wanted, Array] = {}
        for layer, kind in missing:
            value = features.activations[layer] if kind == "activation" else features.grams[layer]
            if not np.isfinite(value).all():
                raise NumericalError(
                    f"expected finite targets, got NaN or infinity in {layer}; try other weights"
                )
            computed[layer, kind] = as_stored(value) if kind == "gram" else value
        return computed

    def _open(self) -> OpenedExtractor:
        if self._opened is None:
            settings = self._settings
            objective = settings.objective
            choices = Extraction(
                extractor=settings.extractor,
                device=self._device,
                pooling=objective.pooling,
                pool_rounding=objective.pool_rounding,
                weights=settings.weights,
                threads=settings.threads,
                use_cache=settings.use_cache,
            )
            self._opened = open_extractor(choices, objective.layers, self._weights)
        return self._opened

    def _key(self, digest: str, size: tuple[int, int], wanted: _Wanted, name: str) -> TargetKey:
        layer, statistic = wanted
        return TargetKey(
            picture=digest,
            height=size[0],
            width=size[1],
            layer=layer,
            statistic=statistic,
            pooling=self._settings.objective.pooling,
            pool_rounding=self._settings.objective.pool_rounding,
            weights=self.weights_sha256,
            computed_by=_COMPUTED_BY[name],
        )

    def _keep(self, key: TargetKey, value: Array, path: str) -> None:
        """Write an entry; a disk that is full or read-only costs time later, not the run."""
        store = self._store
        if store is None or not self._keeps:
            return
        before, self._written = self._written, self._written + value.nbytes
        if before <= store.most_bytes < self._written:
            _log.warning(
                "these targets take more than the cache's limit, and not all are kept; "
                "try a larger NSTX_CACHE_LIMIT"
            )
        if value.nbytes > store.most_bytes:
            return  # all others would have to go for it, and it would go too
        try:
            store.write(key, value, path)
        except OSError as error:
            self._keeps = False
            _log.warning(
                "%s cannot be written (%s); targets are computed each time",
                store.folder,
                error.strerror or error,
            )


def _as_features(found: Mapping[_Wanted, Array]) -> Features:
    return Features(
        {layer: value for (layer, kind), value in found.items() if kind == "activation"},
        {layer: value for (layer, kind), value in found.items() if kind == "gram"},
    )


def _full_path(picture: Picture) -> str:
    """Return where a picture lies, which the entry says to people; an array lies nowhere."""
    return os.path.abspath(picture.path) if os.path.exists(picture.path) else picture.path  # noqa: PTH100, PTH110
