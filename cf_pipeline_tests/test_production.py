"""The ready dagster.yaml for a machine that serves, on a real PostgreSQL server."""

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest

from cf_pipeline import runs
from cf_pipeline_tests.postgres import OWNER, PASSWORD, Database, postgres, required_programs
from cf_pipeline_tests.project import REPOSITORY, Config, Project
from cf_pipeline_tests.test_faults import statuses, wait_for
from cf_pipeline_tests.webserver import Webserver, service, webserver

PRODUCTION = REPOSITORY / "cf_pipeline" / "production" / "dagster.yaml"
SMALL = "movielens_archive,ratings"
ASSETS = SMALL.split(",")
# Where nobody answers: a run that asks there goes on until it is ended.
HANGING: Config = {"movielens_archive": {"sources": ["official"], "timeout": 600, "retries": 9}}


@pytest.fixture(scope="module")
def superuser() -> Iterator[Database]:
    """A server without anything of Dagster's."""
    with postgres(required_programs()) as database:
        yield database


def production(directory: Path, archive: Path, database: Database) -> Project:
    """A project that takes the ready dagster.yaml, and all it says to take from the environment."""
    home = {"DAGSTER_HOME": str(directory)}
    return Project(
        directory, archive, environment={**database.variables, **home}, dagster_yaml=PRODUCTION
    )


@pytest.fixture(scope="module")
def migrated(
    superuser: Database, tmp_path_factory: pytest.TempPathFactory, archive: Path
) -> Database:
    """A database with Dagster's tables, made as the README says; only to be copied."""
    database = superuser.create("migrated")
    project = production(tmp_path_factory.mktemp("migrated") / "project", archive, database)
    done = project.run_to_end(sys.executable, "-m", "dagster", "instance", "migrate")
    assert done.returncode == 0, done.output
    return database


@pytest.fixture
def database(superuser: Database, migrated: Database) -> Database:
    """A database of the test's own, with Dagster's tables."""
    name = f"copy_{superuser.query('SELECT count(*) FROM pg_database')}"
    return superuser.create(name, template=migrated.variables["PGDATABASE"])


@pytest.fixture
def served(database: Database, tmp_path: Path, archive: Path) -> Project:
    """A project of the test's own, with an empty history in PostgreSQL."""
    return production(tmp_path / "project", archive, database)


@pytest.fixture
def nobody_answers() -> Iterator[dict[str, str]]:
    """The variable that puts the official source where connections are taken, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"CF_PIPELINE_MOVIELENS_URL": f"http://127.0.0.1:{server.getsockname()[1]}"}


def with_seconds(project: Project, **seconds: int) -> Project:
    """The same project, with seconds in `run_monitoring` that a test can wait for."""
    text = project.dagster_yaml.read_text()
    for name, value in seconds.items():
        text, found = re.subn(rf"{name}: \d+", f"{name}: {value}", text)
        assert found == 1
    edited = project.directory / "edited.yaml"
    edited.write_text(text)
    return replace(project, dagster_yaml=edited)


def launch(server: Webserver, project: Project, config: Config | None = None, **tags: str) -> str:
    """Launch a run of the small assets from the UI, and return its id; `tags` are Dagster's."""
    named = {f"dagster/{name}": value for name, value in tags.items()}
    return str(server.launch(project.run_config(config), ASSETS, tags=named)["run"]["runId"])


def status(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return str(run.status.value)


def last_message(instance: dg.DagsterInstance, run_id: str) -> str:
    return str(instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)[-1].message)


def test_a_variable_that_is_not_set_is_named(tmp_path, archive, monkeypatch):
    variables = dict.fromkeys(("PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD"), "x")
    variables["PGPORT"] = "1"
    for missing in variables:
        monkeypatch.delenv(missing, raising=False)
        database = Database(Path(), {k: v for k, v in variables.items() if k != missing})
        with pytest.raises(Exception, match=f'"{missing}" which is not set'):
            production(tmp_path / missing, archive, database).instance()


