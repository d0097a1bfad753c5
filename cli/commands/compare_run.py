"""What ``nstx compare`` does with its options: split them, run, report."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.engine.comparison.make import Comparison, Watcher, make_comparison
from nstx.engine.comparison.plan import ComparisonPlan, ComparisonRun
from nstx.engine.settings import INITS
from nstx.engine.sizes import split_steps
from nstx.models.errors import UsageError

from ..choices import split_names, split_style
from ..console import Console
from ..formats import format_cost, format_count, format_seconds
from ..progress import ProgressBar

if TYPE_CHECKING:
    from nstx.engine.comparison.folder import RunRecord
    from nstx.engine.transfer.job import Job
    from nstx.engine.transfer.progress import Step


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """The command's options.

    Attributes:
        content: the content picture.
        styles: each as ``PATH`` or ``PATH:weight``.
        output: the folder.
        plan: the runs.
        began: when the command began, a reading of ``time.perf_counter``.
    """

    content: Path
    styles: tuple[str, ...]
    output: Path
    plan: ComparisonPlan
    began: float


_KINDS: dict[str, Callable[[str], Any]] = {
    "content_layers": str,
    "init": str,
    "content_weight": float,
    "style_weight": float,
    "style_scale": float,
    "steps": int,
}
_EXAMPLES = {"steps": "25,50,100", "style_scale": "0.5,1,2"}


def split_values(**texts: str | None) -> dict[str, list[Any]]:
    """Return the values of each option that has some.

    Raises:
        UsageError: one is no number where numbers are expected, or there is none.
    """
    return {name: _split(name, text) for name, text in texts.items() if text is not None}


def _split(name: str, text: str) -> list[Any]:
    option = f"--{name.replace('_', '-')}"
    if name == "init" and os.path.exists(text):  # noqa: PTH110  (which bears a text that is no path)
        return [text]  # a path may have commas
    parts = split_names(text)
    try:
        values = [_KINDS[name](part) for part in parts]
    except ValueError:
        values = []
    if not values:
        kind = {float: "numbers", int: "whole numbers"}.get(_KINDS[name], "values")  # type: ignore[call-overload]
        example = _EXAMPLES.get(name, "1,3,10")
        if name in ("content_layers", "init"):
            example = "conv3_2,conv4_2" if name == "content_layers" else ",".join(INITS)
        raise UsageError(
            f"expected {kind} separated by commas for {option}, got {text!r}; "
            f"try {option} {example}"
        )
    return values


class _ConsoleWatcher(Watcher):
    """Shows on stderr which run of how many is being made, and how each ended."""

    def __init__(self, console: Console, plan: ComparisonPlan) -> None:
        self._console, self._plan = console, plan
        self.finished_runs = 0

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        with self._console.working(text):
            yield

    @contextlib.contextmanager
    def running(
        self, place: int, count: int, run: ComparisonRun, job: "Job"
    ) -> Iterator["Callable[[Step], None]"]:
        title = f"run {place} of {count}: {run.label}"
        areas = [height * width for height, width in job.sizes]
        shares = split_steps(job.settings.steps, len(job.sizes))
        with ProgressBar(self._console, areas, shares, title) as bar:
            yield bar.show

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


def run_compare(request: CompareRequest, console: Console) -> None:
    """Make what is missing of the comparison, and print what there is.

    Raises:
        NstxError: of every kind that its parts raise.
    """
    watcher = _ConsoleWatcher(console, request.plan)
    styles = [split_style(style) for style in request.styles]
    try:
        comparison = make_comparison(request.content, styles, request.plan, request.output, watcher)
    except (KeyboardInterrupt, SystemExit):
        done = format_count(watcher.finished_runs, "new run")
        console.warn(f"interrupted; {done} kept; the same command makes what is missing")
        raise
    data = _to_json(request, comparison)
    console.result(_describe(data), data)


def _to_json(request: CompareRequest, comparison: Comparison) -> dict[str, Any]:
    """Return the fields of ``--json``: those of compare.json, and what this call did."""
    drawn = comparison.summary["drawn"]["files"]
    folder = request.output

    def path(name: str) -> str | None:
        return str(folder / name) if name in drawn else None

    summary = {k: v for k, v in comparison.summary.items() if k not in ("format", "drawn", "files")}
    return {
        "output": str(folder),
        **summary,
        "made": list(comparison.made),
        "kept": list(comparison.kept),
        "drawn": comparison.drawn,
        "files": {
            "sheet": path("sheet.png"),
            "animations": [str(folder / name) for name in drawn if name.startswith("animation.")],
            "costs": path("costs.png"),
            "page": path("index.html"),
            "summary": str(folder / "compare.json"),
        },
        "seconds": round(time.perf_counter() - request.began, 4),
    }


def _describe(data: dict[str, Any]) -> str:
    """Return the lines that a person reads at the end."""
    count, seconds = format_count(len(data["runs"]), "run"), format_seconds(data["seconds"])
    if not data["made"] and not data["drawn"]:
        first = f"{data['output']} has all of it already: {count}; nothing was done"
    else:
        kept = f", {len(data['kept'])} of them already there" if data["kept"] else ""
        first = f"saved {data['output']}  {count}{kept}, in {seconds}"
    width = max(len(run["label"]) for run in data["runs"])
    lines = [first]
    for run in data["runs"]:
        cost = run["cost"]["total"]
        share = f", {cost / run['initial_cost']:.2%} of the start's" if run["initial_cost"] else ""
        lines.append(f"  {run['label']:<{width}}  cost {format_cost(cost)}{share}")
    files = data["files"]
    shown = [files["sheet"], *files["animations"], files["costs"]]
    lines.append(f"  side by side: {', '.join(Path(name).name for name in shown if name)}")
    lines.append(f"  to look at: {files['page']}")
    return "\n".join(lines)
