"""What machines share behind their stores: on a real S3 server, on a file system, and in memory."""

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info
from fsspec.implementations.memory import MemoryFileSystem

from cf_pipeline.artifacts import ArtifactStore, Recipe
from cf_pipeline.remote import VARIABLE, Remote, RemoteError
from cf_pipeline.store_layout import ArtifactError, leftovers, sealed, unsealed
from cf_pipeline_tests.machines import (
    RECIPE,
    append_all,
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
    assert other.open("numbers", RECIPE.key).path("numbers.txt").read_text() == "1 2 3"
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


def test_a_server_that_is_gone_fails_the_run_and_what_was_made_is_kept(
    machine, monkeypatch: pytest.MonkeyPatch
):
    port = free_port()
    for name, value in variables(port).items():
        monkeypatch.setenv(name, value)
    address = f"s3://{BUCKET}/models"
    store = machine(address)
    with s3_server(port):
        store.get_or_build(RECIPE, build, print)
    other = Recipe("numbers", "2", {}, {})
    expected = rf"s3://{BUCKET}/models cannot be used: .*AWS_ACCESS_KEY_ID.*run it again"
    attempts: list[Callable[[], object]] = [
        lambda: machine(address).get_or_build(other, forbidden, print),
        lambda: store.get_or_build(RECIPE, forbidden, print),  # a hit, but has it been published?
        lambda: store.records("numbers", print).append(1, {}),
    ]
    for attempt in attempts:
        with pytest.raises(ArtifactError, match=expected) as raised:
            attempt()
        assert "some-secret" not in str(raised.value)
    with s3_server(port):  # which has forgotten everything
        assert store.get_or_build(RECIPE, forbidden, print)[1]
        assert machine(address).get_or_build(RECIPE, forbidden, print)[1]


def test_a_result_is_kept_here_if_the_remote_goes_while_it_is_made(
    machine, monkeypatch: pytest.MonkeyPatch
):
    port = free_port()
    for name, value in variables(port).items():
        monkeypatch.setenv(name, value)
    store = machine(f"s3://{BUCKET}/models")
    server = s3_server(port)
    server.__enter__()

    def build_and_stop(directory: Path) -> Mapping[str, str]:
        server.__exit__(None, None, None)
        return build(directory)

    with pytest.raises(ArtifactError, match="what was finished is kept"):
        store.get_or_build(RECIPE, build_and_stop, print)
    assert ArtifactStore(store.root).get_or_build(RECIPE, forbidden, print)[1]


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("s3://no-such-bucket/models", "bucket does not exist"),
        ("nothing://models", "Protocol not known: nothing"),
        ("ftp://user:pass-word@127.0.0.1:1/models", "Connection refused"),
        (f"s3://KEY:pass-word@{BUCKET}/models", "models cannot be used"),
        ("file:///proc/models", "No such file"),
    ],
)
def test_what_cannot_be_used_is_refused_with_cause_and_remedy_and_without_password(address, cause):
    with pytest.raises(RemoteError, match=cause) as raised:
        Remote(address).check()
    assert "models cannot be used" in str(raised.value)
    assert "run it again" in str(raised.value)
    kept = serializable_error_info_from_exc_info((raised.type, raised.value, raised.tb))
    assert "pass-word" not in repr(raised.value) + kept.to_string() + repr(kept)


