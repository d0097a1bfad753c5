"""Targets of pictures: read from the store, or else computed and kept there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nstx.models.errors import NumericalError
from nstx.models.storage.cache import CACHE_KINDS, cache_folder, sweep_litter
from nstx.models.weights.load import weights_digest

from ..devices.device import Device, settle
from ..devices.memory import FEATURE_BYTES, check_memory, memory_errors
from ..features.extractor import Features
from ..features.opening import Extraction, OpenedExtractor, open_extractor
from ..pictures.picture import Picture, WeightedPicture
from ..pictures.resizing import resize_picture
from ..settings import Settings
from ..sizes import style_size
from .memory import TargetMemory
from .store import Array, Statistic, TargetKey, TargetStore, as_stored
from .targets import Targets, make_targets

TargetSource = Literal["hit", "miss", "file"]
"""Where a picture's targets came from: all of them from the cache, some computed, or a file."""

# The precision that each extractor computes fp32 graphs in: TensorRT takes TF32 for it.
_PRECISIONS = {"onnx": "fp32", "torch": "fp32", "tensorrt": "tf32"}

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
        device: of the run, if it was chosen already.
        weights_sha256: of the settings' weights, if it is known already.
        store: where targets are looked up and kept; None takes the cache, if the settings do.

    Raises:
        WeightsError: the weights' file is missing or damaged.
        UsageError: the device is unknown, or the cache's limit in the environment is no size.
    """

    def __init__(
        self,
        settings: Settings,
        device: Device | None = None,
        weights_sha256: str | None = None,
        store: TargetStore | TargetMemory | None = None,
    ) -> None:
        self._settings = settings
        self._device = settle(settings.device) if device is None else device
        self.weights_sha256 = weights_sha256 or weights_digest(settings.weights)
        self._store = TargetStore() if store is None and settings.use_cache else store
        for kind in CACHE_KINDS if settings.use_cache else ():
            sweep_litter(cache_folder() / kind)
        self._opened: OpenedExtractor | None = None

    @property
    def keeps(self) -> bool:
        """Whether what is computed can be kept in the cache."""
        return self._store is not None and self._store.keeps

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
            DeviceError, ModelError, WeightsError: as `nstx.engine.features.opening.open_extractor`.
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
        picture, wanted = request.picture, request.wanted
        if not wanted or not request.sizes:
            return [Features({}, {}) for _ in request.sizes], None
        digest = picture.digest if self._store else ""
        loaded = []
        source: TargetSource = "hit"
        for size in request.sizes:
            values = self._read(digest, size, wanted)
            missing = [each for each in wanted if each not in values]
            if missing:
                source = "miss"
                computed = self._compute(picture, size, missing)
                self._keep(digest, size, computed, picture.path)
                values.update(computed)
            loaded.append(_as_features(values))
        return loaded, source

    def _read(
        self, digest: str, size: tuple[int, int], wanted: Sequence[_Wanted]
    ) -> dict[_Wanted, Array]:
        """Return what the store has of a picture at a size."""
        found: dict[_Wanted, Array] = {}
        if self._store is None:
            return found
        for each in wanted:
            for name in self._acceptable():
                value = self._store.read(self._key(digest, size, each, name))
                if value is not None:
                    found[each] = value
                    break
        return found

    def _acceptable(self) -> tuple[str, ...]:
        """Return the extractors whose values are taken, without a look at which would load.

        On the CPU ``auto`` is ONNX Runtime. On CUDA it is PyTorch if ONNX Runtime lacks that
        provider, which takes seconds to find out.
        """
        if self._settings.extractor != "auto":
            return (self._settings.extractor,)
        return {"cpu": ("onnx",), "mps": ("torch",)}.get(self._device.kind, ("onnx", "torch"))

    def _keep(
        self, digest: str, size: tuple[int, int], values: Mapping[_Wanted, Array], path: str
    ) -> None:
        if self._store is None:
            return
        if Path(path).exists():
            path = str(Path(path).absolute())
        for each, value in values.items():
            self._store.write(self._key(digest, size, each, self._open().name), value, path)

    def _compute(
        self, picture: Picture, size: tuple[int, int], missing: Sequence[_Wanted]
    ) -> dict[_Wanted, Array]:
        layers = {
            statistic: [layer for layer, kind in missing if kind == statistic]
            for statistic in ("activation", "gram")
        }
        check_memory(size, self._device, FEATURE_BYTES)
        with memory_errors(size):
            features = self._open().extractor.extract(
                resize_picture(picture, *size), layers["activation"], layers["gram"]
            )
        computed: dict[_Wanted, Array] = {}
        for layer, kind in missing:
            value = features.activations[layer] if kind == "activation" else features.grams[layer]
            if not np.isfinite(value).all():
                raise NumericalError(
                    f"expected finite targets of {picture.path}, got NaN or infinity in {layer}; "
                    "try pixels of 0–255, or other weights"
                )
            computed[layer, kind] = as_stored(value) if kind == "gram" else value
        return computed

    def _open(self) -> OpenedExtractor:
        if self._opened is None:
            settings = self._settings
            objective = settings.objective
            choices = Extraction(
                extractor=settings.extractor,
                device=str(self._device),
                pooling=objective.pooling,
                pool_rounding=objective.pool_rounding,
                weights=settings.weights,
                threads=settings.threads,
                use_cache=settings.use_cache,
            )
            self._opened = open_extractor(choices, objective.layers)
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
            computed_by=f"{name} {self._device.kind} {_PRECISIONS[name]}",
        )


def _as_features(found: Mapping[_Wanted, Array]) -> Features:
    return Features(
        {layer: value for (layer, kind), value in found.items() if kind == "activation"},
        {layer: value for (layer, kind), value in found.items() if kind == "gram"},
    )
