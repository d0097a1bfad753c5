"""The result of ``nstx optimize``: as the fields of ``--json``, and as lines for a person."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nstx.engine.checkpoints.keeper import Checkpoints
from nstx.engine.devices.memory import peak_memory_bytes
from nstx.engine.pictures.srgb import choose_profile, describe_profile
from nstx.engine.pictures.writing import choose_depth
from nstx.engine.profiles.icc import make_srgb_profile
from nstx.engine.transfer.job import Job
from nstx.engine.transfer.progress import Step
from nstx.engine.transfer.report import describe_run, precision_after
from nstx.engine.transfer.result import Result
from nstx.models.cost import Cost
from nstx.models.objective import objective_to_json
from nstx.models.printable import printable

from ..formats import format_bytes, format_cost, format_count, format_seconds
from .keeping import describe_kept
from .request import OptimizeRequest

SECONDS = ("total", "load", "targets", "optimize", "save", "start", "until_first_step")
"""What is timed.

``total``: from the process's start on; ``load``: reading pictures and weights, importing libraries,
building the network; ``targets``: looking them up, and computing what was not there; ``optimize``:
the run, from the evaluation of the start on; ``save``: the picture, and measuring it; ``start``:
from the process's start to the command's, the interpreter and the command line;
``until_first_step``: from the process's start to that of the first step, the sum of start, load,
targets and the preparation of the solver. The last two are None if there was no step.
"""

_LONGEST_NAME = 200  # of a colour profile

_STOPPED = {
    "steps": "",
    "no_progress": " (stopped early: the cost no longer falls)",
    "interrupted": " (interrupted)",
    "diverged": " (diverged after them)",
    "failed": " (failed after them)",
}


def result_json(
    request: OptimizeRequest,
    job: Job,
    result: Result,
    *,
    output: Path,
    saved_cost: Cost | None,
    seconds: Mapping[str, float | None],
    files: dict[str, list[str]],
    kept: Checkpoints | None = None,
) -> dict[str, Any]:
    """Return the fields of ``--json``.

    ``cost`` is that of the saved file, read back: rounded to its ``depth``, compressed if the format
    does, on white if the format has no transparency.
    ``profile`` is what the profile that is embedded in it calls itself, or None.
    ``cost_before_rounding`` is that of the result, as it was cleaned. Costs that were not measured are None;
    then ``last_step`` is the step that the picture is of, with the cost at its scale's size.

    Args:
        request: what was asked for.
        job: that was made of it.
        result: of the run.
        output: where the picture is.
        saved_cost: that of its file, or None.
        seconds: by the names of `SECONDS`.
        files: what else was written, by kind.
        kept: the run's checkpoint, if there is to be one.
    """
    settings, extractor, choice = request.settings, job.extractor, job.opened.choice
    last = result.last_step
    # The same picture, evaluated by what evaluates a picture alone.
    is_exact = last is None or (last.scale == last.scales and job.opened.plan is None)
    return {
        "output": str(output),
        **_describe_encoding(request, result),
        **describe_run(job, result),
        "cost": saved_cost and asdict(saved_cost),
        "cost_before_rounding": asdict(result.cost) if is_exact else None,
        "last_step": last and _last_step_json(last, choice.precision),
        "seconds": {k: None if v is None else round(v, 4) for k, v in seconds.items()},
        "extractor": extractor and {"name": extractor[0], "runs_on": extractor[1]},
        **{
            name: getattr(settings, name) for name in ("preset", "solver", "init", "seed", "colors")
        },
        "objective": objective_to_json(settings.objective),
        "inputs": [asdict(item) for item in job.inputs],
        "weights": {"source": settings.weights, "sha256": job.opened.weights_sha256},
        "peak_memory_bytes": peak_memory_bytes(choice.device, by_torch=choice.name == "torch"),
        "files": files,
        "from": None if request.repeats is None else str(request.repeats.picture),
        **describe_kept(kept),
    }


def _describe_encoding(request: OptimizeRequest, result: Result) -> dict[str, Any]:
    """Return the bits of a channel of the saved picture, and what its colour profile calls itself, if it has one."""
    saving, suffix = request.saving(request.output), request.output.suffix.lower()
    depth, profile = saving["depth"] or choose_depth(result.picture, suffix), None
    if saving["keep_profile"]:
        profile, _ = choose_profile(result.picture.encoding.profile)
    elif depth == 16 and suffix != ".npy":
        profile = make_srgb_profile()
    return {
        "depth": depth,
        "profile": profile and printable(describe_profile(profile))[:_LONGEST_NAME],
    }


def _last_step_json(step: Step, precision: str) -> dict[str, Any]:
    """Return what is known of a step's picture; ``precision`` is that which the run began in."""
    height, width = step.picture.shape[:2]
    return {
        "step": step.step,
        "scale": step.scale,
        "width": width,
        "height": height,
        "precision": precision_after(step.checks, precision),
        "cost": asdict(step.cost),
    }


def _describe_precision(data: dict[str, Any]) -> str:
    schedule = data["precision_schedule"]
    if schedule is None:
        return str(data["precision"])
    checks = schedule["checks"]
    failed = [c for c in checks if not c["kept"]]
    text = f"{schedule['begins_in']}, {format_count(len(checks), 'check')} against fp32"
    later = failed and failed[-1]["continues_in"]
    return f"{text}; in {later} from a check on that failed" if failed else text


def describe_result(data: dict[str, Any]) -> str:
    """Return the lines that a person reads at the end."""
    seconds = data["seconds"]
    lines = [
        f"saved {data['output']}  {data['width']}×{data['height']}",
        f"  cost {_describe_cost(data)}",
        f"  {format_count(data['steps'], 'step')}, "
        f"{format_count(data['evaluations'], 'evaluation')} in "
        f"{format_seconds(seconds['total'])} on {data['device']} in {_describe_precision(data)}, "
        f"peak memory {format_bytes(data['peak_memory_bytes'])}" + _STOPPED[data["stopped"]],
        f"  targets {_describe_targets(data)}",
    ]
    for kind, paths in data["files"].items():
        last = f" … {paths[-1]}" if len(paths) > 1 else ""
        lines.append(f"  {kind}: {paths[0]}{last}")
    if data["checkpoint"] and data["checkpoint"]["step"] is not None:
        folder = printable(data["checkpoint"]["folder"])
        lines.append(
            f"  step {data['checkpoint']['step']} is kept: 'nstx resume {folder}' goes on from it"
        )
    return "\n".join(lines)


def _describe_cost(data: dict[str, Any]) -> str:
    """Say the cost of the file, or else what is known of its picture."""
    last, cost, start, place = data["last_step"], data["cost"], data["initial_cost"], ""
    if cost is None and last is None:
        cost, place = data["cost_before_rounding"], " before rounding"
    elif cost is None:
        cost = last["cost"]
        place = (
            f" after step {last['step']}, at {last['width']}×{last['height']} in "
            f"{last['precision']}, not that of the file"
        )
    share = "" if start is None else f", {cost['total'] / start if start else 0:.2%} of the start's"
    parts = f"content {format_cost(cost['content'])}, style {format_cost(cost['style'])}"
    return f"{format_cost(cost['total'])}{place}{share} ({parts})"


def _describe_targets(data: dict[str, Any]) -> str:
    sources = [data["targets"]["content"], *data["targets"]["style"]]
    if "file" in sources:
        return "from the file"
    if data["extractor"] is None:
        return "from the cache"
    by = f"by {data['extractor']['name']} on {data['extractor']['runs_on']}"
    return f"{by}, some from the cache" if "hit" in sources else by
