"""Benchmarks of single computations: a table of sizes, batches and variants."""

from typing import TYPE_CHECKING, Any

from ..console import Console
from ..formats import format_bytes, format_count
from .measuring import lay_out, measure_and_print

if TYPE_CHECKING:
    from nstx.engine.bench.plan import ThroughputBench


def run_cells(chosen: "ThroughputBench", what: str, console: Console) -> None:
    """Measure, and print the report."""
    from nstx.engine.bench.run import run_bench

    measure_and_print(
        lambda advance: run_bench(chosen, advance),
        chosen.measurements,
        lambda report: _describe(report, f"{what}; {format_count(chosen.rounds, 'round')}"),
        console,
    )


def _describe(report: dict[str, Any], what: str) -> str:
    peaks = ", ".join(f"{n} {v:.0f} GFLOP/s" for n, v in report["matrix_peak_gflops"].items())
    heading = (
        f"{'size':>5} {'batch':>5}  {'variant':<14} {'cold':>8} {'warm/picture':>13} "
        f"{'GFLOP/s':>8} {'of peak':>8} {'memory':>9}  share of torch's time: warm, cold"
    )
    return lay_out(report, f"; matrix products {peaks}", heading, _line, what)


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
