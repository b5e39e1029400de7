"""What machines share behind their stores: on a real S3 server, on a file system, and in memory."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.remote import VARIABLE, Remote
from cf_pipeline.store_layout import ArtifactError, leftovers, scratch_of, sealed, unsealed
from cf_pipeline_tests.machines import (
    RECIPE,
    build,
    get,
    get_many,
    get_many_until_killed,
    many_files,
    started,
)
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.s3_server import BUCKET, s3_server, variables
from cf_pipeline_tests.test_artifacts import forbidden
from cf_pipeline_tests.test_caching import ASSETS, forbid, outcome
from cf_pipeline_tests.webserver import free_port


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    with s3_server(port):
        yield port


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name, value in variables(port).items():
        monkeypatch.setenv(name, value)
    # Its clients remember where they found S3 before.
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(params=["s3", "file", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind."""
    name = uuid4().hex
    return {
        "s3": f"s3://{BUCKET}/{name}",
        "file": f"file://{tmp_path}/share",
        "memory": f"memory://{name}",
    }[request.param]


@pytest.fixture
def s3(port: int) -> str:
    return f"s3://{BUCKET}/{uuid4().hex}"


Machine = Callable[[str], ArtifactStore]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Makes the store of a machine by its name, with the remote at an address behind it."""
    count = iter(range(100))
    return lambda address: ArtifactStore(tmp_path / f"machine-{next(count)}", Remote(address))


def there(address: str, pattern: str) -> list[str]:
    """The paths on the remote that match a pattern."""
    files, root = fsspec.url_to_fs(address, use_listings_cache=False)
    return sorted(str(path) for path in files.glob(f"{root}/{pattern}"))


def write(address: str, path: str, content: bytes) -> None:
    files, _ = fsspec.url_to_fs(address)
    files.pipe_file(path, content)


def read(address: str, path: str) -> bytes:
    files, _ = fsspec.url_to_fs(address)
    return bytes(files.cat_file(path))


def test_what_one_machine_made_another_has(address, machine):
    made, hit_first = machine(address).get_or_build(RECIPE, build, print)
    other = machine(address)
    found, hit_second = other.get_or_build(RECIPE, forbidden, print)
    assert (hit_first, hit_second) == (False, True)
    assert found.directory.parent.parent == other.root
    assert (found.files, found.data_version, found.metadata) == (
        *(made.files, made.data_version, made.metadata),
    )
    assert found.verified() == found.directory
    assert other.get_or_build(RECIPE, forbidden, print) == (found, True)
    assert len(there(address, "results/numbers/*/commits/*")) == 1
    assert len(there(address, "results/numbers/*/uploads/*")) == 1


def test_what_was_made_without_the_remote_is_published_when_it_is_used(address, machine):
    store = machine(address)
    ArtifactStore(store.root).get_or_build(RECIPE, build, print)
    assert store.get_or_build(RECIPE, forbidden, print)[1]
    assert machine(address).get_or_build(RECIPE, forbidden, print)[1]


def test_a_result_that_is_opened_by_its_key_is_fetched(address, machine):
    """Another machine's run may have made it, or upkeep may have removed it here."""
    machine(address).get_or_build(RECIPE, build, print)
    other = machine(address)
    scratch = scratch_of(other.root / "numbers" / RECIPE.key)
    scratch.mkdir(parents=True)  # left by an attempt that died
    assert other.open("numbers", RECIPE.key).path("numbers.txt").read_text() == "1 2 3"
    assert not scratch.exists()
    with pytest.raises(ArtifactError, match="is not in the artifact store"):
        other.open("numbers", "0" * 32)
    assert leftovers(other.root) == []


def damaged_file(address: str) -> None:
    (path,) = there(address, "results/numbers/*/uploads/*/numbers.txt")
    write(address, path, b"1 2 4")


def truncated_file(address: str) -> None:
    (path,) = there(address, "results/numbers/*/uploads/*/numbers.txt")
    write(address, path, b"1 ")


def missing_file(address: str) -> None:
    """As when the bucket's lifecycle has come to it."""
    files, _ = fsspec.url_to_fs(address)
    files.rm_file(there(address, "results/numbers/*/uploads/*/numbers.txt")[0])


def missing_manifest(address: str) -> None:
    files, _ = fsspec.url_to_fs(address)
    files.rm_file(there(address, "results/numbers/*/uploads/*/manifest.json")[0])


def truncated_commit(address: str) -> None:
    (path,) = there(address, "results/numbers/*/commits/*")
    write(address, path, read(address, path)[:50])


def edited_commit(address: str) -> None:
    (path,) = there(address, "results/numbers/*/commits/*")
    write(address, path, read(address, path).replace(b"numbers.txt", b"numbers.csv"))


def resealed(address: str, change: Callable[[dict[str, Any]], Any]) -> None:
    (path,) = there(address, "results/numbers/*/commits/*")
    content = unsealed(read(address, path), path)
    change(content)
    write(address, path, sealed(content))


def foreign_commit(address: str) -> None:
    """As if somebody had copied a folder to another's place."""
    resealed(address, lambda commit: commit.update(result="numbers/" + "0" * 32))


def file_elsewhere(address: str) -> None:
    resealed(address, lambda commit: commit["files"].update({"../escaped.txt": "0"}))