def test_runs_are_kept_in_postgresql_and_the_second_finds_all_in_the_cache(served, database):
    assert served.cache(SMALL) == dict.fromkeys(ASSETS, "miss")
    assert served.cache(SMALL) == dict.fromkeys(ASSETS, "hit")
    assert database.query("SELECT status, count(*) FROM runs GROUP BY 1") == "SUCCESS|2"
    materialized = (
        "SELECT asset_key, count(*) FROM event_logs "
        "WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY 1 ORDER BY 1"
    )
    assert database.query(materialized) == '["movielens_archive"]|2\n["ratings"]|2'
    assert not list(served.directory.rglob("*.db")), "a history in SQLite"


def test_a_wrong_password_is_said_and_not_shown(served):
    run = served.with_variables({"PGPASSWORD": "not it"}).materialize(SMALL)
    assert run.returncode == 1
    assert f'password authentication failed for user "{OWNER}"' in run.output
    assert "not it" not in run.output
    assert "not%20it" not in run.output


def test_runs_that_start_together_do_each_work_once(served):
    processes = [served.start(SMALL) for _ in range(4)]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    with served.instance() as instance:
        caches = [served.cache_of(run.run_id) for run in instance.get_runs()]
    assert len(caches) == 4
    for asset in ASSETS:
        assert sorted(cache[asset] for cache in caches) == ["hit"] * 3 + ["miss"]


def test_launched_runs_wait_for_their_turn_and_one_that_hangs_is_ended(served, nobody_answers):
    served = with_seconds(served, poll_interval_seconds=2).with_variables(nobody_answers)
    with webserver(served) as server:
        hanging = launch(server, served, HANGING, max_runtime="3")
        next_one = launch(server, served)
        assert statuses(served) == ["QUEUED"] * 2
        with service(served, "dagster._daemon", "run"):
            # Which depends on whether its process or the daemon says so first.
            assert server.finish(hanging) in {"CANCELED", "FAILURE"}
            assert server.finish(next_one) == "SUCCESS"
        shown = server.ask("{ instance { info } }")["instance"]["info"]
    with served.instance() as instance:
        ended = instance.all_logs(hanging, of_type=dg.DagsterEventType.RUN_CANCELING)[0]
        (began,) = instance.all_logs(next_one, of_type=dg.DagsterEventType.RUN_START)
    assert "exceeding maximum runtime of 3 seconds" in ended.message
    assert ended.timestamp < began.timestamp
    # Nothing of all this tells the password.
    assert "run_storage: PostgresRunStorage" in shown
    texts = [path.read_bytes() for path in served.directory.rglob("*") if path.is_file()]
    for password in (PASSWORD, quote(PASSWORD)):
        assert password not in shown
        assert not any(password.encode() in text for text in texts)


def test_when_the_machine_stops_its_runs_are_marked_failed_and_the_queue_goes_on(
    served, database, nobody_answers
):
    served = with_seconds(served, poll_interval_seconds=2).with_variables(nobody_answers)
    with webserver(served) as server, served.instance() as instance:
        with service(served, "dagster._daemon", "run") as daemon:
            starting = launch(server, served)
            wait_for(lambda: status(instance, starting) == "STARTING")
            os.killpg(daemon.pid, signal.SIGKILL)
        at_work = served.start(SMALL, HANGING)
        wait_for(lambda: runs.LOCK_TAG in instance.get_runs(limit=1)[0].tags)
        at_work.kill()
        at_work.communicate()
        assert statuses(served) == ["STARTED", "STARTING"]
        # As if the machine had been off for an hour.
        earlier = "UPDATE event_logs SET timestamp = timestamp - interval '1 hour'"
        database.query(f"{earlier} WHERE dagster_event_type = 'PIPELINE_STARTING'")
        with service(served, "dagster._daemon", "run"):
            next_one = launch(server, served)
            assert server.finish(starting) == "FAILURE"
            assert server.finish(next_one) == "SUCCESS"
        assert statuses(served) == ["SUCCESS", "FAILURE", "FAILURE"]
        found_by_its_lock = instance.get_runs()[1].run_id
        assert "The process of this run is gone" in last_message(instance, found_by_its_lock)
        assert "longer than 180 seconds to start" in last_message(instance, starting)
