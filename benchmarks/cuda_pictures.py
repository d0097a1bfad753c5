"""Sections of `cuda_report` on pictures: whole processes, equal bytes, final costs; and the tests for a GPU."""

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cuda_plan import Plan, Row, Section, tried

from nstx import Job, choose_settings, prepare_job, read_image, run_job
from nstx.engine.settings import Auto, Precision
from nstx.engine.transfer.costs import BoundCosts
from nstx.engine.transfer.report import describe_schedule

ROOT = Path(__file__).parents[1]


def measure_processes(plan: Plan, section: Section) -> Iterator[Row]:
    """Yield the seconds of whole processes, the first of which has no targets in its cache.

    ``equal_bytes`` says whether all of a row's processes wrote the same picture.
    """
    often = 1 if plan.device == "cpu" else 4
    sizes = [(size, often if size < 1000 else 3) for size in plan.process_sizes]
    rows = [(size, ["--steps", str(plan.process_steps)], runs) for size, runs in sizes]
    rows += [
        (plan.process_sizes[0], ["--steps", str(min(40, plan.process_steps)), *more], 2)
        for more in others(plan)
    ]
    with tempfile.TemporaryDirectory() as folder:
        for size, more, runs in rows:
            if not section.has(6):
                return
            cell = {"size": size, "options": " ".join(more)}
            yield tried(cell, run_often, plan, section, folder, size, more, runs)


def others(plan: Plan) -> list[list[str]]:
    """Return options of runs that are made twice, for their bytes."""
    precisions = [["--precision", name, "--backend", "torch"] for name in plan.precisions]
    return [["--solver", "adam"], *(precisions if plan.device != "cpu" else ())]


def run_often(
    plan: Plan, section: Section, folder: str, size: int, more: list[str], runs: int
) -> Row:
    """Run a command several times; return what its processes took and wrote."""
    seconds: list[float] = []
    digests: list[str] = []
    result: Row = {}
    for number in range(runs):
        if number > 1 and not section.has(1.2 * seconds[-1]):
            break
        output = Path(folder) / "out.png"
        began = time.perf_counter()
        result = run_nstx(plan, section, folder, output, size, more)
        seconds.append(time.perf_counter() - began)
        digests.append(hashlib.sha256(output.read_bytes()).hexdigest())
    later = seconds[1:]
    return {
        "first_seconds": seconds[0],
        "seconds": statistics.median(later) if later else None,
        "slowest": max(later) if later else None,
        "runs": len(seconds),
        "equal_bytes": len(set(digests)) == 1,
        "optimize_seconds": result["seconds"]["optimize"],
        "until_first_step": result["seconds"]["until_first_step"],
        "precision": result["precision"],
        "evaluations": result["evaluations"],
        "check_share": (result["precision_schedule"] or {}).get("check_share"),
        "result": {name: result[name] for name in ("seconds", "precision_schedule", "targets")},
    }


def run_nstx(
    plan: Plan, section: Section, folder: str, output: Path, size: int, more: list[str]
) -> Row:
    """Run `nstx optimize` in a process of its own, with a cache of its own; return its JSON."""
    command = [sys.executable, "-m", "nstx", "optimize", *map(str, plan.pictures())]
    command += ["-o", str(output), "--size", str(size), "--device", plan.device, "--json", "-q"]
    environment = {**os.environ, "NSTX_CACHE_DIR": str(Path(folder) / "cache")}
    done = subprocess.run(
        [*command, *more], env=environment, capture_output=True, text=True, check=False,
        timeout=section.left + 5,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-300:])
    result: Row = json.loads(done.stdout)
    return result


def measure_costs(plan: Plan, section: Section) -> Iterator[Row]:
    """Yield the final cost of `auto` beside fp32's for each pair; both measured in fp32."""
    for index in range(len(plan.pairs)):
        if not section.has(4):
            return
        names = " × ".join(plan.pairs[index])
        yield tried({"pair": names}, compare_costs, plan, index)


def compare_costs(plan: Plan, index: int) -> Row:
    """Return the costs of two runs of a pair."""
    content, style = map(read_image, plan.pictures(index))
    costs: dict[str, float] = {}
    seconds: dict[str, float] = {}
    row: Row = {}
    exact: Job | None = None
    names: tuple[Precision | Auto, ...] = ("fp32", "auto")
    for name in names:
        settings = choose_settings(
            size=plan.pair_size, steps=plan.process_steps, precision=name, backend="torch",
            device=plan.device,
        )  # fmt: skip
        job = prepare_job(content, [(style, 1.0)], settings)
        result = run_job(job)
        exact = exact or job
        costs[name] = BoundCosts(exact).measure(result.pixels).total
        seconds[name] = result.seconds
        row[f"{name}_evaluations"] = result.evaluations
        schedule = describe_schedule(job.opened.plan, result.checks, result.seconds)
    return row | {
        "costs": costs,
        "cost_of_fp32": costs["auto"] / costs["fp32"],
        "time_of_fp32": seconds["auto"] / seconds["fp32"],
        "begins_in": schedule and schedule["begins_in"],
        "checks": schedule and schedule["checks"],
        "check_share": schedule and schedule["check_share"],
    }


def run_tests(plan: Plan, section: Section) -> Iterator[Row]:
    """Yield how the tests for a GPU went: gradients of every precision and every kernel are among them."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=section.left
        )
        text, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        section.cut = True
        text, code = (error.stdout or b"").decode(errors="replace"), None
    counts = {name: int(n) for n, name in re.findall(r"(\d+) (passed|failed|skipped|error)", text)}
    yield {
        **dict.fromkeys(("passed", "failed", "skipped", "error"), 0), **counts,
        "exit_code": code, "seconds": time.perf_counter() - began, "tail": text[-3000:],
    }  # fmt: skip
