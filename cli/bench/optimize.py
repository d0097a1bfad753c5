"""``nstx bench optimize``: how long whole runs take on this machine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import options
from ..formats import format_bytes, format_count
from ..grouped import grouped, only
from .measuring import Repetition, lay_out, measure_and_print, settled_device, torch_is_there


@grouped
def optimize(
    content: Annotated[
        Path | None, typer.Argument(help="A content picture; without it, one is drawn.")
    ] = None,
    style: Annotated[
        Path | None, typer.Argument(help="A style picture; without it, one is drawn.")
    ] = None,
    sizes: Annotated[
        str, typer.Option("--sizes", help="Long sides of the results in pixels.")
    ] = "400",
    variants: Annotated[
        str | None,
        typer.Option(
            "--variants",
            help="Among auto (what 'nstx optimize' chooses), onnx, onnx-fp16, torch (autograd, fp32), "
            "torch-tf32, torch-bf16, torch-fp16. Without it, auto, onnx and torch.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Of each run.")] = 50,
    *,
    repetition: Annotated[Repetition, only("rounds")],
    objective: Annotated[options.Objective, only("preset")],
    machine: Annotated[options.Machine, only("device", "threads", "weights")],
    shown: options.Output,
) -> None:
    """Measure whole runs, from a process's start to the saved picture."""
    from nstx.engine.bench.optimize import OptimizeBench, run_optimize_bench

    from ..choices import split_names, split_numbers

    console = shown.console()
    usual = ("auto", "onnx", "torch") if torch_is_there() else ("onnx",)
    chosen = OptimizeBench(
        content=None if content is None else str(content),
        style=None if style is None else str(style),
        sizes=split_numbers("--sizes", sizes),
        variants=usual if variants is None else split_names(variants),
        preset=objective.preset,
        steps=steps,
        rounds=repetition.rounds,
        device=settled_device(machine.device),
        threads=machine.threads,
        weights=machine.weights,
    )
    measure_and_print(
        lambda advance: run_optimize_bench(chosen, advance),
        chosen.measurements,
        _describe,
        console,
    )


def _describe(report: dict[str, Any]) -> str:
    settings = report["settings"]
    heading = (
        f"{'size':>9}  {'variant':<10} {'runs on':<14} {'whole run':>10} {'first step':>10} "
        f"{'evaluation':>10} {'cost':>9} {'memory':>9}  shares of torch's: time, cost"
    )
    what = f"preset {settings['preset']}, {settings['steps']} steps; {format_count(settings['rounds'], 'round')}"
    return lay_out(report, "", heading, _line, what)


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['size']:>9}  {row['variant']:<10} {row['error']}"
    size = f"{row['width']}×{row['height']}"
    ratios = f"{row['of_torch']:.2f}, {row['cost_of_torch']:.3f}" if "of_torch" in row else ""
    return (
        f"{size:>9}  {row['variant']:<10} {row['runs_on']:<14} {row['seconds']:>8.1f} s "
        f"{row['first_step']:>8.2f} s {row['per_evaluation']:>8.3f} s {row['cost']:>9.3g} "
        f"{format_bytes(row['peak_memory_bytes']):>9}  {ratios}"
    )
