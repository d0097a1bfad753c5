"""A job: pictures and settings, made ready to run."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from nstx.models.arguments import check_arguments, with_example
from nstx.models.presets import Preset

from ..artefacts.grain import Grain
from ..choices import ChoicesButInit
from ..colours.linear import match_colours
from ..colours.modes import Colouring, as_compared
from ..devices.memory import memory_errors
from ..gradients.ahead import finish_loading, is_loading
from ..gradients.backend import GradientBackend
from ..gradients.choice import BackendChoice, PrecisionPolicy
from ..gradients.gated import Gate, close
from ..gradients.opening import BackendFactory
from ..pictures.picture import EIGHT_BITS, Encoding, InputFile, Picture, Pixels
from ..pictures.reading import Source
from ..pictures.resizing import resize_alpha, resize_beyond, resize_picture, resize_pixels
from ..preparation.backends import fit_memory, open_for, share_backend
from ..preparation.inputs import (
    Styles,
    check_one_region,
    read_start,
    take_content,
    take_placement,
    take_settings,
)
from ..preparation.starts import make_start
from ..preparation.warnings import warn_of_enlargement, warn_of_uncleaned
from ..regions.masks import Mask, Region, make_regions
from ..regions.placement import Placement
from ..settings import Init, PresetName, Settings
from ..sizes import choose_sizes, result_size
from ..targets.detail import with_details
from ..targets.loader import LoadedTargets, TargetLoader
from ..targets.paintings import measure_grains, single_grains
from ..targets.store import TargetStore
from ..targets.targets import Targets

_FAR = 64.0
"""Of 255: where a result's channels differ so much from its content's, it has none of its colours beyond sRGB."""


@with_example("prepare_job('photo.jpg', 'painting.jpg')")
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Job:
    """A transfer that is ready to run: everything that does not change while it does.

    Attributes:
        settings: of the run, with the tile by which memory holds it; ``init`` counts in place of theirs.
        contents: the content picture at each scale as it is compared, coarse first; the last is of the result's
            size. Where it is fully transparent, it has the colours around.
        colouring: what becomes of the result's colours.
        alpha: that the result will have, uint8 (height, width); None if it is opaque.
        encoding: of the content picture's file, which that of the result may keep.
        beyond: the content picture's colours beyond sRGB (`Picture.beyond`), at the result's size.
        loaded: the targets of each scale, and where they came from.
        grain: of the style pictures, that the result's flat areas may have; None if it is not cleaned.
        init: the picture to start from, if one was named, or the content in the styles' colours.
        regions: the colours of each region of a map; without one there are none.
        opened: makes gradient backends, which share weights, device and precision.
        extractor: that computed targets, and its provider or device, such as ``onnx`` and
            ``CPUExecutionProvider``; None if none had to be computed.
        target_seconds: that it took to load the targets.
        inputs: the pictures, or the targets file, that it was made of.
    """

    settings: Settings
    contents: tuple[Pixels, ...] = field(repr=False)
    colouring: Colouring = field(repr=False)
    alpha: NDArray[np.uint8] | None = field(default=None, repr=False)
    encoding: Encoding = EIGHT_BITS
    beyond: Pixels | None = field(default=None, repr=False)
    loaded: LoadedTargets
    grain: Grain | None = None
    init: Picture | None
    regions: tuple[tuple[str, ...], ...] = ()
    opened: BackendFactory = field(repr=False)
    extractor: tuple[str, str] | None = None
    target_seconds: float = 0.0
    inputs: tuple[InputFile, ...] = ()

    @property
    def targets(self) -> tuple[Targets, ...]:
        """The targets of each scale, coarse first."""
        return self.loaded.targets

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each scale, coarse first; the last is the result's."""
        return tuple((pixels.shape[0], pixels.shape[1]) for pixels in self.contents)

    def backend(self, scale: int) -> GradientBackend:
        """Return the cost with its gradient at a scale, bound to its targets."""
        problems = [(self.settings.objective, self.targets[scale])]
        return self.opened.bind(problems, scale, len(self.sizes))

    def gate(self, scale: int) -> Gate | None:
        """Return where the picture of a scale may change, and what it is elsewhere; None if it may everywhere."""
        region = self.targets[scale].region
        opens = None if region is None else region.gate
        return None if opens is None else (opens, self.contents[scale])

    def picture(
        self, pixels: Pixels | NDArray[np.uint8], manifest: Mapping[str, Any] | None = None
    ) -> Picture:
        """Return a picture of the result's size, with what the content has besides its pixels.

        Its colours beyond sRGB fade where the picture departs from it. Of a result, it has a manifest.
        """
        beyond = self.beyond
        if beyond is not None:
            distance = np.abs(pixels - self.colouring.content).max(2, keepdims=True)
            beyond = beyond * (1 - distance / np.float32(_FAR)).clip(0, 1)
        return Picture(pixels, self.alpha, encoding=self.encoding, beyond=beyond, manifest=manifest)

    def start(self, scale: int, reached: Pixels | None = None) -> Pixels:
        """Return what a scale's solver starts from: clipped, if the settings clip.

        That is the start of the run, or the picture that the scale before has reached, enlarged, with the detail that
        the content has at this scale and had not at that one.
        """
        if reached is None:
            init = self.init or self.settings.init
            pixels = make_start(init, self.contents[scale], self.opened.mean, self.settings.seed)
            return self._confine(self.colouring.compare(pixels), scale)
        pixels = resize_pixels(reached, *self.sizes[scale])
        if self.settings.objective.content_weight > 0:
            pixels += self.contents[scale]
            pixels -= resize_pixels(self.contents[scale - 1], *self.sizes[scale])
        return self._confine(pixels, scale)

    def enlarge(self, reached: Pixels) -> Pixels:
        """Return the picture of a coarser scale at the result's size."""
        return self._confine(resize_pixels(reached, *self.sizes[-1]), -1)

    def _confine(self, pixels: Pixels, scale: int) -> Pixels:
        """Return a picture within 0–255, if the settings clip, that is the photograph where it may not change."""
        pixels = pixels.clip(0, 255) if self.settings.clip else pixels
        gate = self.gate(scale)
        return pixels if gate is None else close(gate, pixels)


