"""The cost of pictures: at the scales of a job, and of any picture by the yardstick."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from nstx.models.arguments import check_arguments
from nstx.models.cost import Cost
from nstx.models.errors import NumericalError
from nstx.models.presets import Preset
from nstx.models.reference.cost import reference_cost

from ..choices import ChoicesButInit
from ..devices.memory import memory_errors
from ..gradients.ahead import take_weights
from ..gradients.backend import GradientBackend
from ..pictures.picture import Picture, Pixels
from ..pictures.reading import Source, read_image
from ..planning.fitting import has_room
from ..planning.memory_model import load_of
from ..preparation.evaluated import allow_large, take_beside, take_evaluated
from ..preparation.inputs import Styles, fit_to, take_placement, take_settings
from ..regions.masks import layer_shares, make_regions
from ..regions.positions import Values
from ..settings import PresetName, Settings
from ..targets.paintings import check_served

if TYPE_CHECKING:
    from .job import Job


class BoundCosts:
    """The cost with its gradient, bound to the targets of one scale of a job at a time.

    Binding moves the targets to the device; whatever a scale needs is freed before the next is bound.
    """

    def __init__(self, job: "Job") -> None:
        self._job = job
        self._bound: tuple[int, GradientBackend] | None = None

    def at(self, scale: int) -> GradientBackend:
        """Return the cost at a scale, counted from 0; -1 is the result's."""
        scale %= len(self._job.sizes)
        if self._bound is None or self._bound[0] != scale:
            self._bound = None
            self._bound = scale, self._job.backend(scale)
        return self._bound[1]

    def measure(self, pixels: Pixels) -> Cost:
        """Return the cost of any picture of the result's size, whatever its colours."""
        with memory_errors(self._job.sizes[-1]):
            return self.at(-1).cost(self._job.colouring.compare(pixels))

    def measure_file(self, path: Path) -> Cost:
        """Return the cost of the file that a picture was written to; `ImageError` if it cannot be read.

        Of a picture that is not opaque, the colours count, seen or not, and their alpha does not.
        """
        return self.measure(read_image(path, trusted=True).pixels.astype(np.float32))


@check_arguments
def evaluate_picture(
    picture: Source,
    content: Source,
    styles: Styles = (),
    settings: Settings | None = None,
    *,
    mask: Source | None = None,
    regions: Source | None = None,
    style_for: Mapping[str, Styles] | None = None,
    preset: PresetName | Preset | str = "default",
    **choices: Unpack[ChoicesButInit],
) -> Cost:
    """Return the cost of a picture under the settings' objective, in float64.

    Args:
        picture: of up to 89 million pixels; it is not resized; in grey, if ``colors`` is ``luminance``. Like the others, a path, a `Picture`, an array or
            an image of Pillow's. Where it is not opaque its colours count, seen or not.
        content: the content picture, filled where it is transparent as for a run
            (`nstx.engine.pictures.transparency.fill_transparent`); brought to the size of ``picture``.
        styles: one or several, each by itself or with a weight above 0; brought to the size that
            goes with it.
        settings: whose objective, style scale and weights are used, in place of the preset and choices.
        mask: where the styles apply; see `nstx.prepare_job`, also of ``regions`` and ``style_for``.
        regions: a map of the content.
        style_for: styles by colours of the map.
        preset: that the settings start from.
        choices: what differs from the preset; see `choose_settings`.

    Raises:
        UsageError: the picture is under 16 pixels on a side.
        WeightsError: the weights cannot be loaded.
        NumericalError: the cost is not finite.
    """
    settings, _ = take_settings(settings, preset, choices)
    settings, picture = allow_large(settings), take_evaluated(picture)
    with memory_errors(picture.size):
        content = take_beside(content, picture.size, settings)
        placement = take_placement(
            content, styles, mask, regions, style_for, size=picture.size, settings=settings
        )
        weighted = placement.paintings
        check_served(weighted, placement.places, settings.objective)
        pixels, photograph, paintings = fit_to(picture, content, weighted, settings)
        weights = take_weights(settings)
        (region,) = make_regions(content, placement.mask, [picture.size], placement.parts)
        style_shares = [
            _shares(settings, style, fitted.shape[:2])
            for (style, _), (fitted, _) in zip(weighted, paintings, strict=True)
        ]
        cost = reference_cost(
            settings.objective, weights, pixels, photograph, paintings,
            shares=layer_shares(region, settings.objective), style_shares=style_shares,
            areas=(1.0,) if region is None else region.areas, style_regions=placement.places,
            style_layers=[style.layers for style, _ in weighted],
        )  # fmt: skip
    if not math.isfinite(cost.total):
        raise NumericalError("expected a finite cost, got NaN or infinity; try smaller weights")
    return cost


def _shares(settings: Settings, painting: Picture, size: tuple[int, int]) -> dict[str, Values]:
    """Return how much each position of a painting counts, by style layer; of layers in which all count alike, none."""
    (region,) = make_regions(painting, None, [size])
    return layer_shares(region, settings.objective)


def try_memory(job: "Job") -> Cost | None:
    """Evaluate the start at the result's size where a device may report that its memory is exhausted.

    So that it does so now and not after hours. The backend is bound for this alone, and what it needs is
    free afterwards; it evaluates twice, as a checked one computes otherwise the second time. None where
    there is memory enough, as the evaluation would keep the first step waiting; a CPU's is compared with
    the size before (`fit_memory`).
    """
    choice = job.opened.choice
    if choice.device.is_cpu or len(job.sizes) == 1:
        return None
    if has_room(load_of(job.settings, job.sizes[-1], choice), choice.device):
        return None
    trial, start = job.backend(-1), job.start(-1)
    cost, _ = trial.cost_and_gradient(start)
    trial.cost_and_gradient(start)
    return cost
