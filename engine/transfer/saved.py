"""A job from a targets file, without its pictures."""

from typing import Unpack

from nstx.models.arguments import check_arguments
from nstx.models.errors import UsageError
from nstx.models.presets import Preset

from ..choices import ChoicesButInit
from ..gradients.ahead import finish_loading
from ..pictures.picture import Encoding
from ..pictures.reading import Source
from ..preparation.backends import fit_memory
from ..preparation.inputs import check_needs_no_styles, read_start, take_settings
from ..preparation.warnings import warn_of_uncleaned
from ..settings import Init, PresetName, Settings
from ..targets.basis import SIZES
from ..targets.detail import with_details
from ..targets.files import SavedTargets, check_targets
from ..targets.loader import LoadedTargets
from .job import Job, colour, open_or_share


@check_arguments
def prepare_job_from_targets(
    saved: SavedTargets,
    settings: Settings | None = None,
    *,
    preset: PresetName | Preset | str = "default",
    init: Init | Source | None = None,
    like: Job | None = None,
    **choices: Unpack[ChoicesButInit],
) -> Job:
    """Prepare a run from targets that were computed earlier, without their pictures.

    Args:
        saved: from `read_targets`.
        settings: of the run, in place of the preset and choices; their sizes are those of the targets.
        preset: that the settings start from.
        init: the start, in place of the settings': its name, or a picture.
        like: a job whose gradient backend is shared; `UsageError` if these settings need another.
        choices: what differs from the preset; see `choose_settings`.

    Raises:
        UsageError: the targets are of another objective, or of other weights; or a choice is a size.
        ImageError, WeightsError, DeviceError: as `prepare_job`.
    """
    if chosen := [name for name in SIZES if choices.get(name) is not None]:
        raise UsageError(
            f"expected targets without sizes, as they have their own, got {', '.join(chosen)}; "
            "try prepare_job with the pictures"
        )
    settings, start = take_settings(settings, preset, choices, init)
    check_needs_no_styles(settings, start)
    region = saved.targets[-1].region
    size = saved.contents[-1].shape[:2]
    count = 0 if region is None else len(saved.targets[-1].areas)
    settings, choice = fit_memory(settings, size, regions=count)
    opened = open_or_share(settings, size, choice, count, like)
    check_targets(saved, settings.objective, opened.weights_sha256, colors=settings.colors)
    start = start or read_start(settings, size)
    warn_of_uncleaned(settings, size, saved.grain, "or their file is older")
    colouring = colour(settings, saved.contents[-1], saved.alpha, region)
    contents = tuple(map(colouring.compare, saved.contents))
    targets = with_details(saved.targets, contents, settings.objective)
    finish_loading()
    return Job(
        settings=settings,
        contents=contents,
        colouring=colouring,
        alpha=saved.alpha,
        encoding=Encoding(depth=saved.depth),
        loaded=LoadedTargets(targets=targets, content="file", styles=("file",)),
        grain=saved.grain if settings.clean else None,
        init=start,
        opened=opened,
        inputs=(
            *filter(None, [saved.file]),
            *([] if start is None else [start.as_input("init")]),
        ),
    )
