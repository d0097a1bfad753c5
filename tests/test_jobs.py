"""The ledger of jobs: who has which, what a death leaves, and that an old attempt can write nothing."""

import json
import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from publishing import publish_all

from nstx.engine.jobs.ledger import Ledger, LostClaimError
from nstx.engine.jobs.records import NewJob
from nstx.models.errors import OutputError, UsageError


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "jobs.sqlite", now=clock) as opened:
        yield opened


def job(name: str, kind: str = "64", **changes: object) -> NewJob:
    return NewJob(**{"id": name, "kind": kind, "fingerprint": f"of {name}", **changes})  # type: ignore[arg-type]


def ids(items: list[object]) -> list[str]:
    return [item.id for item in items]  # type: ignore[attr-defined]


def test_jobs_of_one_kind_are_claimed_together_oldest_first(ledger: Ledger) -> None:
    assert ledger.add([job("a"), job("b", "96"), job("c"), job("d"), job("e")]) == 5
    assert [claim.id for claim in ledger.claim("w", 3)] == ["a", "c", "d"]
    assert [claim.id for claim in ledger.claim("v", 3)] == ["b"]
    assert [claim.id for claim in ledger.claim("v", 3, kind="64")] == ["e"]
    assert ledger.claim("v", 3) == []
    fences = [record.number for record in ledger]
    assert fences == sorted(fences)
    assert ledger.counts()["running"] == 5


def test_a_result_is_put_and_the_job_has_ended(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add([job("a", request={"size": 64})])
    (claim,) = ledger.claim("w")
    assert (claim.attempt, claim.request, claim.checkpoint, claim.sha256) == (
        1, {"size": 64}, None, None,
    )  # fmt: skip
    (tmp_path / "a.part").write_text("picture")
    assert ledger.beat([claim], {"a": {"step": 3}}) == [claim]
    ledger.publish(
        claim, "5" * 64, {"cost": 1.5}, lambda: (tmp_path / "a.part").rename(tmp_path / "a.png")
    )
    record = ledger.find("a")
    assert record is not None
    assert (record.state, record.result, record.progress) == (
        "succeeded",
        {"cost": 1.5},
        {"step": 3},
    )
    assert (tmp_path / "a.png").read_text() == "picture"
    assert ledger.beat([claim]) == []
    with pytest.raises(LostClaimError, match="attempt 1"):
        ledger.publish(claim, "5" * 64, {}, lambda: pytest.fail("put twice"))


def test_a_death_after_a_checkpoint_leaves_it_to_the_next(ledger: Ledger, clock: Clock) -> None:
    ledger.add([job("a")])
    (claim,) = ledger.claim("w", lease=60)
    ledger.note_checkpoint(claim, "a.checkpoint")
    clock.now += 59
    assert ledger.claim("v") == []
    clock.now += 2
    (later,) = ledger.claim("v")
    assert (later.attempt, later.checkpoint) == (2, "a.checkpoint")
    assert later.fence > claim.fence


def test_a_death_after_the_result_leaves_only_its_acknowledgement(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.add([job("a")])
    (claim,) = ledger.claim("w")

    def put_and_die() -> None:
        raise KeyboardInterrupt  # the file is there, and the transaction is not

    with pytest.raises(KeyboardInterrupt):
        ledger.publish(claim, "5" * 64, {"cost": 1.5}, put_and_die)
    clock.now += 100
    (later,) = ledger.claim("v")
    assert later.sha256 == "5" * 64
    ledger.acknowledge(later)
    record = ledger.find("a")
    assert record is not None
    assert (record.state, record.result, record.attempts) == ("succeeded", {"cost": 1.5}, 2)


def test_an_old_attempt_that_lives_on_can_write_nothing(ledger: Ledger, clock: Clock) -> None:
    ledger.add([job("a")])
    (old,) = ledger.claim("w")
    clock.now += 100
    (new,) = ledger.claim("v")
    assert ledger.beat([old]) == []
    with pytest.raises(LostClaimError):
        ledger.note_checkpoint(old, "old")
    with pytest.raises(LostClaimError):
        ledger.publish(old, "1" * 64, {}, lambda: pytest.fail("an old result was put"))
    with pytest.raises(LostClaimError):
        ledger.fail(old, {"type": "Old"}, again=True)
    ledger.release([old])
    assert ledger.beat([new]) == [new]
    ledger.publish(new, "2" * 64, {"of": "new"}, lambda: None)
    record = ledger.find("a")
    assert record is not None
    assert (record.state, record.result) == ("succeeded", {"of": "new"})


def test_a_late_heartbeat_keeps_what_nobody_has_claimed(ledger: Ledger, clock: Clock) -> None:
    ledger.add([job("a")])
    (claim,) = ledger.claim("w")
    clock.now += 100
    assert ledger.beat([claim]) == [claim]
    assert ledger.claim("v") == []


def test_a_job_that_kills_its_workers_ends_as_failed(ledger: Ledger) -> None:
    ledger.add([job("poison", attempts=3), job("well")])
    for attempt in (1, 2, 3):
        (claim,) = ledger.claim("w")
        assert (claim.id, claim.attempt) == ("poison", attempt)
        ledger.abandon("w")
    (claim,) = ledger.claim("w")
    assert claim.id == "well"
    record = ledger.find("poison")
    assert record is not None
    assert record.state == "failed"
    assert record.error is not None
    assert record.error["type"] == "WorkerDied"


def test_what_is_released_has_not_been_attempted(ledger: Ledger) -> None:
    ledger.add([job("a", attempts=1)])
    for _ in range(3):
        (claim,) = ledger.claim("w")
        assert claim.attempt == 1
        ledger.release([claim])
    assert ledger.counts()["queued"] == 1


def test_an_error_ends_a_job_and_one_that_may_pass_is_tried_again(ledger: Ledger) -> None:
    ledger.add([job("bad"), job("busy", attempts=2)])
    bad, busy = ledger.claim("w", 2)
    ledger.fail(bad, {"type": "ImageError", "message": "no picture"})
    assert ledger.fail(busy, {"type": "DeviceError"}, again=True)
    assert {record.id: record.ended is None for record in ledger} == {"bad": False, "busy": True}
    assert ledger.counts() == {
        "queued": 1, "running": 0, "succeeded": 0, "failed": 1, "canceled": 0,
    }  # fmt: skip
    (busy,) = ledger.claim("w", 2)
    assert not ledger.fail(busy, {"type": "DeviceError"}, again=True)
    assert ledger.counts()["failed"] == 2


def test_a_canceled_job_is_lost_to_its_worker(ledger: Ledger) -> None:
    ledger.add([job("a"), job("b")])
    claims = ledger.claim("w", 1)
    assert ledger.cancel("a")
    assert ledger.cancel("b")
    assert not ledger.cancel("a")
    assert not ledger.cancel("unknown")
    assert ledger.beat(claims) == []
    assert ledger.claim("w") == []


def test_leases_that_have_run_out_are_taken_without_a_claim(ledger: Ledger, clock: Clock) -> None:
    ledger.add([job("a"), job("b")])
    (first,) = ledger.claim("w", lease=60)
    ledger.claim("v", lease=200)
    clock.now += 61
    ledger.expire()
    assert ledger.counts()["queued"] == 1
    ledger.abandon_all()
    assert ledger.counts()["queued"] == 2
    assert ledger.beat([first]) == []


def test_jobs_that_are_not_asked_for_any_more_are_canceled(ledger: Ledger) -> None:
    ledger.add([job("a"), job("b", "96"), job("c")])
    (running,) = ledger.claim("w", kind="96")
    ledger.cancel_others({"a"})
    assert {record.id: record.state for record in ledger} == {
        "a": "queued", "b": "running", "c": "canceled",
    }  # fmt: skip
    assert ledger.beat([running]) == [running]


def test_what_waits_is_made_as_it_is_asked_for_now(ledger: Ledger) -> None:
    ledger.add([job("a", request={"content": "old/a.png"}, attempts=2)])
    ledger.claim("w")
    ledger.abandon("w")
    ledger.add([job("a", request={"content": "new/a.png"}, attempts=2)])
    (claim,) = ledger.claim("w")
    assert (claim.request, claim.attempt) == ({"content": "new/a.png"}, 1)


def test_adding_again_queues_what_is_missing(ledger: Ledger) -> None:
    names = ("done", "failed", "canceled", "running", "changed", "waiting")
    ledger.add([job(name, name) for name in names])
    for name in ("done", "changed"):
        (claim,) = ledger.claim("w", kind=name)
        ledger.publish(claim, "1" * 64, {}, lambda: None)
    (claim,) = ledger.claim("w", kind="failed")
    ledger.fail(claim, {"type": "ImageError"})
    ledger.cancel("canceled")
    (running,) = ledger.claim("w", kind="running")
    again = [job(name, name) for name in names if name != "changed"]
    assert ledger.add([*again, job("changed", "changed", fingerprint="other")]) == 5
    states = {record.id: record.state for record in ledger}
    assert states == {
        "done": "succeeded", "failed": "queued", "canceled": "queued", "running": "running",
        "changed": "queued", "waiting": "queued",
    }  # fmt: skip
    assert ledger.beat([running]) == [running]
    assert ledger.add([job("running", "running", fingerprint="other")]) == 1
    assert ledger.beat([running]) == []
    ledger.queue_again("done")
    assert ledger.counts()["queued"] == 6


def test_ten_thousand_jobs_are_claimed_in_no_time_and_listed_by_pages(tmp_path: Path) -> None:
    with Ledger(tmp_path / "jobs.sqlite") as ledger:
        ledger.add(job(f"{index:05}", str(index % 7)) for index in range(10_000))
        times = []
        for _ in range(20):
            began = time.perf_counter()
            claims = ledger.claim("w", 8)
            times.append(time.perf_counter() - began)
            assert len(claims) == 8
        assert sorted(times)[10] < 0.02
        first = ledger.page(most=100)
        assert [record.id for record in first] == [f"{index:05}" for index in range(100)]
        assert ledger.page(first[-1].number, 1)[0].id == "00100"
        assert len(ledger.page(state="running", most=1000)) == 160
        assert sum(1 for _ in ledger) == 10_000


def test_workers_that_die_at_random_lose_nothing_and_put_nothing_twice(tmp_path: Path) -> None:
    path, folder = tmp_path / "jobs.sqlite", tmp_path / "results"
    folder.mkdir()
    with Ledger(path) as ledger:
        ledger.add(job(f"{index}", attempts=100) for index in range(24))
        context = multiprocessing.get_context("spawn")
        for round_ in range(100):
            workers = {
                f"w{seed}": context.Process(target=publish_all, args=(path, folder, seed))
                for seed in (2 * round_, 2 * round_ + 1)
            }
            for process in workers.values():
                process.start()
            for name, process in workers.items():
                process.join()
                assert process.exitcode in (0, 9)
                ledger.abandon(name)
            if ledger.counts()["succeeded"] == 24:
                break
        assert ledger.counts()["succeeded"] == 24
        records = list(ledger)
    whole = {path.name for path in folder.iterdir() if "." not in path.name}
    assert whole == {record.id for record in records}
    for record in records:
        assert record.result == {"fence": int((folder / record.id).read_text())}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.parametrize("content", [b"no database, but long enough to be one" * 100, b"SQLite"])
def test_another_file_is_no_ledger(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="expected a ledger of nstx"):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_strangers_table_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    Ledger(path).close()
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TRIGGER t AFTER INSERT ON jobs BEGIN UPDATE fences SET last = 0; END"
    )
    connection.commit()
    connection.close()
    with pytest.raises(UsageError, match="expected a ledger of this version"):
        Ledger(path)


def test_a_ledger_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="local disk"):
        Ledger(tmp_path / "missing" / "jobs.sqlite")