@check_arguments
def prepare_job(
    content: Source,
    styles: Styles = (),
    settings: Settings | None = None,
    *,
    preset: PresetName | Preset | str = "default",
    init: Init | Source | None = None,
    mask: Source | None = None,
    regions: Source | None = None,
    style_for: Mapping[str, Styles] | None = None,
    like: Job | None = None,
    store: TargetStore | None = None,
    policy: PrecisionPolicy | None = None,
    **choices: Unpack[ChoicesButInit],
) -> Job:
    """Load the weights and compute the targets of every scale.

    Args:
        content: the content picture, as a path, a `Picture`, an array or an image of Pillow's
            (`nstx.engine.pictures.reading.as_picture`).
        styles: a style picture, or several, each by itself or with a weight above 0. With ``regions`` they are for
            what ``style_for`` does not name, and may be left out.
        settings: of the run, in place of the preset and choices.
        preset: that the settings start from.
        init: the start, in place of the settings': its name, or a picture.
        mask: where the styles apply: a picture that is white there and black where the content stays as it is; or
            ``alpha``, the content's own transparency.
        regions: a map of the content, in which each region has a colour of its own.
        style_for: styles by colours of the map, as ``{"#ff0000": "painting.jpg", "blue": ["one.jpg", "two.jpg"]}``.
            Where there is none, the content stays as it is. With a mask, they apply within it.
        like: a job whose gradient backend is shared; `UsageError` if these settings need another.
        store: where targets are looked up and kept; None takes the cache, if the settings do.
        policy: of low precisions, for ``auto`` to choose by; None takes the usual one.
        choices: what differs from the preset, such as ``size=1024``; see `choose_settings`.
    """
    settings, start = take_settings(settings, preset, choices, init)
    photograph = take_content(content, settings)
    size = result_size(photograph.size, settings)
    placement = take_placement(
        photograph, styles, mask, regions, style_for, size=size, settings=settings
    )
    check_one_region(settings, placement)
    return make_job(
        photograph, placement, settings, init=start, like=like, store=store, policy=policy
    )


