"""What ``nstx compare`` does with its options: split them, run, report."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.engine.comparison.make import Watcher, make_comparison
from nstx.engine.comparison.plan import ComparisonPlan, ComparisonRun
from nstx.engine.planning.memory_model import load_of, memory_needed
from nstx.engine.settings import COLORS, INITS
from nstx.models.errors import UsageError
from nstx.models.printable import printable
from nstx.models.statistics import STATISTICS
from nstx.models.values import describe

from ..choices import split_names, split_style, split_styles_for
from ..console import Console
from ..formats import format_cost, format_count, format_seconds
from ..options.regions import Regions
from ..progress import show_steps
from ..sources import flag_of

if TYPE_CHECKING:
    from nstx.engine.comparison.records import RunRecord
    from nstx.engine.transfer.job import Job
    from nstx.engine.transfer.progress import Step


_KINDS: dict[type, str] = {str: "values", float: "numbers", int: "whole numbers"}
_COMPARED: dict[str, tuple[type, str]] = {
    "content_layers": (str, "conv3_2,conv4_2"),
    "style_statistic": (str, ",".join(STATISTICS)),
    "laplacian_weight": (float, "0,0.001,0.01"),
    "init": (str, ",".join(INITS)),
    "content_weight": (float, "1,3,10"),
    "style_weight": (float, "1,3,10"),
    "style_scale": (float, "0.5,1,2"),
    "steps": (int, "25,50,100"),
    "colors": (str, ",".join(COLORS[:3])),
    "blend": (float, "0,0.25,0.5,0.75,1"),
}
"""What the values of an option are, and an example."""


def split_values(**texts: str | None) -> dict[str, list[Any]]:
    """Return the values of each option that has some.

    `UsageError` if one is no number where numbers are expected, or there is none.
    """
    return {name: _split(name, text) for name, text in texts.items() if text is not None}


def _split(name: str, text: str) -> list[Any]:
    if name == "init" and os.path.exists(text):  # noqa: PTH110  (which bears a text that is no path)
        return [text]  # a path may have commas
    kind, example = _COMPARED[name]
    try:
        values = [kind(part) for part in split_names(text)]
    except ValueError:
        values = []
    if not values:
        option = flag_of(name)
        raise UsageError(
            f"expected {_KINDS[kind]} separated by commas for {option}, got {describe(text)}; "
            f"try {option} {example}",
            setting=name,
        )
    return values


class _ConsoleWatcher(Watcher):
    """Shows on stderr which run of how many is being made, and how each ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.finished_runs = 0

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        with self._console.working(text):
            yield

    @contextmanager
    def running(
        self, place: int, count: int, run: ComparisonRun, job: "Job"
    ) -> Iterator["Callable[[Step], None]"]:
        title = f"run {place} of {count}: {run.label}"
        steps, choice = job.settings.most_steps, job.opened.choice
        memory = memory_needed(load_of(job.settings, job.sizes[-1], choice))
        with show_steps(self._console, job.sizes, steps, choice, title, memory=memory) as show:
            yield show

    def finished(self, place: int, count: int, run: ComparisonRun, record: "RunRecord") -> None:
        self.finished_runs += 1
        result = record.result
        for text in result.get("warnings", ()):
            self._console.warn(text)
        self._console.log(
            f"run {place} of {count}: {run.label}, "
            f"cost {format_cost(result['cost']['total'])}, "
            f"{format_count(result['steps'], 'step')} in "
            f"{format_seconds(result['seconds']['optimize'])}"
        )


def run_compare(
    content: Path,
    styles: Iterable[str],
    plan: ComparisonPlan,
    output: Path,
    console: Console,
    *,
    region: Regions,
    force: bool,
) -> dict[str, Any]:
    """Make what is missing of the comparison in a folder, and return the fields of ``--json``.

    They are those of compare.json, and what this call did.
    """
    watcher = _ConsoleWatcher(console)
    try:
        comparison = make_comparison(
            content,
            [split_style(style) for style in styles],
            plan,
            output,
            watcher,
            mask=region.mask,
            regions=region.regions,
            style_for=split_styles_for(region.style_for or ()),
            force=force,
        )
    except (KeyboardInterrupt, SystemExit):
        done = format_count(watcher.finished_runs, "new run")
        console.warn(f"interrupted; {done} kept; the same command makes what is missing")
        raise
    drawn = comparison.summary["drawn"]["files"]

    def path(name: str) -> str | None:
        return str(output / name) if name in drawn else None

    summary = {k: v for k, v in comparison.summary.items() if k not in ("format", "drawn", "files")}
    return {
        "output": str(output),
        **summary,
        "made": list(comparison.made),
        "kept": list(comparison.kept),
        "drawn": comparison.drawn,
        "files": {
            "sheet": path("sheet.png"),
            "animations": [str(output / name) for name in drawn if name.startswith("animation.")],
            "costs": path("costs.png"),
            "page": path("index.html"),
            "summary": str(output / "compare.json"),
        },
    }


def describe_comparison(data: dict[str, Any]) -> str:
    """Return the lines that a person reads at the end."""
    count, seconds = format_count(len(data["runs"]), "run"), format_seconds(data["seconds"])
    output = printable(data["output"])
    if not data["made"] and not data["drawn"]:
        first = f"{output} has all of it already: {count}; nothing was done"
    else:
        kept = f", {len(data['kept'])} of them already there" if data["kept"] else ""
        first = f"saved {output}  {count}{kept}, in {seconds}"
    width = max(len(run["label"]) for run in data["runs"])
    lines = [first]
    for run in data["runs"]:
        cost = run["cost"]["total"]
        share = f", {cost / run['initial_cost']:.2%} of the start's" if run["initial_cost"] else ""
        lines.append(f"  {run['label']:<{width}}  cost {format_cost(cost)}{share}")
    files = data["files"]
    shown = [files["sheet"], *files["animations"], files["costs"]]
    lines.append(f"  side by side: {', '.join(Path(name).name for name in shown if name)}")
    lines.append(f"  to look at: {printable(files['page'])}")
    return "\n".join(lines)
