"""``nstx bench``: how fast this machine is."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstx.models.errors import DeviceError

from .. import options
from ..console import Console, format_bytes, format_count, format_seconds
from ..grouped import grouped, only

if TYPE_CHECKING:
    from nstx.engine.bench.plan import Bench

bench = typer.Typer(help="Measure throughput on this machine.", no_args_is_help=True)

Sizes = Annotated[str, typer.Option("--sizes", help="Sides of the square pictures in pixels.")]
Batches = Annotated[str, typer.Option("--batches", help="Pictures at once.")]
Rounds = Annotated[
    int, typer.Option("--rounds", help="Turns that the variants take, a process each.")
]
Repeats = Annotated[int, typer.Option("--repeats", help="Warm runs in each process, at least.")]
Seconds = Annotated[float, typer.Option("--seconds", help="That these take together, at least.")]


@bench.command()
@grouped
def features(
    sizes: Sizes = "256,512,1024",
    batches: Batches = "1,4,8",
    variants: Annotated[
        str | None,
        typer.Option(
            "--variants",
            help="Among onnx, onnx-fixed (one size, bound buffers), onnx-fp16, torch (eager), "
            "torch-compile (channels_last, compiled), torch-bf16 (these, in bf16). Without it, all "
            "on CUDA; onnx, torch, torch-compile and where it is fast torch-bf16 on the CPU.",
        ),
    ] = None,
    layers: Annotated[
        str, typer.Option("--layers", help="Layers whose activations come out; may be empty.")
    ] = "conv4_2",
    grams: Annotated[
        str, typer.Option("--grams", help="Layers whose Gram matrices come out; may be empty.")
    ] = "conv1_1,conv2_1,conv3_1,conv4_1,conv5_1",
    rounds: Rounds = 2,
    repeats: Repeats = 1,
    seconds: Seconds = 2.0,
    *,
    machine: Annotated[options.Machine, only("device", "threads", "weights")],
    shown: options.Output,
) -> None:
    """Measure the extraction of features: this package's extractor beside PyTorch's.

    Cold is the time from a process's start to its first result, warm that of each later run.
    """
    from nstx.engine.bench.plan import FeatureBench

    from ..choices import split_numbers

    console = shown.console()
    chosen = FeatureBench(
        sizes=split_numbers("--sizes", sizes),
        batches=split_numbers("--batches", batches),
        variants=_variants(
            FeatureBench.known,
            variants,
            machine.device,
            ("onnx", "torch", "torch-compile"),
            console,
        ),
        rounds=rounds,
        repeats=repeats,
        seconds=seconds,
        device=settled_device(machine.device),
        threads=machine.threads,
        activations=tuple(filter(None, layers.split(","))),
        grams=tuple(filter(None, grams.split(","))),
        weights=machine.weights,
    )
    outputs = ", ".join([*chosen.activations, *(f"{g}_gram" for g in chosen.grams)])
    _run(chosen, f"outputs: {outputs}", console)


@bench.command()
@grouped
def gradient(
    sizes: Sizes = "256,512",
    batches: Batches = "1",
    variants: Annotated[
        str | None,
        typer.Option(
            "--variants",
            help="Among onnx, onnx-fp16, torch (fp32), torch-tf32, torch-bf16, torch-fp16. Without "
            "it, all on CUDA; onnx, torch and where it is fast torch-bf16 on the CPU.",
        ),
    ] = None,
    rounds: Rounds = 2,
    repeats: Repeats = 2,
    seconds: Seconds = 2.0,
    *,
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
    chosen = GradientBench(
        sizes=split_numbers("--sizes", sizes),
        batches=split_numbers("--batches", batches),
        variants=_variants(
            GradientBench.known, variants, machine.device, ("onnx", "torch"), console
        ),
        rounds=rounds,
        repeats=repeats,
        seconds=seconds,
        device=settled_device(machine.device),
        threads=machine.threads,
        preset=objective.preset,
        pooling=objective.pooling,  # type: ignore[arg-type]  # it is checked there
        weights=machine.weights,
    )
    pooling = objective.pooling or "as the preset has it"
    _run(chosen, f"preset {objective.preset}, pooling {pooling}", console)


def _run(chosen: "Bench", what: str, console: Console) -> None:
    """Measure, and print the report."""
    from nstx.engine.bench.run import run_bench

    measure_and_tell(
        lambda advance: run_bench(chosen, advance),
        chosen.measurements,
        lambda report: _describe(report, f"{what}; {format_count(chosen.rounds, 'round')}"),
        console,
    )


def measure_and_tell(
    measure: Callable[[Callable[[str], None]], dict[str, Any]],
    measurements: int,
    describe: Callable[[dict[str, Any]], str],
    console: Console,
) -> None:
    """Measure with a bar, and print the report.

    Args:
        measure: returns the report; what it is given is to be called after each measurement.
        measurements: how many there will be.
        describe: returns the lines that a person reads.
        console: that shows them.

    Raises:
        typer.Exit: with 130, if Ctrl-C ended it early.
    """
    began = time.perf_counter()
    with console.counting("measuring", measurements) as advance:
        report = measure(advance)
    report["elapsed_seconds"] = round(time.perf_counter() - began, 1)
    console.result(describe(report), report)
    if report["interrupted"]:
        raise typer.Exit(130)


def settled_device(device: str) -> str:
    """Return the device, settled; by PyTorch where it is there, which knows whether it works."""
    from nstx.engine.devices.device import settle

    return str(settle(device, by_torch=torch_is_there()))


def torch_is_there() -> bool:
    """Whether PyTorch is installed."""
    from nstx.engine.devices.machine import is_there

    return is_there("torch")


def _variants(
    known: Mapping[str, str],
    text: str | None,
    device: str,
    usual: tuple[str, ...],
    console: Console,
) -> tuple[str, ...]:
    """Return the variants that were asked for, or those that suit device and installation.

    Raises:
        DeviceError: PyTorch is not there, and a variant of it was asked for.
    """
    from nstx.engine.devices.machine import has_bf16_units

    from ..choices import split_names

    if text is not None:
        chosen = split_names(text)
        if not torch_is_there() and any(name.startswith("torch") for name in chosen):
            raise DeviceError(
                "expected PyTorch for the variants of torch, got none; try --variants onnx, or "
                "'pip install torch'"
            )
        return chosen
    if not torch_is_there():
        console.warn("the variants of torch are left out, as PyTorch is not installed")
        return ("onnx",)
    if settled_device(device) != "cpu":
        return tuple(known)
    if has_bf16_units():
        return (*usual, "torch-bf16")
    console.warn("torch-bf16 is left out, as this processor has no bf16 units; try --variants")
    return usual


def _describe(report: dict[str, Any], what: str) -> str:
    peaks = ", ".join(f"{n} {v:.0f} GFLOP/s" for n, v in report["matrix_peak_gflops"].items())
    heading = (
        f"{'size':>5} {'batch':>5}  {'variant':<14} {'cold':>8} {'warm/picture':>13} "
        f"{'GFLOP/s':>8} {'of peak':>8} {'memory':>9}  share of torch's time: warm, cold"
    )
    return lay_out(report, f"; matrix products {peaks}", heading, _line, what)


def lay_out(
    report: dict[str, Any],
    more: str,
    heading: str,
    line: Callable[[dict[str, Any]], str],
    what: str,
) -> str:
    """Return the lines that a person reads of a report.

    Args:
        report: as plain data.
        more: stands after the machine and the versions, in the first line.
        heading: of the columns.
        line: returns that of a row.
        what: was measured, for the last line.
    """
    machine, packages = report["machine"], report["packages"]
    runtime = packages["onnxruntime-gpu"] or packages["onnxruntime"]
    versions = f"ONNX Runtime {runtime}, PyTorch {packages['torch'] or 'none'}"
    lines = [f"{machine['processor']}, {machine['cores']} cores; {versions}{more}", heading]
    lines += map(line, report["rows"])
    if report["interrupted"]:
        lines.append("interrupted: the rest was not measured")
    lines.append(f"{what} in {format_seconds(report['elapsed_seconds'])}")
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    start = f"{row['size']:>5} {row['batch']:>5}  {row['variant']:<14}"
    if "error" in row:
        return f"{start} {row['error']}"
    ratios = f"{row['of_torch']:.2f}, {row['cold_of_torch']:.2f}" if "of_torch" in row else ""
    share = f"{row['share_of_peak']:.0%}" if row["share_of_peak"] else ""
    return (
        f"{start} {row['cold_seconds']:>6.2f} s {row['per_picture']:>11.3f} s "
        f"{row['gflops']:>8.0f} {share:>8} {format_bytes(row['peak_memory_bytes']):>9}  {ratios}"
    )
