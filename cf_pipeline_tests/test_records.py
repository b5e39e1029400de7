"""The log of records: real files, real processes, some of them killed."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cf_pipeline import upkeep
from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.records import Records
from cf_pipeline.store_layout import ArtifactError, ensure_layout, leftovers, sweep

PROCESSES = 8
EACH = 5


def log_of(root: Path) -> Records:
    return ArtifactStore(root).records("champion", print)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


def test_records_come_back_in_order_with_their_numbers(root):
    records = log_of(root)
    assert records.entries() == []
    said: list[dict[str, Any]] = [
        {"key": "ä", "at": 1.5},
        {"table": {1: [2, 3], 10: None}},
        {"number": 7},
    ]
    assert [records.append(number, one) for number, one in enumerate(said, 1)] == [True] * 3
    assert log_of(root).entries() == [
        {"key": "ä", "at": 1.5, "number": 1},
        {"table": {"1": [2, 3], "10": None}, "number": 2},
        {"number": 3},
    ]


def test_a_number_that_is_taken_is_refused_and_its_record_stays(root):
    assert log_of(root).append(1, {"by": "first"})
    assert not log_of(root).append(1, {"by": "second"})
    assert log_of(root).entries() == [{"by": "first", "number": 1}]
    assert [path.name for path in (root / "champion" / "records").iterdir()] == ["000001.json"]


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_below_one_is_refused(root, number):
    with pytest.raises(ValueError, match=f"numbered from 1 on, and this one has {number}"):
        log_of(root).append(number, {})


def test_what_is_not_json_is_refused_and_leaves_nothing(root):
    for wrong in (float("nan"), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            log_of(root).append(1, {"wrong": wrong})
    assert log_of(root).append(1, {"right": 0.5})


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("model-2", "model-1"))


def exchange(path: Path) -> None:
    shutil.copy(path.with_name("000001.json"), path)


@pytest.mark.parametrize("damage", [truncate, edit, exchange])
def test_a_damaged_record_is_named_and_never_passed_over(root, damage: Callable[[Path], None]):
    """The log without it would tell another story."""
    for number in (1, 2, 3):
        log_of(root).append(number, {"promoted": f"model-{number}"})
    damage(root / "champion" / "records" / "000002.json")
    with pytest.raises(ArtifactError, match="000002.json"):
        log_of(root).entries()


def append_all(root: Path, name: int) -> None:
    """Append as users of the log do: read it, take the next number, and begin again if it is
    gone."""
    for turn in range(EACH):
        while not log_of(root).append(1 + len(log_of(root).entries()), {"by": [name, turn]}):
            pass


def test_every_number_is_used_once_by_processes_that_append_at_once(root):
    processes = [
        multiprocessing.Process(target=append_all, args=(root, name)) for name in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    entries = log_of(root).entries()
    assert [entry["number"] for entry in entries] == list(range(1, PROCESSES * EACH + 1))
    said = [entry["by"] for entry in entries]
    assert sorted(said) == [[name, turn] for name in range(PROCESSES) for turn in range(EACH)]
    for name in range(PROCESSES):  # each one's own in the order in which it added them
        assert [one for one in said if one[0] == name] == [[name, turn] for turn in range(EACH)]


def append_for_ever(root: Path) -> None:
    number = len(log_of(root).entries())
    while True:
        number += 1
        assert log_of(root).append(number, {"text": "x" * 100_000})
        (root / "last").write_text(str(number))  # said to the world: it must be there for ever


def test_a_kill_in_mid_append_loses_nothing_that_was_added_and_blocks_nobody(root):
    ensure_layout(root, print)
    (root / "last").touch()
    chance = random.Random(1)
    swept = 0
    for _ in range(15):
        process = multiprocessing.Process(target=append_for_ever, args=(root,))
        process.start()
        assert process.pid
        before = len(log_of(root).entries())
        while len(log_of(root).entries()) == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        entries = log_of(root).entries()
        assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))
        assert all(entry["text"] == "x" * 100_000 for entry in entries)
        assert len(entries) >= int((root / "last").read_text() or 0)
        left = leftovers(root)
        assert all(sweep(path) for path in left)
        swept += len(left)
        assert log_of(root).entries() == entries
        assert log_of(root).append(len(entries) + 1, {"text": "x" * 100_000})
    assert swept, "no kill came in mid-append: nothing was tested"


def test_upkeep_keeps_records_and_a_store_with_them_is_known_as_one(root):
    log_of(root).append(1, {"promoted": "a"})
    assert upkeep.unneeded(root, 1, set()) == []
    assert leftovers(root) == []
    (root / "layout.json").unlink()
    ensure_layout(root, print)
    assert log_of(root).entries() == [{"promoted": "a", "number": 1}]


def test_a_directory_with_such_names_elsewhere_is_no_store(root):
    (root / "music").mkdir(parents=True)
    (root / "music" / "000001.json").touch()
    with pytest.raises(ArtifactError, match="holds other files"):
        log_of(root).append(1, {})
