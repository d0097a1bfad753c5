"""The result of ``nstx optimize``: as the fields of ``--json``, and as lines for a person."""

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nstx.engine.devices.memory import peak_memory_bytes, process_seconds
from nstx.engine.transfer.report import describe_run
from nstx.models.cost import Cost

from ..fields import cost_json, extractor_json
from ..formats import format_bytes, format_cost, format_count, format_seconds

if TYPE_CHECKING:
    from nstx.engine.gradients.choice import BackendChoice
    from nstx.engine.transfer.job import Job
    from nstx.engine.transfer.run import Result

    from .request import OptimizeRequest

_STOPPED = {
    "steps": "",
    "no_progress": " (stopped early: the cost no longer falls)",
    "interrupted": " (interrupted)",
}


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each part.

    Attributes:
        began: when the command began, a reading of ``time.perf_counter``.
        load: reading pictures and weights, importing libraries, building the network.
        targets: looking them up, and computing what was not there.
        optimize: the run, from the evaluation of the start on.
        save: the picture, and measuring it.
        start: from the process's start to the command's: the interpreter and the command line.
        until_first_step: from the process's start to that of the first step, which is the sum of
            start, load and targets, and the preparation of the solver; None if there was no step.
    """

    began: float
    load: float
    targets: float
    optimize: float = 0.0
    save: float = 0.0
    start: float | None = None
    until_first_step: float | None = None

    def begin_steps(self, seconds: float) -> "Timings":
        """Return the timings with those up to the first step, which began ``seconds`` ago."""
        started = process_seconds()
        start = started - (time.perf_counter() - self.began)
        return replace(self, start=start, until_first_step=started - seconds)

    def finish(self, optimize: float, save: float) -> "Timings":
        """Return the timings with those of the last two parts."""
        return replace(self, optimize=optimize, save=save)

    def to_json(self) -> dict[str, float | None]:
        """Return the seconds, with the total since the process was started."""
        parts = {k: v for k, v in asdict(self).items() if k != "began"}
        seconds = {"total": process_seconds(), **parts}
        return {k: None if value is None else round(value, 4) for k, value in seconds.items()}


def result_json(
    request: "OptimizeRequest",
    job: "Job",
    result: "Result",
    saved_cost: Cost,
    timings: Timings,
    files: dict[str, list[str]],
) -> dict[str, Any]:
    """Return the fields of ``--json``.

    ``cost`` is that of the saved file, read back: rounded to 8 bits, compressed if the format
    does. ``cost_before_rounding`` is that of the picture as the solver left it.
    """
    settings = request.settings
    return {
        "output": str(request.output),
        **describe_run(job, result),
        "cost": cost_json(saved_cost),
        "cost_before_rounding": cost_json(result.cost),
        "seconds": timings.to_json(),
        "extractor": extractor_json(job.extractor),
        "preset": settings.preset,
        "solver": settings.solver,
        "init": settings.init,
        "seed": settings.seed,
        "objective": asdict(settings.objective),
        "weights": {"source": settings.weights, "sha256": job.opened.weights_sha256},
        "peak_memory_bytes": _peak_memory(job.opened.choice),
        "files": files,
    }


def _describe_precision(data: dict[str, Any]) -> str:
    schedule = data["precision_schedule"]
    if schedule is None:
        return str(data["precision"])
    checks = schedule["checks"]
    failed = [c for c in checks if not c["kept"]]
    text = f"{schedule['begins_in']}, {format_count(len(checks), 'check')} against fp32"
    return f"{text}; in fp32 from a check on that failed" if failed else text


def _peak_memory(choice: "BackendChoice") -> int:
    return peak_memory_bytes(choice.device, by_torch=choice.name == "torch")


def describe_result(data: dict[str, Any]) -> str:
    """Return the lines that a person reads at the end."""
    seconds, cost = data["seconds"], data["cost"]
    share = cost["total"] / data["initial_cost"] if data["initial_cost"] else 0.0
    lines = [
        f"saved {data['output']}  {data['width']}×{data['height']}",
        (
            f"  cost {format_cost(cost['total'])}, {share:.2%} of the start's"
            f" (content {format_cost(cost['content'])}, style {format_cost(cost['style'])})"
        ),
        f"  {format_count(data['steps'], 'step')}, "
        f"{format_count(data['evaluations'], 'evaluation')} in "
        f"{format_seconds(seconds['total'])} on {data['device']} in {_describe_precision(data)}, "
        f"peak memory {format_bytes(data['peak_memory_bytes'])}" + _STOPPED[data["stopped"]],
    ]
    lines.append(f"  targets {_describe_targets(data)}")
    for kind, paths in data["files"].items():
        lines.append(f"  {kind}: {paths[0]}" + (f" … {paths[-1]}" if len(paths) > 1 else ""))
    return "\n".join(lines)


def _describe_targets(data: dict[str, Any]) -> str:
    sources = [data["targets"]["content"], *data["targets"]["style"]]
    if "file" in sources:
        return "from the file"
    if data["extractor"] is None:
        return "from the cache"
    by = f"by {data['extractor']['name']} on {data['extractor']['runs_on']}"
    return f"{by}, some from the cache" if "hit" in sources else by
