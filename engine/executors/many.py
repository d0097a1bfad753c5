"""Batches from Python: jobs of any iterable, made by workers, and each yielded when it has ended."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nstx.models.arguments import check_arguments
from nstx.models.errors import UsageError

from ..batches.asked import AskedJob
from ..batches.fleet import Crew, Event, Fleet, FleetChoice
from ..batches.folder import BatchFolder
from ..batches.run import Batch, Together, choose_device, choose_fleet, describe_other, plan_batch
from ..batches.together import check_counts
from ..checkpoints.keeper import check_minutes

_log = logging.getLogger("nstx")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStep:
    """A step of one of a batch's jobs; not of every step is told.

    Attributes:
        output: the name of the job's result.
        worker: that makes it, from 0.
        cost: the total, at its scale.
    """

    output: str
    worker: int
    step: int
    steps: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A job of a batch that has ended.

    Attributes:
        output: the name of its result.
        path: of the result; None of a job that failed.
        is_new: whether it was made now; else it was there.
        cost: the result's total; None of a job that failed, and where an earlier command made it.
        error: why it failed; None if it did not.
    """

    output: str
    path: Path | None
    is_new: bool
    cost: float | None = None
    error: str | None = None


@check_arguments
def stylize_all(
    jobs: Sequence[AskedJob] | Iterator[AskedJob],
    output: str | os.PathLike[str],
    *,
    workers: int | None = None,
    batch: Together = None,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    attempts: int = 3,
    checkpoint_every: float | None = None,
    on_step: Callable[[BatchStep], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Made]:
    """Yield each of many jobs as it ends, made by several processes; what is there already comes first.

    As ``nstx batch`` does: the same call again, after whatever ended it, makes what is missing. Nothing is begun before
    the first is asked for, and all ends when the iterator is closed.

    Args:
        jobs: of `ask_job`; all are read before the first is made.
        output: the folder of the results, made if need be.
        workers: how many there are; None is one for each GPU or core, as memory goes.
        batch: jobs of one size and objective that each evaluates together; ``auto`` is as many as are the fastest, None
            is ``auto`` on GPUs and else 1.
        executor: ``ray`` has them made by actors of a Ray cluster.
        address: of the cluster.
        attempts: how many workers may die of a job before it has failed.
        checkpoint_every: minutes from one checkpoint of each run to the next; None keeps none.
        on_step: called now and then.
        should_stop: asked several times a second; True ends all, and what was running waits for the next call.

    Raises:
        UsageError: two results have one name, or what is asked for does not go together.
        OutputError: nothing can be written, or another batch has the folder.
        DeviceError: workers do not start, or there is no cluster.
    """
    check_counts(workers=workers, batch=batch, attempts=attempts)
    if executor == "ray" and checkpoint_every is not None:
        raise UsageError(
            "expected checkpoint_every or executor='ray', got both; try executor='local'"
        )
    if checkpoint_every is not None:
        check_minutes(checkpoint_every)
    asked = list(jobs)
    folder = BatchFolder(Path(output).absolute())

    @contextlib.contextmanager
    def crew(planned: Batch) -> Iterator[tuple[FleetChoice, Callable[..., Crew[Any]]]]:
        settings = list(dict.fromkeys(item.settings for item in asked))
        if executor == "local":
            yield (
                choose_fleet(
                    settings, planned.missing, workers=workers, most=batch,
                    checkpoint_every=checkpoint_every,
                ),
                Fleet,
            )  # fmt: skip
            return
        from .cluster import open_cluster
        from .ray_fleet import RayFleet

        with open_cluster(address) as cluster:
            device = choose_device(settings)
            choice = cluster.choose(device, planned.missing, workers=workers, most=batch)
            yield choice, partial(RayFleet, cluster=cluster)

    return _make(folder, asked, attempts, crew, on_step, should_stop)


def _make(
    folder: BatchFolder,
    asked: list[AskedJob],
    attempts: int,
    crew: Callable[[Batch], contextlib.AbstractContextManager[Any]],
    on_step: Callable[[BatchStep], None] | None,
    should_stop: Callable[[], bool] | None,
) -> Iterator[Made]:
    with folder.alone():
        planned = plan_batch(folder, asked, attempts=attempts)
        for text in describe_other(planned.other):
            _log.warning("%s", text)
        there = {record.id for record in planned.records() if record.state == "succeeded"}
        for name in planned.names:
            if name in there or name in planned.other:
                yield Made(output=name, path=folder.place(name), is_new=False)
        if not planned.missing:
            return
        with crew(planned) as (choice, make), contextlib.closing(
            planned.events(choice, make)
        ) as events:  # fmt: skip
            for event in events:
                if should_stop is not None and should_stop():
                    return
                if event["event"] == "step" and on_step is not None:
                    on_step(_step(event))
                elif (made := _made(event, folder)) is not None:
                    yield made
                elif event["event"] == "warning":
                    _log.warning("%s", event["text"])


def _step(event: Event) -> BatchStep:
    numbers = {name: event[name] for name in ("worker", "step", "steps", "cost")}
    return BatchStep(output=event["job"], **numbers)


def _made(event: Event, folder: BatchFolder) -> Made | None:
    name, kind = event.get("job", ""), event["event"]
    if kind == "succeeded":
        cost = event.get("cost")
        return Made(output=name, path=folder.place(name), is_new=True, cost=cost and cost["total"])
    if kind == "failed" and not event["again"]:
        return Made(output=name, path=None, is_new=True, error=event["error"]["message"])
    return None
