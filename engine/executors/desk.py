"""What a worker tells that has no ledger, entered into it: results into their places, if the claim still holds."""

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from nstx.models.storage.files import write_output

from ..batches.fleet import Event
from ..batches.folder import BatchFolder
from ..batches.heart import BEAT
from ..batches.results import UnplacedError, describe_error, place_result
from ..batches.together import BatchSizes
from ..jobs.ledger import Ledger, LostClaimError
from ..jobs.records import Claim


class Desk:
    """Keeps the claims of one remote worker, and has what it tells of them in the ledger.

    Leases are prolonged when the worker gives a sign of life, and by nothing else: one that hangs loses its jobs.

    Args:
        folder: of the batch.
        ledger: opened for this thread.
        sizes: learns how fast how many jobs are together.
        tell: takes events for whoever runs the batch.
        beat: seconds from one heartbeat to the next.
    """

    def __init__(
        self,
        folder: BatchFolder,
        ledger: Ledger,
        sizes: BatchSizes,
        tell: Callable[[Event], object],
        *,
        beat: float = BEAT,
    ) -> None:
        self._folder, self._ledger, self._sizes, self._tell = folder, ledger, sizes, tell
        self._seconds, self._beaten = beat, time.monotonic()
        self._held: dict[str, Claim] = {}
        self._progress: dict[str, Any] = {}

    def hold(self, claims: Sequence[Claim]) -> None:
        """Keep these from now on."""
        self._held.update({claim.id: claim for claim in claims})
        self._beaten = time.monotonic()

    def release(self) -> None:
        """Give back what is held, as if it had not been claimed."""
        self._ledger.release([*self._held.values()])
        self._held.clear()

    def drop(self, claim: Claim) -> None:
        """Keep a claim no more, as its job has ended or is lost."""
        self._held.pop(claim.id, None)
        self._progress.pop(claim.id, None)

    def fail(self, claim: Claim, error: BaseException) -> None:
        """End a job by an error."""
        details = describe_error(error)
        self._take_failure(claim, {"error": details, "again": False})

    def take(self, event: Event) -> list[str]:
        """Take what a worker tells; return jobs that it has lost, of which it is to let go.

        `OutputError` if nothing can be written.
        """
        kind, claim = event["event"], self._held.get(event.get("job", ""))
        if kind == "rate":
            self._sizes.note(event["kind"], event["count"], event["rate"])
        elif kind == "limit":
            self._sizes.limit(event["kind"], event["count"])
        elif kind in ("begun", "warning"):
            self._tell(event)
        elif claim is not None:
            self._take_of_claim(event, claim)
        return self._beat()

    def _take_of_claim(self, event: Event, claim: Claim) -> None:
        kind = event["event"]
        if kind == "step":
            self._progress[claim.id] = {name: event[name] for name in ("step", "steps", "cost")}
            self._tell(event)
        elif kind == "failed":
            self._take_failure(claim, event)
        elif kind == "made":
            try:
                self._publish(claim, event["data"], event["result"])
            except LostClaimError:
                self.drop(claim)
            except UnplacedError as error:
                self.fail(claim, error)

    def _publish(self, claim: Claim, data: bytes, result: dict[str, Any]) -> None:
        place = self._folder.place(claim.id)
        part = self._folder.part(claim.fence, place.suffix)
        write_output(part, data)
        digest = hashlib.sha256(data).hexdigest()
        place_result(self._ledger, claim, part, place, digest=digest, described=result)
        self.drop(claim)
        self._tell({"event": "succeeded", "job": claim.id, **result})

    def _take_failure(self, claim: Claim, event: Event) -> None:
        try:
            again = self._ledger.fail(claim, event["error"], again=event["again"])
        except LostClaimError:
            return  # whoever has the job now says what comes of it
        finally:
            self.drop(claim)
        self._tell({"event": "failed", "job": claim.id, "again": again, "error": event["error"]})

    def _beat(self) -> list[str]:
        now = time.monotonic()
        if now < self._beaten + self._seconds or not self._held:
            return []
        self._beaten = now
        kept = {claim.id for claim in self._ledger.beat([*self._held.values()], self._progress)}
        lost = [claim for claim in self._held.values() if claim.id not in kept]
        for claim in lost:
            self.drop(claim)
        return [claim.id for claim in lost]
