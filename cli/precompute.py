"""``nstx precompute``: targets without optimising."""

import time
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import Console, format_bytes, format_seconds


def precompute(
    context: typer.Context,
    content: Annotated[
        Path, typer.Option("--content", help="The content picture.", show_default=False)
    ],
    styles: Annotated[
        list[str],
        typer.Option(
            "--style",
            help="A style picture, as PATH or PATH:weight; can be repeated.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The targets file to write.",
            metavar="FILE.safetensors",
            show_default=False,
        ),
    ],
    preset: options.Preset = "default",
    size: options.Size = None,
    width: options.Width = None,
    height: options.Height = None,
    style_scale: options.StyleScale = 1.0,
    scales: options.Scales = None,
    content_layers: options.ContentLayers = None,
    style_layers: options.StyleLayers = None,
    pooling: options.Pooling = None,
    device: options.Device = "auto",
    extractor: options.Extractor = "auto",
    weights: options.Weights = "embedded",
    threads: options.Threads = None,
    no_cache: options.NoCache = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the targets of a content and its styles, for 'nstx optimize --targets FILE'."""
    began = time.perf_counter()

    from nstx.engine.images import read_image
    from nstx.engine.job import prepare_job
    from nstx.engine.target_files import SUFFIXES, write_targets
    from nstx.models.files import check_distinct, check_output

    from .choices import choose, choose_sizes, read_styles, split_style
    from .report import extractor_json

    console = Console(as_json=as_json, quiet=quiet)
    settings = choose(
        preset,
        scales=scales,
        **choose_sizes(context, size, width, height),
        style_scale=style_scale,
        content_layers=content_layers,
        style_layers=style_layers,
        pooling=pooling,
        device=device,
        precision="fp32",  # the file outlives this machine's fastest precision
        extractor=extractor,
        weights=weights,
        threads=threads,
        use_cache=not no_cache,
    )
    check_output(output, SUFFIXES)
    check_distinct([output], [content, Path(weights), *(split_style(s)[0] for s in styles)])
    job = prepare_job(read_image(content), read_styles(tuple(styles)), settings)
    write_targets(output, job.contents, job.targets, settings.objective, job.weights.sha256)
    size_bytes = output.stat().st_size
    seconds = time.perf_counter() - began
    data = {
        "output": str(output),
        "bytes": size_bytes,
        "scales": [{"width": w, "height": h} for h, w in job.sizes],
        "extractor": extractor_json(job),
        "weights": {"source": job.weights.source, "sha256": job.weights.sha256},
        "seconds": round(seconds, 4),
    }
    console.result(
        f"saved {output}  {format_bytes(size_bytes)}, "
        f"{len(job.sizes)} scales, in {format_seconds(seconds)}",
        data,
    )
