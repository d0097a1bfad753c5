"""``nstx batch``: many pictures."""

import time

import typer

from ..grouped import Group, SeveralValues, grouped
from ..options import regions
from ..options import shared as options
from ..options.memory import Memory
from ..options.saving import Saved
from .asking import Asking, Pictures
from .working import Working

app = typer.Typer(add_completion=False)


@app.command(cls=SeveralValues)
@grouped
def batch(
    pictures: Pictures,
    working: Working,
    *,
    objective: options.Objective,
    colours: options.Colours,
    region: regions.Regions,
    size: options.Size,
    solver: options.Solver,
    machine: options.Machine,
    memory: Memory,
    saved: Saved,
    shown: options.Output,
) -> None:
    """Stylise folders of pictures, or a list of jobs, by several processes; again, what is missing.

    What is made is in DIR at once, whole. The same command, after whatever ended it, makes what is not there.
    """
    began = time.perf_counter()
    working.check()
    groups: dict[str, Group] = {
        "objective": objective, "colours": colours, "region": region, "size": size,
        "solver": solver, "machine": machine, "memory": memory, "saved": saved,
    }  # fmt: skip
    asking = Asking(groups, pictures.name)
    from .run import BatchRun

    BatchRun(pictures, working, asking, shown.console(), began).run()
