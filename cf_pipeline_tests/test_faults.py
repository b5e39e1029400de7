"""What happens to machines, done to real runs: one ordinary run afterwards leaves the same files,
bit for bit, as a run that nothing happened to.

The benchmark `reliability` does the same at hundreds of instants.
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import dagster as dg
import psutil
import pytest
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher

from cf_pipeline import runs
from cf_pipeline.caching import Artifacts
from cf_pipeline.upkeep_job import dead_runs
from cf_pipeline_tests import faults
from cf_pipeline_tests.faults import QUICK, Undisturbed
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import (
    AFTER_MODEL,
    ASSETS,
    TO_METRICS,
    TO_THE_GATE,
    outcome,
)
from cf_pipeline_tests.webserver import webserver

# What a run of the command line does before its run begins.
LOADED_ALONE = [sys.executable, "-m", "dagster", "asset", "list", "-m", "cf_pipeline.definitions"]


@pytest.fixture(scope="module")
def expected(quick: Project) -> Undisturbed:
    """Its seconds count from the start of the process, as those after which a fault comes do."""
    begin = time.perf_counter()
    loaded = quick.run_to_end(*LOADED_ALONE)
    seconds_to_load = time.perf_counter() - begin
    assert loaded.returncode == 0, loaded.output
    with quick.instance() as instance:
        (run,) = instance.get_run_records()
    assert run.start_time
    assert run.end_time
    return Undisturbed(faults.contents(quick), seconds_to_load + run.end_time - run.start_time)


@pytest.fixture
def cold(tmp_path: Path, archive: Path) -> Iterator[Project]:
    """A project without history or artifacts."""
    project = Project(tmp_path / "cold", archive)
    yield project
    faults.unmount(project)


def assert_survived(project: Project, expected: Undisturbed) -> None:
    after = faults.aftermath(project, expected)
    assert after.run.returncode == 0, after.run.output
    assert after.survived, after


def statuses(project: Project) -> list[str]:
    """The status of each run, the last first."""
    with project.instance() as instance:
        return [run.status.value for run in instance.get_runs()]


def wait_for(condition: Callable[[], object], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_run_that_is_killed_loses_nothing(cold, expected, part):
    faults.killed(cold, part * expected.seconds)
    assert_survived(cold, expected)


def test_a_result_that_is_altered_is_counted_as_wrong_and_one_that_is_deleted_as_lost(
    warm, expected
):
    """Else the tests here could not fail."""
    model = (warm.artifacts / "factor_model" / "latest").resolve()
    (model / "model.json").write_text("{}")
    assert faults.contents(warm)["factor_model"] != expected.contents["factor_model"]
    assert len(faults.lost(warm)) == 1
    shutil.rmtree(model)
    assert len(faults.lost(warm)) == 1


def started(project: Project, asset: str) -> "subprocess.Popen[str]":
    """Start a run, and return its process once it makes `asset`."""
    process = project.start(config=QUICK)
    while not list(project.artifacts.glob(f"{asset}/*.partial")):
        assert process.poll() is None, f"it ended before it made {asset}"
        time.sleep(0.01)
    return process


def test_a_killed_run_is_found_by_the_next_and_marked_failed_with_the_reason(cold, expected):
    process = started(cold, "cross_validation")
    process.kill()
    process.communicate()
    assert statuses(cold) == ["STARTED"]
    assert_survived(cold, expected)
    assert statuses(cold) == ["SUCCESS", "FAILURE"]
    with cold.instance() as instance:
        run = instance.get_runs()[1]
        messages = [entry.message for entry in instance.all_logs(run.run_id)]
    assert "The process of this run is gone" in messages[-1]


def test_a_run_that_goes_on_is_not_marked_by_another(cold, expected):
    process = started(cold, "cross_validation")
    os.kill(process.pid, signal.SIGSTOP)
    assert cold.materialize("movielens_archive").returncode == 0
    assert statuses(cold) == ["SUCCESS", "STARTED"]
    os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=240)
    assert statuses(cold) == ["SUCCESS", "SUCCESS"]


def test_a_terminated_run_says_so_and_what_it_finished_stays_cached(cold, expected):
    process = started(cold, "cross_validation")
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Execution was interrupted" in output
    assert statuses(cold) == ["FAILURE"]
    assert not list(cold.artifacts.rglob("*.partial"))
    finished = {"movielens_archive", "ratings", "movies", "users"}
    assert_survived(cold, expected)
    with cold.instance() as instance:
        cache = cold.cache_of(instance.get_runs(limit=1)[0].run_id)
    assert {cache[asset] for asset in finished} == {"hit"}


def test_a_signal_that_falls_where_python_ignores_exceptions_ends_the_run(cold, expected):
    run = faults.terminated_in_a_callback(cold, "cross_validation")
    assert run.returncode == 1
    assert "Execution was interrupted" in run.output
    assert statuses(cold) == ["FAILURE"]
    assert_survived(cold, expected)


def test_a_run_of_another_store_is_not_judged_even_when_it_is_old(cold, tmp_path):
    process = started(cold, "cross_validation")
    with cold.instance() as instance:
        assert runs.fail_dead_runs(instance, tmp_path / "other", print, 0) == []
    process.kill()
    process.communicate()


@pytest.mark.parametrize("cached", [False, True], ids=["made", "found"])
def test_a_process_whose_run_is_over_publishes_nothing(quick, cold, tmp_path, expected, cached):
    """As when somebody forces a run to be canceled whose process does not hear of it."""
    project = cold
    if cached:  # all but what is being made when the process is stopped
        project = quick.copy(tmp_path / "cached")
        shutil.rmtree((project.artifacts / "cross_validation" / "latest").resolve())
    process = started(project, "cross_validation")
    os.kill(process.pid, signal.SIGSTOP)
    with project.instance() as instance:
        run = instance.get_runs()[0]
        instance.report_run_canceled(run)
    before = {path.parent for path in project.artifacts.rglob("manifest.json")}
    made = project.cache_of(run.run_id)
    os.kill(process.pid, signal.SIGCONT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "was marked CANCELED while its process went on" in output
    assert {path.parent for path in project.artifacts.rglob("manifest.json")} == before
    assert project.cache_of(run.run_id) == made
    assert_survived(project, expected)


@pytest.mark.skipif(not faults.can_mount(), reason="only root may mount a small disk")
@pytest.mark.parametrize("mebibytes", [0.05, 1.0, 5.5])
def test_a_full_disk_is_survived(cold, expected, mebibytes):
    run = faults.without_room(cold, mebibytes)
    assert run.returncode == 1
    assert "full" in run.output or "No space left on device" in run.output
    assert_survived(cold, expected)


def test_a_store_that_may_not_be_written_is_named_with_the_remedy(warm, expected):
    run = faults.without_permission(warm)
    assert run.returncode == 1
    assert f"vocabularies cannot be made and kept in the artifact store {warm.artifacts}" in (
        run.output
    )
    assert "put CF_PIPELINE_ARTIFACTS to another directory" in run.output
    assert_survived(warm, expected)


def test_a_store_that_may_only_be_read_gives_what_it_has(warm):
    run = faults.read_only(warm)
    assert run.returncode == 0, run.output
    with warm.instance() as instance:
        assert warm.cache_of(instance.get_runs(limit=1)[0].run_id) == outcome(set())


@pytest.mark.parametrize("handles", [12, 20])
def test_running_out_of_file_handles_is_survived(cold, expected, handles):
    run = faults.without_file_handles(cold, handles)
    assert run.returncode == 1, "there were handles enough"
    assert re.search("Too many open files|unable to open database file", run.output)
    assert_survived(cold, expected)


def test_a_clock_that_is_set_back_is_survived(cold, expected):
    run = faults.with_clock_set_back(cold, 0.3 * expected.seconds)
    assert run.returncode == 0, run.output
    with cold.instance() as instance:
        last = instance.get_runs(limit=1)[0]
        times = [entry.timestamp for entry in instance.all_logs(last.run_id)]
    assert min(times) < time.time() - 2 * 24 * 60 * 60, "the clock was not set back"
    assert_survived(cold, expected)


def test_eight_runs_at_once_all_end_right_and_do_each_work_once(cold):
    """They also make Dagster's history together."""
    models = [{**QUICK["factor_model"], "n_factors": 3 + number % 2} for number in range(8)]
    configs = [{"factor_model": model} for model in models]
    ended = faults.at_once(cold, TO_THE_GATE, configs)
    assert [run.returncode for run in ended] == [0] * 8, [run.output for run in ended]
    for run in ended:
        assert "database is locked" not in run.output
        assert "already exists" not in run.output
    with cold.instance() as instance:
        caches = [cold.cache_of(run.run_id) for run in instance.get_runs(limit=8)]
    misses = {asset: sum(cache[asset] == "miss" for cache in caches) for asset in TO_METRICS}
    assert misses == dict.fromkeys(TO_METRICS, 1) | dict.fromkeys(AFTER_MODEL, 2)
    assert not faults.lost(cold)