def test_the_environment_names_the_remote(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Remote.from_environment() is None
    monkeypatch.setenv(VARIABLE, "s3://shared/models/")
    remote = Remote.from_environment()
    assert remote is not None
    assert remote.address == "s3://shared/models"


def test_a_remote_is_checked_as_often_as_one_likes(address):
    for _ in range(2):
        Remote(address).check()
    assert len(there(address, "*")) == 1


def test_a_remote_of_a_later_release_is_refused(address):
    Remote(address).check()
    (path,) = there(address, "layout.json")
    write(address, path, sealed({"layout": 2}))
    with pytest.raises(ArtifactError, match="has layout 2, .*Upgrade cf_pipeline"):
        Remote(address).check()


# fsspec has no types, so its classes are of any.
class Faulty(MemoryFileSystem):  # type: ignore[misc]
    """Memory behind which something goes wrong the first times that a file is created."""

    protocol = "faulty"
    faults: int = 0

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "xb" and Faulty.faults > 0:
            Faulty.faults -= 1
            return self.fail(path)
        return super()._open(path, mode, **options)

    def fail(self, path: str) -> Any:
        raise OSError(errno.EBUSY, "ConditionalRequestConflict", path)


class AnswerLost(Faulty):
    """It is written, and the client, which does not hear so, tries again."""

    protocol = "answer-lost"

    def fail(self, path: str) -> Any:
        file = super()._open(path, "wb")
        file.close = lambda: self.lose(file)
        return file

    def lose(self, file: Any) -> None:
        file.commit()
        raise FileExistsError(file.path)


class Overwriting(MemoryFileSystem):  # type: ignore[misc]
    """It does not know of If-None-Match, like older S3-compatible servers."""

    protocol = "overwriting"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return super()._open(path, mode.replace("x", "w"), **options)


class DiskFull(MemoryFileSystem):  # type: ignore[misc]
    """There is no room for what is downloaded."""

    protocol = "full"

    def get_file(self, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


for _class in (Faulty, AnswerLost, Overwriting, DiskFull):
    fsspec.register_implementation(_class.protocol, _class, clobber=True)


@pytest.mark.parametrize(("protocol", "faults"), [("faulty", 3), ("answer-lost", 1)])
def test_what_a_server_wants_tried_again_is_tried_again(protocol, faults, machine):
    Faulty.faults = faults
    records = machine(f"{protocol}://{uuid4().hex}").records("champion", print)
    assert records.append(1, {"promoted": "a"})
    assert not records.append(1, {"promoted": "a"})  # of equal records one is first, too
    assert records.entries() == [{"promoted": "a", "number": 1}]


def test_a_server_that_goes_on_failing_is_not_tried_for_ever(machine):
    Faulty.faults = 100
    with pytest.raises(RemoteError, match="ConditionalRequestConflict"):
        machine(f"faulty://{uuid4().hex}").records("champion", print).append(1, {})
    Faulty.faults = 0


def test_a_server_that_writes_over_files_is_refused():
    with pytest.raises(ArtifactError, match="writes over a file .*If-None-Match"):
        Remote(f"overwriting://{uuid4().hex}").check()


def test_machines_share_a_log(address, machine):
    assert machine(address).records("champion", print).entries() == []
    assert machine(address).records("champion", print).append(1, {"by": "first"})
    assert not machine(address).records("champion", print).append(1, {"by": "second"})
    assert machine(address).records("champion", print).append(2, {"by": "second"})
    store = machine(address)
    assert store.records("champion", print).entries() == [
        *({"by": "first", "number": 1}, {"by": "second", "number": 2}),
    ]
    assert not store.root.exists()  # it stands on the remote alone


def test_a_damaged_record_of_a_shared_log_is_named(address, machine):
    records = machine(address).records("champion", print)
    records.append(1, {"promoted": "a"})
    (path,) = there(address, "records/champion/*")
    write(address, path, read(address, path)[:20])
    with pytest.raises(ArtifactError, match="000001.json cannot be read"):
        records.entries()


@pytest.mark.parametrize("address", ["s3", "file"], indirect=True)
def test_every_number_of_a_shared_log_is_used_once(address):
    processes = [started(append_all, address, name) for name in range(8)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    entries = Remote(address).records("champion").entries()
    assert [entry["number"] for entry in entries] == list(range(1, 33))
    by = [[name, turn] for name in range(8) for turn in range(4)]
    assert sorted(entry["by"] for entry in entries) == by


def test_a_full_disk_here_is_said_to_be_here(machine):
    """And is not taken for a fault of the remote."""
    address = f"full://{uuid4().hex}"
    machine(address).get_or_build(RECIPE, build, print)
    store = machine(address)
    with pytest.raises(ArtifactError, match=f"artifact store {store.root}.*Make room"):
        store.get_or_build(RECIPE, forbidden, print)


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


def test_a_run_fails_at_once_where_its_remote_cannot_be_reached(finished, tmp_path):
    variables_of_nothing = variables(free_port()) | {VARIABLE: f"s3://{BUCKET}/models"}
    project = finished.copy(tmp_path / "project").with_variables(variables_of_nothing)
    run = project.materialize("movielens_archive")
    assert run.returncode == 1
    assert f"The remote s3://{BUCKET}/models cannot be used" in run.output
    assert "some-secret" not in run.output
