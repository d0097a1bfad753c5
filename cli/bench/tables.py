"""The reports of the benchmarks, as lines for a person."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ..console import Console
from ..formats import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from nstx.engine.bench.turns import Bench

_Report = dict[str, Any]
_Bench = TypeVar("_Bench", bound="Bench")


def measure(
    run: Callable[[_Bench, Callable[[str], None]], _Report],
    bench: _Bench,
    describe: Callable[[_Report, str], str],
    what: str,
    console: Console,
) -> None:
    """Run a benchmark with a bar, and print its report; exit with 130 if Ctrl-C ended it early."""
    began = time.perf_counter()
    with console.counting("measuring", bench.measurements) as advance:
        report = run(bench, advance)
    report["elapsed_seconds"] = round(time.perf_counter() - began, 1)
    console.result(describe(report, f"{what}; {format_count(bench.rounds, 'round')}"), report)
    if report["interrupted"]:
        raise typer.Exit(130)


def describe_cells(report: _Report, what: str) -> str:
    """Return the lines of a benchmark of sizes, batches and variants."""
    peaks = ", ".join(f"{n} {v:.0f} GFLOP/s" for n, v in report["matrix_peak_gflops"].items())
    heading = (
        f"{'size':>5} {'batch':>5}  {'variant':<14} {'cold':>8} {'warm/picture':>13} "
        f"{'GFLOP/s':>8} {'of peak':>8} {'memory':>9}  share of torch's time: warm, cold"
    )
    return _lay_out(report, f"; matrix products {peaks}", heading, _describe_cell, what)


def _describe_cell(row: dict[str, Any]) -> str:
    start = f"{row['size']:>5} {row['batch']:>5}  {row['variant']:<14}"
    if "error" in row:
        return f"{start} {row['error']}"
    ratios = f"{row['of_torch']:.2f}, {row['cold_of_torch']:.2f}" if "of_torch" in row else ""
    share = f"{row['share_of_peak']:.0%}" if row["share_of_peak"] else ""
    return (
        f"{start} {row['cold_seconds']:>6.2f} s {row['per_picture']:>11.3f} s "
        f"{row['gflops']:>8.0f} {share:>8} {format_bytes(row['peak_memory_bytes']):>9}  {ratios}"
    )


def describe_runs(report: _Report, what: str) -> str:
    """Return the lines of a benchmark of whole runs."""
    heading = (
        f"{'size':>9}  {'variant':<10} {'runs on':<14} {'whole run':>10} {'first step':>10} "
        f"{'evaluation':>10} {'cost':>9} {'memory':>9}  shares of torch's: time, cost"
    )
    return _lay_out(report, "", heading, _describe_run, what)


def _describe_run(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['size']:>9}  {row['variant']:<10} {row['error']}"
    size = f"{row['width']}×{row['height']}"
    ratios = f"{row['of_torch']:.2f}, {row['cost_of_torch']:.3f}" if "of_torch" in row else ""
    return (
        f"{size:>9}  {row['variant']:<10} {row['runs_on']:<14} {row['seconds']:>8.1f} s "
        f"{row['first_step']:>8.2f} s {row['per_evaluation']:>8.3f} s {row['cost']:>9.3g} "
        f"{format_bytes(row['peak_memory_bytes']):>9}  {ratios}"
    )


def _lay_out(
    report: _Report, peaks: str, heading: str, describe: Callable[[dict[str, Any]], str], what: str
) -> str:
    machine, packages = report["machine"], report["packages"]
    runtime = packages["onnxruntime-gpu"] or packages["onnxruntime"]
    versions = f"ONNX Runtime {runtime}, PyTorch {packages['torch'] or 'none'}"
    lines = [f"{machine['processor']}, {machine['cores']} cores; {versions}{peaks}", heading]
    lines += map(describe, report["rows"])
    if report["interrupted"]:
        lines.append("interrupted: the rest was not measured")
    lines.append(f"{what} in {format_seconds(report['elapsed_seconds'])}")
    return "\n".join(lines)
