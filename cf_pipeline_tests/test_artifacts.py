"""The artifact store by itself: real files, real processes."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.artifacts import Artifact, Recipe
from cf_pipeline.store_layout import ArtifactError, scratch_of
from cf_pipeline_tests.machines import RECIPE, build


def forbidden(directory: Path) -> Mapping[str, str]:
    raise AssertionError(f"built again in {directory}")


def make(store: ArtifactStore, recipe: Recipe = RECIPE) -> Artifact:
    return store.get_or_build(recipe, build, print)[0]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def mtimes(store: ArtifactStore) -> dict[Path, int]:
    files = (path for path in store.root.rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_result_is_built_once_and_found_again(store):
    first, hit_first = store.get_or_build(RECIPE, build, print)
    written = mtimes(store)
    second, hit_second = store.get_or_build(RECIPE, forbidden, print)
    assert (hit_first, hit_second) == (False, True)
    assert second == first
    assert second.path("numbers.txt").read_text() == "1 2 3"
    assert second.metadata == {"total": "6"}
    assert mtimes(store) == written


def test_what_an_attempt_left_is_there_for_the_next_and_goes_with_the_result(store):
    def in_two_attempts(directory: Path) -> Mapping[str, str]:
        scratch = scratch_of(directory)
        if not scratch.exists():
            scratch.mkdir()
            raise InterruptedError
        return build(directory)

    with pytest.raises(InterruptedError):
        store.get_or_build(RECIPE, in_two_attempts, print)
    artifact, _ = store.get_or_build(RECIPE, in_two_attempts, print)
    assert not scratch_of(artifact.directory).exists()


def damage_file(artifact: Artifact) -> None:
    (artifact.directory / "numbers.txt").write_text("1 2 4")


def truncate_file(artifact: Artifact) -> None:
    os.truncate(artifact.directory / "numbers.txt", 2)


def delete_file(artifact: Artifact) -> None:
    (artifact.directory / "numbers.txt").unlink()


def delete_manifest(artifact: Artifact) -> None:
    (artifact.directory / "manifest.json").unlink()


def truncate_manifest(artifact: Artifact) -> None:
    os.truncate(artifact.directory / "manifest.json", 20)


def edit_manifest(artifact: Artifact) -> None:
    path = artifact.directory / "manifest.json"
    path.write_text(path.read_text().replace('"total": "6"', '"total": "7"'))


def replace_manifest(artifact: Artifact) -> None:
    (artifact.directory / "manifest.json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [
        damage_file,
        truncate_file,
        delete_file,
        delete_manifest,
        truncate_manifest,
        edit_manifest,
        replace_manifest,
    ],
)
def test_a_damaged_result_is_noticed_named_and_built_again(store, damage):
    whole = make(store)
    damage(whole)
    said: list[str] = []
    rebuilt, hit = store.get_or_build(RECIPE, build, said.append)
    assert not hit
    assert rebuilt == whole
    assert len(said) == 2  # noticed without the lock and again with it
    assert str(whole.directory) in said[0] or "numbers" in said[0]
    assert rebuilt.path("numbers.txt").read_text() == "1 2 3"


def test_a_file_altered_after_it_was_found_is_refused_where_it_is_read(store):
    artifact = make(store)
    damage_file(artifact)
    with pytest.raises(ArtifactError, match="altered.*Materialize numbers again"):
        artifact.path("numbers.txt")


def test_what_is_not_there_is_refused_by_name(store):
    with pytest.raises(ArtifactError, match="numbers .* is not in the artifact store"):
        store.open("numbers", RECIPE.key)


def test_a_failed_build_leaves_nothing_to_be_found(store):
    def fail(directory: Path) -> Mapping[str, str]:
        (directory / "numbers.txt").write_text("1")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        store.get_or_build(RECIPE, fail, print)
    assert not [
        path for path in store.root.rglob("*") if path.is_dir() and path.parent != store.root
    ]
    assert store.get_or_build(RECIPE, build, print)[1] is False


@given(
    st.sampled_from(["asset", "code_version", "config", "inputs"]),
    st.text(min_size=1),
)
def test_any_change_of_a_recipe_changes_its_key(field, text):
    changed: Any = {text: text} if field in {"config", "inputs"} else text
    other = replace(RECIPE, **{field: changed})
    assert (other.key == RECIPE.key) == (other == RECIPE)


def test_equal_contents_have_equal_data_versions_whatever_made_them(store):
    other = Recipe(asset="numbers", code_version="2", config={}, inputs={})
    assert make(store, other).data_version == make(store).data_version
    assert other.key != RECIPE.key


def test_earlier_results_stay_and_latest_points_to_the_one_used_last(store):
    other = Recipe(asset="numbers", code_version="2", config={}, inputs={})
    for recipe in (RECIPE, other, RECIPE):
        artifact = make(store, recipe)
        assert (store.root / "numbers" / "latest").resolve() == artifact.directory
    assert store.get_or_build(other, forbidden, print)[1]


def slow_build(directory: Path) -> Mapping[str, str]:
    (directory / f"built-by-{os.getpid()}").touch()
    with (directory.parent / "builds.log").open("a") as log:
        log.write("build\n")
    time.sleep(0.5)
    return build(directory)


def get_slowly(root: Path) -> None:
    artifact, _ = ArtifactStore(root).get_or_build(RECIPE, slow_build, print)
    artifact.verified()


def test_runs_at_once_do_the_work_once(store):
    processes = [multiprocessing.Process(target=get_slowly, args=(store.root,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (store.root / "numbers" / "builds.log").read_text() == "build\n"


def hang(directory: Path) -> Mapping[str, str]:
    build(directory)
    (directory.parent / "started").touch()
    time.sleep(60)
    return {}


def hang_in(root: Path) -> None:
    ArtifactStore(root).get_or_build(RECIPE, hang, print)


def test_a_killed_builder_leaves_no_result_and_blocks_nobody(store):
    process = multiprocessing.Process(target=hang_in, args=(store.root,))
    process.start()
    while not (store.root / "numbers" / "started").exists():
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(ArtifactError):
        store.open("numbers", RECIPE.key)
    artifact, hit = store.get_or_build(RECIPE, build, print)
    assert not hit
    assert not list(store.root.rglob("*.partial"))
    assert json.loads((artifact.directory / "manifest.json").read_text())["asset"] == "numbers"
