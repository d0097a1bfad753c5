"""``nstx optimize``: the main job."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nstx.models.errors import UsageError

from .. import options
from ..console import Console

if TYPE_CHECKING:
    from nstx.engine.targets.files import SavedTargets
    from nstx.models.presets import Preset

_SIZES = ("size", "width", "height", "scales", "style_scale")


def optimize(
    context: typer.Context,
    content: Annotated[
        Path | None, typer.Argument(metavar="CONTENT", help="The photograph.", show_default=False)
    ] = None,
    styles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STYLE...",
            help="One or more paintings, each as PATH or PATH:weight.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the picture goes: .png, .jpg, .webp, .avif, "
            ".tif, or .npy for unrounded numbers.",
            metavar="OUT",
            show_default=False,
        ),
    ] = None,
    preset: options.Preset = "default",
    size: options.Size = None,
    width: options.Width = None,
    height: options.Height = None,
    style_scale: options.StyleScale = 1.0,
    scales: options.Scales = None,
    steps: options.Steps = None,
    solver: options.Solver = None,
    learning_rate: options.LearningRate = None,
    init: options.Init = None,
    seed: options.Seed = 0,
    content_layers: options.ContentLayers = None,
    style_layers: options.StyleLayers = None,
    content_weight: options.ContentWeight = None,
    style_weight: options.StyleWeight = None,
    tv_weight: options.TvWeight = None,
    pooling: options.Pooling = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    backend: options.Backend = "auto",
    extractor: options.Extractor = "auto",
    weights: options.Weights = "embedded",
    threads: options.Threads = None,
    no_cache: options.NoCache = False,
    targets: options.Targets = None,
    save_every: options.SaveEvery = None,
    animate: options.Animate = None,
    trace: options.Trace = None,
    save_init: options.SaveInit = None,
    report: options.Report = "bar",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stylise the picture CONTENT with the style of one or more paintings."""
    began = time.perf_counter()
    from ..choices import choose, choose_sizes
    from .run import OptimizeRequest, run_optimize

    saved = None
    if targets is not None:
        from nstx.engine.targets.files import read_targets

        _refuse_sizes(context)
        saved = read_targets(targets)
    console = Console(as_json=as_json, quiet=quiet)
    settings = choose(
        _saved_preset(context, saved) or preset,
        **choose_sizes(context, size, width, height),
        style_scale=style_scale,
        scales=scales,
        steps=steps,
        solver=solver,
        learning_rate=learning_rate,
        init=init,
        seed=seed,
        content_layers=content_layers,
        style_layers=style_layers,
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        pooling=pooling,
        device=device,
        precision=precision,
        backend=backend,
        extractor=extractor,
        weights=weights,
        threads=threads,
        use_cache=not no_cache,
    )
    request = OptimizeRequest(
        content=content,
        styles=tuple(styles or ()),
        output=output,
        targets=targets,
        saved=saved,
        save_every=save_every,
        animate=animate,
        trace=trace,
        save_init=save_init,
        report=report,
        settings=settings,
        began=began,
    )
    run_optimize(request, console)


def _saved_preset(context: typer.Context, saved: "SavedTargets | None") -> "Preset | None":
    """Return the preset of a targets file, with its objective, unless another was asked for."""
    from nstx.models.presets import find_preset

    source = context.get_parameter_source("preset")
    if saved is None or (source is not None and source.name == "COMMANDLINE"):
        return None
    return replace(find_preset(saved.preset), objective=saved.objective)


def _refuse_sizes(context: typer.Context) -> None:
    """Targets have their sizes already; a default from elsewhere is let pass, an option is not."""
    given = [
        name
        for name in _SIZES
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    ]
    if given:
        options_given = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(
            f"expected --targets without sizes, got {options_given}; try 'nstx precompute' with it"
        )
