"""Gives each of several test processes processors of its own, as soon as it is imported.

Threads of one process that spin while they wait for a processor which another one has would be most of the
suite's processor time.
"""

import os


def _share_processors() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    count = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if worker is None or count is None or not hasattr(os, "sched_setaffinity"):
        return
    processors = sorted(os.sched_getaffinity(0))
    share = processors[int(worker.removeprefix("gw")) :: int(count)]
    os.sched_setaffinity(0, share or processors)


_share_processors()
