"""``nstx compare``: the options."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import options
from ..console import Console


def compare(
    context: typer.Context,
    content: Annotated[
        Path, typer.Argument(metavar="CONTENT", help="The photograph.", show_default=False)
    ],
    styles: Annotated[
        list[str],
        typer.Argument(
            metavar="STYLE...",
            help="One or more paintings, each as PATH or PATH:weight; blended in every run.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder for pictures, sheet, animations and page; made if need be.",
            metavar="DIR",
            show_default=False,
        ),
    ],
    content_layers: options.SweptContentLayers = None,
    init: options.SweptInit = None,
    content_weight: options.SweptContentWeight = None,
    style_weight: options.SweptStyleWeight = None,
    style_scale: options.SweptStyleScale = None,
    steps: options.SweptSteps = None,
    preset: options.Preset = "default",
    size: options.Size = None,
    width: options.Width = None,
    height: options.Height = None,
    scales: options.Scales = None,
    solver: options.Solver = None,
    learning_rate: options.LearningRate = None,
    seed: options.Seed = 0,
    style_layers: options.StyleLayers = None,
    tv_weight: options.TvWeight = None,
    pooling: options.Pooling = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    backend: options.Backend = "auto",
    extractor: options.Extractor = "auto",
    weights: options.Weights = "embedded",
    threads: options.Threads = None,
    no_cache: options.NoCache = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stylise CONTENT in several ways and lay the results side by side.

    Every combination of the values is a run. What is in DIR already is not made again.
    """
    began = time.perf_counter()
    from nstx.engine.comparison.plan import plan_comparison

    from ..choices import choose_sizes, split_scales
    from .compare_run import CompareRequest, run_compare, split_swept

    swept = split_swept(
        content_layers=content_layers,
        init=init,
        content_weight=content_weight,
        style_weight=style_weight,
        style_scale=style_scale,
        steps=steps,
    )
    sizes: dict[str, Any] = {**split_scales(scales), **choose_sizes(context, size, width, height)}
    plan = plan_comparison(
        preset,
        swept,
        **sizes,
        solver=solver,
        learning_rate=learning_rate,
        seed=seed,
        style_layers=style_layers,
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
    request = CompareRequest(content, tuple(styles), output, plan, began)
    run_compare(request, Console(as_json=as_json, quiet=quiet))
