"""Targets of pictures: read from a store, or else computed and kept there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nstx.models.errors import NumericalError
from nstx.models.printable import printable
from nstx.models.storage.cache import CACHE_KINDS, cache_folder, keeps_cache, sweep_litter
from nstx.models.weights.load import weights_digest

from ..devices.device import Device, settle
from ..devices.memory import memory_errors
from ..pictures.picture import Picture, Pixels, WeightedPicture
from ..pictures.resizing import resize_picture
from ..planning.fitting import check_features
from ..regions.masks import SEEN, Region, layer_shares, make_regions
from ..settings import Settings
from ..sizes import style_size
from ..tiles.kept import KeptActivation
from ..tiles.layout import TileLayout, tiles_of
from .paintings import check_served, serves
from .store import Kept, TargetFolder, TargetKey, TargetStore, as_stored
from .targets import Array, Targets, make_targets
from .tiled import extract_by_first, extract_content, smaller_tiles

if TYPE_CHECKING:
    from ..features.extraction import Extraction, OpenedExtractor

TargetSource = Literal["hit", "miss", "file"]
"""Where a picture's targets came from: all of them from the cache, some computed, or a file."""

# The precision that each extractor computes fp32 graphs in: TensorRT takes TF32 for it.
_PRECISIONS = {"onnx": "fp32", "torch": "fp32", "tensorrt": "tf32"}

Role = Literal["content", "style"]

_Size = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Request:
    """What is needed of a picture at one size; the digest is empty without a store.

    ``pixels`` are the picture's at that size, where somebody has them already. ``region`` is of a style that is not
    opaque: what counts in its statistics; None where all does.
    """

    picture: Picture
    digest: str
    size: _Size
    role: Role
    pixels: Pixels | None
    region: Region | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedTargets:
    """The targets of each scale, coarse first, with each picture's source, None if unneeded."""

    targets: tuple[Targets, ...]
    content: TargetSource | None
    styles: tuple[TargetSource | None, ...]


