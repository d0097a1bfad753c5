"""The reports of the benchmarks, as lines for a person: each row when it is measured."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import typer

from nstx.models.printable import printable

from ..console import Console
from ..formats import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from nstx.engine.bench.throughput import ThroughputBench
    from nstx.engine.bench.turns import Bench

_Report = dict[str, Any]
_Row = dict[str, Any]
_Bench = TypeVar("_Bench", bound="Bench")


class Layout(NamedTuple):
    """How a benchmark's rows are laid out: a heading, and a line for each row."""

    heading: str
    describe: Callable[[_Row], str]


class _Table:
    """A table whose rows are printed when they come; its first lines with the first of them."""

    def __init__(self, layout: Layout, console: Console) -> None:
        self._layout, self._console = layout, console
        self._printed: list[tuple[object, ...]] = []

    def add(self, row: _Row) -> None:
        """Print a row, unless it was printed already."""
        key = row["size"], row.get("batch"), row["variant"]
        if key not in self._printed:
            self.begin()
            self._printed.append(key)
            self._console.report(self._layout.describe(row))

    def begin(self) -> None:
        """Print what stands above the rows, if there are none yet."""
        if not self._printed:
            self._console.report(f"{_describe_machine()}\n{self._layout.heading}")


def measure(
    run: Callable[[_Bench, Callable[[str], None], Callable[[_Row], None]], _Report],
    bench: _Bench,
    layout: Layout,
    what: str,
    console: Console,
) -> None:
    """Run a benchmark with a bar, printing each row when it is measured, and what there is to say at its end.

    Exits with 130 if Ctrl-C ended it early.
    """
    began = time.perf_counter()
    table = _Table(layout, console)
    with console.counting("measured", bench.measurements) as advance:
        report = run(bench, advance, table.add)
    report["elapsed_seconds"] = round(time.perf_counter() - began, 1)
    for row in report["rows"]:
        # Ctrl-C may have come before the last round of some.
        table.add(row)
    what = f"{what}; {format_count(bench.rounds, 'round')}"
    console.result(report, partial(_describe_end, what))
    if report["interrupted"]:
        raise typer.Exit(130)


def lay_out_cells(bench: "ThroughputBench") -> Layout:
    """Return the layout of a benchmark of sizes, batches and variants; on CUDA with floors."""
    on_cuda = bench.device != "cpu"
    floors = f" {'step':>9} {'floor':>9} {'ratio':>5}" if on_cuda else ""
    heading = (
        f"{'size':>5} {'batch':>5}  {'variant':<14} {'cold':>8} {'warm/picture':>13}{floors} "
        f"{'GFLOP/s':>8} {'of peak':>8} {'memory':>9}  share of torch's time: warm, cold"
    )
    return Layout(heading, partial(_describe_cell, on_cuda=on_cuda))


def _describe_cell(row: _Row, *, on_cuda: bool) -> str:
    start = f"{row['size']:>5} {row['batch']:>5}  {row['variant']:<14}"
    if "error" in row:
        return f"{start} {printable(row['error'])}"
    ratios = f"{row['of_torch']:.2f}, {row['cold_of_torch']:.2f}" if "of_torch" in row else ""
    share = f"{row['share_of_peak']:.0%}" if row["share_of_peak"] else ""
    memory = "" if row["peak_memory_bytes"] is None else format_bytes(row["peak_memory_bytes"])
    floors = ""
    if on_cuda:
        ratio = row["of_floor"]
        times = (_milliseconds(row[name]) for name in ("step_seconds", "floor_seconds"))
        floors = " {:>9} {:>9} {:>5}".format(*times, f"{ratio:.2f}" if ratio else "")
    return (
        f"{start} {row['cold_seconds']:>6.2f} s {_milliseconds(row['per_picture']):>13}{floors} "
        f"{row['gflops']:>8.0f} {share:>8} {memory:>9}  {ratios}"
    )


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.2f} ms"


def _describe_run(row: _Row) -> str:
    if "error" in row:
        return f"{row['size']:>9}  {row['variant']:<10} {printable(row['error'])}"
    size = f"{row['width']}×{row['height']}"
    ratios = f"{row['of_torch']:.2f}, {row['cost_of_torch']:.3f}" if "of_torch" in row else ""
    return (
        f"{size:>9}  {row['variant']:<10} {row['runs_on']:<14} {row['seconds']:>8.1f} s "
        f"{row['first_step']:>8.2f} s {_milliseconds(row['per_evaluation']):>11} {row['cost']:>9.3g} "
        f"{format_bytes(row['peak_memory_bytes']):>9}  {ratios}"
    )


LAYOUT_OF_RUNS = Layout(
    f"{'size':>9}  {'variant':<10} {'runs on':<14} {'whole run':>10} {'first step':>10} "
    f"{'evaluation':>11} {'cost':>9} {'memory':>9}  shares of torch's: time, cost",
    _describe_run,
)
"""The layout of a benchmark of whole runs."""


def _describe_machine() -> str:
    from nstx.engine.devices.machine import describe_machine, package_versions

    machine, packages = describe_machine(), package_versions()
    runtime = packages["onnxruntime-gpu"] or packages["onnxruntime"]
    versions = f"ONNX Runtime {runtime}, PyTorch {packages['torch'] or 'none'}"
    return f"{machine['processor']}, {machine['cores']} cores; {versions}"


def _describe_end(what: str, report: _Report) -> str:
    lines = ["interrupted: the rest was not measured"] if report["interrupted"] else []
    peaks = report.get("matrix_peak_gflops", {})
    if peaks:
        rates = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in peaks.items())
        lines.append(f"matrix products {rates}")
    lines.append(f"{what} in {format_seconds(report['elapsed_seconds'])}")
    return "\n".join(lines)
