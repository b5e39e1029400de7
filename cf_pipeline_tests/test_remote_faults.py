"""Remotes that fail, are refused, or hold a log that machines share."""

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info
from fsspec.implementations.memory import MemoryFileSystem

from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.artifacts import Recipe
from cf_pipeline.remote import VARIABLE, Remote, RemoteError
from cf_pipeline.store_layout import ArtifactError, sealed
from cf_pipeline_tests.machines import RECIPE, append_all, build, started
from cf_pipeline_tests.s3_server import BUCKET, s3_server, variables
from cf_pipeline_tests.test_artifacts import forbidden
from cf_pipeline_tests.test_remote import (
    address,
    environment,
    machine,
    port,
    read,
    there,
    write,
)
from cf_pipeline_tests.webserver import free_port

__all__ = ["address", "environment", "machine", "port"]  # fixtures


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


class Overwriting(MemoryFileSystem):  # type: ignore[misc]  # as above
    """It does not know of If-None-Match, like older S3-compatible servers."""

    protocol = "overwriting"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return super()._open(path, mode.replace("x", "w"), **options)


class DiskFull(MemoryFileSystem):  # type: ignore[misc]  # as above
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


def test_a_run_fails_at_once_where_its_remote_cannot_be_reached(finished, tmp_path):
    variables_of_nothing = variables(free_port()) | {VARIABLE: f"s3://{BUCKET}/models"}
    project = finished.copy(tmp_path / "project").with_variables(variables_of_nothing)
    run = project.materialize("movielens_archive")
    assert run.returncode == 1
    assert f"The remote s3://{BUCKET}/models cannot be used" in run.output
    assert "some-secret" not in run.output
