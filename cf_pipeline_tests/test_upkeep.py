"""What the store keeps, what it removes, and how a store of an earlier release is brought up to
date."""

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cf_pipeline import runs, upkeep
from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.artifacts import Artifact, Recipe
from cf_pipeline.locks import exclusive, if_free, is_held
from cf_pipeline.store_layout import LAYOUT, ArtifactError, ensure_layout, leftovers, sweep
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import outcome

SPLIT = "train_test_split,vocabularies"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def make(store: ArtifactStore, asset: str, number: int, last_used: float) -> Artifact:
    def build(directory: Path) -> dict[str, int]:
        (directory / "number.txt").write_text(str(number))
        return {}

    artifact, _ = store.get_or_build(Recipe(asset, "1", {"n": number}, {}), build, print)
    os.utime(artifact.directory, (last_used, last_used))
    return artifact


def numbers(results: list[upkeep.StoredResult]) -> list[str]:
    return [f"{result.asset} {(result.directory / 'number.txt').read_text()}" for result in results]


def test_each_asset_keeps_the_results_it_used_last(store):
    for number in range(5):
        make(store, "a", number, last_used=1000.0 - number)
        make(store, "parts/b", number, last_used=1000.0 + number)
    # The latest links point to a's and b's last made, of which a's was used longest ago.
    assert numbers(upkeep.unneeded(store.root, 2, set())) == [
        *("a 3", "a 2"),
        *("parts/b 0", "parts/b 1", "parts/b 2"),
    ]
    assert upkeep.unneeded(store.root, 5, set()) == []


def test_what_dagster_s_history_points_to_is_kept(store):
    old, _ = (make(store, "a", number, last_used=1000.0 + number) for number in range(2))
    assert numbers(upkeep.unneeded(store.root, 1, set())) == ["a 0"]
    assert upkeep.unneeded(store.root, 1, {old.directory}) == []


def test_what_a_run_in_progress_may_use_is_kept(store):
    for number in range(3):
        make(store, "a", number, last_used=1000.0 + number)
    locks = store.root / "runs"
    locks.mkdir()
    with exclusive(locks / "some-run.lock", print):
        os.utime(locks / "some-run.lock", (1001.0, 1001.0))
        assert numbers(upkeep.unneeded(store.root, 1, set())) == ["a 0"]
    assert numbers(upkeep.unneeded(store.root, 1, set())) == ["a 0", "a 1"]


def test_a_result_is_removed_whole_and_built_again_when_it_is_asked_for(store):
    make(store, "a", 0, last_used=1000.0)
    make(store, "a", 1, last_used=2000.0)
    (result,) = upkeep.unneeded(store.root, 1, set())
    assert upkeep.remove(result)
    assert sorted(path.name for path in (store.root / "a").iterdir()) == sorted(
        {"latest", make(store, "a", 1, 1.0).key}
    )
    assert make(store, "a", 0, 1.0).path("number.txt").read_text() == "0"


def test_a_result_that_is_used_meanwhile_stays(store):
    artifact = make(store, "a", 0, last_used=1000.0)
    make(store, "a", 1, last_used=2000.0)
    (result,) = upkeep.unneeded(store.root, 1, set())
    store.open("a", artifact.key)
    assert not upkeep.remove(result)
    assert artifact.verified().exists()


def test_a_result_that_is_being_built_stays(store):
    artifact = make(store, "a", 0, last_used=1000.0)
    make(store, "a", 1, last_used=2000.0)
    (result,) = upkeep.unneeded(store.root, 1, set())
    with exclusive(artifact.directory.with_suffix(".lock"), print):
        assert not upkeep.remove(result)
    assert artifact.verified().exists()


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not(store):
    make(store, "a", 0, last_used=1000.0)
    folder = store.root / "a"
    dead, living = "d" * 32, "1" * 32
    for key in (dead, living):
        (folder / f"{key}.01234567.partial" / "inner").mkdir(parents=True)
    (folder / f"{dead}.lock").touch()
    (folder / "latest.partial").symlink_to(dead)
    with exclusive(folder / f"{living}.lock", print):
        found = leftovers(store.root)
        assert {path.name for path in found} == {
            *(f"{dead}.01234567.partial", f"{dead}.lock", "latest.partial"),
        }
        assert all(path.exists() or path.is_symlink() for path in found)
        assert all(sweep(path) for path in found)
        assert (folder / f"{living}.01234567.partial").exists()
    assert not any(path.exists() or path.is_symlink() for path in found)


def test_scratch_is_swept_when_nobody_went_on_with_it_for_a_week(store):
    fresh, old, held = (store.root / "a" / f"{key * 32}.scratch" for key in "123")
    for scratch in (fresh, old, held):
        scratch.mkdir(parents=True)
        (scratch / "state").touch()
    for scratch in (old, held):
        for path in (scratch / "state", scratch):
            os.utime(path, (1000.0, 1000.0))
    assert leftovers(store.root) == [old, held]
    with exclusive(held.with_suffix(".lock"), print):
        assert leftovers(store.root) == [old]
        assert not sweep(held)
    assert sweep(old)
    assert fresh.exists()
    assert held.exists()
    assert not old.exists()


