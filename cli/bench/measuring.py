"""What the benchmarks share: their repetitions, their variants, and how their reports look."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from nstx.models.errors import DeviceError

from ..console import Console
from ..formats import format_seconds
from ..grouped import Group, Help


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition(Group):
    """How often is measured."""

    variables: ClassVar[bool] = False

    rounds: Annotated[int, Help("Turns that the variants take, a process each.")] = 2
    repeats: Annotated[int, Help("Warm runs in each process, at least.")] = 1
    seconds: Annotated[float, Help("That these take together, at least.")] = 2.0


def choose_variants(
    known: Iterable[str], text: str | None, device: str, usual: tuple[str, ...], console: Console
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


def settled_device(device: str) -> str:
    """Return the device, settled; by PyTorch where it is there, which knows whether it works."""
    from nstx.engine.devices.device import settle

    return str(settle(device, by_torch=torch_is_there()))


def torch_is_there() -> bool:
    """Whether PyTorch is installed."""
    from nstx.engine.devices.machine import is_there

    return is_there("torch")


def measure_and_print(
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