def test_a_killed_run_of_the_ui_is_found_by_the_sensor(cold):
    with webserver(cold) as server:
        launched = server.launch(cold.run_config(QUICK), sorted(ASSETS))
        run_id = launched["run"]["runId"]
        wait_for(lambda: list(cold.artifacts.glob("cross_validation/*.partial")))
        with cold.instance() as instance:
            messages = [entry.message for entry in instance.all_logs(run_id)]
            (pid,) = re.findall(r"Executing steps in process \(pid: (\d+)\)", "".join(messages))
            os.kill(int(pid), signal.SIGKILL)
            for _ in range(100):  # until the kernel has let go of its lock
                said = dead_runs(
                    dg.build_sensor_context(
                        instance=instance,
                        resources={"artifacts": Artifacts(root=str(cold.artifacts))},
                    )
                )
                assert isinstance(said, dg.SkipReason)
                if run_id in str(said.skip_message):
                    break
                time.sleep(0.05)
        assert server.finish(run_id) == "FAILURE"


def test_dagster_dev_finds_a_killed_run_and_listens_on_the_loopback_only(cold):
    process = started(cold, "cross_validation")
    process.kill()
    process.communicate()
    with webserver(cold, development=True) as server:
        root = psutil.Process(server.pid)
        wait_for(lambda: statuses(cold) == ["FAILURE"])  # by the daemon's sensor
        addresses = {
            connection.laddr
            for one in [root, *root.children(recursive=True)]
            for connection in one.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert int(server.address.rpartition(":")[2]) in {address.port for address in addresses}
    assert {address.ip for address in addresses} <= {"127.0.0.1", "::1"}


class UnreachableLauncher(DefaultRunLauncher):
    """Knows of its runs, but not from here."""

    supports_check_run_worker_health = True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        raise ConnectionError(f"nobody tells of {run.job_name}")


def test_a_run_that_died_before_its_lock_is_gone_after_a_while_if_its_launcher_can_say(cold):
    process = started(cold, "movielens_archive")
    process.kill()
    process.communicate()
    with cold.instance() as instance:
        run_id = instance.get_runs()[0].run_id
        with sqlite3.connect(cold.directory / ".dagster" / "history" / "runs.db") as history:
            history.execute("DELETE FROM run_tags")
            body = "UPDATE runs SET run_body = replace(run_body, ?, 'x')"
            history.execute(body, (runs.LOCK_TAG,))
        assert runs.fail_dead_runs(instance, cold.artifacts, print) == []
        with mock.patch.object(dg.DagsterInstance, "run_launcher", UnreachableLauncher()):
            said: list[str] = []
            assert runs.fail_dead_runs(instance, cold.artifacts, said.append, 0) == []
        unsure = f"Whether run {run_id} may yet begin, its launcher cannot say: nobody tells of "
        assert [line[: len(unsure)] for line in said] == [unsure]
        assert runs.fail_dead_runs(instance, cold.artifacts, print, 0) == [run_id]


def test_a_run_of_another_project_on_the_same_history_is_not_ours_to_judge(warm):
    @dg.job
    def theirs() -> None: ...

    with warm.instance() as instance:
        run = instance.create_run_for_job(theirs, status=dg.DagsterRunStatus.STARTED)
        assert runs.fail_dead_runs(instance, warm.artifacts, print, 0) == []
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED
