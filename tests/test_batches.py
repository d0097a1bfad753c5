"""Batches: what is planned, how jobs are made, and that no death of a worker or of the command loses one."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from devices import DEVICES, most_error
from processes import spawn, wait_for

import nstx
from nstx.cli.batch import run as batch_run
from nstx.cli.batch.asking import row_options
from nstx.cli.batch.display import Display
from nstx.cli.batch.rows import read_rows
from nstx.engine.batches import making, planning, results, run
from nstx.engine.batches.asked import AskedJob, read_asked
from nstx.engine.batches.fleet import FleetChoice
from nstx.engine.batches.folder import BatchFolder, digest_of
from nstx.engine.batches.heart import Heart
from nstx.engine.batches.making import Maker
from nstx.engine.batches.names import check_name, check_names, check_template, fill_name
from nstx.engine.batches.planning import Planner
from nstx.engine.batches.results import UnplacedError, put_result
from nstx.engine.batches.run import Batch, choose_fleet, describe_other, plan_batch
from nstx.engine.batches.sheet import draw_sheet
from nstx.engine.batches.together import BatchSizes, Meter
from nstx.engine.batches.worker import WorkerTask, run_worker
from nstx.engine.checkpoints.keeper import Checkpoints
from nstx.engine.formats import encoders
from nstx.engine.jobs.ledger import Ledger
from nstx.engine.planning.fitting import MARGIN
from nstx.engine.transfer.batch import run_batch
from nstx.models.errors import DeviceError, OutputError, UsageError
from nstx.models.storage.inputs import read_input

TINY: dict[str, Any] = {
    "size": 40, "steps": 4, "style_layers": "conv1_1", "content_layers": "conv1_2", "device": "cpu",
}  # fmt: skip
OPTIONS = [
    part for name, value in TINY.items() for part in (f"--{name.replace('_', '-')}", str(value))
]
SETTINGS = nstx.choose_settings(**TINY)

Save = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]
Ask = Callable[..., AskedJob]


@pytest.fixture
def ask(save_picture: Save) -> Ask:
    """Return a function that asks for a picture of a content, by the number of its seed."""
    style = save_picture("style.png", 36, 40, seed=90)

    def make(number: int, **changes: Any) -> AskedJob:
        content = save_picture(f"c{number}.png", 30, 40, seed=number)
        named = {"output": f"{number}.png", "settings": SETTINGS, **changes}
        return AskedJob(content=content, styles=((style, 1.0),), **named)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[BatchFolder]:
    place = BatchFolder(tmp_path / "results")
    with place.alone():
        yield place


class Events(list[tuple[str, str]]):
    """Events in a list; what is to be done after one may be named."""

    def __init__(self) -> None:
        super().__init__()
        self.after: Callable[[str, dict[str, Any]], object] = lambda event, details: None

    def __call__(self, event: str, job: str, **details: Any) -> None:
        self.append((event, job))
        self.after(event, details)


def make_all(
    folder: BatchFolder, events: Events, heart: Heart, most: int = 1, **choices: Any
) -> None:
    with Ledger(folder.ledger) as ledger:
        maker = Maker(folder, ledger, heart, events, **choices)
        while not heart.stopping and (claims := ledger.claim("w", most)):
            heart.hold(claims)
            maker.make(claims)
            heart.release()


def raise_(error: BaseException) -> Any:
    raise error


def states(batch: Batch) -> dict[str, str]:
    return {record.id: record.state for record in batch.records()}


def test_names_are_filled_safe_and_distinct() -> None:
    fields: dict[str, str | int] = {
        "content": "a/b:c\x1b", "style": ".st", "index": 7, "size": "64", "preset": "default",
    }  # fmt: skip
    assert fill_name("{style}/{content}_{index:03}.jpg", fields) == "st/a_b_c__007.jpg"
    assert check_template("{content}.png") == "{content}.png"
    for template in ("{content}", "{other}.png", "{content.stem}.png", "{}.png", "{content!r}.png", "../{style}.png", "{index:99999999999}.png", "{content:>99999}.png"):  # fmt: skip
        with pytest.raises(UsageError, match="expected"):
            check_template(template)
    for name in ("../a.png", "/a.png", "a/../b.png", ".nstx-jobs/a.png", "nul.png", "a\n.png", "x" * 300 + ".png", "a.txt"):  # fmt: skip
        with pytest.raises(UsageError, match="expected a result's name"):
            check_name(name)
    with pytest.raises(UsageError, match="--name"):
        check_names(["a.png", "A.png"])
    with pytest.raises(UsageError, match=r"folders of different names, got a.png, and A.PNG/b.png"):
        check_names(["c.png", "a.png", "A.PNG/b.png"])


def test_a_result_stays_within_its_folder(folder: BatchFolder, tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("links need a right there")
    (tmp_path / "elsewhere").mkdir()
    (folder.path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a link leads out"):
        folder.place("link/a.png")


def test_rows_are_read_strictly_and_errors_name_their_line(tmp_path: Path) -> None:
    path, options = tmp_path / "jobs.csv", row_options()
    path.write_text("content,style,output,size,clean,style-for\na.png,b.png;c.png:2,,64,no,\n\nd.png,e.png,x.png,,,red=f.png\n")  # fmt: skip
    first, second = read_rows(path, options)
    assert (first.content, first.styles, first.output) == ("a.png", ("b.png", "c.png:2"), None)
    assert first.options == {"size": 64, "clean": False}
    assert (second.line, second.output, second.options) == (
        4,
        "x.png",
        {"style_for": ["red=f.png"]},
    )
    wrong = {
        "content,style\na.png,b.png\nc.png\n": "line 3 .*fewer values",
        "content,style,size\na.png,b.png,large\n": "line 2 .*a whole number",
        "content,style,colour\na.png,b.png,x\n": "line 2 .*names of options",
        "content,style\na.png,\n": "line 2 .*no 'style'",
        "content,content\na,b\n": "line 1",
        "": "line 1",
        "content,style\na.png,b.png\nc\udcff.png,b.png\n": "line 3 .*UTF-8",
        ",".join(map(str, range(2000))): "line 1 .*more than 1000",
        "content,style,size\na.png,b.png," + "9" * 5000: "line 2 .*a whole number",
        "content,style,output\na.png,b.png,../x.png\n": None,
        "content,style\n": "got none",
    }
    for text, message in wrong.items():
        path.write_bytes(text.encode(errors="surrogateescape"))
        if message is None:  # which is refused where names are
            assert next(iter(read_rows(path, options))).output == "../x.png"
            continue
        with pytest.raises(UsageError, match=message):
            list(read_rows(path, options))
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"content": "a.png", "style": ["b.png"], "steps": 3}\n\n{"content": 1}\n')
    rows = read_rows(path, options)
    assert next(rows).options == {"steps": 3}
    with pytest.raises(UsageError, match=r"line 3 .*no text"):
        next(rows)
    deep, row = "[" * 100_000, '{"content": "a", "style": "b", "size": '
    for text in (deep, row + deep, row + "9" * 5000 + "}", row + "9" * 1000 + "}", "\0" * 1000):
        path.write_text(text)
        with pytest.raises(UsageError, match="expected a job in line 1 of") as caught:
            list(read_rows(path, options))
        assert len(str(caught.value)) < 1000


def test_damaged_files_of_jobs_are_refused_in_nstxs_words(tmp_path: Path) -> None:
    generator, options = np.random.default_rng(0), row_options()
    whole = {
        ".csv": b'content,style,size,clean\na.png,"b.png;c.png",64,no\nd.png,e.png,,\n',
        ".jsonl": b'{"content": "a.png", "style": ["b.png"], "size": 64, "style-for": ["red=c.png"]}\n',
    }  # fmt: skip
    refused = 0
    for suffix, data in whole.items():
        for _ in range(150):
            damaged = np.frombuffer(data, np.uint8).copy()
            places = generator.integers(0, len(damaged), 3)
            damaged[places] = generator.choice(np.frombuffer(b'\0",\n{}[]9e\xff;', np.uint8), 3)
            path = tmp_path / f"jobs{suffix}"
            path.write_bytes(damaged.tobytes()[: generator.integers(1, len(data))])
            try:
                list(read_rows(path, options))
            except UsageError:
                refused += 1
    assert refused > 100


def test_a_fingerprint_is_of_all_that_a_result_follows_from(ask: Ask, tmp_path: Path) -> None:
    asked = ask(0)
    (plain,) = Planner().plan([asked])
    assert read_asked(json.loads(json.dumps(plain.request)), "0.png") == asked.absolute()
    moved = tmp_path / "moved.png"
    moved.write_bytes(asked.files[0].read_bytes())
    same = [
        replace(asked, content=moved),
        replace(asked, settings=replace(SETTINGS, threads=2, max_memory=2**33)),
    ]
    assert {job.fingerprint for job in Planner().plan(same)} == {plain.fingerprint}
    others = [
        asked,
        replace(asked, content=ask(1).content),
        replace(asked, styles=((asked.styles[0][0], 2.0),)),
        replace(asked, settings=replace(SETTINGS, steps=5)),
        replace(asked, mask="alpha"),
        replace(asked, styles=((Path(f"{asked.styles[0][0]}@conv1_1"), 1.0),)),
        replace(asked, depth=16),
        replace(asked, style_for={"red": asked.styles}),
        replace(asked, content=tmp_path / "missing.png"),
    ]
    assert len({job.fingerprint for job in Planner().plan(others)}) == len(others)


def test_jobs_of_one_size_are_of_one_kind(ask: Ask, save_picture: Save) -> None:
    weights = nstx.choose_settings(**TINY, style_weight=3.0)
    turned = replace(ask(2), content=save_picture("t.png", 40, 30, seed=4))
    asked = [ask(0), ask(1, settings=weights), turned, ask(3, settings=replace(SETTINGS, size=48))]
    kinds = [job.kind for job in Planner().plan(asked)]
    assert kinds[0] == kinds[1]
    assert len(set(kinds)) == 3


@pytest.mark.parametrize("device", DEVICES)
def test_results_have_the_bytes_of_runs_alone_and_a_bad_picture_fails_its_job(
    folder: BatchFolder, ask: Ask, tmp_path: Path, device: str
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    asked = [ask(0), replace(ask(1), content=bad), ask(2), ask(3, output="sub/3.jpg")]
    here = replace(SETTINGS, device=device)
    asked = [replace(item, settings=here) for item in asked]
    batch, events = plan_batch(folder, asked), Events()
    make_all(folder, events, Heart(folder.ledger), threads=1)
    assert states(batch) == {
        "0.png": "succeeded", "1.png": "failed", "2.png": "succeeded", "sub/3.jpg": "succeeded",
    }  # fmt: skip
    failed = next(record for record in batch.records() if record.state == "failed")
    assert failed.error is not None
    assert failed.error["type"] == "ImageError"
    for item in (asked[0], asked[3]):
        result = nstx.stylize(item.files[0], item.styles[0][0], item.settings)
        result.save(tmp_path / f"alone{Path(item.output).suffix}")
        alone = tmp_path / f"alone{Path(item.output).suffix}"
        assert (folder.path / item.output).read_bytes() == alone.read_bytes()
    assert [job for event, job in events if event == "succeeded"] == ["0.png", "2.png", "sub/3.jpg"]
    assert not list((folder.path / ".nstx-jobs" / "made").iterdir())


def test_what_is_gone_is_made_again_and_what_was_changed_stays(
    folder: BatchFolder, ask: Ask
) -> None:
    asked = [ask(0), ask(1), ask(2)]
    plan_batch(folder, asked)
    make_all(folder, Events(), Heart(folder.ledger))
    (folder.path / "0.png").unlink()
    (folder.path / "1.png").write_bytes(b"retouched")
    batch = plan_batch(folder, asked)
    assert (batch.missing, batch.other) == (1, ("1.png",))
    # Of fewer pictures, the others do not wait any more.
    assert plan_batch(folder, asked[1:]).missing == 0
    with Ledger(folder.ledger) as ledger:
        assert ledger.claim("w") == []
    # What a person has changed is not replaced, whatever else changes, until it is moved away.
    changed = [replace(item, settings=replace(SETTINGS, steps=2)) for item in asked]
    for before in (None, batch):
        batch = plan_batch(folder, changed, before=before)
        assert (batch.missing, batch.other) == (2, ("1.png",))
        (text,) = describe_other(batch.other)
        assert "1.png was changed" in text
    make_all(folder, Events(), Heart(folder.ledger))
    assert (folder.path / "1.png").read_bytes() == b"retouched"
    (folder.path / "1.png").rename(folder.path / "mine.png")
    assert plan_batch(folder, changed).missing == 1
    make_all(folder, Events(), Heart(folder.ledger))
    nstx.stylize(asked[1].files[0], asked[1].styles[0][0], changed[1].settings).save(
        folder.path / "alone.png"
    )
    assert digest_of(folder.path / "1.png") == digest_of(folder.path / "alone.png")


def test_what_was_changed_while_its_job_waited_stays(folder: BatchFolder, ask: Ask) -> None:
    plan_batch(folder, [ask(0), ask(1)])
    make_all(folder, Events(), Heart(folder.ledger))
    changed = [ask(n, settings=replace(SETTINGS, steps=2)) for n in (0, 1)]
    assert plan_batch(folder, changed).missing == 2
    # Both wait when the command ends; then one is retouched, and the same command comes again.
    (folder.path / "0.png").write_bytes(b"retouched")
    batch = plan_batch(folder, changed)
    assert (batch.missing, batch.other) == (1, ("0.png",))
    # So it is where it happens while workers are at it.
    events = Events()
    events.after = lambda event, _: (
        (folder.path / "1.png").write_bytes(b"mine") if event == "begun" else None
    )
    make_all(folder, events, Heart(folder.ledger))
    assert [(folder.path / name).read_bytes() for name in ("0.png", "1.png")] == [
        b"retouched",
        b"mine",
    ]
    assert states(batch)["1.png"] == "failed"
    (folder.path / "0.png").unlink()
    (folder.path / "1.png").unlink()
    assert plan_batch(folder, changed).missing == 2


def test_a_folder_in_a_results_place_is_an_error_at_once(folder: BatchFolder, ask: Ask) -> None:
    (folder.path / "0.png").mkdir()
    with pytest.raises(OutputError, match="got the folder"):
        plan_batch(folder, [ask(0)])


@pytest.mark.parametrize("device", DEVICES)
def test_jobs_of_one_kind_run_as_a_batch_with_the_costs_of_runs_alone(
    folder: BatchFolder, ask: Ask, device: str
) -> None:
    exact = replace(SETTINGS, precision="fp32", device=device)
    asked = [ask(number, settings=exact) for number in range(3)]
    batch, events = plan_batch(folder, asked), Events()
    make_all(folder, events, Heart(folder.ledger), most=3)
    assert [event for event, _ in events][:3] == ["begun"] * 3
    for item, record in zip(asked, batch.records(), strict=True):
        alone = nstx.stylize(item.files[0], item.styles[0][0], item.settings)
        assert record.result is not None
        assert record.result["cost"]["total"] == pytest.approx(
            alone.cost.total, rel=most_error({"device": device})
        )


def test_how_many_are_made_together_is_measured() -> None:
    sizes = BatchSizes(None, workers=2)
    assert sizes.choose("a", 100) == 1
    rates = {1: 10.0, 2: 18.0, 4: 19.0, 8: 19.2}
    tried = []
    while (count := sizes.choose("a", 100)) not in tried:
        tried.append(count)
        sizes.note("a", count, rates[count])
    # Four are faster than two by a twentieth, and eight are not faster than four.
    assert tried == [1, 2, 4, 8]
    assert count == 4
    # None has all of the rest while another one waits.
    assert [sizes.choose("a", waiting) for waiting in (7, 5, 1)] == [4, 3, 1]
    sizes.limit("a", 3)
    assert sizes.choose("a", 100) == 3
    assert sizes.choose("b", 100) == 1
    assert BatchSizes(5).choose("a", 100) == 5


def test_a_worker_measures_as_it_works_and_claims_what_was_the_fastest(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = list[int]()
    make = Maker.make

    def count(maker: Maker, claims: Any) -> None:
        together.append(len(claims))
        make(maker, claims)

    monkeypatch.setattr(Maker, "make", count)
    monkeypatch.setattr(Meter, "rate", property(lambda meter: float(len(meter._first))))
    batch = plan_batch(folder, [ask(number) for number in range(9)])
    task = WorkerTask(folder=str(folder.path), name="w", most=None)
    tell: Any = lambda *_, **__: None
    assert run_worker(task, tell, Heart(folder.ledger)) == 0
    assert together == [1, 2, 4, 2]
    assert set(states(batch).values()) == {"succeeded"}


def test_a_batch_that_memory_does_not_hold_is_made_in_parts(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, tried, run_together = (
        plan_batch(folder, [ask(n) for n in range(5)]),
        list[int](),
        run_batch,
    )

    def run_few(jobs: Any, **options: Any) -> Any:
        tried.append(len(jobs))
        if len(jobs) > 2:
            raise DeviceError("expected memory for several, got too little; try fewer")
        return run_together(jobs, **options)

    monkeypatch.setattr(making, "run_batch", run_few)
    make_all(folder, Events(), Heart(folder.ledger), most=5)
    assert tried == [5, 2, 2]
    assert set(states(batch).values()) == {"succeeded"}


def test_steps_are_measured_at_the_last_scale_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, now = Meter(), 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert meter.rate is None
    for scale, evaluations in ((1, 3), (1, 9), (2, 10), (2, 14)):
        for run_ in (0, 1):
            now += 1.0
            step: Any = SimpleNamespace(scale=scale, scales=2, evaluations=evaluations + run_)
            meter.take(run_, step)
    assert meter.rate == pytest.approx(8 / 3)


def test_batches_are_measured_on_accelerators_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose_fleet([SETTINGS], 9, workers=2).most == 1
    assert choose_fleet([SETTINGS], 9, workers=2, most="auto").most is None
    assert choose_fleet([SETTINGS], 9, workers=2, most=4).most == 4
    gpu: Any = SimpleNamespace(is_cuda=True, is_cpu=False)
    monkeypatch.setattr(run, "settle", lambda _: gpu)
    monkeypatch.setattr(run, "_count_gpus", lambda: 2)
    monkeypatch.setattr(run, "physical_cores", lambda: 8)
    choice = choose_fleet([SETTINGS], 9)
    assert (choice.workers, choice.most, choice.threads, choice.max_memory) == (2, None, 4, None)
    assert choose_fleet([SETTINGS], 9, checkpoint_every=1.0).most == 1


def test_what_nobody_foresaw_in_a_group_is_left_to_each_of_its_jobs(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "run_batch", lambda *_, **__: raise_(RuntimeError("a device")))
    batch = plan_batch(folder, [ask(0), ask(1)])
    make_all(folder, Events(), Heart(folder.ledger), most=2)
    assert set(states(batch).values()) == {"succeeded"}


def test_a_job_that_ends_its_worker_counts_and_those_beside_it_do_not(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = plan_batch(folder, [ask(0), ask(1)], attempts=2)
    task, make_it = WorkerTask(folder=str(folder.path), name="w", most=2), Maker._run

    def make(maker: Maker, item: Any, kept: None) -> None:
        if item[0].id == "0.png":
            raise RuntimeError("unforeseen")
        make_it(maker, item, kept)

    monkeypatch.setattr(making, "run_batch", lambda *_, **__: raise_(RuntimeError("a device")))
    monkeypatch.setattr(Maker, "_run", make)
    tell: Any = lambda *_, **__: None
    for _ in range(2):
        with pytest.raises(RuntimeError, match="unforeseen"):
            run_worker(task, tell, Heart(folder.ledger))
    assert run_worker(task, tell, Heart(folder.ledger)) == 0
    records = {record.id: (record.state, record.attempts) for record in batch.records()}
    assert records == {"0.png": ("failed", 2), "1.png": ("succeeded", 1)}


def test_a_worker_that_dies_of_something_else_has_attempted_its_jobs(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = plan_batch(folder, [ask(0)])
    task = WorkerTask(folder=str(folder.path), name="w")
    for error, attempts in ((RuntimeError("unforeseen"), 1), (OutputError("a full disk"), 0)):
        monkeypatch.setattr(Maker, "make", lambda *_, error=error: raise_(error))
        with pytest.raises(type(error)):
            run_worker(task, lambda *_, **__: None, Heart(folder.ledger))  # type: ignore[arg-type]
        assert [record.attempts for record in batch.records()] == [attempts]
        with Ledger(folder.ledger) as ledger:
            ledger.abandon("w")
            ledger.cancel("0.png")
            ledger.queue_again("0.png")


def test_a_full_disk_ends_no_job_and_a_place_that_cannot_be_does(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = plan_batch(folder, [ask(0), ask(1), ask(2, output="sub/2.png")])
    full = OutputError("expected room for steps on the disk, got none; try another")
    for name, most in (("run_job", 1), ("run_batch", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(making, name, lambda *_, **__: raise_(full))
            with pytest.raises(OutputError, match="room for steps"):
                make_all(folder, Events(), Heart(folder.ledger), most)
        assert "failed" not in states(batch).values()
        with Ledger(folder.ledger) as ledger:
            ledger.abandon_all()
    (folder.path / "0.png").mkdir()
    (folder.path / "sub").write_bytes(b"no folder")
    make_all(folder, Events(), Heart(folder.ledger))
    assert states(batch) == {"0.png": "failed", "1.png": "succeeded", "sub/2.png": "failed"}
    # So is a size that the format of its name does not have.
    batch = plan_batch(folder, [ask(3, output="3.webp"), ask(4)])
    monkeypatch.setitem(encoders.MAX_SIDE, "WEBP", 39)
    make_all(folder, Events(), Heart(folder.ledger))
    assert states(batch) == {"3.webp": "failed", "4.png": "succeeded"}
    monkeypatch.setattr(Path, "replace", lambda *_: raise_(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(OutputError) as caught:
        put_result(folder.path / "a.png", folder.path / "b.png")
    assert not isinstance(caught.value, UnplacedError)


def test_workers_have_no_more_memory_than_there_is_and_enough_to_evaluate_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = 1 << 30
    monkeypatch.setattr(run, "_memory_of", lambda _: needed)
    monkeypatch.setattr(run, "physical_cores", lambda: 8)
    for parts, workers in ((0.5, 1), (2.05, 1), (2.25, 2), (100, 8)):
        monkeypatch.setattr(run, "free_memory", lambda parts=parts, **_: int(parts * needed))
        choice = choose_fleet([SETTINGS], 9)
        assert (choice.workers, choice.threads) == (workers, 8 // workers)
        assert choice.max_memory == int(parts * needed) // workers
        assert parts < MARGIN or choice.max_memory >= MARGIN * needed
    # Before any picture is there, too.
    choice = choose_fleet([SETTINGS], 0, workers=8, lingers=True)
    assert (choice.workers, choice.threads, choice.max_memory) == (8, 1, 100 * needed // 8)


def test_a_death_after_a_checkpoint_goes_on_from_there(
    folder: BatchFolder, ask: Ask, tmp_path: Path
) -> None:
    item = ask(0)
    batch, events = plan_batch(folder, [item]), Events()
    heart = Heart(folder.ledger)

    def die(event: str, details: dict[str, Any]) -> None:
        if event == "step" and details["step"] == 3:
            raise SystemExit  # with the claim, as a process that is killed

    events.after = die
    with pytest.raises(SystemExit):
        make_all(folder, events, heart, checkpoint_every=0.0)
    again = Events()
    with Ledger(folder.ledger) as ledger:
        ledger.abandon("w")
    make_all(folder, again, Heart(folder.ledger), checkpoint_every=0.0)
    assert states(batch) == {"0.png": "succeeded"}
    assert [event for event, _ in again].count("step") < 3
    nstx.stylize(item.files[0], item.styles[0][0], item.settings).save(tmp_path / "alone.png")
    assert (folder.path / "0.png").read_bytes() == (tmp_path / "alone.png").read_bytes()
    assert not list((folder.path / ".nstx-jobs" / "kept").iterdir())


def test_a_checkpoint_of_what_was_asked_for_before_is_removed_with_a_warning(
    folder: BatchFolder, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    plan_batch(folder, [ask(0)])
    events = Events()
    events.after = lambda event, details: (
        raise_(SystemExit()) if event == "step" and details["step"] == 2 else None
    )
    with pytest.raises(SystemExit):
        make_all(folder, events, Heart(folder.ledger), checkpoint_every=0.0)
    batch = plan_batch(folder, [ask(0, settings=nstx.choose_settings(**TINY, style_weight=3.0))])
    make_all(folder, Events(), Heart(folder.ledger), checkpoint_every=0.0)
    assert states(batch) == {"0.png": "succeeded"}
    assert "0.png begins anew, not from its checkpoint: expected" in caplog.text


def test_a_checkpoint_that_a_hanging_worker_has_keeps_nobody_waiting(
    folder: BatchFolder, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    batch = plan_batch(folder, [ask(0)])
    with Checkpoints(folder.checkpoint("0.png"), 1.0):
        make_all(folder, Events(), Heart(folder.ledger), checkpoint_every=0.0)
    assert states(batch) == {"0.png": "succeeded"}
    assert "0.png begins anew, and is not kept as it goes: expected" in caplog.text


def test_a_death_after_the_result_is_acknowledged_and_not_made_again(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = plan_batch(folder, [ask(0)])
    put_result = results.put_result

    def put_and_die(part: Path, place: Path) -> None:
        put_result(part, place)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(results, "put_result", put_and_die)
        with pytest.raises(SystemExit):
            make_all(folder, Events(), Heart(folder.ledger))
    before = (folder.path / "0.png").stat()
    with Ledger(folder.ledger) as ledger:
        ledger.abandon("w")
    events = Events()
    make_all(folder, events, Heart(folder.ledger))
    assert events == [("succeeded", "0.png")]
    assert states(batch) == {"0.png": "succeeded"}
    assert (folder.path / "0.png").stat().st_mtime_ns == before.st_mtime_ns


def test_a_death_before_the_result_is_in_its_place_leaves_only_that(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    item = ask(0, output="sub/0.png")
    batch = plan_batch(folder, [item])

    def die(part: Path, place: Path) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(results, "put_result", die)
        with pytest.raises(SystemExit):
            make_all(folder, Events(), Heart(folder.ledger))
    assert not (folder.path / "sub" / "0.png").exists()
    with Ledger(folder.ledger) as ledger:
        ledger.abandon("w")
    events = Events()
    make_all(folder, events, Heart(folder.ledger))
    assert events == [("succeeded", "sub/0.png")]
    assert states(batch) == {"sub/0.png": "succeeded"}
    nstx.stylize(item.files[0], item.styles[0][0], item.settings).save(tmp_path / "alone.png")
    assert (folder.path / "sub" / "0.png").read_bytes() == (tmp_path / "alone.png").read_bytes()


def test_a_result_that_an_old_attempt_takes_away_meanwhile_is_made(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = plan_batch(folder, [ask(0)])
    with monkeypatch.context() as patch:
        patch.setattr(results, "put_result", lambda *_: raise_(SystemExit()))
        with pytest.raises(SystemExit):
            make_all(folder, Events(), Heart(folder.ledger))
    with Ledger(folder.ledger) as ledger:
        ledger.abandon("w")
    monkeypatch.setattr(BatchFolder, "find_part", lambda folder, _: folder.part(0, ".png"))
    events = Events()
    make_all(folder, events, Heart(folder.ledger))
    assert states(batch) == {"0.png": "succeeded"}
    assert ("begun", "0.png") in events


def test_an_old_attempt_that_lives_on_puts_nothing(folder: BatchFolder, ask: Ask) -> None:
    batch, events = plan_batch(folder, [ask(0)]), Events()

    def lose(event: str, details: dict[str, Any]) -> None:
        if event == "step" and details["step"] == 4:
            with Ledger(folder.ledger) as other:
                other.abandon("w")
                assert other.claim("v")

    events.after = lose
    make_all(folder, events, Heart(folder.ledger))
    assert not (folder.path / "0.png").exists()
    assert states(batch) == {"0.png": "running"}
    assert "succeeded" not in dict(events)


def test_a_picture_that_changed_since_it_was_planned_fails(
    folder: BatchFolder, ask: Ask, save_picture: Save
) -> None:
    batch = plan_batch(folder, [ask(0)])
    save_picture("c0.png", 30, 40, seed=77)
    make_all(folder, Events(), Heart(folder.ledger))
    (record,) = batch.records()
    assert record.error is not None
    assert "changed since" in record.error["message"]


def test_a_heart_beats_and_lets_go_when_its_lifeline_ends(folder: BatchFolder, ask: Ask) -> None:
    plan_batch(folder, [ask(0), ask(1)])
    reader, writer = os.pipe()
    ended: list[int] = []
    with Ledger(folder.ledger) as ledger:
        claims = ledger.claim("w", 2, lease=0.5)
        with Heart(folder.ledger, reader, beat=0.05, end=ended.append) as heart:
            heart.hold(claims)
            heart.note("0.png", {"step": 3})
            ledger.cancel("1.png")
            wait_for(lambda: heart.is_lost(claims[1]))
            assert not heart.is_lost(claims[0])
            record = ledger.find("0.png")
            assert record is not None
            assert record.progress == {"step": 3}
            os.close(writer)
            wait_for(lambda: bool(ended))
            assert heart.stopping
        # Given back, as if it had not been claimed.
        (again,) = ledger.claim("v")
        assert (again.id, again.attempt) == ("0.png", 1)
    os.close(reader)


def test_a_worker_that_is_killed_is_replaced_and_a_poisoned_job_fails(
    folder: BatchFolder, ask: Ask
) -> None:
    if sys.platform == "win32":
        pytest.skip("there is no SIGKILL")
    batch, deaths = plan_batch(folder, [ask(0), ask(1)], attempts=2), 0

    def kill(event: Any) -> None:
        nonlocal deaths
        if event["event"] == "claimed" and event["job"] == "0.png":
            os.kill(event["pid"], signal.SIGKILL)
            deaths += 1

    batch.run(FleetChoice(workers=1, threads=1), kill)
    assert deaths == 2
    assert states(batch) == {"0.png": "failed", "1.png": "succeeded"}


def test_a_command_that_is_killed_is_gone_on_with(
    save_picture: Save, tmp_path: Path, nstx: Run
) -> None:
    (tmp_path / "c").mkdir()
    for number in range(3):
        save_picture(f"c/{number}.png", 30, 40, seed=number)
    save_picture("s.png", 36, 40, seed=9)
    bad, output = tmp_path / "c" / "3.jpg", tmp_path / "out"
    bad.write_bytes(b"no picture")
    words = ["batch", "--content", tmp_path / "c", "--style", tmp_path / "s.png", "-o", output]
    command = [*map(str, words), "--workers", "1", *OPTIONS]
    process = spawn(*command)
    wait_for(lambda: (output / "0_s.png").exists() or process.poll() is not None)
    process.kill()
    process.communicate()
    before = digest_of(output / "0_s.png")
    export = tmp_path / "jobs.jsonl"
    code, out, err = nstx(*command, "--json", "--export", export)
    data = json.loads(out)
    assert (code, data["total"], data["succeeded"], data["failed"]) == (10, 4, 3, 1)
    assert data["made"] + data["kept"] == 3
    assert digest_of(output / "0_s.png") == before
    assert "3_s.png failed: expected" in err
    lines = [json.loads(line) for line in export.read_text().splitlines()]
    assert lines == data["jobs"]
    bad.unlink()
    code, out, _ = nstx(*command)
    assert (code, "nothing was done" in out) == (0, True)


def test_a_sheet_has_the_results_beside_contents_and_styles(
    folder: BatchFolder, ask: Ask, save_picture: Save
) -> None:
    asked = [ask(0), ask(1)]
    other = save_picture("other.png", 36, 40, seed=91)
    asked += [replace(item, styles=((other, 1.0),), output=f"o{item.output}") for item in asked]
    for item in asked[:3]:
        save_picture(f"results/{item.output}", 30, 40, seed=5)
    table = draw_sheet(folder, asked)
    flow = draw_sheet(folder, asked[:3])
    assert table.dtype == flow.dtype == np.uint8
    # Three rows of pictures, the styles' among them, and then one.
    assert table.shape[0] > 2 * flow.shape[0] > 200
    assert draw_sheet(folder, asked[3:]).min() < 255  # its content and style alone


def test_what_comes_while_it_watches_is_made_by_the_workers_that_are_there(
    save_picture: Save, tmp_path: Path, nstx: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "WATCHING", 0.2)
    output, photographs = tmp_path / "out", tmp_path / "c"
    photographs.mkdir()
    save_picture("s.png", 36, 40, seed=9)
    taken = Display.take
    pids = set[int]()

    def take(display: Display, event: Any) -> None:
        taken(display, event)
        pids.update({event["pid"]} if event["event"] == "claimed" else ())
        if display.done == 2:
            raise KeyboardInterrupt
        if event["event"] == "idle" and not (photographs / "0.png").exists():
            save_picture("c/0.png", 30, 40, seed=0)
        elif display.done == 1 and not (photographs / "1.png").exists():
            save_picture("c/1.png", 30, 40, seed=1)

    monkeypatch.setattr(Display, "take", take)
    choices, run_all = list[FleetChoice](), Batch.run

    def run_chosen(batch: Batch, choice: FleetChoice, *others: Any) -> None:
        choices.append(choice)
        run_all(batch, choice, *others)

    monkeypatch.setattr(Batch, "run", run_chosen)
    command = ["batch", "--content", photographs, "--style", f"{tmp_path / 's.png'}@conv1_1:2"]
    code, out, _ = nstx(*command, "-o", output, "--workers", 1, "--watch", "--json", *OPTIONS)
    data = json.loads(out)
    assert (code, data["made"], data["interrupted"], len(pids)) == (130, 2, True, 1)
    assert choices[0].threads
    assert choices[0].max_memory
    assert {path.name for path in output.glob("*.png")} == {"0_s.png", "1_s.png"}


def test_one_batch_at_a_time_has_a_folder(tmp_path: Path) -> None:
    folder = BatchFolder(tmp_path)
    with folder.alone(), pytest.raises(OutputError, match="for this run alone"), folder.alone():
        pass


def test_a_result_never_replaces_a_picture_that_is_read(
    folder: BatchFolder, ask: Ask, save_picture: Save
) -> None:
    item = replace(ask(0), content=save_picture("results/0.png", 30, 40, seed=1))
    with pytest.raises(OutputError, match="neither an input"):
        plan_batch(folder, [item])


def test_options_that_cannot_be_are_refused_before_anything_is_made(
    nstx: Run, save_picture: Save, tmp_path: Path
) -> None:
    picture, output = save_picture("a.png", 30, 40, seed=1), tmp_path / "out"
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(f"content,style,size\n{picture},{picture},5\n")
    pair = ["--content", picture, "--style", picture]
    for arguments, message in (
        ([], "expected pictures and styles"),
        ([*pair, "--workers", 0], "1 … 256"),
        ([*pair, "--batch", "many"], "1 … 256, or auto"),
        ([*pair, "--batch", "9" * 5000], "1 … 256, or auto"),
        ([*pair, "--name", "{x}.png"], "a template"),
        ([*pair, "--jobs", jobs], "got both"),
        (["--jobs", jobs], "line 2 of"),
        ([*pair, "--checkpoint-every", 1, "--batch", 2], "got both"),
        ([*pair, "--sheet", tmp_path / "no" / "s.png"], "expected an existing folder"),
        ([*pair, "--export", picture], "ends in .jsonl"),
        ([*pair, "--watch", "--sheet", tmp_path / "s.png"], "got both"),
        (["--content", tmp_path, "--style", picture, "-o", tmp_path], "another folder"),
        (["--watch", "--content", tmp_path], "expected pictures and styles"),
        (["--content", tmp_path / "no", "--style", picture], "got: No such file"),
    ):
        code, _, err = nstx("batch", "-o", output, *arguments)
        assert code in (2, 3, 7)
        assert message in err
    assert not output.exists()


def test_a_thousand_jobs_are_planned_with_one_look_at_each_file(
    folder: BatchFolder, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, files = ask(0), list[Path]()
    read = read_input

    def count(path: Path, **options: Any) -> bytes:
        files.append(path)
        return read(path, **options)

    monkeypatch.setattr(planning, "read_input", count)
    asked = [replace(item, output=f"{number:05}.png") for number in range(1_001)]
    assert plan_batch(folder, asked).missing == 1_001
    assert sorted(files) == sorted(item.files)
