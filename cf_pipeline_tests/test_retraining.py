"""What retrains, and when: the job, its schedule, and the sensor on new ratings."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from cf_pipeline import retraining
from cf_pipeline.definitions import defs
from cf_pipeline.deployment import Deployment
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import ASSETS, outcome

STATUSES = """
from cf_pipeline.definitions import defs
repository = defs.get_repository_def()
for one in [*repository.schedule_defs, *repository.sensor_defs]:
    print(one.name, one.default_status.value)
print(repository.get_schedule_def("retraining_schedule").cron_schedule)
print(repository.get_sensor_def("new_ratings").minimum_interval_seconds)
"""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


# --- the job


def test_the_job_makes_all_but_the_leaderboards_and_shares_the_cache(project):
    job = defs.resolve_job_def("retraining")
    made = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert made == ASSETS - {"cross_validation"}
    assert job.run_config is not None
    shown = {asset: value["config"] for asset, value in job.run_config["ops"].items()}
    assert set(shown) == {"train_test_split", "factor_model", "ranking_model"}
    assert project.cache(config=shown) == outcome(set())


@pytest.mark.parametrize("automation", ["on", "off"])
def test_the_environment_says_whether_it_runs_by_itself_and_when(tmp_path, archive, automation):
    project = Project(tmp_path / "project", archive).with_variables(
        {
            "CF_PIPELINE_AUTOMATION": automation,
            "CF_PIPELINE_RETRAINING_CRON": "15 2 * * 1",
            "CF_PIPELINE_WATCH_SECONDS": "7",
        }
    )
    done = subprocess.run(
        [sys.executable, "-c", STATUSES],
        cwd=project.directory,
        env=project.variables(),
        capture_output=True,
        text=True,
        check=True,
    )
    *statuses, cron, seconds = done.stdout.splitlines()
    status = {"on": "RUNNING", "off": "STOPPED"}[automation]
    assert dict(line.split() for line in statuses) == {
        "retraining_schedule": status,
        "store_upkeep_schedule": "STOPPED",
        "new_ratings": status,
        "changes": status,
        "failed_runs": status,
        "canceled_runs": status,
        "dead_runs": "RUNNING",
    }
    assert (cron, seconds) == ("15 2 * * 1", "7")


# --- the sensor


class Watch:
    """Evaluates the sensor tick by tick, as the daemon does."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None

    def __call__(self) -> dg.RunRequest | str:
        """Return what the tick launches, or why it launches nothing."""
        context = dg.build_sensor_context(
            self.instance, self.cursor, repository_def=defs.get_repository_def()
        )
        answer = retraining.new_ratings.evaluate_tick(context)
        self.cursor = answer.cursor
        if not answer.run_requests:
            assert answer.skip_message
            return answer.skip_message
        (request,) = answer.run_requests
        return request