class TargetLoader:
    """Loads targets; the weights and an extractor are opened only when one must be computed.

    None as ``device`` or ``weights_sha256`` takes the settings', as ``store`` the cache if the
    settings do, as ``opener`` `nstx.engine.features.extraction.open_extractor`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        device: Device | None = None,
        weights_sha256: str | None = None,
        store: TargetStore | None = None,
        opener: "Callable[[Extraction, Sequence[str]], OpenedExtractor] | None" = None,
    ) -> None:
        self._settings = settings
        self._device = settle(settings.device) if device is None else device
        self.weights_sha256 = weights_sha256 or weights_digest(
            settings.weights, settings.objective.preprocessing
        )
        use_cache = keeps_cache(settings.use_cache)
        self._store = TargetFolder() if store is None and use_cache else store
        for kind in CACHE_KINDS if use_cache else ():
            sweep_litter(cache_folder() / kind)
        self._opener = opener
        self._opened: OpenedExtractor | None = None

    @property
    def keeps(self) -> bool:
        """Whether what is computed can be kept."""
        return self._store is not None and self._store.keeps

    @property
    def extractor(self) -> tuple[str, str] | None:
        """What computed targets and what it ran on; None if nothing had to be computed yet."""
        return None if self._opened is None else (self._opened.name, self._opened.runs_on)

    def load(
        self,
        content: Picture,
        styles: Sequence[WeightedPicture],
        sizes: Sequence[_Size],
        contents: Sequence[Pixels] = (),
        regions: Sequence[Region | None] = (),
        places: Sequence[int] = (),
    ) -> LoadedTargets:
        """Return the targets of a content picture and its styles at each of a run's sizes.

        ``contents`` is the content picture at these sizes; without it, it is resized if need be. ``regions`` are
        where the styles apply in it, and ``places`` in which of several each does.

        `UsageError` if a style picture would be too small, or a style layer has no style, `NumericalError` if a
        target is not finite.
        """
        check_served(styles, places, self._settings.objective)
        activations, source = self._load_content(content, sizes, contents)
        loaded = [self.load_picture(picture, "style", sizes) for picture, _ in styles]
        weights = [weight for _, weight in styles]
        targets = []
        for index, size in enumerate(sizes):
            grams = [values[index] for values, _ in loaded]
            blend = list(zip(grams, weights, strict=True))
            region = regions[index] if regions else None
            shares = layer_shares(region, self._settings.objective)
            targets.append(make_targets(size, activations[index], blend, shares, region, places))
        return LoadedTargets(
            targets=tuple(targets), content=source, styles=tuple(source for _, source in loaded)
        )

    def _load_content(
        self, picture: Picture, sizes: Sequence[_Size], resized: Sequence[Pixels]
    ) -> tuple[list[Mapping[str, Array | KeptActivation]], TargetSource | None]:
        """Return activations of a content at each size; what is evaluated by tiles is computed, and not stored."""
        layouts = [tiles_of(self._settings, size) for size in sizes]
        whole = layouts.count(None)  # the coarse ones
        loaded, source = self.load_picture(picture, "content", sizes[:whole], resized[:whole])
        layers, kept = self._settings.objective.content_names, list[dict[str, KeptActivation]]()
        for size, layout, pixels in list(zip_longest(sizes, layouts, resized))[whole:]:
            kept.append({})
            if not layers or layout is None:
                continue
            source = "miss"
            with memory_errors(size):
                pixels = self._fit(picture, size, pixels)
                folder = cache_folder() if self.keeps else None
                kept[-1] = extract_content(self._open().extractor, pixels, layout, layers, folder)
        return [*loaded, *kept], source

    def _fit(self, picture: Picture, size: _Size, pixels: Pixels | None) -> Pixels:
        return (
            resize_picture(picture, *size, self._settings.resampling) if pixels is None else pixels
        )

    def load_picture(
        self,
        picture: Picture,
        role: Role,
        sizes: Sequence[_Size],
        resized: Sequence[Pixels] = (),
    ) -> tuple[list[dict[str, Array]], TargetSource | None]:
        """Return activations of a content, or Gram matrices and moments of a style, and their source.

        They go by layer, for results of each size; what is not stored is computed.
        """
        layers = self._settings.objective.content_names
        if role == "style":
            settings = self._settings
            layers = tuple(name for name in settings.objective.style_names if serves(picture, name))
            scale, stretch = settings.style_scale, settings.stretch
            sizes = [style_size(picture.size, size, scale, stretch=stretch) for size in sizes]
        if not layers or not sizes:
            return [{} for _ in sizes], None
        digest = "" if self._store is None else picture.digest
        opaque: list[Region | None] = [None] * len(sizes)
        regions = opaque if role == "content" else make_regions(picture, None, sizes)
        loaded = []
        source: TargetSource = "hit"
        for size, region, pixels in zip_longest(sizes, regions, resized):
            request = _Request(
                picture=picture, digest=digest, size=size, role=role, pixels=pixels, region=region
            )
            values = self._read(request, layers)
            missing = [layer for layer in layers if layer not in values]
            if missing:
                source = "miss"
                computed = self._compute(request, missing)
                self._keep(request, computed)
                values |= computed
            loaded.append(values)
        return loaded, source

    def _read(self, request: _Request, layers: Sequence[str]) -> dict[str, Array]:
        values: dict[str, Array] = {}
        if self._store is None:
            return values
        for layer in layers:
            for extractor in self._acceptable():
                value = self._store.read(self._key(request, layer, extractor))
                if value is not None:
                    values[layer] = value
                    break
        return values

    def _acceptable(self) -> tuple[str, ...]:
        """Return the extractors whose values are taken, without a look at which would load."""
        # On the CPU auto is ONNX Runtime. On CUDA it is PyTorch if ONNX Runtime lacks that
        # provider, which takes seconds to find out.
        if self._settings.extractor != "auto":
            return (self._settings.extractor,)
        return {"cpu": ("onnx",), "mps": ("torch",)}.get(self._device.kind, ("onnx", "torch"))

    def _keep(self, request: _Request, values: Mapping[str, Array]) -> None:
        if self._store is None:
            return
        path = request.picture.path
        if Path(path).exists():
            path = str(Path(path).parent.resolve() / Path(path).name)
        for layer, value in values.items():
            key = self._key(request, layer, self._open().name)
            self._store.write(key, value, path)

    def _compute(self, request: _Request, layers: Sequence[str]) -> dict[str, Array]:
        layout = tiles_of(self._settings, request.size) if request.role == "style" else None
        if self._device.is_cpu:
            check_features(self._settings, request.size, layout)
        with memory_errors(request.size):
            pixels = self._fit(request.picture, request.size, request.pixels)
            kinds = {layer: self._kept(request, layer) for layer in layers}
            shares = None
            if request.region is not None:
                shares = layer_shares(request.region, self._settings.objective)
            layouts: list[TileLayout | None] = [layout]
            if not self._device.is_mps:
                layouts += smaller_tiles(request.size, layout, self._settings.objective)
            values = extract_by_first(self._open().extractor, pixels, layouts, kinds, shares)
        for layer in layers:
            if not np.isfinite(values[layer]).all():
                raise NumericalError(
                    f"expected finite targets of {printable(request.picture.path)}, got NaN or infinity in "
                    f"{layer}; try pixels of 0–255, or other weights"
                )
        return {
            layer: value if kinds[layer] == "activation" else as_stored(value)
            for layer, value in values.items()
        }

    def _kept(self, request: _Request, layer: str) -> Kept:
        if request.role == "content":
            return "activation"
        return "gram" if self._settings.objective.statistics[layer] == "gram" else "moments"

    def _open(self) -> "OpenedExtractor":
        if self._opened is None:
            # A run whose targets are all kept needs no graphs for them.
            from ..features.extraction import Extraction, open_extractor

            settings, objective = self._settings, self._settings.objective
            extraction = Extraction(
                extractor=settings.extractor,
                device=str(self._device),
                pooling=objective.pooling,
                pool_rounding=objective.pool_rounding,
                preprocessing=objective.preprocessing,
                weights=settings.weights,
                threads=settings.threads,
                use_cache=settings.use_cache,
            )
            opener = self._opener or open_extractor
            self._opened = opener(extraction, objective.layers)
        return self._opened

    def _key(self, request: _Request, layer: str, extractor: str) -> TargetKey:
        return TargetKey(
            picture=request.digest,
            height=request.size[0],
            width=request.size[1],
            layer=layer,
            statistic=self._kept(request, layer),
            pooling=self._settings.objective.pooling,
            pool_rounding=self._settings.objective.pool_rounding,
            weights=self.weights_sha256,
            computed_by=f"{extractor} {self._device.kind} {_PRECISIONS[extractor]}",
            resampling=self._settings.resampling,
            region="" if request.region is None else SEEN,
        )
