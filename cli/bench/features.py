"""``nstx bench features``: how fast features are extracted."""

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

    sizes: Annotated[str, Help("Sides of the square pictures in pixels.")] = "256,512,1024"
    batches: Annotated[str, Help("Pictures at once.")] = "1,4,8"
    variants: Annotated[
        str | None,
        Help(
            "Among onnx, onnx-fixed (one size, bound buffers), onnx-fp16, torch (eager), "
            "torch-compile (channels_last, compiled), torch-bf16 (these, in bf16). Without it, all "
            "on CUDA; onnx, torch, torch-compile and where it is fast torch-bf16 on the CPU."
        ),
    ] = None
    layers: Annotated[str, Help("Layers whose activations come out; may be empty.")] = "conv4_2"
    grams: Annotated[str, Help("Layers whose Gram matrices come out; may be empty.")] = (
        "conv1_1,conv2_1,conv3_1,conv4_1,conv5_1"
    )


@grouped
def features(
    cells: Cells,
    repetition: Repetition,
    machine: Annotated[options.Machine, only("device", "threads", "weights")],
    shown: options.Output,
) -> None:
    """Measure the extraction of features: this package's extractor beside PyTorch's.

    Cold is the time from a process's start to its first result, warm that of each later run.
    """
    from nstx.engine.bench.plan import FeatureBench

    from ..choices import split_numbers

    console = shown.console()
    usual = ("onnx", "torch", "torch-compile")
    bench = FeatureBench(
        sizes=split_numbers("--sizes", cells.sizes),
        batches=split_numbers("--batches", cells.batches),
        variants=choose_variants(
            FeatureBench.known, cells.variants, machine.device, usual, console
        ),
        rounds=repetition.rounds,
        repeats=repetition.repeats,
        seconds=repetition.seconds,
        device=settled_device(machine.device),
        threads=machine.threads,
        activations=tuple(filter(None, cells.layers.split(","))),
        grams=tuple(filter(None, cells.grams.split(","))),
        weights=machine.weights,
    )
    outputs = ", ".join([*bench.activations, *(f"{layer}_gram" for layer in bench.grams)])
    run_cells(bench, f"outputs: {outputs}", console)