@pytest.fixture
def watch(instance: dg.DagsterInstance) -> Watch:
    return Watch(instance)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which ratings are to arrive."""
    folder = tmp_path / "arriving"
    deploy(monkeypatch, folder)
    return folder


def deploy(monkeypatch: pytest.MonkeyPatch, ratings: Path) -> None:
    """Have ratings arrive at a path, for the schedule and the sensor of this process."""
    deployment = Deployment.of({"CF_PIPELINE_RATINGS": str(ratings)})
    monkeypatch.setattr(retraining, "DEPLOYMENT", deployment)


def rate(folder: Path, stars: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "u.data").write_text(f"1\t2\t{stars}\t881250949\n")


def launched(answer: dg.RunRequest | str) -> dg.RunRequest:
    assert isinstance(answer, dg.RunRequest), answer
    return answer


def test_ratings_are_taken_when_they_have_settled_and_once(watch, folder):
    reason = watch()
    assert reason.startswith(f"There are no ratings at {folder}: ")
    assert "No such file or directory" in reason
    rate(folder, 3)
    assert "at the next look" in watch()
    rate(folder, 4)  # it was half copied
    assert "at the next look" in watch()
    first = launched(watch())
    assert first.run_config == {"ops": {"movielens_archive": {"config": {}}}}
    assert watch() == "The ratings are those of the last retraining."
    rate(folder, 5)
    assert "at the next look" in watch()
    assert launched(watch()).run_key != first.run_key
    rate(folder, 4)  # they come back
    assert "at the next look" in watch()
    assert launched(watch()).run_key != first.run_key
    shutil.rmtree(folder)
    assert "There are no ratings" in watch()


def test_a_tick_that_is_repeated_launches_nothing_twice(watch, folder):
    rate(folder, 3)
    watch()
    cursor = watch.cursor
    first = launched(watch())
    watch.cursor = cursor  # as if the daemon died before it kept the cursor
    assert launched(watch()).run_key == first.run_key  # by which Dagster knows it


UNENDED = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED


def begin(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    """Record a retraining that has come to this status."""
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        LoadableTargetOrigin(module_name="cf_pipeline.definitions")
    )
    return instance.create_run_for_job(
        defs.resolve_job_def("retraining"),
        status=status,
        remote_job_origin=RemoteRepositoryOrigin(location, "__repository__").get_job_origin(
            "retraining"
        ),
    )


@pytest.mark.parametrize("status", UNENDED)
def test_new_ratings_wait_until_a_retraining_has_ended(watch, folder, instance, status):
    rate(folder, 3)
    watch()
    run = begin(instance, status)
    assert watch() == f"There are new ratings, which wait until run {run.run_id} has ended."
    instance.report_run_failed(run)
    launched(watch())


# --- the schedule


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A history on the disk, as schedules want it."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def tick(lasting: dg.DagsterInstance) -> Callable[[], dg.RunRequest | str]:
    """Evaluates the schedule, and returns what it launches, or why it launches nothing."""

    def evaluate() -> dg.RunRequest | str:
        answer = retraining.retraining_schedule.evaluate_tick(
            dg.build_schedule_context(lasting, repository_def=defs.get_repository_def())
        )
        if answer.run_requests:
            (request,) = answer.run_requests
            return request
        assert answer.skip_message
        return answer.skip_message

    return evaluate


@pytest.mark.parametrize("status", UNENDED)
def test_the_schedule_launches_no_retraining_beside_another(tick, lasting, status):
    launched(tick())
    run = begin(lasting, status)
    assert tick() == f"Run {run.run_id} of retraining has not ended."
    lasting.report_run_failed(run)
    launched(tick())


def test_the_schedule_leaves_ratings_that_are_arriving(tick, folder):
    launched(tick())  # a run that fails, as there are none, tells people
    rate(folder, 3)
    assert "changed within the last 30 s" in tick()
    for seconds in (31, -60):  # or a clock that was set back would put it off for long
        os.utime(folder / "u.data", times=2 * (time.time() - seconds,))
        launched(tick())


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Deploys ratings of one's own, at a path, and returns that of their table of movies."""

    def deploy_own(path: str) -> Path:
        (tmp_path / "ratings.csv").write_text("user,item,rating\n1,2,3\n")
        (tmp_path / "movies.csv").write_text("item,title\n2,A\n")
        for name in ("ratings.csv", "movies.csv"):
            os.utime(tmp_path / name, (0, 0))
        custom = {"path": path, "movies": {"path": str(tmp_path / "movies.csv")}}
        (tmp_path / "own.yaml").write_text(yaml.safe_dump({"custom": custom}))
        deploy(monkeypatch, tmp_path / "own.yaml")
        return tmp_path / "movies.csv"

    return deploy_own


def test_both_of_ones_own_tables_are_watched(tick, watch, own, tmp_path):
    movies = own(str(tmp_path / "ratings.csv"))
    launched(tick())
    assert "at the next look" in watch()
    launched(watch())
    movies.write_text("item,title\n2,B\n")
    assert "changed within the last 30 s" in tick()
    assert "at the next look" in watch()
    movies.unlink()
    assert watch() == f"Nothing that can be read is at {movies}."


def test_a_password_in_a_path_is_not_shown(watch, own):
    own("s3://me:s3cret@host/x.csv")
    assert watch() == "Nothing that can be read is at s3://***@host/x.csv."


def test_ratings_that_cannot_be_read_are_a_reason_of_their_own(watch, folder):
    rate(folder, 3)
    with (folder / "u.data").open("r+b") as file:
        file.truncate((16 << 30) + 1)
    assert "at most 17,179,869,184 are read" in watch()