def upkeep_job(project: Project, **config: object) -> dict[str, Any]:
    """Run the job on the command line, and return what it says of its run."""
    ended = project.execute("store_upkeep", {"tidy_store": config})
    assert ended.returncode == 0, ended.output
    with project.instance() as instance:
        run = instance.get_runs(limit=1)[0]
        (output,) = [
            event.step_output_data
            for entry in instance.all_logs(run.run_id)
            if (event := entry.dagster_event) and event.event_type_value == "STEP_OUTPUT"
        ]
    return {key: value.value for key, value in output.metadata.items()}


def test_the_job_removes_what_nobody_needs_and_a_dry_run_only_says_so(project):
    before_last, last = [
        {"train_test_split": {"strategy": "random", "seed": seed}} for seed in (3, 4)
    ]
    for split in (before_last, last):
        assert project.cache(SPLIT, split) == dict.fromkeys(SPLIT.split(","), "miss")
    before = project.files()
    (project.artifacts / "ratings" / f"{'d' * 32}.01234567.partial").mkdir()
    dry = upkeep_job(project, keep=1, dry_run=True)
    assert project.files() == before
    # Of three splits and their vocabularies one is kept, to which the history points.
    assert (dry["unneeded"], dry["removed"], dry["leftovers"], dry["swept"]) == (4, 0, 1, 0)
    assert {row.data["asset"] for row in dry["results"].records} == set(SPLIT.split(","))
    wet = upkeep_job(project, keep=1)
    assert (wet["unneeded"], wet["removed"], wet["leftovers"], wet["swept"]) == (4, 4, 1, 1)
    assert project.cache(SPLIT, last) == dict.fromkeys(SPLIT.split(","), "hit")
    assert project.cache(SPLIT, before_last) == dict.fromkeys(SPLIT.split(","), "miss")


def test_a_new_store_has_the_layout_known_here(store):
    make(store, "a", 0, last_used=1.0)
    assert json.loads((store.root / "layout.json").read_text()) == {"layout": LAYOUT}


def test_a_store_of_the_first_layout_is_brought_up_to_date_and_its_results_stay(project):
    """It had no layout.json, a lock beside each result, and a dead build's folder by its key."""
    (project.artifacts / "layout.json").unlink()
    shutil.rmtree(project.artifacts / "runs")
    for manifest in list(project.artifacts.rglob("manifest.json")):
        manifest.parent.with_suffix(".lock").touch()
    (project.artifacts / "ratings" / f"{'0' * 32}.partial").mkdir()
    assert project.cache() == outcome(set())
    assert json.loads((project.artifacts / "layout.json").read_text()) == {"layout": LAYOUT}
    assert not list(project.artifacts.rglob("*.partial"))
    assert [path.parent.name for path in project.artifacts.rglob("*.lock")] == ["runs"]


@pytest.mark.parametrize("layout", ['{"layout": 99}', '{"layout": "new"}', '{"layout": 0}'])
def test_a_store_of_a_later_release_is_refused(store, layout):
    store.root.mkdir()
    (store.root / "layout.json").write_text(layout)
    with pytest.raises(ArtifactError, match="has layout .* Upgrade cf_pipeline"):
        make(store, "a", 0, last_used=1.0)
    assert [path.name for path in store.root.iterdir()] == ["layout.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", "\0" * 100])
def test_a_damaged_layout_is_refused_with_the_remedy(store, content):
    store.root.mkdir()
    (store.root / "layout.json").write_text(content)
    with pytest.raises(ArtifactError, match="does not tell the layout .* Write"):
        ensure_layout(store.root, print)


def test_a_directory_of_something_else_is_refused_and_nothing_in_it_is_touched(store):
    others = ["app/uv.lock", "film.mkv.partial", f"photos/{'0' * 32}/beach.jpg", "notes.txt"]
    for other in others:
        path = store.root / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with pytest.raises(ArtifactError, match="holds other files.*directory that is empty"):
            make(store, "a", 0, last_used=1.0)
    assert all((store.root / other).exists() for other in others)


def test_runs_that_start_and_runs_that_look_for_the_dead_do_not_disturb_each_other(tmp_path):
    """Who looks for them must not take the lock of one that is about to take it."""
    ensure_layout(tmp_path / "artifacts", print)
    done = tmp_path / "done"
    root = tmp_path / "artifacts"
    looking = multiprocessing.Process(target=look, args=(root, done), daemon=True)
    looking.start()
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(100):
            run = instance.create_run_for_job(nothing)
            runs.hold(instance, run.run_id, root)
            assert is_held(root / "runs" / f"{run.run_id}.lock")
    done.touch()
    looking.join()
    assert looking.exitcode == 0


@dg.job
def nothing() -> None: ...


def look(root: Path, done: Path) -> None:
    while not done.exists():
        runs.oldest_start(root)
        for path in (root / "runs").glob("*.lock"):
            with if_free(path):
                pass


def test_a_lock_is_held_by_one_process_at_a_time_and_leaves_no_file(tmp_path):
    """Though its file is removed each time it is given back."""
    processes = [
        multiprocessing.Process(target=count_up, args=(tmp_path / "a.lock", tmp_path / "count"))
        for _ in range(4)
    ]
    (tmp_path / "count").write_text("0")
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == str(4 * TURNS)
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


TURNS = 50


def count_up(lock: Path, count: Path) -> None:
    for _ in range(TURNS):
        with exclusive(lock, lambda _: None):
            before = int(count.read_text())
            time.sleep(0.001)
            count.write_text(str(before + 1))
