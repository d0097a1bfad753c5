"""``nstx bench``: how fast this machine is."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from nstx.engine.devices.device import settle
from nstx.engine.devices.machine import has_bf16_units, is_there
from nstx.export.runtime.providers import Provider, provider_loads
from nstx.models.errors import DeviceError

from ..choices import split_names, split_numbers
from ..console import Console
from ..grouped import Group, Help, argument, grouped, only
from ..lazy import CommandGroup
from ..options import shared as options

app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    no_args_is_help=True,
    help="Measure throughput on this machine.",
)
_Machine = Annotated[options.Machine, only("device", "threads", "weights")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition(Group):
    """How often is measured."""

    rounds: Annotated[int, Help("Turns that the variants take, a process each.")] = 2
    repeats: Annotated[int, Help("Warm runs in each process, at least.")] = 1
    seconds: Annotated[float, Help("That these take together, at least.")] = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells(Group):
    """The pictures that are measured; variants come with the kind of benchmark."""

    sizes: Annotated[str, Help("Sides of the square pictures in pixels.", is_list=True)] = (
        "256,512,1024"
    )
    batches: Annotated[str, Help("Pictures at once.", is_list=True)] = "1,4,8"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCells(Cells):
    """What is measured of features."""

    variants: Annotated[
        str | None,
        Help(
            "Among onnx, onnx-fixed (one size, bound buffers), onnx-fp16, torch (eager), "
            "torch-compile (channels_last, compiled), torch-bf16 (these, in bf16). Without it, all "
            "on CUDA; onnx, torch, torch-compile and where it is fast torch-bf16 on the CPU.",
            is_list=True,
        ),
    ] = None
    layers: Annotated[
        str, Help("Layers whose activations come out; may be empty.", is_list=True)
    ] = "conv4_2"
    grams: Annotated[
        str, Help("Layers whose Gram matrices come out; may be empty.", is_list=True)
    ] = "conv1_1,conv2_1,conv3_1,conv4_1,conv5_1"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientCells(Cells):
    """What is measured of gradients."""

    variants: Annotated[
        str | None,
        Help(
            "Among onnx, onnx-tf32, onnx-fp16, torch (fp32), torch-tf32, torch-bf16, torch-fp16. "
            "Without it, all on CUDA; onnx, torch and where it is fast torch-bf16 on the CPU.",
            is_list=True,
        ),
    ] = None


@app.command()
@grouped
def features(
    cells: FeatureCells, repetition: Repetition, machine: _Machine, shown: options.Output
) -> None:
    """Measure the extraction of features: this package's extractor beside PyTorch's.

    Cold is the time from a process's start to its first result, warm that of each later run.
    """
    from nstx.engine.bench.throughput import FeatureBench, run_bench

    from .tables import lay_out_cells, measure

    console = shown.console()
    usual = ("onnx", "torch", "torch-compile")
    bench = FeatureBench(
        **_cells(cells, FeatureBench.choices, usual, machine, console),
        **repetition.choices(),
        activations=tuple(filter(None, cells.layers.split(","))),
        grams=tuple(filter(None, cells.grams.split(","))),
    )
    outputs = ", ".join([*bench.activations, *(f"{layer}_gram" for layer in bench.grams)])
    measure(run_bench, bench, lay_out_cells(bench), f"outputs: {outputs}", console)


@app.command()
@grouped
def gradient(
    cells: Annotated[
        GradientCells, only("sizes", "batches", "variants", sizes="256,512", batches="1")
    ],
    repetition: Annotated[Repetition, only("rounds", "repeats", "seconds", repeats=2)],
    objective: Annotated[options.Objective, only("preset", "pooling")],
    machine: _Machine,
    shown: options.Output,
) -> None:
    """Measure a step: the cost with its gradient, by each backend and precision.

    From pixels in memory to a gradient in memory. Cold is the time from a process's start to its
    first gradient, warm that of each later one.
    """
    from nstx.engine.bench.throughput import GradientBench, run_bench

    from .tables import lay_out_cells, measure

    console = shown.console()
    bench = GradientBench(
        **_cells(cells, GradientBench.choices, ("onnx", "torch"), machine, console),
        **repetition.choices(),
        preset=objective.preset,
        pooling=objective.pooling,  # type: ignore[arg-type]  # checked by the bench
    )
    what = f"preset {objective.preset}, pooling {objective.pooling or 'as the preset has it'}"
    measure(run_bench, bench, lay_out_cells(bench), what, console)


@app.command()
@grouped
def optimize(
    content: Annotated[
        Path | None, argument("A content picture; without it, one is drawn.")
    ] = None,
    style: Annotated[Path | None, argument("A style picture; without it, one is drawn.")] = None,
    sizes: Annotated[str, Help("Long sides of the results in pixels.", is_list=True)] = "400",
    variants: Annotated[
        str | None,
        Help(
            "Among auto (what 'nstx optimize' chooses), onnx, onnx-tf32, onnx-fp16, torch (fp32), "
            "torch-tf32, torch-bf16, torch-fp16. Without it, auto, onnx and torch.",
            is_list=True,
        ),
    ] = None,
    steps: Annotated[int, Help("Of each run.")] = 50,
    *,
    repetition: Annotated[Repetition, only("rounds")],
    objective: Annotated[options.Objective, only("preset")],
    machine: _Machine,
    shown: options.Output,
) -> None:
    """Measure whole runs, from a process's start to the saved picture."""
    from nstx.engine.bench.optimize import OptimizeBench, run_optimize_bench

    from .tables import LAYOUT_OF_RUNS, measure

    usual = ("auto", "onnx", "torch") if is_there("torch") else ("onnx",)
    bench = OptimizeBench(
        content=None if content is None else str(content),
        style=None if style is None else str(style),
        sizes=split_numbers("--sizes", sizes),
        variants=usual if variants is None else split_names(variants),
        preset=objective.preset,
        steps=steps,
        rounds=repetition.rounds,
        **_settle(machine),
    )
    what = f"preset {bench.preset}, {steps} steps"
    measure(run_optimize_bench, bench, LAYOUT_OF_RUNS, what, shown.console())


