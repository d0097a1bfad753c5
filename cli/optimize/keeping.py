"""What a checkpoint of ``nstx optimize`` knows of its command line, and what comes of that when it goes on."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from nstx.engine.checkpoints.cached import LONG_SECONDS, CachedCheckpoints, may_keep
from nstx.engine.checkpoints.contents import Contents
from nstx.engine.checkpoints.keeper import Checkpoints
from nstx.engine.checkpoints.manifest import Manifest
from nstx.engine.manifests.pictures import describe_picture
from nstx.engine.regions.masks import ALPHA, mask_file
from nstx.engine.targets.paintings import absolute_painting
from nstx.engine.transfer.job import Job
from nstx.engine.transfer.progress import Step
from nstx.models.errors import UsageError, about
from nstx.models.printable import printable
from nstx.models.storage.plain_data import (
    take_list,
    take_number,
    take_object,
    take_text,
    take_whole,
)

from ..choices import split_style, split_styles_for
from ..console import Console
from ..grouped import option_names
from .interrupt import Interrupt
from .request import OptimizeRequest, Recording

Stamp = tuple[int, int, int]

_MOST_STYLES = 1000
_KINDS = get_type_hints(Recording)
_PATHS = [
    name for name in option_names(Recording) if Path in (*get_args(_KINDS[name]), _KINDS[name])
]


@contextlib.contextmanager
def keeping(request: OptimizeRequest) -> Iterator[Checkpoints | None]:
    """Have a run's checkpoint for the time of a block, if there may be one."""
    kept: Checkpoints | None = None
    if request.checkpoint is not None:
        kept = Checkpoints(request.checkpoint, request.checkpoint_every, _to_json(request))
    elif not (request.no_checkpoint or request.to_stdout or request.stdin is not None) and may_keep(
        request.settings
    ):
        kept = CachedCheckpoints(_to_json(request), request.settings, request.checkpoint_every)
    with kept or contextlib.nullcontext():
        yield kept


def keep_if_long(
    kept: Checkpoints | None, console: Console, interrupt: Interrupt
) -> Callable[[float], None]:
    """Return what takes the seconds that are left of a run, and keeps one that takes long."""

    def keep(seconds: float) -> None:
        is_long = seconds > LONG_SECONDS
        if is_long and isinstance(kept, CachedCheckpoints) and kept.keep():
            interrupt.keep = kept.write
            console.log(
                f"'nstx resume {printable(kept.folder)}' goes on with this run after a stop"
            )

    return keep


def _to_json(request: OptimizeRequest) -> dict[str, Any]:
    """Return what is needed to go on with a command line, as plain data; paths are absolute."""
    recording = {name: getattr(request.recording, name) for name in option_names(Recording)}
    recording |= {name: _absolute(recording[name]) for name in _PATHS}
    styles = [split_style(style) for style in request.styles]
    return {
        "content": _absolute(request.content),
        "styles": [[absolute_painting(path), weight] for path, weight in styles],
        "output": _absolute(request.output),
        "mask": _absolute(mask_file(request.mask)) or request.mask,
        "regions": _absolute(request.regions),
        "style_for": [
            [colour, [[absolute_painting(path), weight] for path, weight in blend]]
            for colour, blend in split_styles_for(request.style_for).items()
        ],
        "recording": recording,
        "checkpoint_every": request.checkpoint_every,
    }


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def read_request(manifest: Manifest, folder: Path, began: float) -> OptimizeRequest:
    """Return what the run that is kept in a folder was asked to do.

    ``began`` is as of `OptimizeRequest`, which checks what it is made of. `UsageError` if the checkpoint is of no
    command line, or of one that cannot be.
    """
    data = manifest.request
    if data is None:
        raise UsageError(
            f"expected a checkpoint of nstx optimize in {printable(folder)}, got one of Python's, which has no "
            "output; try nstx.resume there"
        )
    try:
        recording = _read_recording(take_object(data, "recording"))
        content, output = _take_path(data, "content"), _take_path(data, "output")
        mask = ALPHA if data.get("mask") == ALPHA else _take_path(data, "mask")
        regions = _take_path(data, "regions")
        styles = tuple(map(_read_style, take_list(data, "styles", _MOST_STYLES)))
        style_for = tuple(_read_styles_for(take_list(data, "style_for", _MOST_STYLES)))
        minutes = float(take_number(data, "checkpoint_every", 0))
        if output is None or (content is None or not (styles or style_for)) == (
            recording.targets is None
        ):
            raise ValueError("it names no output, or no pictures")
    except ValueError as error:
        raise UsageError(
            f"expected a checkpoint of nstx optimize in {printable(folder)}, got one of something else "
            f"({printable(error)[:200]}); try to begin anew in another folder"
        ) from error
    saved = None
    if recording.targets is not None:
        from nstx.engine.targets.files import read_targets

        with about("targets"):
            saved = read_targets(recording.targets)
    return OptimizeRequest(
        content=content, styles=styles, output=output, recording=recording, saved=saved,
        settings=manifest.settings, began=began, checkpoint=folder, checkpoint_every=minutes,
        mask=None if mask is None else str(mask), regions=regions, style_for=style_for,
    )  # fmt: skip


