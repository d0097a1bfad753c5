"""``nstx plan``: what a run would take, and how it would be fitted into memory."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstx.models.errors import about

from ..choices import read_styles
from ..formats import format_bytes, format_minutes
from ..grouped import argument, grouped, without
from ..options import shared as options
from ..options.memory import Memory

if TYPE_CHECKING:
    from nstx.engine.transfer.plan import PlanRow, RunPlan

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def plan(
    content: Annotated[Path, argument("The photograph.", "CONTENT")],
    styles: Annotated[
        list[str] | None, argument("The paintings, each as PATH or PATH:weight.", "STYLE...")
    ] = None,
    *,
    objective: options.Objective,
    size: options.Size,
    solver: Annotated[options.Solver, without("learning_rate", "init", "seed", "clean")],
    machine: options.Machine,
    memory: Memory,
    shown: options.Output,
) -> None:
    """Print what 'nstx optimize' would take: memory and time, whole and by tiles, and what it would choose.

    Memory is that of a model that was fitted to measurements. Time is an estimate, by a few evaluations at 256×256.
    """
    began = time.perf_counter()
    from nstx.engine.preparation.inputs import style_fit, take_content
    from nstx.engine.transfer.plan import plan_run

    console = shown.console()
    settings = options.settings_of(objective, size, solver, machine, memory)
    with about("content"):
        photograph = take_content(content, settings).size
    with about("style"):
        paintings = [
            style.size for style, _ in read_styles(styles or [], style_fit(photograph, settings))
        ]
    with console.working("calibrating"):
        planned = plan_run(photograph, paintings, settings)
    seconds = round(time.perf_counter() - began, 4)
    console.result(_to_json(planned) | {"seconds": seconds}, lambda _: _describe(planned))


def _to_json(planned: "RunPlan") -> dict[str, Any]:
    choice = planned.choice
    return {
        "scales": [
            {"width": width, "height": height, "steps": steps}
            for (height, width), steps in zip(planned.sizes, planned.steps, strict=True)
        ],
        "backend": choice.name,
        "precision": choice.precision,
        "limit_bytes": planned.limit,
        "seconds_per_megapixel": planned.seconds_per_megapixel,
        "largest_size": planned.largest,
        "choices": [
            {
                "tile": row.plan.tile,
                "history": "disk" if row.plan.on_disk else "memory",
                "memory_bytes": row.plan.needed,
                "fits": row.plan.fits,
                "chosen": row.chosen,
                "seconds": round(sum(row.seconds), 2),
                "seconds_by_scale": [round(value, 2) for value in row.seconds],
            }
            for row in planned.rows
        ],
    }


def _describe(planned: "RunPlan") -> str:
    """Return a table of a terminal's width: with a column for each scale where there is room for them."""
    lines = [
        f"{planned.choice.name} in {planned.choice.precision}, {format_bytes(planned.limit)} of memory"
    ]
    table = _lay_out(planned, by_scale=True)
    if max(map(len, table)) > shutil.get_terminal_size().columns:
        table = _lay_out(planned, by_scale=False) + _describe_scales(planned)
    lines += table
    return "\n".join(lines if planned.largest is None else [*lines, _refuse(planned.largest)])


def _lay_out(planned: "RunPlan", *, by_scale: bool) -> list[str]:
    sizes = [f"{width}×{height}" for height, width in planned.sizes] if by_scale else []
    steps = [f"{count} steps" for count in planned.steps] if by_scale else []
    widths = [max(9, len(size), len(count)) for size, count in zip(sizes, steps, strict=True)]

    def lay_out(*cells: str) -> str:
        first, memory, *times, total = cells
        columns = [f"{text:>{width}}" for text, width in zip(times, widths, strict=True)]
        return "  ".join([f"{first:<15}", f"{memory:>9}", *columns, f"{total:>9}"])

    lines = [
        lay_out("", "memory", *sizes, "in all"),
        lay_out("", "", *steps, f"{sum(planned.steps)} steps"),
    ]
    for row in planned.rows:
        seconds = (*(row.seconds if by_scale else ()), sum(row.seconds))
        times = map(_write_time, seconds)
        lines.append(lay_out(_name(row), format_bytes(row.plan.needed), *times) + _remark(row))
    return lines


def _describe_scales(planned: "RunPlan") -> list[str]:
    """Return a line for each scale, with its time by what is chosen, or the first if nothing fits."""
    row = next((row for row in planned.rows if row.chosen), planned.rows[0])
    return [f"{_name(row)}, by scales:"] + [
        f"  {f'{width}×{height}':<13}  {f'{count} steps':>9}  {_write_time(seconds):>9}"
        for (height, width), count, seconds in zip(
            planned.sizes, planned.steps, row.seconds, strict=True
        )
    ]


def _write_time(seconds: float) -> str:
    return format_minutes(seconds).removeprefix("about ")


def _name(row: "PlanRow") -> str:
    text = "whole" if row.plan.tile is None else f"tile {row.plan.tile}"
    return f"{text}, disk" if row.plan.on_disk else text


def _remark(row: "PlanRow") -> str:
    if row.chosen:
        return "  chosen"
    return "" if row.plan.fits else "  does not fit"


def _refuse(largest: int) -> str:
    return f"nothing fits; try {f'--size {largest}' if largest else 'more memory'}"