def make_job(
    photograph: Picture,
    placement: Placement,
    settings: Settings,
    *,
    init: Picture | None = None,
    like: Job | None = None,
    store: TargetStore | None = None,
    policy: PrecisionPolicy | None = None,
) -> Job:
    """Do what `prepare_job` does with pictures of `take_input`, and whole settings."""
    sizes = choose_sizes(photograph.size, placement.sizes, settings)
    regions = make_regions(photograph, placement.mask, sizes, placement.parts)
    count = 0 if regions[-1] is None else placement.count
    grains = _grains_ahead(photograph, placement, sizes[-1], settings) if is_loading() else None
    settings, choice = fit_memory(settings, sizes[-1], policy, regions=count)
    opened = open_or_share(settings, sizes[-1], choice, count, like)
    warn_of_enlargement(photograph, sizes[-1])
    with memory_errors(sizes[-1]):
        alpha = resize_alpha(photograph, *sizes[-1])
        content, styles = as_compared(settings.colors, photograph, placement.paintings)
        contents = tuple(resize_picture(content, *size, settings.resampling) for size in sizes)
        in_colour = contents[-1]
        if content is not photograph:
            in_colour = resize_picture(photograph, *sizes[-1], settings.resampling)
        began = time.perf_counter()
        device, digest = opened.choice.device, opened.weights_sha256
        loader = TargetLoader(settings, device=device, weights_sha256=digest, store=store)
        loaded = loader.load(content, styles, sizes, contents, regions, placement.places)
        styles = placement.weigh(styles, loaded.targets[-1].areas)
        grain = None
        if _cleans(settings):
            grain = measure_grains(styles, sizes[-1], settings, grains)
        warn_of_uncleaned(settings, sizes[-1], grain)
        seconds = time.perf_counter() - began
        start = init = init or read_start(settings, sizes[-1])
        if settings.colors == "only" or (start is None and settings.init == "matched"):
            start = match_colours(Picture(contents[-1], alpha), styles)
    finish_loading()
    return Job(
        settings=settings,
        contents=contents,
        colouring=colour(settings, in_colour, alpha, regions[-1]),
        alpha=alpha,
        encoding=photograph.encoding,
        beyond=resize_beyond(photograph, *sizes[-1], settings.resampling),
        loaded=replace(loaded, targets=with_details(loaded.targets, contents, settings.objective)),
        grain=grain,
        init=start,
        regions=tuple(filter(None, placement.colours)),
        opened=opened,
        extractor=loader.extractor,
        target_seconds=seconds,
        inputs=(
            photograph.as_input("content"),
            *placement.describe(),
            *placement.files,
            *([] if init is None else [init.as_input("init")]),
        ),
    )


def _cleans(settings: Settings) -> bool:
    return settings.clean and settings.most_steps > 0


def _grains_ahead(
    photograph: Picture, placement: Placement, size: tuple[int, int], settings: Settings
) -> list[Grain | None] | None:
    """Return the paintings' grains, which the host has time for while PyTorch is loaded; None if they are not needed."""
    if not _cleans(settings):
        return None
    with memory_errors(size):
        _, styles = as_compared(settings.colors, photograph, placement.paintings)
        return single_grains(styles, size, settings)


def open_or_share(
    settings: Settings,
    size: tuple[int, int],
    choice: BackendChoice,
    regions: int,
    like: Job | None,
) -> BackendFactory:
    """Return the backend of a job of its own, or of another one."""
    if like is None:
        return open_for(settings, size, choice, regions=regions)
    return share_backend(like.opened, like.settings, settings, choice, regions=regions)


def colour(
    settings: Settings, content: Pixels, alpha: Mask | None, region: Region | None
) -> Colouring:
    """Return what becomes of the colours of a result that has these of its content outside its region."""
    if region is None or region.mask is None:
        return Colouring(settings.colors, content, alpha)
    return Colouring(settings.colors, content, region.counts, region.cover)
