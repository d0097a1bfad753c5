"""``nstx bench gradient``: how fast a step's gradient is."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from .. import options
from ..grouped import Group, Help, grouped, only
from .cells import run_cells
from .measuring import Repetition, choose_variants, settled_device


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells(Group):
    """What is measured."""

    variables: ClassVar[bool] = False

    sizes: Annotated[str, Help("Sides of the square pictures in pixels.")] = "256,512"
    batches: Annotated[str, Help("Pictures at once.")] = "1"
    variants: Annotated[
        str | None,
        Help(
            "Among onnx, onnx-fp16, torch (fp32), torch-tf32, torch-bf16, torch-fp16. Without it, "
            "all on CUDA; onnx, torch and where it is fast torch-bf16 on the CPU."
        ),
    ] = None


@grouped
def gradient(
    cells: Cells,
    repetition: Annotated[Repetition, only("rounds", "repeats", "seconds", repeats=2)],
    objective: Annotated[options.Objective, only("preset", "pooling")],
    machine: Annotated[options.Machine, only("device", "threads", "weights")],
    shown: options.Output,
) -> None:
    """Measure a step: the cost with its gradient, by each backend and precision.

    From pixels in memory to a gradient in memory. Cold is the time from a process's start to its
    first gradient, warm that of each later one.
    """
    from nstx.engine.bench.plan import GradientBench

    from ..choices import split_numbers

    console = shown.console()
    usual = ("onnx", "torch")
    bench = GradientBench(
        sizes=split_numbers("--sizes", cells.sizes),
        batches=split_numbers("--batches", cells.batches),
        variants=choose_variants(
            GradientBench.known, cells.variants, machine.device, usual, console
        ),
        rounds=repetition.rounds,
        repeats=repetition.repeats,
        seconds=repetition.seconds,
        device=settled_device(machine.device),
        threads=machine.threads,
        preset=objective.preset,
        pooling=objective.pooling,  # type: ignore[arg-type]  # checked by the bench
        weights=machine.weights,
    )
    pooling = objective.pooling or "as the preset has it"
    run_cells(bench, f"preset {objective.preset}, pooling {pooling}", console)
