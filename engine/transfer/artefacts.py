"""The artefacts of a picture, beside the photograph and the paintings that it was made of."""

from typing import Unpack

from nstx.models.arguments import check_arguments
from nstx.models.presets import Preset

from ..artefacts.measure import Artefacts, find_artefacts
from ..choices import ChoicesButInit
from ..devices.memory import memory_errors
from ..pictures.reading import Source
from ..preparation.evaluated import allow_large, take_beside, take_evaluated
from ..preparation.inputs import Styles, fit_to, take_settings, take_styles
from ..settings import PresetName, Settings
from ..targets.paintings import fit_beside


@check_arguments
def measure_artefacts(
    picture: Source,
    content: Source,
    styles: Styles,
    settings: Settings | None = None,
    *,
    preset: PresetName | Preset | str = "default",
    **choices: Unpack[ChoicesButInit],
) -> Artefacts:
    """Return what shows of a picture's pixels before its style does.

    Args:
        picture: of up to 89 million pixels; it is not resized. Like the others, a path, a `Picture`, an array or
            an image of Pillow's. Where it is not opaque its colours count, seen or not.
        content: the content picture, brought to the size of ``picture``.
        styles: one or several, each by itself or with a weight above 0; brought to the size that
            goes with it.
        settings: whose style scale is used, in place of the preset and choices.
        preset: that the settings start from.
        choices: what differs from the preset; see `choose_settings`.

    Raises:
        UsageError: the picture is under 16 pixels on a side.
    """
    settings, _ = take_settings(settings, preset, choices)
    settings, picture = allow_large(settings), take_evaluated(picture)
    with memory_errors(picture.size):
        photograph = take_beside(content, picture.size, settings)
        weighted = take_styles(styles, fit_beside(picture.size, settings))
        pixels, photographed, paintings = fit_to(picture, photograph, weighted, settings)
        return find_artefacts(pixels, photographed, [style for style, _ in paintings])