def test_ids_and_attempts_are_checked() -> None:
    for changes in ({"name": ""}, {"name": "x" * 2000}, {"name": "a", "attempts": 0}):
        with pytest.raises(UsageError, match="expected"):
            job(**changes)
    assert json.dumps(job("a").request) == "{}"


def test_the_newest_come_first_and_say_how_many_wait_before(ledger: Ledger) -> None:
    ledger.add([job(name) for name in "abcde"])
    ledger.claim("w")
    first = ledger.newest(most=2)
    assert ids([*first]) == ["e", "d"]
    assert ids([*ledger.newest(first[-1].number)]) == ["c", "b", "a"]
    assert ids([*ledger.newest(state="running")]) == ["a"]
    assert [ledger.count_before(record.number) for record in ledger] == [0, 0, 1, 2, 3]


def test_a_job_may_be_made_to_fail_and_is_forgotten_when_it_has_ended(ledger: Ledger) -> None:
    ledger.add([job("a"), job("b")])
    (claim,) = ledger.claim("w")
    assert not ledger.remove("a")
    assert ledger.cancel("a", {"type": "TimeLimit", "message": "too long"})
    assert not ledger.cancel("a")
    record = ledger.find("a")
    assert record is not None
    assert (record.state, record.error) == ("failed", {"type": "TimeLimit", "message": "too long"})
    assert ledger.beat([claim]) == []
    assert ledger.remove("a")
    assert not ledger.remove("a")
    assert ids([*ledger]) == ["b"]
