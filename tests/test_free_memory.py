"""What a process may still take, by files as Linux writes them."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from nstx.engine.devices import free_memory as module
from nstx.engine.devices.free_memory import free_memory

GIB = 1 << 30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of control groups, which has none; the process is in /outer/inner."""
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n3:cpu,memory:/outer/inner\n")
    monkeypatch.setattr(module, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(module, "_OWN_GROUPS", own)
    monkeypatch.setattr(module, "_left_of_limits", lambda: iter(()))
    return tmp_path / "groups"


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(f"{text}\n")


def test_without_limits_it_is_the_machines(groups: Path) -> None:
    assert not groups.exists()
    machine = psutil.virtual_memory().available + psutil.swap_memory().free
    assert free_memory() == pytest.approx(machine, rel=0.2)


@pytest.mark.parametrize("folder", ["", "outer", "outer/inner"])
@pytest.mark.parametrize("limit", ["max", "high"])
def test_the_limit_of_any_group_up_to_the_root_counts(
    groups: Path, folder: str, limit: str
) -> None:
    for other in ("", "outer", "outer/inner"):
        write(groups / other, max="max", high="max", current=5 * GIB)
    write(
        groups / folder,
        **{limit: 3 * GIB},
        current=2 * GIB,
        stat=f"anon 5\ninactive_file {GIB // 4}\nslab_reclaimable {GIB // 8}",
    )
    assert free_memory() == GIB + GIB // 4 + GIB // 8


@pytest.mark.parametrize("folder", ["memory", "memory/outer/inner"])
def test_groups_of_the_first_version_count(groups: Path, folder: str) -> None:
    write(groups / "memory", limit_in_bytes=2**63 - 4096, usage_in_bytes=GIB)
    write(
        groups / folder,
        limit_in_bytes=GIB,
        usage_in_bytes=GIB // 2,
        stat=f"inactive_file 7\ntotal_inactive_file {GIB // 4}",
    )
    assert free_memory() == GIB // 2 + GIB // 4


@pytest.mark.parametrize("text", ["", "max\n", "many", "-"])
def test_what_cannot_be_read_is_no_limit(groups: Path, text: str) -> None:
    machine = free_memory()
    write(groups / "outer", max=text, current=1, stat="x")
    write(groups, max=GIB, current="")
    assert free_memory() > machine // 2


def test_nothing_is_left_of_a_limit_that_is_passed(groups: Path) -> None:
    write(groups, max=GIB, current=2 * GIB)
    assert free_memory() == 0


def test_the_limit_of_the_address_space_counts(
    groups: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.undo()
    monkeypatch.setattr(module, "_GROUPS", groups)
    monkeypatch.setattr(module, "_STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tx\nVmSize:\t 1048576 kB\nVmData:\t 10 kB\n")
    limits = {resource.RLIMIT_AS: 3 * GIB, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    assert free_memory() == 2 * GIB
    # But for what will be held of it and not used, of which some is held already.
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for count, unused in ((2, 640 << 20), (64, 1648 << 20)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        for resident in (GIB, GIB - (100 << 20)):
            (tmp_path / "status").write_text(
                f"VmSize:\t 1048576 kB\nVmRSS:\t {resident >> 10} kB\n"
            )
            assert free_memory() == 2 * GIB - unused + GIB - resident
    monkeypatch.setitem(sys.modules, "torch", None)
    assert free_memory() == 2 * GIB - unused + GIB - resident - (340 << 20)
