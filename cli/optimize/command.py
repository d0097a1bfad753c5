"""``nstx optimize``: the main job."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from nstx.engine.settings import Settings
from nstx.models.errors import UsageError
from nstx.models.printable import printable

from ..errors.exits import report_failure
from ..formats import format_count
from ..grouped import Help, argument, grouped
from ..interrupts import handling
from ..options import regions
from ..options import shared as options
from ..options.memory import Memory
from ..options.targets import read_saved, saved_colours, saved_preset
from ..sources import COMMAND_LINE, flag_of
from .garbage import uncollected
from .interrupt import Interrupt
from .pipes import PIPE, pipes
from .request import Keeping, OptimizeRequest, Recording

_OF_STEPS = (
    "steps", "solver", "learning_rate", "init", "seed", "clean", "save_every", "trace",
)  # fmt: skip
"""Options that do nothing where no step is made."""

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def optimize(
    content: Annotated[
        Path | None, argument("The photograph; - reads it from standard input.", "CONTENT")
    ] = None,
    styles: Annotated[
        list[str] | None,
        argument(
            "One or more paintings, each as PATH or PATH:weight; PATH@conv1_1,conv2_1 counts in these layers alone, "
            "PATH@mask.png where a mask of it is white.",
            "STYLE...",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Help(
            "Where the picture goes: .png, .jpg, .webp, .avif, .tif, or .npy for unrounded numbers; - writes "
            "a PNG to standard output.",
            ("--output", "-o"),
            metavar="OUT",
        ),
    ] = None,
    repeats: Annotated[
        Path | None,
        Help(
            "Make the picture OUT.png of an earlier run again, by what its file says of it: with its settings, but "
            "for those that are named here, and its pictures, which are looked for unless they are.",
            ("--from",),
            metavar="OUT.png",
        ),
    ] = None,
    *,
    objective: options.Objective,
    colours: options.Colours,
    region: regions.Regions,
    size: options.Size,
    solver: options.Solver,
    machine: options.Machine,
    memory: Memory,
    recording: Recording,
    keeping: Keeping,
    shown: options.Output,
) -> None:
    """Stylise the picture CONTENT with the style of one or more paintings."""
    began = time.perf_counter()
    from nstx.engine.gradients.ahead import begin_loading, is_loading

    repeated = None
    if repeats is not None:
        from .repeating import repeat  # it reads a picture, as not every command line does

        repeated = repeat(
            repeats, content, styles or [], output, region=region, recording=recording,
            use_cache=not machine.no_cache,
        )  # fmt: skip
        content, styles, region = repeated.content, repeated.styles, repeated.region
        recording = repeated.recording
    output = _check_arguments(content, styles, region, output, recording.targets)
    to_stdout = output == PIPE
    if to_stdout:
        _check_stdout(shown, recording)
    interrupt = Interrupt(is_loading, report_failure)
    with handling(interrupt), pipes(content, styles or (), output) as files:
        with uncollected():
            file = recording.targets
            saved = None if file is None else read_saved(file, size, region)
            chosen = None if saved is None else saved.chosen
            preset = saved_preset(objective, chosen)
            colours = saved_colours(colours, chosen)
            groups = (objective, colours, size, solver, machine, memory)
            if repeated is None:
                settings = options.settings_of(*groups, preset=preset)
            else:
                settings = repeated.choose_settings(*groups)
            begin_loading(settings)
            # Only now, as it takes a while, in which other things can be loaded.
            from .run import run_optimize
        request = OptimizeRequest(
            content=files.content, styles=files.styles, output=files.output, to_stdout=to_stdout,
            stdin=files.stdin, mask=region.mask, regions=region.regions,
            style_for=tuple(region.style_for or ()), recording=recording, saved=saved, settings=settings,
            began=began, checkpoint=keeping.checkpoint, no_checkpoint=keeping.no_checkpoint,
            checkpoint_every=keeping.checkpoint_every,
            repeats=None if repeated is None else repeated.manifest,
        )  # fmt: skip
        console = shown.console(all_on_stderr=to_stdout)
        for text in _describe_idle(settings, solver, recording):
            console.warn(text)
        run_optimize(request, console, interrupt)


def _check_stdout(shown: options.Output, recording: Recording) -> None:
    """Check that nothing is asked for beside a picture that goes to standard output."""
    if shown.as_json or recording.save_every is not None:
        other = "--json" if shown.as_json else "--save-every"
        raise UsageError(f"expected a file for {other}, got -o -; try -o out.png")


def _describe_idle(
    settings: Settings, solver: options.Solver, recording: Recording
) -> Iterator[str]:
    """Yield, in words, which options do nothing."""
    every = recording.save_every or 1
    if every > settings.steps:
        yield (
            f"no snapshot falls in the run, of {format_count(settings.steps, 'step')}: "
            f"try --save-every below {every}"
        )
    sources = {**solver.sources, **recording.sources}
    idle = [name for name in _OF_STEPS if sources[name] == COMMAND_LINE]
    if settings.colors == "only" and idle:
        yield f"{', '.join(map(flag_of, idle))} to no effect: --colors only makes no step"
    elif settings.solver == "lbfgs" and solver.sources["learning_rate"] == COMMAND_LINE:
        yield "--learning-rate does nothing with L-BFGS; it is Adam's (--solver adam)"


def _check_arguments(
    content: Path | None,
    styles: list[str] | None,
    region: regions.Regions,
    output: Path | None,
    targets: Path | None,
) -> Path:
    """Check which arguments there are, and return the output."""
    if targets is not None and (content or styles):
        raise UsageError("expected CONTENT and STYLE, or --targets, got both; try one of the two")
    if targets is None and not (content and (styles or region.style_for)):
        raise UsageError(
            f"expected CONTENT and STYLE, got {'no STYLE' if content else 'neither'}; "
            "try 'nstx optimize photo.jpg painting.jpg -o out.png'"
        )
    if output is None:
        raise UsageError(f"expected an output, got none; try -o {_name_output(styles or [])}")
    return output


def _name_output(styles: list[str]) -> str:
    """Return the last of several styles where it is no picture yet, so that it may have been meant as the output."""
    from nstx.engine.pictures.writing import SUFFIXES

    last = Path(styles[-1]) if len(styles) > 1 else Path()
    if last.suffix.lower() not in SUFFIXES:
        return "out.png"
    return "out.png" if os.path.lexists(last) else printable(last)