def _cells(
    cells: FeatureCells | GradientCells,
    variants: Iterable[str],
    usual: tuple[str, ...],
    machine: options.Machine,
    console: Console,
) -> dict[str, Any]:
    """Return what all benchmarks of cells have in common, as arguments of a `ThroughputBench`."""
    sizes = split_numbers("--sizes", cells.sizes)
    batches = split_numbers("--batches", cells.batches)
    settled = _settle(machine)
    return {
        "sizes": sizes,
        "batches": batches,
        "variants": _choose_variants(cells.variants, variants, usual, settled["device"], console),
        **settled,
    }


def _settle(machine: options.Machine) -> dict[str, Any]:
    """Return the machine with its device settled: by PyTorch if it is there, which tries devices."""
    try:
        device = settle(machine.device, by_torch=is_there("torch"))
    except DeviceError:
        # ONNX Runtime may have a device that PyTorch is built without.
        device = settle(machine.device)
        if not device.is_cuda or not provider_loads(Provider("cuda", device.index)):
            raise
    return {"device": str(device), "threads": machine.threads, "weights": machine.weights}


def _choose_variants(
    text: str | None, variants: Iterable[str], usual: tuple[str, ...], device: str, console: Console
) -> tuple[str, ...]:
    """Return the variants in a text, or those that suit the device and the installation."""
    if text is not None:
        names = split_names(text)
        if not is_there("torch") and any(name.startswith("torch") for name in names):
            raise DeviceError(
                "expected PyTorch for the variants of torch, got none; try --variants onnx, or "
                "'pip install torch'"
            )
        return names
    if not is_there("torch"):
        console.warn("the variants of torch are left out, as PyTorch is not installed")
        return ("onnx",)
    if device != "cpu":
        return tuple(variants)
    if has_bf16_units():
        return (*usual, "torch-bf16")
    console.warn("torch-bf16 is left out, as this processor has no bf16 units; try --variants")
    return usual