def file_that_is_a_folder(address: str) -> None:
    resealed(address, lambda commit: commit["files"].update({"..": "0"}))


@pytest.mark.parametrize(
    "damage",
    [
        damaged_file,
        truncated_file,
        missing_file,
        missing_manifest,
        truncated_commit,
        edited_commit,
        foreign_commit,
        file_elsewhere,
        file_that_is_a_folder,
    ],
)
def test_a_damaged_result_is_noticed_not_used_and_mended(address, machine, damage):
    machine(address).get_or_build(RECIPE, build, print)
    damage(address)
    said: list[str] = []
    second = machine(address)
    _, hit = second.get_or_build(RECIPE, build, said.append)
    assert not hit
    (line,) = said
    assert line.startswith("Not used: ")
    assert "/results/numbers/" in line
    assert not list(second.root.rglob("escaped.txt"))
    assert leftovers(second.root) == []
    assert machine(address).get_or_build(RECIPE, forbidden, said.append)[1]
    assert len(said) == 1  # the later commit counts, and the damaged one is not even read
    assert len(there(address, "results/numbers/*/commits/*")) == 2


def test_a_result_that_was_damaged_here_is_fetched(address, machine):
    store = machine(address)
    artifact, _ = store.get_or_build(RECIPE, build, print)
    (artifact.directory / "numbers.txt").write_text("1 2 4")
    mended, hit = store.get_or_build(RECIPE, forbidden, print)
    assert hit
    assert mended.path("numbers.txt").read_text() == "1 2 3"


def test_an_earlier_sound_result_is_used_where_the_last_is_damaged(address, machine):
    machine(address).get_or_build(RECIPE, build, print)
    (first,) = there(address, "results/numbers/*/commits/*")
    write(address, first.replace("000001", "000002"), b"no commit")
    assert machine(address).get_or_build(RECIPE, forbidden, print)[1]


@pytest.mark.parametrize("address", ["s3", "file"], indirect=True)
def test_machines_at_once_make_one_whole_result(address, tmp_path, machine):
    """Each has a lock of its own, and makes another result: no mixture of them may be seen."""
    processes = [started(get, tmp_path / f"one-{number % 3}", address) for number in range(6)]
    watcher = machine(address)
    while any(process.is_alive() for process in processes):
        try:
            watcher.open("numbers", RECIPE.key).verified()
        except ArtifactError as error:
            if "is not in the artifact store" not in str(error):
                raise
        shutil.rmtree(watcher.root, ignore_errors=True)
        time.sleep(0.05)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert len(there(address, "results/numbers/*/commits/*")) == 1
    assert machine(address).get_or_build(RECIPE, forbidden, print)[1]


@pytest.mark.parametrize("address", ["s3", "file"], indirect=True)
def test_a_kill_in_mid_upload_shows_nobody_a_part_and_the_next_run_publishes(
    address, tmp_path, machine
):
    process = started(get_many_until_killed, tmp_path / "killed", address)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(there(address, "results/numbers/*/uploads/*/*")) == 100
    assert there(address, "results/numbers/*/commits/*") == []
    with pytest.raises(ArtifactError, match="is not in the artifact store"):
        machine(address).open("numbers", RECIPE.key)
    again = ArtifactStore(tmp_path / "killed", Remote(address))
    assert again.get_or_build(RECIPE, forbidden, print)[1]  # it was kept on that machine
    assert len(machine(address).get_or_build(RECIPE, forbidden, print)[0].files) == 300


@pytest.mark.parametrize("address", ["s3", "file"], indirect=True)
def test_a_kill_in_mid_download_leaves_no_result_and_blocks_nobody(address, tmp_path, machine):
    machine(address).get_or_build(RECIPE, many_files, print)
    root = tmp_path / "killed"
    process = started(get_many, root, address)
    while not list(root.glob("numbers/*.partial/*.txt")):
        assert process.is_alive(), "it ended before it could be killed"
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [path.suffix for path in leftovers(root)] == [".partial", ".lock"]
    store = ArtifactStore(root, Remote(address))
    artifact, hit = store.get_or_build(RECIPE, forbidden, print)
    assert hit
    assert len(artifact.files) == 300
    assert leftovers(root) == []


def test_a_second_machine_takes_every_asset_from_the_first(finished, tmp_path, port, s3):
    shared = variables(port) | {VARIABLE: s3}
    first = finished.copy(tmp_path / "first").with_variables(shared)
    # Made before there was a remote, and with a champion already.
    _, root = fsspec.url_to_fs(s3)
    for record in (first.artifacts / "champion_model" / "records").glob("*.json"):
        write(s3, f"{root}/records/champion_model/{record.name}", record.read_bytes())
    assert first.cache() == outcome(set())
    second = Project(tmp_path / "second", finished.archive).with_variables(shared)
    forbid(second, "torch")
    assert second.cache() == outcome(set())
    assert second.data_versions() == first.data_versions()
    assert {path.split("/")[3] for path in there(s3, "results/*")} >= ASSETS
    shutil.rmtree((second.artifacts / "vocabularies" / "latest").resolve())
    assert second.cache("factor_model") == {"factor_model": "hit"}
