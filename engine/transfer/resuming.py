"""Going on with a run from its checkpoint alone, which names its pictures and has its settings."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from nstx.models.arguments import check_arguments
from nstx.models.errors import UsageError
from nstx.models.printable import printable

from ..checkpoints.keeper import MINUTES, check_minutes
from ..checkpoints.manifest import Manifest
from ..checkpoints.reading import find_manifest
from ..pictures.picture import InputFile
from ..preparation.inputs import read_start_at, take_content
from ..sizes import result_size
from ..targets.files import read_targets
from ..targets.paintings import join_painting
from .job import Job, prepare_job
from .progress import Step
from .result import Result
from .run import run_job
from .saved import prepare_job_from_targets


@check_arguments
def resume(
    folder: str | os.PathLike[str],
    *,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint_every: float = MINUTES,
) -> Result:
    """Go on with the run that is kept in a folder, as if it had not stopped: see `run_job`, whose errors it raises.

    Its pictures are read again, from where they were.

    Args:
        folder: of its checkpoint, where it is kept on.
        on_step: called after each step that is still to make.
        should_stop: called before each evaluation, and between its tiles; True ends the run at its last finished step.
        checkpoint_every: minutes from one checkpoint to the next.

    Raises:
        UsageError: there is no checkpoint, it is damaged or of another version, a picture or the weights are others
            than they were, or one came from no file.
    """
    check_minutes(checkpoint_every)
    folder = Path(folder)
    job = _prepare(find_manifest(folder), folder)
    return run_job(
        job, on_step=on_step, should_stop=should_stop, checkpoint=folder, checkpoint_every=checkpoint_every
    )  # fmt: skip


def _prepare(manifest: Manifest, folder: Path) -> Job:
    if unnamed := sorted({item.role for item in manifest.inputs if item.sha256 is None}):
        raise UsageError(
            f"expected a run of files in {printable(folder)}, got one whose {' and '.join(unnamed)} came from "
            "none; try the call that began it, with the same pictures and checkpoint"
        )
    paths: dict[str, list[tuple[str, float]]] = {}
    for item in manifest.inputs:
        paths.setdefault(item.role, []).append(
            (item.path, 1.0 if item.weight is None else item.weight)
        )
    if "targets" in paths:
        return prepare_job_from_targets(read_targets(paths["targets"][0][0]), manifest.settings)
    if not {"content", "style"} <= paths.keys():
        raise UsageError(
            f"expected a checkpoint of a content and a style in {printable(folder)}, got one of neither; "
            "try to begin anew in another folder"
        )
    content = take_content(paths["content"][0][0], manifest.settings, wide=manifest.wide)
    size = result_size(content.size, manifest.settings)
    starts = [read_start_at(path, manifest.settings, size) for path, _ in paths.get("init", ())]
    mask, regions = (
        next((path for path, _ in paths.get(r, ())), None) for r in ("mask", "regions")
    )
    styles, style_for = _by_colour(manifest.inputs)
    return prepare_job(
        content, styles, manifest.settings, init=starts[0] if starts else None, mask=mask, regions=regions,
        style_for=style_for or None,
    )  # fmt: skip


def _by_colour(
    inputs: Sequence[InputFile],
) -> tuple[list[tuple[str, float]], dict[str, list[tuple[str, float]]]]:
    """Return styles with their weights: of no colour of a map, and by colours."""
    rest: list[tuple[str, float]] = []
    by_colour: dict[str, list[tuple[str, float]]] = {}
    for item in inputs:
        if item.role == "style":
            path = join_painting(item.path, item.layers, item.mask)
            style = path, 1.0 if item.weight is None else item.weight
            colours = item.colors.split(",") if item.colors is not None else []
            for blend in [by_colour.setdefault(colour, []) for colour in colours] or [rest]:
                blend.append(style)
    return rest, by_colour
