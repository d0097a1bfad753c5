"""Measurements in processes of their own, one after the other, by each variant in turn.

Machines are noisy: variants that take turns meet the same noise, so that their ratio holds.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from .plan import Bench
from .tasks import Task

_LONGEST_ERROR = 300  # characters


def take_turns(
    bench: Bench,
    run_task: Callable[[Task], dict[str, Any]],
    on_measurement: Callable[[str], None] | None = None,
) -> tuple[dict[Task, list[dict[str, Any]]], bool]:
    """Measure every task of a benchmark in each round, after a warm-up.

    Args:
        bench: what is measured.
        run_task: returns what was measured, or ``error``.
        on_measurement: called after each task with what it measured, in a few words.

    Returns:
        The answers of each task, and whether Ctrl-C ended it early; what was measured until then
        is worth keeping.
    """
    answers: dict[Task, list[dict[str, Any]]] = {}

    def measure(task: Task) -> dict[str, Any]:
        answer = run_task(task)
        if on_measurement is not None:
            on_measurement(task.label)
        return answer

    try:
        for task in bench.warm_up:
            measure(task)
        for number in range(bench.rounds):
            # Each way round in turn, as a processor that gets hot or a neighbour favours a place.
            order = bench.variants if number % 2 == 0 else bench.variants[::-1]
            for task in bench.round(order):
                answer = measure(task)
                answers.setdefault(task, []).append(answer)
    except KeyboardInterrupt:
        return answers, True
    return answers, False


def run_process(task: Task, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Measure a task in a process of its own; return the answer of `nstx.engine.bench.worker`.

    Args:
        task: what is measured.
        environment: of the process; None takes this process's.

    Returns:
        What was measured; if the process failed, ``error``: the last line of its stderr, or its
        exit code.
    """
    command = [sys.executable, "-m", "nstx.engine.bench.worker", json.dumps(asdict(task))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        errors = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": errors[-1][:_LONGEST_ERROR]}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