def _read_recording(data: Mapping[str, Any]) -> Recording:
    """Return the options of a command line; `ValueError` if they are others, or of other types."""
    if data.keys() != set(option_names(Recording)):
        raise ValueError("its options are those of another version")
    values: dict[str, Any] = {}
    for name, value in data.items():
        kinds = get_args(_KINDS[name]) or (_KINDS[name],)
        if name in _PATHS:
            values[name] = _take_path(data, name)
        elif value is None and type(None) in kinds:
            values[name] = None
        elif int in kinds:
            values[name] = take_whole(data, name, 1, 1_000_000)
        elif bool in kinds and isinstance(value, bool):
            values[name] = value
        else:
            values[name] = take_text(data, name)
    return Recording(**values)


def _take_path(data: Mapping[str, Any], name: str) -> Path | None:
    if data.get(name) is None:
        return None
    text = take_text(data, name)
    if "\0" in text or not Path(text).is_absolute():
        raise ValueError(f"{name!r} is no path from the root on")
    return Path(text)


def _read_style(item: Any) -> str:
    pair = take_list({"style": item}, "style", 2)
    if len(pair) != 2:
        raise ValueError("a style is no pair of a path and a weight")
    fields_ = dict(zip(("path", "weight"), pair, strict=True))
    return f"{_take_path(fields_, 'path')}:{float(take_number(fields_, 'weight', 0))!r}"


def _read_styles_for(items: Sequence[Any]) -> Iterator[str]:
    """Yield styles by colour as on a command line; `ValueError` if they are none."""
    for item in items:
        pair = take_list({"style": item}, "style", 2)
        if len(pair) != 2:
            raise ValueError("styles by colour are no pair of a colour and styles")
        colour = take_text({"colour": pair[0]}, "colour", r"[^=\0]{1,100}")
        for style in take_list({"styles": pair[1]}, "styles", _MOST_STYLES):
            yield f"{colour}={_read_style(style)}"


def earlier_steps(job: Job, earlier: Contents | None) -> list[Step]:
    """Return the steps that a run goes on from; only the last has its picture."""
    if earlier is None:
        return []
    reached, empty = earlier.reached, np.zeros((), np.float32)
    pictures = [np.broadcast_to(empty, (*job.sizes[step.scale - 1], 3)) for step in reached.steps]
    pictures[-1:] = [earlier.picture][: len(pictures)]
    return [
        Step(
            step=number, steps=job.settings.most_steps, scale=step.scale, scales=len(job.sizes),
            cost=step.cost, evaluations=step.evaluations, seconds=step.seconds, picture=picture,
            alpha=job.alpha, encoding=job.encoding, checks=tuple(reached.checks), colouring=job.colouring,
        )
        for number, (step, picture) in enumerate(zip(reached.steps, pictures, strict=True), 1)
    ]  # fmt: skip


def stamp_of_own(job: Job, output: Path) -> Stamp | None:
    """Return the stamp of what lies at an output if that is an unfinished picture of this very run; else None.

    It says so itself, by its manifest, which has checksums of all that the run is made from.
    """
    from nstx.engine.manifests.reading import carries  # for which Pillow's own decoders are opened

    stamp = stamp_of(output)  # before it is read, so that what replaces it meanwhile has another
    if stamp is None or not carries(output, describe_picture(job, is_complete=False)):
        return None
    return stamp


def stamp_of(path: Path) -> Stamp | None:
    """Return what tells a file from another one in its place; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def describe_kept(kept: Checkpoints | None) -> dict[str, Any]:
    """Return the fields of ``--json``: where the checkpoint is and of which step, and the step that it went on from.

    A checkpoint of None is of a run that has none, a step of None of one that needs none any more.
    """
    if kept is None or not kept.is_kept:
        return {"checkpoint": None, "resumed_from_step": None}
    earlier = kept.earlier
    return {
        "checkpoint": {"folder": str(kept.folder), "step": kept.step},
        "resumed_from_step": None if earlier is None else len(earlier.reached.steps),
    }
