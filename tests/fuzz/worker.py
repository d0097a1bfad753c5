"""A process that tries inputs one after the other, with a line of JSON before and after each of them.

It is started as ``python -m fuzz.worker`` with the seed, and reads lines from stdin of a kind and an
index. What libraries print goes nowhere, but counts as a fault.
"""

import json
import os
import resource
import sys
import tempfile
import traceback
from typing import IO

from .inputs import make_input
from .kinds import KINDS
from .trial import Fault, try_input
from .watch import Watch

MOST_BYTES = 2**30
"""What reading an input may take beside what the process had before."""


def main() -> None:
    """Try the inputs that stdin names."""
    seed = int(sys.argv[1])
    reports, requests = os.fdopen(os.dup(1), "w", buffering=1), os.fdopen(os.dup(0))
    complaints = os.dup(2)
    # A command may read from stdin.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with tempfile.TemporaryFile() as printed:
        for stream in (1, 2):
            os.dup2(printed.fileno(), stream)
        try:
            _try_all(seed, requests, reports, printed.fileno())
        except Exception:  # noqa: BLE001  (it goes nowhere else)
            os.write(complaints, traceback.format_exc().encode(errors="backslashreplace"))
            raise SystemExit(1) from None


def _try_all(seed: int, requests: IO[str], reports: IO[str], printed: int) -> None:
    kinds, watch = {kind.name: kind for kind in KINDS}, Watch()
    warm: set[str] = set()
    for line in requests:
        name, index = line.split()
        kind = kinds[name]
        if name not in warm:  # whatever is loaded once belongs to no input
            try_input(kind, make_input(kind, seed, 0))
            warm.add(name)
        made = make_input(kind, seed, int(index))
        start, before = os.fstat(printed).st_size, _peak()
        _report(reports, event="begin", kind=name, index=int(index), change=made.change)
        trial = try_input(kind, made, watch)
        sys.stdout.flush()
        sys.stderr.flush()
        faults = list(trial.faults)
        if noise := os.pread(printed, 200, start):
            faults.append(Fault("noise", noise.decode(errors="replace").splitlines()[0][:40]))
        if _peak() - before > MOST_BYTES:
            faults.append(Fault("memory", f"{_peak() - before >> 20} MiB"))
        _report(
            reports,
            event="end",
            accepted=trial.accepted,
            faults=[[fault.kind, fault.text] for fault in faults],
            details=trial.details,
        )


def _report(reports: IO[str], **fields: object) -> None:
    reports.write(json.dumps(fields) + "\n")


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
